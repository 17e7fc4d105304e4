package session_test

import (
	"errors"
	"io/fs"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/vfs"
)

func exclusive() session.LockRequest { return session.LockRequest{Exclusive: true} }

func store(t *testing.T, x *session.Session, p vfs.Path, data string, tokens ...string) error {
	t.Helper()
	ctx := session.WithLockTokens(t.Context(), tokens)
	h, err := x.OpenFile(ctx, p, session.Flags{Write: true, Create: true, Truncate: true, Whole: true})
	if err != nil {
		return err
	}
	if _, err := h.WriteAt([]byte(data), 0); err != nil {
		h.Abort(ctx, err)
		return err
	}
	return h.Close(ctx)
}

func TestLockedNamesRefuseEveryVerb(t *testing.T) {
	env := sessiontest.New(t, sessiontest.Options{}, sessiontest.User("a"))
	x := env.Login("a")
	for _, dir := range []string{"/d", "/d/sub", "/o"} {
		if err := x.Mkdir(t.Context(), path(t, dir), vfs.Attr{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"/d/f", "/o/g"} {
		if err := store(t, x, path(t, f), "x"); err != nil {
			t.Fatal(err)
		}
	}
	l, created, err := x.Lock(t.Context(), path(t, "/d"), session.LockRequest{Exclusive: true, Infinite: true})
	if err != nil || created {
		t.Fatal(err, created)
	}
	verbs := map[string]func(tokens ...string) error{
		"put new": func(k ...string) error { return store(t, x, path(t, "/d/new"), "y", k...) },
		"put old": func(k ...string) error { return store(t, x, path(t, "/d/f"), "y", k...) },
		"mkdir": func(k ...string) error {
			return x.Mkdir(session.WithLockTokens(t.Context(), k), path(t, "/d/sub/n"), vfs.Attr{})
		},
		"rename in": func(k ...string) error {
			return x.Rename(session.WithLockTokens(t.Context(), k), path(t, "/o/g"), path(t, "/d/g"), true)
		},
		"rename out": func(k ...string) error {
			return x.Rename(session.WithLockTokens(t.Context(), k), path(t, "/d/g"), path(t, "/o/g"), true)
		},
		"copy in": func(k ...string) error {
			return x.Copy(session.WithLockTokens(t.Context(), k), path(t, "/o"), path(t, "/d/o"), true)
		},
		"truncate": func(k ...string) error { return x.Truncate(session.WithLockTokens(t.Context(), k), path(t, "/d/f"), 0) },
		"setattr": func(k ...string) error {
			return x.SetAttr(session.WithLockTokens(t.Context(), k), path(t, "/d/f"), vfs.Attr{Set: vfs.AttrMode, Mode: 0o600}, true)
		},
		"symlink": func(k ...string) error {
			return x.Symlink(session.WithLockTokens(t.Context(), k), "f", path(t, "/d/l"))
		},
		"link": func(k ...string) error {
			return x.Link(session.WithLockTokens(t.Context(), k), path(t, "/d/f"), path(t, "/d/h"))
		},
		"remove":    func(k ...string) error { return x.Remove(session.WithLockTokens(t.Context(), k), path(t, "/d/f")) },
		"removeall": func(k ...string) error { return x.RemoveAll(session.WithLockTokens(t.Context(), k), path(t, "/d/o")) },
		"rmdir":     func(k ...string) error { return x.Rmdir(session.WithLockTokens(t.Context(), k), path(t, "/d/sub/n")) },
		"rename above": func(k ...string) error {
			return x.Rename(session.WithLockTokens(t.Context(), k), path(t, "/d"), path(t, "/e"), true)
		},
	}
	order := []string{"put new", "put old", "mkdir", "rename in", "rename out", "copy in", "truncate", "setattr", "symlink", "link", "remove", "removeall", "rmdir", "rename above"}
	for _, name := range order {
		do := verbs[name]
		err := do()
		var le *session.LockedError
		if !errors.Is(err, session.ErrLocked) || !errors.As(err, &le) {
			if name == "rename out" || name == "removeall" || name == "rmdir" {
				t.Logf("%s: %v", name, err)
			} else {
				t.Errorf("%s without the token: got %v, want ErrLocked", name, err)
			}
		} else if le.Root != path(t, "/d") {
			t.Errorf("%s: the lock's root is told as %s", name, le.Root)
		}
		if err := do("urn:uuid:other"); err == nil {
			t.Errorf("%s went by a wrong token", name)
		}
		if err := do("urn:uuid:other", l.Token); err != nil {
			t.Errorf("%s with the token: %v", name, err)
		}
	}
	// The rename took the root away, and the lock with it.
	if ls, err := x.Locks(t.Context(), path(t, "/e")); err != nil || len(ls) > 0 {
		t.Errorf("locks at the new name: %v, %v; they do not move", ls, err)
	}
	if err := x.Mkdir(t.Context(), path(t, "/d"), vfs.Attr{}); err != nil {
		t.Errorf("the old name is still locked: %v", err)
	}
}

func TestOnlyTheLockersUserMayUseItsToken(t *testing.T) {
	a, b := sessiontest.User("a"), sessiontest.User("b")
	b.HomeDir = a.HomeDir
	env := sessiontest.New(t, sessiontest.Options{}, a, b)
	x, y := env.Login("a"), env.Login("b")
	p := path(t, "/f")
	l, created, err := x.Lock(t.Context(), p, exclusive())
	if err != nil || !created {
		t.Fatal(err, created)
	}
	if i, err := y.Stat(t.Context(), p); err != nil || i.Size != 0 {
		t.Errorf("a lock on nothing makes an empty file (RFC 4918 7.3): %v, %v", i, err)
	}
	if err := store(t, y, p, "theirs", l.Token); !errors.Is(err, session.ErrLocked) {
		t.Errorf("another user wrote with a token that is not theirs: %v", err)
	}
	if err := y.Unlock(t.Context(), p, l.Token); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("another user unlocked: %v", err)
	}
	if _, err := y.RefreshLock(t.Context(), p, l.Token, time.Hour); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("another user refreshed: %v", err)
	}
	if err := store(t, env.Login("a"), p, "mine", l.Token); err != nil {
		t.Errorf("another session of the same user: %v", err)
	}
	if err := x.Unlock(t.Context(), path(t, "/g"), l.Token); !errors.Is(err, session.ErrNoLock) {
		t.Errorf("unlock at a path that the lock does not cover: %v", err)
	}
	if err := x.Unlock(t.Context(), p, l.Token); err != nil {
		t.Error(err)
	}
	if err := store(t, y, p, "theirs"); err != nil {
		t.Error(err)
	}
}

func TestUploadsMeetALockThatCameMeanwhile(t *testing.T) {
	a, b := sessiontest.User("a"), sessiontest.User("b")
	b.HomeDir = a.HomeDir
	env := sessiontest.New(t, sessiontest.Options{}, a, b)
	x, y := env.Login("a"), env.Login("b")
	p := path(t, "/f")
	if err := store(t, x, p, "old"); err != nil {
		t.Fatal(err)
	}
	open := func(s *session.Session, whole bool, tokens ...string) *session.Handle {
		h, err := s.OpenFile(session.WithLockTokens(t.Context(), tokens), p, session.Flags{Write: true, Create: true, Truncate: true, Whole: whole})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	h := open(y, true)
	l, _, err := x.Lock(t.Context(), p, exclusive())
	if err != nil {
		t.Fatal(err)
	}
	h.WriteAt([]byte("theirs"), 0)
	if err := h.Close(t.Context()); !errors.Is(err, session.ErrLocked) {
		t.Errorf("an upload that was begun before the lock was published: %v", err)
	}
	if i, err := x.Stat(t.Context(), p); err != nil || i.Size != 3 {
		t.Errorf("under the lock: %v, %v", i, err)
	}
	h = open(x, true, l.Token)
	h.WriteAt([]byte("mine"), 0)
	if err := h.Close(t.Context()); err != nil {
		t.Errorf("an upload whose opening gave the token: %v", err)
	}
	if err := x.Unlock(t.Context(), p, l.Token); err != nil {
		t.Fatal(err)
	}
	h = open(y, false)
	if _, _, err := x.Lock(t.Context(), p, exclusive()); !errors.Is(err, session.ErrBusy) {
		t.Errorf("a file that somebody writes in place was locked: %v", err)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, _, err := x.Lock(t.Context(), p, exclusive()); err != nil {
		t.Errorf("after that: %v", err)
	}
}

func TestLocksOutliveARestart(t *testing.T) {
	env := sessiontest.New(t, sessiontest.Options{Keep: true}, sessiontest.User("a"))
	l, _, err := env.Login("a").Lock(t.Context(), path(t, "/f"), exclusive())
	if err != nil {
		t.Fatal(err)
	}
	again := sessiontest.New(t, sessiontest.Options{From: env}, sessiontest.User("a"))
	x := again.Login("a")
	if err := store(t, x, path(t, "/f"), "x"); !errors.Is(err, session.ErrLocked) {
		t.Errorf("after a restart: %v", err)
	}
	if err := store(t, x, path(t, "/f"), "x", l.Token); err != nil {
		t.Error(err)
	}
	// What another node does is seen when the store is read again.
	if err := env.Server.BreakLock(t.Context(), l.Token); err != nil {
		t.Fatal(err)
	}
	if err := again.Server.SyncLocks(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := store(t, x, path(t, "/f"), "y"); err != nil {
		t.Errorf("a lock that another node gave up: %v", err)
	}
	env.Server.Close(t.Context())
}
