package engine

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"syscall"
	"testing"
	"time"
)

func TestStatsTellWhereConnectionsAre(t *testing.T) {
	s := startToys(t, nil, Options{}, nil, nil)
	dial := func(send []byte) {
		t.Helper()
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := io.ReadFull(c, make([]byte, 3)); err != nil { // the greeting
			t.Fatal(err)
		}
		if _, err := c.Write(send); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		dial(nil)
	}
	dial(command('r', make([]byte, 100))[:50]) // its goroutine waits for the rest
	dial(command('s', nil))                    // waits in its lane
	var got Stats
	// One of the seven is lifted, one is in the lane and stands where it stood.
	for end := time.Now().Add(time.Minute); ; {
		got = s.e.Stats()
		if got.Parked+got.Aside == 6 && got.Lifted == 1 && got.Running == 1 && got.Workers >= 2 && got.Queued == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("got %+v", got)
		}
		time.Sleep(time.Millisecond) // between two looks
	}
	loops := got.Parked > 0
	if loops && got.Lifts < 1 {
		t.Errorf("got %d lifts", got.Lifts)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	lag := s.e.Lag(ctx)
	if loops && len(lag) == 0 {
		t.Error("no loop has a lag")
	}
	for _, d := range lag {
		if d <= 0 || d >= time.Minute {
			t.Errorf("lag %v", d)
		}
	}
	close(s.stop)
}

// failing is a listener whose next accepts fail.
type failing struct {
	net.Listener
	errs chan error
}

func (f *failing) Accept() (net.Conn, error) {
	if err, ok := <-f.errs; ok {
		return nil, err
	}
	return f.Listener.Accept()
}

func TestListenersTellThatTheyFail(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &failing{inner, make(chan error)}
	l := NewListener(f, nil, slog.New(slog.DiscardHandler))
	if err := l.Err(); err != nil {
		t.Errorf("a new listener: %v", err)
	}
	f.errs <- syscall.ECONNABORTED
	f.errs <- syscall.ECONNABORTED // the first one has been noted
	if err := l.Err(); !errors.Is(err, syscall.ECONNABORTED) {
		t.Errorf("after an accept that failed: %v", err)
	}
	close(f.errs)
	l.Close()
	if err := l.Err(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
