package main

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/secret"
)

// TestPortableStorages: the flags of each storage become its settings, under the rules of every account.
func TestPortableStorages(t *testing.T) {
	creds := t.TempDir() + "/creds.json"
	writeFile(t, creds, `{"type":"service_account"}`)
	for _, c := range []struct {
		args string
		want func(c account.FilesystemConfig) bool // nil: refused, by the flag or the rules
		text string                                // of the refusal
	}{
		{"", func(c account.FilesystemConfig) bool { return c.Provider == account.LocalProvider }, ""},
		{"-f 4 --crypto-passphrase phrase", func(c account.FilesystemConfig) bool {
			return c.Provider == account.CryptProvider && c.CryptConfig.Passphrase == secret.New("phrase")
		}, ""},
		{"-f cryptfs", nil, "passphrase"},
		{"-f s3fs --s3-bucket b --s3-endpoint http://h --s3-access-key k --s3-access-secret s --s3-key-prefix p --s3-force-path-style", func(c account.FilesystemConfig) bool {
			s := c.S3Config
			return c.Provider == account.S3Provider && s.Bucket == "b" && s.UploadPartSize == 5 && s.UploadConcurrency == 2 && s.KeyPrefix == "p/" && s.ForcePathStyle && s.AccessSecret == secret.New("s")
		}, ""},
		{"-f s3fs --s3-bucket b", nil, "region"},
		{"-f gcsfs --gcs-bucket b", func(c account.FilesystemConfig) bool { return c.GCSConfig.AutomaticCredentials == 1 }, ""},
		{"-f gcsfs --gcs-bucket b --gcs-automatic-credentials 0 --gcs-credentials-file " + creds, func(c account.FilesystemConfig) bool {
			return strings.Contains(c.GCSConfig.Credentials.Payload, "service_account")
		}, ""},
		{"-f gcsfs --gcs-bucket b --gcs-automatic-credentials 0 --gcs-credentials-file /none", nil, "--gcs-credentials-file"},
		{"-f azblobfs --az-container c --az-account-name a --az-account-key a2V5 --az-use-emulator --az-endpoint http://h", func(c account.FilesystemConfig) bool {
			a := c.AzBlobConfig
			return a.Container == "c" && a.UseEmulator && a.UploadConcurrency == 5 && a.DownloadPartSize == 5 && a.AccountKey == secret.New("a2V5")
		}, ""},
		{"-f sftpfs --sftp-endpoint h --sftp-username u --sftp-password p --sftp-prefix d --sftp-buffer-size 4 --sftp-disable-concurrent-reads", func(c account.FilesystemConfig) bool {
			s := c.SFTPConfig
			return s.Endpoint == "h:22" && s.Prefix == "/d" && s.BufferSize == 4 && s.DisableConcurrentReads && s.Password == secret.New("p")
		}, ""},
		{"-f sftpfs --sftp-endpoint h --sftp-username u", nil, "password"},
		{"-f httpfs --http-endpoint http://h/fs/ --http-username u --http-password p --http-api-key k", func(c account.FilesystemConfig) bool {
			h := c.HTTPConfig
			return c.Provider == account.HTTPProvider && h.Endpoint == "http://h/fs" && h.Username == "u" && h.Password == secret.New("p") && h.APIKey == secret.New("k")
		}, ""},
		{"-f 6", nil, "endpoint"},
		{"-f webfs", nil, "--fs-provider"},
		{"-f 7", nil, "--fs-provider"},
	} {
		var f storageFlags
		fs := pflag.NewFlagSet("portable", pflag.ContinueOnError)
		f.add(fs)
		if err := fs.Parse(strings.Fields(c.args)); err != nil {
			t.Fatal(err)
		}
		cfg, err := f.config()
		if err == nil {
			folder := account.Folder{Name: "f", MappedPath: "/srv", Filesystem: cfg}
			if err = folder.Normalize(account.Rules{}); err == nil {
				err = account.OpenSecrets(nil, &folder)
			}
			cfg = folder.Filesystem
		}
		switch {
		case c.want == nil && (err == nil || !strings.Contains(err.Error(), c.text)):
			t.Errorf("%s: error %v, want one of %s", c.args, err, c.text)
		case c.want != nil && err != nil:
			t.Errorf("%s: %v", c.args, err)
		case c.want != nil && !c.want(cfg):
			t.Errorf("%s: %+v", c.args, cfg)
		}
	}
}
