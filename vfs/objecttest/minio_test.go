package objecttest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	bigint "math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/secret"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/object"
	"github.com/gantryhq/gantry/vfs/s3"
	"github.com/gantryhq/gantry/vfs/vfstest"
)

// minio starts MinIO where it is installed, with the bucket "bucket", the key "test" and the secret "testtest"; over TLS
// with a certificate of its own if that is wanted. It is STS, too. log is what it prints.
func minio(t testing.TB, overTLS bool, env ...string) (url string, log func() string) {
	t.Helper()
	bin := emulator(t, "minio", "bin/minio")
	certs, addr, url := t.TempDir(), freeAddr(t), ""
	if url = "http://" + addr; overTLS {
		url = "https://" + addr
		certificate(t, certs)
	}
	for _, e := range append(env, "MINIO_ROOT_USER=test", "MINIO_ROOT_PASSWORD=testtest", "MINIO_BROWSER=off", "MINIO_UPDATE=off") {
		k, v, _ := strings.Cut(e, "=")
		t.Setenv(k, v)
	}
	ready := func() error { // the bucket can be made, and STS answers
		c := awss3.New(awss3.Options{Region: "us-east-1", BaseEndpoint: &url, UsePathStyle: true, HTTPClient: insecure(), RetryMaxAttempts: 1,
			Credentials: credentials.NewStaticCredentialsProvider("test", "testtest", "")})
		_, err := c.CreateBucket(t.Context(), &awss3.CreateBucketInput{Bucket: aws.String("bucket")})
		if _, ok := errors.AsType[*types.BucketAlreadyOwnedByYou](err); err != nil && !ok {
			return err
		}
		_, _, _, err = assume(t, url)
		return err
	}
	cmd := server(t, ready, bin, "server", "--address", addr, "-S", certs, t.TempDir())
	return url, func() string {
		b, _ := os.ReadFile(cmd.Stdout.(*os.File).Name())
		return string(b)
	}
}

func insecure() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
}

// certificate makes one for this machine, which nobody trusts.
func certificate(t testing.TB, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: bigint.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{"public.crt": {Type: "CERTIFICATE", Bytes: der}, "private.key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// assume asks MinIO for credentials of a session.
func assume(t testing.TB, url string) (key, secret, token string, err error) {
	c := sts.New(sts.Options{Region: "us-east-1", BaseEndpoint: &url, HTTPClient: insecure(), Credentials: credentials.NewStaticCredentialsProvider("test", "testtest", "")})
	out, err := c.AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::1:role/any"), RoleSessionName: aws.String("test")})
	if err != nil {
		return "", "", "", err
	}
	return *out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken, nil
}

// sessionAt is assume for what has started.
func sessionAt(t testing.TB, url string) (key, secret, token string) {
	t.Helper()
	key, secret, token, err := assume(t, url)
	if err != nil {
		t.Fatal(err)
	}
	return key, secret, token
}

// tree is a small life of a tree.
func tree(t *testing.T, f vfs.FS) {
	t.Helper()
	if err := f.Mkdir(t.Context(), path(t, "/d"), vfs.Attr{}); err != nil {
		t.Fatal(err)
	}
	put(t, f, "/d/small", "content")
	put(t, f, "/d/big", bigText())
	if err := f.(vfs.Copier).Copy(t.Context(), path(t, "/d/big"), path(t, "/copy"), false); err != nil {
		t.Error(err)
	}
	if err := f.Rename(t.Context(), path(t, "/d"), path(t, "/e"), false); err != nil {
		t.Error(err)
	}
	when := time.Date(2020, 2, 2, 2, 2, 2, 0, time.UTC)
	if err := f.(vfs.AttrSetter).SetAttr(t.Context(), path(t, "/e/small"), vfs.Attr{Set: vfs.AttrTimes, Mtime: when}, true); err != nil {
		t.Errorf("set the time: %v", err)
	}
	if i, err := f.Stat(t.Context(), path(t, "/e/small")); err != nil || !i.ModTime.Equal(when) {
		t.Errorf("the time is %v, %v", i.ModTime, err)
	}
	for name, want := range map[string]string{"/e/small": "content", "/e/big": bigText(), "/copy": bigText()} {
		if got, err := get(t.Context(), f, path(t, name)); err != nil || got != want {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(want))
		}
	}
	if got := names(t, f, "/") + " " + names(t, f, "/e"); got != "copy e big small" {
		t.Errorf("the tree holds %q", got)
	}
	for _, name := range []string{"/e/small", "/e/big", "/e", "/copy"} {
		if err := f.Remove(t.Context(), path(t, name)); err != nil {
			t.Error(err)
		}
	}
}

// bigText is as big, with bytes that tell where they belong.
func bigText() string {
	var b strings.Builder
	for i := 0; b.Len() < 17<<20; i++ {
		fmt.Fprintf(&b, "%016d", i)
	}
	return b.String()
}

// TestS3OnMinIO: a tree by a session token and one by a role that is assumed. The whole suite runs with the token in the
// long tests.
func TestS3OnMinIO(t *testing.T) {
	url, _ := minio(t, false)
	key, password, token := sessionAt(t, url)
	session := s3.Config{Bucket: "bucket", Endpoint: url, AccessKey: key, Secret: password, SessionToken: token}
	t.Run("session token", func(t *testing.T) { tree(t, openS3(t, session, object.Options{Prefix: "a/"})) })
	t.Run("role", func(t *testing.T) {
		tree(t, openS3(t, s3.Config{Bucket: "bucket", Endpoint: url, RoleARN: "arn:aws:iam::1:role/any", STSEndpoint: url}, object.Options{Prefix: "b/"}))
	})
	// What is refused says which part was wrong, and shows nothing (LOG-1).
	wrong := session
	wrong.SessionToken = token[:len(token)-8] + "AAAAAAAA"
	for what, c := range map[string]struct {
		s3.Config
		say string
	}{
		"a wrong token":              {wrong, "head"},
		"no token":                   {s3.Config{Bucket: "bucket", Endpoint: url, AccessKey: key, Secret: password}, "head"},
		"a role with a wrong secret": {s3.Config{Bucket: "bucket", Endpoint: url, AccessKey: "test", Secret: "wrong-secret", RoleARN: "arn:aws:iam::1:role/any", STSEndpoint: url}, `role_arn "arn:aws:iam::1:role/any" cannot be assumed`},
	} {
		f := openS3(t, c.Config, object.Options{})
		err := tryPut(t.Context(), f, path(t, "/x"), "content")
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v", what, err)
		}
		for _, s := range []string{password, token[8:40], wrong.SessionToken[8:40], "wrong-secret", "testtest"} {
			if err != nil && strings.Contains(err.Error(), s) {
				t.Errorf("%s: the error tells %q: %v", what, s, err)
			}
		}
		t.Logf("%s: %v", what, err)
	}
	if os.Getenv("GANTRY_TEST_LONG") == "" {
		return
	}
	var n atomic.Int64
	vfstest.Run(t, func(t *testing.T) vfs.FS {
		return openS3(t, session, object.Options{Prefix: fmt.Sprintf("tree%d/", n.Add(1))})
	}, caps)
}

// TestS3CustomerKeyOnMinIO: the service encrypts with our key, over TLS: files, parts, ranges, copies, renames, times and
// what is continued. Without the key, and with another one, nothing is read.
func TestS3CustomerKeyOnMinIO(t *testing.T) {
	url, _ := minio(t, true)
	for name, key := range map[string]string{"32 bytes": "0123456789abcdef0123456789ABCDEF", "a passphrase": "nine long words that nobody guesses"} {
		t.Run(name, func(t *testing.T) {
			c := s3.Config{Bucket: "bucket", Endpoint: url, SSECustomerKey: key, SkipTLSVerify: true}
			var log bytes.Buffer
			o := object.Options{Prefix: fmt.Sprintf("k%d/", len(key)), Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
			f := openS3(t, c, o)
			tree(t, f)
			put(t, f, "/big", bigText())
			r, err := f.Open(t.Context(), path(t, "/big"))
			if err != nil {
				t.Fatal(err)
			}
			piece := make([]byte, 1000)
			if _, err := r.ReadAt(piece, 11<<20+5); err != nil || string(piece) != bigText()[11<<20+5:11<<20+1005] {
				t.Errorf("a range: %.20q, %v", piece, err)
			}
			r.Close()
			u, err := f.Create(t.Context(), path(t, "/big"), vfs.OpenMode{Offset: int64(len(bigText()))})
			if err == nil {
				_, err = u.WriteAt([]byte("tail"), int64(len(bigText())))
			}
			if err == nil {
				_, err = u.Commit(t.Context())
			}
			if got, gerr := get(t.Context(), f, path(t, "/big")); err != nil || gerr != nil || got != bigText()+"tail" {
				t.Errorf("continued: %v, %d bytes, %v", err, len(got), gerr)
			}
			for what, k := range map[string]string{"no key": "", "another key": "another key that is as long as it"} {
				c.SSECustomerKey = k
				got, err := get(t.Context(), openS3(t, c, o), path(t, "/big"))
				if err == nil || len(got) > 0 {
					t.Errorf("%s: %d bytes were read, %v", what, len(got), err)
				} else {
					t.Logf("%s: %v", what, err)
				}
				if err != nil && (strings.Contains(err.Error(), key) || strings.Contains(err.Error(), base64.StdEncoding.EncodeToString([]byte(key)))) {
					t.Errorf("the error tells the key: %v", err) // LOG-1
				}
			}
			if strings.Contains(log.String(), key) || strings.Contains(log.String(), base64.StdEncoding.EncodeToString([]byte(key))) {
				t.Errorf("the log tells the key:\n%s", &log)
			}
		})
	}
}

// issuer is an identity provider for MinIO: its discovery, its key, and tokens for a client "gantry".
func issuer(t testing.TB) (url string, token func() string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	answer := func(path string, v any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(v) })
	}
	answer("/.well-known/openid-configuration", map[string]any{
		"issuer": srv.URL, "authorization_endpoint": srv.URL + "/auth", "token_endpoint": srv.URL + "/token", "jwks_uri": srv.URL + "/keys",
		"response_types_supported": []string{"code"}, "id_token_signing_alg_values_supported": []string{"RS256"}, "subject_types_supported": []string{"public"},
	})
	answer("/keys", map[string]any{"keys": []any{map[string]string{
		"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1", "n": enc(key.N.Bytes()), "e": enc(bigint.NewInt(int64(key.E)).Bytes()),
	}}})
	return srv.URL, func() string {
		claims, _ := json.Marshal(map[string]any{
			"iss": srv.URL, "aud": "gantry", "sub": "gantry-node", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "policy": "readwrite",
		})
		text := enc([]byte(`{"alg":"RS256","kid":"1","typ":"JWT"}`)) + "." + enc(claims)
		sum := sha256.Sum256([]byte(text))
		sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return text + "." + enc(sig)
	}
}

// TestServeOnMinIO: the built program by a session token, a role, web identity with a token file, and a customer key
// over TLS. What the key encrypted cannot be read without it.
func TestServeOnMinIO(t *testing.T) {
	provider, idToken := issuer(t)
	url, log := minio(t, false, "MINIO_IDENTITY_OPENID_CONFIG_URL="+provider+"/.well-known/openid-configuration",
		"MINIO_IDENTITY_OPENID_CLIENT_ID=gantry", "MINIO_IDENTITY_OPENID_CLIENT_SECRET=unused", "MINIO_IDENTITY_OPENID_ROLE_POLICY=readwrite")
	overTLS, _ := minio(t, true)
	key, password, token := sessionAt(t, url)
	role := regexp.MustCompile(`arn:minio:iam:\S+`).FindString(log())
	if role == "" {
		t.Fatalf("MinIO names no role:\n%s", log())
	}
	file, jwt := filepath.Join(t.TempDir(), "token"), idToken()
	if err := os.WriteFile(file, []byte(jwt), 0o600); err != nil {
		t.Fatal(err)
	}
	const customer = "nine long words that nobody guesses, 4711 of them"
	base := account.S3Config{Bucket: "bucket", Region: "us-east-1", Endpoint: url, AccessKey: "test", AccessSecret: secret.New("testtest"), ForcePathStyle: true}
	users := map[string]account.FilesystemConfig{}
	for name, change := range map[string]func(c *account.S3Config){
		"token": func(c *account.S3Config) {
			c.AccessKey, c.AccessSecret, c.SessionToken = key, secret.New(password), token
		},
		"role": func(c *account.S3Config) { c.RoleARN = "arn:aws:iam::1:role/any" },
		"web":  func(c *account.S3Config) { c.AccessKey, c.AccessSecret = "", secret.Secret{} },
		"key": func(c *account.S3Config) {
			c.Endpoint, c.SkipTLSVerify, c.SSECustomerKey = overTLS, true, secret.New(customer)
		},
	} {
		c := base
		change(&c)
		c.KeyPrefix = name + "/"
		users[name] = account.FilesystemConfig{Provider: account.S3Provider, S3Config: c}
	}
	s := serve(t, []string{password, token, jwt, customer, "testtest"}, []string{
		"AWS_ENDPOINT_URL_STS=" + url, "AWS_ROLE_ARN=" + role, "AWS_WEB_IDENTITY_TOKEN_FILE=" + file, "AWS_ROLE_SESSION_NAME=gantry-node", "AWS_EC2_METADATA_DISABLED=true",
	}, users)
	direct := func(at string) *awss3.Client {
		return awss3.New(awss3.Options{Region: "us-east-1", BaseEndpoint: &at, UsePathStyle: true, HTTPClient: insecure(), Credentials: credentials.NewStaticCredentialsProvider("test", "testtest", "")})
	}
	for name, u := range users {
		t.Run(name, func(t *testing.T) {
			c := direct(u.S3Config.Endpoint)
			useBySFTP(t, login(t, s, name), func(file, content string) {
				out, err := c.GetObject(t.Context(), &awss3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String(name + file)})
				if name == "key" {
					if err == nil {
						t.Errorf("%s is read without the key", file)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				defer out.Body.Close()
				if b, err := io.ReadAll(out.Body); err != nil || string(b) != content {
					t.Errorf("%s holds %d bytes, %v", file, len(b), err)
				}
			})
		})
	}
	s.Stop(syscall.SIGTERM)
	for _, u := range s.Dump().Users {
		if k := u.Filesystem.S3Config.SSECustomerKey; u.Username == "key" && (k.Status == secret.Plain || k.IsEmpty()) {
			t.Errorf("the customer key is %s in the record", k.Status)
		}
	}
}
