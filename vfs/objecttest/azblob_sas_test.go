package objecttest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/secret"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/azblob"
	"github.com/gantryhq/gantry/vfs/object"
	"github.com/gantryhq/gantry/vfs/vfstest"
)

func azureCred(t testing.TB) *blob.SharedKeyCredential {
	t.Helper()
	cred, err := blob.NewSharedKeyCredential(azureAccount, azureKey)
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

// accountSAS is a URL for all that the account holds. It names no container.
func accountSAS(t testing.TB, endpoint string) string {
	t.Helper()
	q, err := sas.AccountSignatureValues{
		Protocol: sas.ProtocolHTTPSandHTTP, ExpiryTime: time.Now().UTC().Add(time.Hour),
		Permissions:   (&sas.AccountPermissions{Read: true, Write: true, Delete: true, List: true, Add: true, Create: true}).String(),
		ResourceTypes: (&sas.AccountResourceTypes{Container: true, Object: true}).String(),
	}.SignWithSharedKey(azureCred(t))
	if err != nil {
		t.Fatal(err)
	}
	return endpoint + "/" + azureAccount + "?" + q.Encode()
}

// The permissions of a container's SAS: all that a tree needs, and less.
var (
	sasAll      = sas.ContainerPermissions{Read: true, Write: true, Delete: true, List: true, Add: true, Create: true}
	sasRead     = sas.ContainerPermissions{Read: true, List: true}
	sasNoDelete = sas.ContainerPermissions{Read: true, Write: true, List: true, Add: true, Create: true}
)

// containerSAS is a URL for one container that is good for so long, or was until then.
func containerSAS(t testing.TB, endpoint, container string, p sas.ContainerPermissions, lasts time.Duration) string {
	t.Helper()
	q, err := sas.BlobSignatureValues{
		Protocol: sas.ProtocolHTTPSandHTTP, StartTime: time.Now().UTC().Add(-2 * time.Hour), ExpiryTime: time.Now().UTC().Add(lasts),
		Permissions: p.String(), ContainerName: container,
	}.SignWithSharedKey(azureCred(t))
	if err != nil {
		t.Fatal(err)
	}
	return endpoint + "/" + azureAccount + "/" + container + "?" + q.Encode()
}

// signature is what must never be told of a SAS URL (LOG-1).
func signature(t testing.TB, url string) string {
	t.Helper()
	p, err := blob.ParseURL(url)
	if err != nil || p.SAS.Signature() == "" {
		t.Fatalf("the URL has no signature: %v", err)
	}
	_, s, _ := strings.Cut(url, "sig=")
	s, _, _ = strings.Cut(s, "&")
	return s
}

// tierOf asks the emulator for a blob's access tier.
func tierOf(t testing.TB, endpoint, container, key string) string {
	t.Helper()
	c, err := blob.NewClientWithSharedKeyCredential(endpoint+"/"+azureAccount+"/"+container+"/"+key, azureCred(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.GetProperties(t.Context(), nil)
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	if p.AccessTier == nil {
		return ""
	}
	return *p.AccessTier
}

// TestAzureSASOnAzurite: a tree by a URL alone, of an account and of a container, whose files have the tier that is set.
// The whole suite runs on the latter in the long tests.
func TestAzureSASOnAzurite(t *testing.T) {
	url := azurite(t, "box")
	for name, c := range map[string]azblob.Config{
		"account":   {Container: "box", SASURL: accountSAS(t, url), Emulator: true, AccessTier: "Cool"},
		"container": {SASURL: containerSAS(t, url, "box", sasAll, time.Hour), Emulator: true, AccessTier: "Cool"},
	} {
		t.Run(name, func(t *testing.T) {
			f := openAzure(t, c, object.Options{Prefix: name + "/"})
			if err := f.Mkdir(t.Context(), path(t, "/d"), vfs.Attr{}); err != nil {
				t.Fatal(err)
			}
			put(t, f, "/d/small", "content")
			put(t, f, "/d/big", big())
			if err := f.(vfs.Copier).Copy(t.Context(), path(t, "/d/big"), path(t, "/copy"), false); err != nil {
				t.Fatal(err)
			}
			if err := f.Rename(t.Context(), path(t, "/d/small"), path(t, "/moved"), false); err != nil {
				t.Fatal(err)
			}
			if err := f.Rename(t.Context(), path(t, "/d"), path(t, "/e"), false); err != nil {
				t.Fatal(err)
			}
			if got := names(t, f, "/") + " " + names(t, f, "/e"); got != "copy e moved big" {
				t.Errorf("the tree holds %q", got)
			}
			for file, want := range map[string]string{"/moved": "content", "/copy": big(), "/e/big": big()} {
				if got, err := get(t.Context(), f, path(t, file)); err != nil || got != want {
					t.Errorf("%s: %d bytes, %v; want %d", file, len(got), err, len(want))
				}
				if got := tierOf(t, url, "box", name+file); got != "Cool" {
					t.Errorf("%s has the tier %q", file, got)
				}
				if err := f.Remove(t.Context(), path(t, file)); err != nil {
					t.Error(err)
				}
			}
			if got := names(t, f, "/") + names(t, f, "/e"); got != "e" {
				t.Errorf("%q stayed", got)
			}
		})
	}
	if os.Getenv("GANTRY_TEST_LONG") == "" {
		return
	}
	var n atomic.Int64
	sas := containerSAS(t, url, "box", sasAll, time.Hour)
	vfstest.Run(t, func(t *testing.T) vfs.FS {
		return openAzure(t, azblob.Config{SASURL: sas, Emulator: true, AccessTier: "Cool"}, object.Options{Prefix: fmt.Sprintf("tree%d/", n.Add(1))})
	}, caps)
}

// TestAzureSASRefusals: a SAS that has expired or permits too little is refused in words that say so; nothing shows,
// nothing is lost, and neither error nor log tells the signature (LOG-1).
func TestAzureSASRefusals(t *testing.T) {
	url := azurite(t, "box")
	makeContainer(t, url, "other")
	owner := openAzure(t, azblob.Config{Container: "box", Endpoint: url, Emulator: true}, object.Options{})
	put(t, owner, "/there", "content")
	for _, c := range []struct {
		name, sas, say              string
		read, list, create, replace error // of the operations; nil: it goes well
		move                        error
	}{
		{"all", containerSAS(t, url, "box", sasAll, time.Hour), "", nil, nil, nil, nil, nil},
		{"expired", containerSAS(t, url, "box", sasAll, -time.Hour), "the SAS of sas_url expired at ", fs.ErrPermission, fs.ErrPermission, fs.ErrPermission, fs.ErrPermission, fs.ErrPermission},
		{"read only", containerSAS(t, url, "box", sasRead, time.Hour), "permits \"rl\" until", nil, nil, fs.ErrPermission, fs.ErrPermission, fs.ErrPermission},
		{"no delete", containerSAS(t, url, "box", sasNoDelete, time.Hour), "permits \"racwl\" until", nil, nil, nil, nil, fs.ErrPermission},
		{"other container", strings.Replace(containerSAS(t, url, "other", sasAll, time.Hour), "/other?", "/box?", 1), "the SAS of sas_url permits", fs.ErrPermission, fs.ErrPermission, fs.ErrPermission, fs.ErrPermission, fs.ErrPermission},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			m := object.NewMemory(128 << 20)
			f := openAzure(t, azblob.Config{SASURL: c.sas, Emulator: true, Retries: 2}, object.Options{
				Memory: m, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			})
			check := func(what string, err, want error) {
				t.Helper()
				if (want == nil) != (err == nil) || want != nil && !errors.Is(err, want) {
					t.Errorf("%s: %v; want %v", what, err, want)
				}
				if err == nil {
					return
				}
				if text := err.Error(); strings.Contains(text, signature(t, c.sas)) || strings.Contains(text, "sig=") {
					t.Errorf("%s tells the signature: %v", what, err)
				} else if !strings.Contains(text, c.say) {
					t.Errorf("%s does not say %q: %v", what, c.say, err)
				}
			}
			_, err := get(t.Context(), f, path(t, "/there"))
			check("read", err, c.read)
			err = nil
			for _, e := range f.List(t.Context(), vfs.Root) {
				err = errors.Join(err, e)
			}
			check("list", err, c.list)
			check("create", tryPut(t.Context(), f, path(t, "/new"), "content"), c.create)
			check("create in blocks", tryPut(t.Context(), f, path(t, "/large"), big()), c.create)
			check("replace", tryPut(t.Context(), f, path(t, "/there"), "content"), c.replace)
			check("move", f.Rename(t.Context(), path(t, "/there"), path(t, "/moved"), false), c.move)
			if c.move == nil {
				check("move back", f.Rename(t.Context(), path(t, "/moved"), path(t, "/there"), false), nil)
			}
			if got, err := get(t.Context(), owner, path(t, "/there")); err != nil || got != "content" {
				t.Errorf("what was there is %q, %v", got, err)
			}
			want := "there"
			if c.create == nil {
				want = "large new there"
			}
			if c.create == nil && c.move != nil { // the copy cannot be taken back
				want = "large moved new there"
			}
			if got := names(t, owner, "/"); got != want {
				t.Errorf("%q can be seen, want %q", got, want)
			}
			for _, left := range strings.Fields(names(t, owner, "/")) {
				if left != "there" {
					if err := owner.Remove(t.Context(), path(t, "/"+left)); err != nil {
						t.Fatal(err)
					}
				}
			}
			if now, _ := m.Use(); now != 0 {
				t.Errorf("%d bytes are still reserved", now)
			}
			if strings.Contains(log.String(), signature(t, c.sas)) || strings.Contains(log.String(), "sig=") {
				t.Errorf("the log tells the signature:\n%s", &log)
			}
		})
	}
}

// TestAzureBlocks: the blocks of an upload have the size that is set, and so many are sent at once as are set.
func TestAzureBlocks(t *testing.T) {
	direct := azurite(t, "box")
	for _, c := range []struct {
		size        int64
		concurrency int
		blocks      int64 // of 17 MiB
	}{{0, 3, 4}, {2, 4, 9}, {8, 1, 3}} {
		t.Run(fmt.Sprintf("%d MB, %d at once", c.size, c.concurrency), func(t *testing.T) {
			var started, released atomic.Int64
			arrived, release := make(chan struct{}, 100), make(chan struct{})
			p := newProxyOf(t, azureVendor(), direct, func(k string, _ int) fault {
				if k != "PART" {
					return fault{}
				}
				if n := started.Add(1) - released.Load(); n > int64(c.concurrency) {
					t.Errorf("%d blocks at once", n)
				}
				arrived <- struct{}{}
				return fault{hold: release}
			})
			m := object.NewMemory(128 << 20)
			f := openAzure(t, azblob.Config{Container: "box", Endpoint: p.URL, Emulator: true, UploadPartSize: c.size, UploadConcurrency: c.concurrency}, object.Options{Memory: m})
			var up sync.WaitGroup
			up.Go(func() {
				if err := tryPut(t.Context(), f, path(t, "/f"), big()); err != nil {
					t.Error(err)
				}
			})
			for range c.concurrency { // they all come though none is answered
				<-arrived
			}
			go func() {
				for range c.blocks {
					released.Add(1)
					release <- struct{}{}
				}
			}()
			up.Wait()
			if n := started.Load(); n != c.blocks {
				t.Errorf("%d blocks, want %d", n, c.blocks)
			}
			if got, err := get(t.Context(), f, path(t, "/f")); err != nil || got != big() {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

// TestServeOnAzureSAS: the built program with a sealed SAS URL and a tier. Neither its log nor its records tell the
// signature (LOG-1), also when the SAS is refused.
func TestServeOnAzureSAS(t *testing.T) {
	url := azurite(t, "box")
	good, old := containerSAS(t, url, "box", sasAll, time.Hour), containerSAS(t, url, "box", sasAll, -time.Hour)
	storage := func(sas, prefix string) account.FilesystemConfig {
		return account.FilesystemConfig{Provider: account.AzBlobProvider, AzBlobConfig: account.AzBlobConfig{
			SASURL: secret.New(sas), UseEmulator: true, AccessTier: "Cool", KeyPrefix: prefix,
		}}
	}
	s := serve(t, []string{signature(t, good), signature(t, old)}, nil, map[string]account.FilesystemConfig{"good": storage(good, "a/"), "old": storage(old, "b/")})
	useBySFTP(t, login(t, s, "good"), func(name, _ string) {
		if got := tierOf(t, url, "box", "a"+name); got != "Cool" {
			t.Errorf("%s has the tier %q", name, got)
		}
	})
	c := login(t, s, "old")
	if _, err := c.ReadDir("/"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a listing by an expired SAS: %v", err)
	}
	if err := sftpPut(c, "/x", "content"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("an upload by an expired SAS: %v", err)
	}
	s.Until("the log says why", func() bool { return strings.Contains(fmt.Sprint(s.Log()), "the SAS of sas_url expired at ") })
	s.Stop(syscall.SIGTERM)
	for _, u := range s.Dump().Users {
		if f := u.Filesystem.AzBlobConfig.SASURL; f.Status == secret.Plain || f.Payload == "" || strings.Contains(f.Payload, "sig=") {
			t.Errorf("the SAS of %s is %s in the record", u.Username, f.Status)
		}
	}
}
