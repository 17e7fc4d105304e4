//go:build linux

package dav

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/local"
)

// countedFS counts what goes which way.
type countedFS struct {
	*local.FS
	n *counts
}

type counts struct{ instant, usual atomic.Int64 }

func (f countedFS) Open(ctx context.Context, p vfs.Path) (vfs.File, error) {
	f.n.usual.Add(1)
	return f.FS.Open(ctx, p)
}

func (f countedFS) Stat(ctx context.Context, p vfs.Path) (vfs.FileInfo, error) {
	f.n.usual.Add(1)
	return f.FS.Stat(ctx, p)
}

func (f countedFS) ReadInstant(p vfs.Path, b []byte, most int) ([]byte, vfs.FileInfo, bool) {
	b, i, ok := f.FS.ReadInstant(p, b, most)
	if ok {
		f.n.instant.Add(1)
	}
	return b, i, ok
}

func (f countedFS) StatInstant(p vfs.Path) (vfs.FileInfo, bool) {
	i, ok := f.FS.StatInstant(p)
	if ok {
		f.n.instant.Add(1)
	}
	return i, ok
}

// limitedGate may want to be asked about each request.
type limitedGate struct {
	open
	limited atomic.Bool
}

func (g *limitedGate) Unlimited() bool { return !g.limited.Load() }

func TestInstantAnswers(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "gantry-dav-") // in memory, as every file that is sent instantly
	if err != nil {
		t.Skip(err)
	}
	defer os.RemoveAll(dir)
	n, gate := &counts{}, &limitedGate{}
	u := sessiontest.User("u")
	env := sessiontest.New(t, sessiontest.Options{NewFS: func(_ context.Context, st session.Storage) (vfs.FS, error) {
		f, err := local.New(dir, local.Options{})
		return countedFS{f, n}, err
	}}, u)
	for name, size := range map[string]int{"small.txt": 4096, "empty": 0, "large": maxInstant + 1, "page.html": 10} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat("x", size)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	x := start(t, setup{env: env, gate: gate})
	c := x.dial()
	c.ask("OPTIONS", "/").want(t, 200) // the session
	c.do("PROPFIND", "/", []byte(clientFind), "Depth: 0").want(t, 207)
	way := func(what string, instant bool, do func()) {
		t.Helper()
		n.instant.Store(0)
		n.usual.Store(0)
		do()
		if got := n.instant.Load() > 0; got != instant || got && n.usual.Load() > 0 {
			t.Errorf("%s: %d instantly, %d as usual", what, n.instant.Load(), n.usual.Load())
		}
	}
	dated := regexp.MustCompile(`\d\d:\d\d:\d\d GMT`)
	for _, name := range []string{"/small.txt", "/empty", "/page.html", "/dir"} {
		if name == "/dir" {
			c.ask("MKCOL", name).want(t, 201)
		}
		for _, method := range []string{"GET", "PROPFIND"} {
			if name == "/dir" && method == "GET" {
				continue
			}
			var answers [2]string
			var events [2]any
			env.Events.Take()
			for i, limited := range []bool{false, true} {
				gate.limited.Store(limited)
				way(fmt.Sprint(method, name, limited), !limited, func() {
					var g got
					if method == "GET" {
						g = c.ask(method, name).want(t, 200)
					} else {
						g = c.do(method, name, []byte(clientFind), "Depth: 0").want(t, 207)
					}
					g.header.Del("Date")
					answers[i] = dated.ReplaceAllString(fmt.Sprint(g.header, g.body), "")
				})
				list := env.Events.Take()
				for j := range list {
					list[j].Time, list[j].Elapsed = time.Time{}, 0
				}
				events[i] = list
			}
			gate.limited.Store(false)
			if answers[0] != answers[1] {
				t.Errorf("%s %s instantly: %s\nas usual: %s", method, name, answers[0], answers[1])
			}
			if !reflect.DeepEqual(events[0], events[1]) {
				t.Errorf("%s %s instantly: %+v\nas usual: %+v", method, name, events[0], events[1])
			}
		}
	}
	etag := c.ask("HEAD", "/small.txt").want(t, 200).header.Get("Etag")
	way("large", false, func() { c.ask("GET", "/large").want(t, 200) })
	way("none", false, func() { c.ask("GET", "/none").want(t, 404) })
	way("range", false, func() { c.ask("GET", "/small.txt", "Range: bytes=1-2").want(t, 206) })
	way("condition", false, func() { c.ask("GET", "/small.txt", "If-None-Match: "+etag).want(t, 304) })
	way("If", false, func() { c.ask("GET", "/small.txt", `If: (["no"])`).want(t, 412) })
	way("directory", false, func() { c.ask("GET", "/dir").want(t, 200) })
	way("slash", false, func() { c.ask("GET", "/small.txt/").want(t, 404) })
	way("other credentials", false, func() { c.ask("GET", "/small.txt", authorization("u", "wrong")).want(t, 401) })

	// Whatever has a word in a download is asked.
	as := func(change func(*account.User)) *peer {
		v := u
		v.Permissions = map[string][]string{"/": {"*"}}
		change(&v)
		env.Store.PutUser(v)
		c := x.dial()
		c.ask("OPTIONS", "/").want(t, 200)
		return c
	}
	c = as(func(*account.User) {})
	way("again", true, func() { c.ask("GET", "/small.txt").want(t, 200) })
	env.Events.Refuse("pre-download", os.ErrPermission)
	way("hook", false, func() { c.ask("GET", "/small.txt").want(t, 403) })
	env.Events.Refuse("pre-download", nil)
	c = as(func(u *account.User) { u.DownloadBandwidth = 10_000 })
	way("bandwidth", false, func() { c.ask("GET", "/small.txt").want(t, 200) })
	c = as(func(u *account.User) { u.DownloadDataTransfer = 1 })
	way("transfer limit", false, func() { c.ask("GET", "/small.txt").want(t, 200) })
	c = as(func(u *account.User) { u.Permissions["/"] = []string{"list"} })
	way("permission", false, func() { c.ask("GET", "/small.txt").want(t, 403) })
	c = as(func(u *account.User) {
		u.Filters.FilePatterns = []account.PatternsFilter{{Path: "/", DeniedPatterns: []string{"*.txt"}}}
	})
	way("pattern", false, func() { c.ask("GET", "/small.txt").want(t, 403) })
	// The account changes under an open connection (AUTH-8).
	c = as(func(*account.User) {})
	way("before", true, func() { c.ask("GET", "/small.txt").want(t, 200) })
	gone := u
	gone.Password = "another"
	env.Store.PutUser(gone)
	way("another password", false, func() { c.ask("GET", "/small.txt").want(t, 401) })
}

// TestInstantAnswersKeepTheirOrder: requests sent at once are answered in order, whichever way each goes.
func TestInstantAnswersKeepTheirOrder(t *testing.T) {
	x := start(t, setup{})
	for i := range 3 {
		x.file(fmt.Sprintf("/f%d", i), []byte(fmt.Sprint("content ", i)))
	}
	c := x.dial()
	c.ask("OPTIONS", "/").want(t, 200)
	var all string
	for i := range 30 {
		all += headOf("GET", fmt.Sprintf("/f%d", i%3)) + "\r\n"
	}
	c.send(all)
	for i := range 30 {
		if g := c.read("GET").want(t, 200); g.body != fmt.Sprint("content ", i%3) {
			t.Errorf("answer %d is %q", i, g.body)
		}
	}
}
