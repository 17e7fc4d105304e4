//go:build !race

// Under the race detector a sync.Pool loses things on purpose.

package sftp

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/gantryhq/gantry/internal/session/sessiontest"
)

// script gives its packets one after the other and throws replies away.
type script struct{ bytes.Reader }

func (s *script) Write(p []byte) (int, error) { return len(p), nil }
func (s *script) Close() error                { return nil }

// TestReadAndWriteAllocateNothing holds the packet loop to what the budgets promise: a burst of requests on
// an open handle, parsed, served and answered, allocates nothing.
func TestReadAndWriteAllocateNothing(t *testing.T) {
	const burst, size = 8, 32 << 10
	rw := &script{}
	s := sessiontest.NewSession(t, sessiontest.Options{}, sessiontest.User("u"))
	ctx, cancel := context.WithCancelCause(t.Context())
	pool := new(Buffers)
	c := &conn{ctx: ctx, cancel: cancel, rwc: rw, s: s, opt: Options{MaxHandles: 1, Workers: 1, Buffers: pool},
		in: newInput(rw, pool), handles: map[handleID]*handle{}}
	c.out.pool, c.out.send = pool, c.send
	c.jobs.init(c)
	defer c.end(nil)
	play := func(b []byte) {
		rw.Reset(b)
		if err := c.loop(); err != nil {
			t.Fatal(err)
		}
	}
	play(Append(Append(nil, &Packet{Type: TypeInit, Version: 3}), &Packet{Type: TypeOpen, ID: 1, Path: []byte("/f"),
		Flags: FlagRead | FlagWrite | FlagCreate}))
	c.jobs.wait() // opening may wait, so it is one
	var id []byte
	for h := range c.handles {
		id = h[:]
	}
	if id == nil {
		t.Fatal("the file was not opened")
	}
	var writes, reads []byte
	for i := range uint64(burst) {
		writes = Append(writes, &Packet{Type: TypeWrite, ID: uint32(i), Handle: id, Offset: i * size, Data: make([]byte, size)})
		reads = Append(reads, &Packet{Type: TypeRead, ID: uint32(i), Handle: id, Offset: i * size, Length: size})
	}
	for name, b := range map[string][]byte{"WRITE": writes, "READ": reads} {
		play(writes) // the file and the buffers are there
		play(reads)
		out := c.out.flushes
		// The pool may lose a buffer to a collection in the middle: AllocsPerRun's average is rounded down.
		if n := testing.AllocsPerRun(50, func() { play(b) }); n > 0 {
			t.Errorf("%d %s requests: %v allocations, want 0", burst, name, n)
		}
		if c.out.flushes == out {
			t.Errorf("%s: nothing was answered", name)
		}
	}
}

var _ io.ReadWriteCloser = (*script)(nil)
