package session_test

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/vfs"
)

func prop(local, xml string) session.Prop {
	return session.Prop{PropName: session.PropName{Space: "urn:x", Local: local}, XML: xml}
}

// propsAt tells the properties of a path as "name=xml …".
func propsAt(t *testing.T, x *session.Session, p string) string {
	t.Helper()
	list, err := x.Props(t.Context(), path(t, p))
	if err != nil {
		t.Fatal(err)
	}
	return told(list)
}

func told(list []session.Prop) string {
	var out []string
	for _, p := range list {
		out = append(out, p.Local+"="+p.XML)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestPropertiesFollowTheirFile(t *testing.T) {
	env := sessiontest.New(t, sessiontest.Options{}, sessiontest.User("a"))
	x := env.Login("a")
	ctx := t.Context()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(x.Mkdir(ctx, path(t, "/d"), vfs.Attr{}))
	do(x.Mkdir(ctx, path(t, "/d/e"), vfs.Attr{}))
	do(store(t, x, path(t, "/d/f"), "1"))
	do(store(t, x, path(t, "/d/e/g"), "1"))
	do(x.PatchProps(ctx, path(t, "/d/f"), []session.Prop{prop("a", "1"), prop("b", "2")}, nil))
	do(x.PatchProps(ctx, path(t, "/d/e/g"), []session.Prop{prop("deep", "1")}, nil))
	do(x.PatchProps(ctx, path(t, "/d"), []session.Prop{prop("dir", "1")}, nil))
	want := func(p, want string) {
		t.Helper()
		if got := propsAt(t, x, p); got != want {
			t.Errorf("%s: got %q, want %q", p, got, want)
		}
	}
	do(store(t, x, path(t, "/d/f"), "2"))
	want("/d/f", "a=1 b=2")
	do(x.Rename(ctx, path(t, "/d"), path(t, "/n"), true))
	want("/n", "dir=1")
	want("/n/f", "a=1 b=2")
	want("/n/e/g", "deep=1")
	do(x.Copy(ctx, path(t, "/n"), path(t, "/c"), true))
	want("/c", "dir=1")
	want("/c/f", "a=1 b=2")
	want("/c/e/g", "deep=1")
	do(x.Rename(ctx, path(t, "/c/f"), path(t, "/c/h"), true))
	want("/c/h", "a=1 b=2")
	do(store(t, x, path(t, "/c/f"), "new"))
	want("/c/f", "")
	do(x.Rename(ctx, path(t, "/c/f"), path(t, "/c/h"), true)) // what has none replaces what has
	want("/c/h", "")
	do(x.Remove(ctx, path(t, "/n/f")))
	do(store(t, x, path(t, "/n/f"), "new"))
	want("/n/f", "")
	do(x.RemoveAll(ctx, path(t, "/n")))
	do(x.Mkdir(ctx, path(t, "/n"), vfs.Attr{}))
	want("/n", "")
	if err := x.Rename(ctx, path(t, "/c/e"), path(t, "/c/e/in"), true); err == nil {
		t.Error("a directory was moved into itself")
	}
	want("/c/e/g", "deep=1")

	in, err := x.PropsIn(ctx, path(t, "/c/e"))
	do(err)
	if got := told(in("g")) + told(in("other")); got != "deep=1" {
		t.Errorf("in /c/e: %q", got)
	}
	if err := x.PatchProps(ctx, path(t, "/none"), []session.Prop{prop("a", "")}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("properties of nothing: %v", err)
	}
	// DAV-1: too many change nothing.
	many := make([]session.Prop, 300)
	for i := range many {
		many[i] = prop(fmt.Sprint("p", i), "")
	}
	if err := x.PatchProps(ctx, path(t, "/c/e/g"), many, []session.PropName{{Space: "urn:x", Local: "deep"}}); !errors.Is(err, session.ErrTooManyProps) || !errors.Is(err, vfs.ErrQuota) {
		t.Errorf("300 properties: %v", err)
	}
	want("/c/e/g", "deep=1")
	l, _, err := x.Lock(ctx, path(t, "/c/e"), session.LockRequest{Exclusive: true, Infinite: true})
	do(err)
	if err := x.PatchProps(ctx, path(t, "/c/e/g"), []session.Prop{prop("a", "")}, nil); !errors.Is(err, session.ErrLocked) {
		t.Errorf("properties of a locked file: %v", err)
	}
	do(x.PatchProps(session.WithLockTokens(ctx, []string{l.Token}), path(t, "/c/e/g"), nil, []session.PropName{{Space: "urn:x", Local: "deep"}}))
	want("/c/e/g", "")
}

// PATH-4: rights and patterns hold for properties too.
func TestPropertiesAskPermissions(t *testing.T) {
	u := sessiontest.User("a")
	u.Permissions["/ro"] = []string{account.PermList, account.PermDownload}
	u.Permissions["/wo"] = []string{account.PermUpload}
	u.Filters.FilePatterns = []account.PatternsFilter{{Path: "/", DeniedPatterns: []string{"*.hid"}, DenyPolicy: 1}}
	env := sessiontest.New(t, sessiontest.Options{}, u)
	x := env.Login("a")
	for _, d := range []string{"ro", "wo"} {
		env.FS("/home/a").Mkdir(t.Context(), path(t, "/"+d), vfs.Attr{})
		env.FS("/home/a").Mkdir(t.Context(), path(t, "/"+d+"/x"), vfs.Attr{})
	}
	env.FS("/home/a").Mkdir(t.Context(), path(t, "/x.hid"), vfs.Attr{})
	set := []session.Prop{prop("a", "1")}
	if err := x.PatchProps(t.Context(), path(t, "/ro/x"), set, nil); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("set without a right to write: %v", err)
	}
	if _, _, err := x.Lock(t.Context(), path(t, "/ro/x"), exclusive()); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("lock without a right to write: %v", err)
	}
	if err := x.PatchProps(t.Context(), path(t, "/wo/x"), set, nil); err != nil {
		t.Error(err)
	}
	if _, err := x.Props(t.Context(), path(t, "/wo/x")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("read without list: %v", err)
	}
	if _, err := x.PropsIn(t.Context(), path(t, "/wo")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("read in a directory without list: %v", err)
	}
	if err := x.PatchProps(t.Context(), path(t, "/x.hid"), set, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("properties of what is hidden: %v", err)
	}
	if _, err := x.Props(t.Context(), path(t, "/x.hid")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("properties of what is hidden: %v", err)
	}
}
