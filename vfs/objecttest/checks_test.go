//go:build linux

package objecttest

import (
	"encoding/base64"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/secret"
	"github.com/gantryhq/gantry/vfs/httpfs/httpfstest"
)

// tried is a configuration and what a check must say of it.
type tried struct {
	name   string
	config account.FilesystemConfig
	step   string // the last one
	say    string // in its error; "" for a storage that works
}

func runChecks(t *testing.T, allowed string, secrets, env []string, table []tried) {
	t.Helper()
	check := checks(t, allowed, secrets, env)
	for _, c := range table {
		ok, step, text := check(c.config, t.TempDir())
		t.Logf("%-28s %-6s %s", c.name, step, text)
		if ok != (c.say == "") || step != c.step || !strings.Contains(text, c.say) {
			t.Errorf("%s: %t at %s: %s; want %q at %s", c.name, ok, step, text, c.say, c.step)
		}
	}
}

// nowhere is a host that no name server knows.
const nowhere = "storage.invalid"

// TestChecksOfAzure tells what is wrong of keys, SAS URLs, containers and hosts.
func TestChecksOfAzure(t *testing.T) {
	url, closed := azurite(t, "box"), freeAddr(t)
	wrong := base64.StdEncoding.EncodeToString([]byte("canary-of-another-account"))
	az := func(change func(c *account.AzBlobConfig)) account.FilesystemConfig {
		c := account.AzBlobConfig{Container: "box", AccountName: azureAccount, AccountKey: secret.New(azureKey), Endpoint: url, UseEmulator: true}
		change(&c)
		return account.FilesystemConfig{Provider: account.AzBlobProvider, AzBlobConfig: c}
	}
	sas := func(url string) account.FilesystemConfig {
		return account.FilesystemConfig{Provider: account.AzBlobProvider, AzBlobConfig: account.AzBlobConfig{SASURL: secret.New(url), UseEmulator: true}}
	}
	good := containerSAS(t, url, "box", sasAll, time.Hour)
	old := containerSAS(t, url, "box", sasAll, -time.Hour)
	reads := containerSAS(t, url, "box", sasRead, time.Hour)
	runChecks(t, `"loopback"`, []string{azureKey, wrong, signature(t, good), signature(t, old), signature(t, reads)}, nil, []tried{
		{"key", az(func(*account.AzBlobConfig) {}), "delete", ""},
		{"wrong key", az(func(c *account.AzBlobConfig) { c.AccountKey = secret.New(wrong) }), "list", "account_key is one of account_name"},
		{"no such container", az(func(c *account.AzBlobConfig) { c.Container = "none" }), "list", `there is no container "none"`},
		{"nobody listens", az(func(c *account.AzBlobConfig) { c.Endpoint = "http://" + closed }), "list", "connection refused"},
		{"no such host", az(func(c *account.AzBlobConfig) { c.Endpoint = "http://" + nowhere }), "list", nowhere},
		{"SAS", sas(good), "delete", ""},
		{"expired SAS", sas(old), "list", "the SAS of sas_url expired at"},
		{"SAS without write", sas(reads), "write", `permits "rl"`},
		{"SAS, no such container", sas(accountSAS(t, url)), "open", "neither container nor sas_url names a container"},
	})
	runChecks(t, "", []string{azureKey, signature(t, good)}, nil, []tried{
		{"key, not allowed", az(func(*account.AzBlobConfig) {}), "list", "common.allowed_endpoints"}, // SSRF-1
		{"SAS, not allowed", sas(good), "list", "common.allowed_endpoints"},
	})
}

// TestChecksOfS3 tells what is wrong of keys, roles, buckets and hosts.
func TestChecksOfS3(t *testing.T) {
	url, closed := versity(t, "bucket"), freeAddr(t)
	s3 := func(change func(c *account.S3Config)) account.FilesystemConfig {
		c := account.S3Config{Bucket: "bucket", Region: "us-east-1", Endpoint: url, AccessKey: "test", AccessSecret: secret.New("testtest"), ForcePathStyle: true}
		change(&c)
		return account.FilesystemConfig{Provider: account.S3Provider, S3Config: c}
	}
	nothing := filepath.Join(t.TempDir(), "none")
	env := []string{"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=" + nothing, "AWS_SHARED_CREDENTIALS_FILE=" + nothing, "AWS_ENDPOINT_URL_STS=http://" + closed}
	runChecks(t, `"loopback"`, []string{"testtest", "canary-wrong"}, env, []tried{
		{"key", s3(func(*account.S3Config) {}), "delete", ""},
		{"wrong secret", s3(func(c *account.S3Config) { c.AccessSecret = secret.New("canary-wrong") }), "list", "access_secret is not the secret of access_key"},
		{"unknown key", s3(func(c *account.S3Config) { c.AccessKey = "none" }), "list", "does not know access_key"},
		{"no credentials", s3(func(c *account.S3Config) { c.AccessKey, c.AccessSecret = "", secret.Secret{} }), "list", "access_key is not set, and the machine has no credentials"},
		{"role, no STS", s3(func(c *account.S3Config) { c.RoleARN = roleARN }), "list", "cannot be assumed"},
		{"no such bucket", s3(func(c *account.S3Config) { c.Bucket = "none" }), "list", "look at bucket"},
		{"nobody listens", s3(func(c *account.S3Config) { c.Endpoint = "http://" + closed }), "list", "connection refused"},
		{"no such host", s3(func(c *account.S3Config) { c.Endpoint = "http://" + nowhere }), "list", nowhere},
		{"TLS to a plain port", s3(func(c *account.S3Config) { c.Endpoint = strings.Replace(url, "http:", "https:", 1) }), "list", "HTTP response to HTTPS client"},
	})
	runChecks(t, "", []string{"testtest"}, env, []tried{{"not allowed", s3(func(*account.S3Config) {}), "list", "common.allowed_endpoints"}}) // SSRF-1
}

// TestChecksOfOthers: Google, an SFTP server, a REST service and encryption.
func TestChecksOfOthers(t *testing.T) {
	url, closed := fakeGCS(t, "bucket"), freeAddr(t)
	gcs := func(bucket string) account.FilesystemConfig {
		return account.FilesystemConfig{Provider: account.GCSProvider, GCSConfig: account.GCSConfig{Bucket: bucket, AutomaticCredentials: 1}}
	}
	badKey := gcs("bucket")
	badKey.GCSConfig.AutomaticCredentials = 0
	badKey.GCSConfig.Credentials = secret.New(`{"type":"service_account","private_key":"canary-no-key"}`)
	far := serve(t, nil, nil, map[string]account.FilesystemConfig{"c": {}})
	sftpTo := func(addr, pw string, prints ...string) account.FilesystemConfig {
		return account.FilesystemConfig{Provider: account.SFTPProvider, SFTPConfig: account.SFTPConfig{Endpoint: addr, Username: "c", Password: secret.New(pw), Fingerprints: prints}}
	}
	rest := httptest.NewServer(&httpfstest.Service{Root: t.TempDir()})
	defer rest.Close()
	restAt := func(at, pw string) account.FilesystemConfig {
		return account.FilesystemConfig{Provider: account.HTTPProvider, HTTPConfig: account.HTTPConfig{
			Endpoint: at, Username: httpfstest.User, Password: secret.New(pw), APIKey: secret.New(httpfstest.Key),
		}}
	}
	crypt := account.FilesystemConfig{Provider: account.CryptProvider, CryptConfig: account.CryptConfig{Passphrase: secret.New("nine long words that nobody guesses, 4711 of them")}}
	other := "SHA256:" + base64.RawStdEncoding.EncodeToString(make([]byte, 32))
	secrets := []string{"canary-wrong", "canary-no-key", httpfstest.Password, httpfstest.Key, "nine long words"}
	runChecks(t, `"loopback"`, secrets, []string{"STORAGE_EMULATOR_HOST=" + strings.TrimPrefix(url, "http://")}, []tried{
		{"Google", gcs("bucket"), "delete", ""},
		{"Google, no such bucket", gcs("none"), "list", "look at bucket"},
		{"SFTP", sftpTo(far.Addr, "pw"), "delete", ""},
		{"SFTP, wrong password", sftpTo(far.Addr, "canary-wrong"), "list", "look at username, password and private_key"},
		{"SFTP, other host key", sftpTo(far.Addr, "pw", other), "list", "fingerprints"},
		{"SFTP, nobody listens", sftpTo(closed, "pw"), "list", "connection refused"},
		{"SFTP, no such host", sftpTo(nowhere, "pw"), "list", nowhere},
		{"REST", restAt(rest.URL+"/base", httpfstest.Password), "delete", ""},
		{"REST, wrong password", restAt(rest.URL+"/base", "canary-wrong"), "list", "look at username, password and api_key"},
		{"REST, wrong path", restAt(rest.URL+"/other", httpfstest.Password), "list", "404"},
		{"REST, nobody listens", restAt("http://"+closed, httpfstest.Password), "list", "connection refused"},
		{"REST, no such host", restAt("http://"+nowhere, httpfstest.Password), "list", nowhere},
		{"encrypted", crypt, "delete", ""},
	})
	runChecks(t, `"loopback"`, secrets, []string{"STORAGE_EMULATOR_HOST="}, []tried{{"Google, a key that is none", badKey, "open", "credentials"}})
	runChecks(t, `"loopback"`, secrets, []string{"STORAGE_EMULATOR_HOST=" + closed}, []tried{{"Google, nobody listens", gcs("bucket"), "list", "connection refused"}})
	runChecks(t, "", secrets, []string{"STORAGE_EMULATOR_HOST=" + strings.TrimPrefix(url, "http://")}, []tried{ // SSRF-1
		{"Google, not allowed", gcs("bucket"), "list", "common.allowed_endpoints"},
		{"SFTP, not allowed", sftpTo(far.Addr, "pw"), "list", "common.allowed_endpoints"},
		{"REST, not allowed", restAt(rest.URL+"/base", httpfstest.Password), "list", "common.allowed_endpoints"},
	})
}
