// Package vfstest is what every vfs.FS must do. A storage runs it with the capabilities it declares; what
// it does not declare must be absent, so that no gap hides.
package vfstest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"testing"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// Caps declares what a storage can do beyond vfs.FS.
type Caps struct {
	Links     bool // vfs.Linker, symbolic and hard
	Attrs     bool // vfs.AttrSetter
	Modes     bool // permission bits and the times of directories are kept; without, of a file its time of change
	LinkTimes bool // the times of a link itself
	Owners    bool // owners can be changed and asked for
	Atomic    bool // OpenMode.Atomic
	Whole     bool // uploads are atomic whatever OpenMode.Atomic says
	Resume    bool // uploads without Truncate, appends, random writes and Read
	DirNoRepl bool // Rename without replace of a directory is one step
	Copy      bool // vfs.Copier
	StatFS    bool // vfs.StatFSer
	DirSize   bool // vfs.DirSizer
	Sweep     bool // vfs.Sweeper
	Files     bool // vfs.FilesRemover
	Sub       bool // vfs.Subber
	Describe  bool // vfs.Describer
	// Host: paths of any length, listings that follow changes, open files that outlive their name.
	Host bool
	// Stream: uploads are hidden until Commit in every mode and are one run of bytes (object stores).
	Stream bool
	// Vague: a remote server's errors do not tell that a path leads through a file (vfs.ErrNotDir), in a circle
	// (vfs.ErrLoop) or out of the root (vfs.ErrEscape). Any error will do.
	Vague bool
	// Late: what was begun and given up may come to be on the server after the call has returned.
	Late bool
	// Snapshot: a listing may show what was removed since it began.
	Snapshot bool
	// Paths: an atomic upload finds its directory by the path again when it is committed.
	Paths bool
	// Times is how exact times are; from a second on they begin in 1970. 0 is to the nanosecond.
	Times time.Duration
	// Reopen, if set, gives a second FS on the same tree, as after a restart.
	Reopen func(t *testing.T, f vfs.FS) vfs.FS
}

// All is what a full local storage declares.
var All = Caps{
	Links: true, Attrs: true, Modes: true, Host: true, LinkTimes: true, Owners: true, Atomic: true, Resume: true, DirNoRepl: true,
	Copy: true, StatFS: true, DirSize: true, Sweep: true, Sub: true, Describe: true,
}

// Run runs the suite. make gives a fresh, empty, writable tree, which it closes when the test ends.
func Run(t *testing.T, make func(t *testing.T) vfs.FS, caps Caps) {
	for _, c := range slices.Concat(verbCases, uploadCases, renameCases, linkCases, extraCases, raceCases, streamCases) {
		if c.needs != nil && !c.needs(caps) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			c.run(&env{T: t, fs: make(t), caps: caps})
		})
	}
}

// testCase is one behaviour. needs nil means that every storage has it.
type testCase struct {
	name  string
	needs func(Caps) bool
	run   func(e *env)
}

// env is one test on one fresh tree.
type env struct {
	*testing.T
	fs   vfs.FS
	caps Caps
}

var ctx = context.Background()

func (e *env) path(s string) vfs.Path {
	e.Helper()
	p, err := vfs.ParsePath(s)
	if err != nil {
		e.Fatal(err)
	}
	return p
}

// want checks an error by name; nil means success.
func (e *env) want(what string, err, want error) {
	e.Helper()
	if e.caps.Vague && err != nil && (want == vfs.ErrNotDir || want == vfs.ErrLoop || want == vfs.ErrEscape) {
		return
	}
	if !errors.Is(err, want) {
		e.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func (e *env) ok(what string, err error) {
	e.Helper()
	if err != nil {
		e.Fatalf("%s: %v", what, err)
	}
}

// at is a time as the storage can keep it.
func (e *env) at(t time.Time) time.Time {
	if e.caps.Times > 0 {
		return t.Truncate(e.caps.Times)
	}
	return t
}

func (e *env) mkdir(names ...string) {
	e.Helper()
	for _, n := range names {
		e.ok("mkdir "+n, e.fs.Mkdir(ctx, e.path(n), vfs.Attr{}))
	}
}

func (e *env) create(name string, m vfs.OpenMode) vfs.Upload {
	e.Helper()
	u, err := e.fs.Create(ctx, e.path(name), m)
	e.ok("create "+name, err)
	return u
}

func (e *env) writeAt(u vfs.Upload, s string, off int64) {
	e.Helper()
	n, err := u.WriteAt([]byte(s), off)
	if n != len(s) || err != nil {
		e.Fatalf("WriteAt(%q, %d) = %d, %v", s, off, n, err)
	}
}

func (e *env) commit(u vfs.Upload) vfs.FileInfo {
	e.Helper()
	i, err := u.Commit(ctx)
	e.ok("commit", err)
	return i
}

// put makes a file of s.
func (e *env) put(name, s string) {
	e.Helper()
	u := e.create(name, vfs.OpenMode{Truncate: true})
	e.writeAt(u, s, 0)
	e.commit(u)
}

func (e *env) get(name string) string {
	e.Helper()
	f, err := e.fs.Open(ctx, e.path(name))
	e.ok("open "+name, err)
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
	e.ok("read "+name, err)
	return string(b)
}

func (e *env) wantContent(name, want string) {
	e.Helper()
	if got := e.get(name); got != want {
		e.Errorf("%s holds %.60q, want %.60q", name, got, want)
	}
}

func (e *env) stat(name string) vfs.FileInfo {
	e.Helper()
	i, err := e.fs.Stat(ctx, e.path(name))
	e.ok("stat "+name, err)
	return i
}

func (e *env) lstat(name string) vfs.FileInfo {
	e.Helper()
	i, err := e.fs.Lstat(ctx, e.path(name))
	e.ok("lstat "+name, err)
	return i
}

func (e *env) wantGone(name string) {
	e.Helper()
	_, err := e.fs.Lstat(ctx, e.path(name))
	e.want("lstat "+name, err, fs.ErrNotExist)
}

// list gives the names in dir, sorted.
func (e *env) list(dir string) []string {
	e.Helper()
	names := []string{}
	for i, err := range e.fs.List(ctx, e.path(dir)) {
		e.ok("list "+dir, err)
		names = append(names, i.Name)
	}
	slices.Sort(names)
	return names
}

func (e *env) wantList(dir string, want ...string) {
	e.Helper()
	slices.Sort(want)
	if got := e.list(dir); !slices.Equal(got, want) {
		e.Errorf("%s lists %q, want %q", dir, got, want)
	}
}

// listError is the error that ends the listing of dir.
func (e *env) listError(ctx context.Context, dir string) error {
	for i, err := range e.fs.List(ctx, e.path(dir)) {
		if err != nil && i.Name == "" {
			return err
		}
	}
	return nil
}
