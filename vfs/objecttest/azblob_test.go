package objecttest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/azblob"
	"github.com/gantryhq/gantry/vfs/object"
	"github.com/gantryhq/gantry/vfs/vfstest"
)

// azurite starts Microsoft's emulator where it is installed, with one container.
func azurite(t testing.TB, container string) string {
	t.Helper()
	bin := emulator(t, "azurite-blob", "node_modules/.bin/azurite-blob")
	addr := freeAddr(t)
	host, port, _ := net.SplitHostPort(addr)
	server(t, dials(addr), bin, "--blobHost", host, "--blobPort", port, "--location", t.TempDir(), "--skipApiVersionCheck", "--disableTelemetry", "--silent")
	makeContainer(t, "http://"+addr, container)
	return "http://" + addr
}

// The account that every emulator has.
const (
	azureAccount = "devstoreaccount1"
	azureKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// makeContainer makes a container by a request that is signed by hand.
func makeContainer(t testing.TB, endpoint, container string) {
	t.Helper()
	path := "/" + azureAccount + "/" + container
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, endpoint+path+"?restype=container", bytes.NewReader(nil))
	if err != nil {
		t.Fatal(err)
	}
	date := time.Now().UTC().Format(http.TimeFormat)
	req.Header.Set("x-ms-date", date)
	req.Header.Set("x-ms-version", "2021-10-04")
	key, err := base64.StdEncoding.DecodeString(azureKey)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:%s\nx-ms-version:2021-10-04\n/%s%s\nrestype:container", date, azureAccount, path)
	req.Header.Set("Authorization", "SharedKey "+azureAccount+":"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("make the container: %s", resp.Status)
	}
}

func openAzure(t testing.TB, c azblob.Config, o object.Options) vfs.FS {
	t.Helper()
	if o.Memory == nil {
		o.Memory = object.NewMemory(128 << 20)
	}
	o.RenameDirs = true
	f, err := azblob.New(c, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestAzureOnAzurite(t *testing.T) {
	url := azurite(t, "box")
	var n atomic.Int64
	vfstest.Run(t, func(t *testing.T) vfs.FS {
		return openAzure(t, azblob.Config{Container: "box", Endpoint: url, Emulator: true}, object.Options{Prefix: fmt.Sprintf("tree%d/", n.Add(1))})
	}, caps)
}

// TestAzureConfig: what cannot work is said at once, and no error holds a secret (LOG-1).
func TestAzureConfig(t *testing.T) {
	secret := "sig=verysecretsignature"
	for name, c := range map[string]azblob.Config{
		"nothing":          {},
		"no key":           {Container: "c", AccountName: "a"},
		"key":              {Container: "c", AccountName: "a", AccountKey: "verysecret!"},
		"other container":  {Container: "c", SASURL: "https://a.blob.core.windows.net/d?" + secret},
		"no container":     {SASURL: "https://a.blob.core.windows.net/?" + secret},
		"no URL":           {Container: "c", SASURL: "::" + secret},
		"endpoint":         {Container: "c", AccountName: "a", AccountKey: "QUJD", Endpoint: "http://"},
		"endpoint of user": {Container: "c", AccountName: "a", AccountKey: "QUJD", Endpoint: "http://u:verysecret@host"},
	} {
		f, err := azblob.New(c, object.Options{Memory: object.NewMemory(1)})
		if err == nil {
			f.Close()
			t.Errorf("%s: passed", name)
			continue
		}
		if bytes.Contains([]byte(err.Error()), []byte("verysecret")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Nor when the service cannot be reached.
	refuse := func(context.Context, string, string) (net.Conn, error) { return nil, fmt.Errorf("no way") }
	f, err := azblob.New(azblob.Config{SASURL: "https://a.blob.core.windows.net/box?" + secret, Dial: refuse, Retries: 1}, object.Options{Memory: object.NewMemory(1)})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = f.Stat(t.Context(), path(t, "/x"))
	if err == nil || bytes.Contains([]byte(err.Error()), []byte("verysecret")) {
		t.Errorf("stat: %v", err)
	}
}
