package mem

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"github.com/gantryhq/gantry/vfs"
)

func TestFaultHookIsTheResult(t *testing.T) {
	bad := errors.New("disk on fire")
	var on string
	f := New(Options{Fault: func(op Op) error {
		if op.Verb == on {
			return bad
		}
		return nil
	}})
	ctx := context.Background()
	p := mustPath(t, "/a")
	u, err := f.Create(ctx, p, vfs.OpenMode{})
	if err != nil {
		t.Fatal(err)
	}
	on = "write"
	if _, err := u.WriteAt([]byte("x"), 0); !errors.Is(err, bad) {
		t.Fatalf("WriteAt = %v", err)
	}
	on = "entry"
	for i, err := range f.List(ctx, vfs.Root) {
		if i.Name != "a" || !errors.Is(err, bad) {
			t.Fatalf("entry = %+v, %v; want the name with the fault", i, err)
		}
	}
}

func TestOffsetBombIsRefused(t *testing.T) { // SFTP-1
	f := New(Options{MaxFileBytes: 1 << 20, MaxBytes: 1 << 16})
	u, err := f.Create(context.Background(), mustPath(t, "/a"), vfs.OpenMode{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.WriteAt([]byte("x"), 1<<62); !errors.Is(err, vfs.ErrTooLarge) {
		t.Fatalf("at 2^62: %v", err)
	}
	if _, err := u.WriteAt([]byte("x"), 1<<16); !errors.Is(err, vfs.ErrQuota) || errors.Is(err, vfs.ErrTooLarge) {
		t.Fatalf("past the room: %v", err)
	}
	if err := u.Truncate(-1); !errors.Is(err, fs.ErrInvalid) {
		t.Fatalf("negative: %v", err)
	}
}

func mustPath(t *testing.T, s string) vfs.Path {
	t.Helper()
	p, err := vfs.ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
