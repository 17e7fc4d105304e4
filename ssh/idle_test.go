package ssh

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/session/sessiontest"
)

const (
	idleConnections = 200
	// idleBytes is what one logged-in connection with SFTP open may hold while it does nothing: heap that is
	// alive and stacks, x/crypto's and the session's included.
	idleBytes = 54 << 10
	// idleGoroutines: two of x/crypto's transport, one of its mux, ours for the connection, the channel's
	// requests and SFTP.
	idleGoroutines = 6
)

// held is memory that is in use after a collection.
type held struct{ heap, stack, goroutines int64 }

func (h held) minus(o held) held {
	return held{h.heap - o.heap, h.stack - o.stack, h.goroutines - o.goroutines}
}

func heldNow() held {
	runtime.GC()
	runtime.GC() // stacks are halved, one collection after the other, and pools emptied by the second
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return held{int64(m.HeapAlloc), int64(m.StackInuse), int64(runtime.NumGoroutine())}
}

// TestIdleConnectionsHoldLittle counts what connections keep in a process of which the clients are no part,
// and that it comes back when they leave.
func TestIdleConnectionsHoldLittle(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has memory of its own beside every goroutine")
	}
	env := sessiontest.New(t, sessiontest.Options{}, sessiontest.User("alice"))
	cfg := testConfig(t)
	cfg.MaxStartups, cfg.MaxHandshakes = "1000:100:1000", 1000
	s, err := New(cfg, env.Server, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	srv := serveTest(t, s, nil, &syncBuffer{})

	// One comes and goes first: what is made once is not what a connection costs.
	leave := startIdleClients(t, srv.addr, 1)
	leave()
	noConnections := func() bool { return len(s.all()) == 0 && len(env.Server.Sessions()) == 0 }
	eventually(t, "the first connection has ended", noConnections)
	before := heldNow()

	leave = startIdleClients(t, srv.addr, idleConnections)
	at := heldNow().minus(before)
	if file := os.Getenv("IDLE_PROFILE"); file != "" {
		writeProfiles(t, file)
	}
	leave()
	eventually(t, "all connections have ended", noConnections)
	eventually(t, "their goroutines have ended", func() bool { return int64(runtime.NumGoroutine()) <= before.goroutines })
	after := heldNow().minus(before)

	n := int64(idleConnections)
	t.Logf("each: %d bytes of heap, %d of stack, %.2f goroutines; left behind in all: %d of heap, %d of stack",
		at.heap/n, at.stack/n, float64(at.goroutines)/float64(n), after.heap, after.stack)
	if got := (at.heap + at.stack) / n; got > idleBytes {
		t.Errorf("an idle connection holds %d bytes, want at most %d", got, idleBytes)
	}
	if at.goroutines > idleGoroutines*n+10 { // a few are the runtime's and the clients' process's
		t.Errorf("%d idle connections have %d goroutines, want at most %d each", n, at.goroutines, idleGoroutines)
	}
	// The runtime keeps its record of every goroutine for the next ones: 6 times 440 bytes each.
	if left := after.heap + after.stack; left > n*4<<10 {
		t.Errorf("%d bytes stay behind after %d connections have left, want at most 4 KiB each", left, n)
	}
}

func writeProfiles(t *testing.T, file string) {
	t.Helper()
	for _, name := range []string{"heap", "goroutine"} {
		f, err := os.Create(file + "." + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := pprof.Lookup(name).WriteTo(f, 0); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
}

// startIdleClients logs n clients in from a process of their own and opens SFTP on each.
func startIdleClients(t *testing.T, addr string, n int) (leave func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestIdleClientProcess$", "-test.v")
	cmd.Env = append(os.Environ(), fmt.Sprintf("IDLE_CLIENTS=%d %s", n, addr))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "ready" {
			return func() {
				in.Close()
				io.Copy(io.Discard, out)
				if err := cmd.Wait(); err != nil {
					t.Errorf("the clients' process: %v", err)
				}
				cancel()
			}
		}
		said.WriteString(lines.Text() + "\n")
	}
	t.Fatalf("the clients' process: %v: %s", cmd.Wait(), &said)
	return nil
}

// TestIdleClientProcess is the clients' process and passes in any other.
func TestIdleClientProcess(t *testing.T) {
	var n int
	var addr string
	if _, err := fmt.Sscanf(os.Getenv("IDLE_CLIENTS"), "%d %s", &n, &addr); err != nil {
		return
	}
	for range n {
		c, err := gossh.Dial("tcp", addr, &gossh.ClientConfig{User: "alice", Auth: []gossh.AuthMethod{gossh.Password("secret")},
			HostKeyCallback: gossh.InsecureIgnoreHostKey(), Timeout: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ch, reqs, err := c.OpenChannel("session", nil)
		if err != nil {
			t.Fatal(err)
		}
		go gossh.DiscardRequests(reqs) // ends with the connection
		if ok, err := ch.SendRequest("subsystem", true, gossh.Marshal(struct{ Name string }{"sftp"})); err != nil || !ok {
			t.Fatal("no sftp subsystem", err)
		}
		ch.Write([]byte{0, 0, 0, 5, 1, 0, 0, 0, 3}) // INIT
		if _, err := io.ReadFull(ch, make([]byte, 9)); err != nil {
			t.Fatal(err)
		}
	}
	os.Stdout.WriteString("ready\n")
	io.Copy(io.Discard, os.Stdin)
}
