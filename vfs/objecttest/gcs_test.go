package objecttest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fsouza/fake-gcs-server/fakestorage"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/gcs"
	"github.com/gantryhq/gantry/vfs/object"
	"github.com/gantryhq/gantry/vfs/vfstest"
)

// fakeGCS serves a bucket in memory.
func fakeGCS(t testing.TB, bucket string) string {
	t.Helper()
	if os.Getenv("STORAGE_EMULATOR_HOST") != "" {
		t.Fatal("STORAGE_EMULATOR_HOST is set: the client would go there")
	}
	srv, err := fakestorage.NewServerWithOptions(fakestorage.Options{Scheme: "http", Host: "127.0.0.1", PublicHost: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Stop)
	srv.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: bucket})
	return srv.URL()
}

func openGCS(t testing.TB, c gcs.Config, o object.Options) vfs.FS {
	t.Helper()
	if o.Memory == nil {
		o.Memory = object.NewMemory(256 << 20)
	}
	o.RenameDirs = true
	f, err := gcs.New(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestGCSInMemory(t *testing.T) {
	url := fakeGCS(t, "bucket")
	var n atomic.Int64
	vfstest.Run(t, func(t *testing.T) vfs.FS {
		return openGCS(t, gcs.Config{Bucket: "bucket", Endpoint: url}, object.Options{Prefix: fmt.Sprintf("tree%d/", n.Add(1))})
	}, caps)
}

// newKey makes a key as a service account's file has it.
func newKey(t testing.TB) string {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b}))
}

// TestGCSCredentials: tokens are fetched through the judged dial (SSRF-1), and no error holds the key (LOG-1).
func TestGCSCredentials(t *testing.T) {
	for _, bad := range []string{"", "{}", `{"type":"external_account","credential_source":{"url":"http://169.254.169.254/"}}`, "verysecret"} {
		f, err := gcs.New(t.Context(), gcs.Config{Bucket: "b", Credentials: bad}, object.Options{Memory: object.NewMemory(1)})
		if err == nil {
			f.Close()
			t.Errorf("%q passed", bad)
		} else if strings.Contains(err.Error(), "verysecret") {
			t.Error(err)
		}
	}
	refused := errors.New("refused by the policy")
	var asked atomic.Int64
	dial := func(context.Context, string, string) (net.Conn, error) {
		asked.Add(1)
		return nil, refused
	}
	j := fmt.Sprintf(`{"type":"service_account","client_email":"a@b","private_key":%q,"token_uri":"http://127.0.0.1:1/token"}`, newKey(t))
	f, err := gcs.New(t.Context(), gcs.Config{Bucket: "b", Credentials: j, Dial: dial, Retries: 1}, object.Options{Memory: object.NewMemory(1)})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = f.Stat(t.Context(), path(t, "/x"))
	if err == nil || !strings.Contains(err.Error(), refused.Error()) || asked.Load() == 0 || strings.Contains(err.Error(), "PRIVATE") {
		t.Errorf("stat: %v after %d dials", err, asked.Load())
	}
}
