//go:build linux

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// TestSlowPeersKeepNobodyWaiting: many connections that send their heads or bodies, or read their answers, next to not at
// all are cut by the deadlines, the system keeps nothing for them, and others are served meanwhile (HTTP-1, RES-2).
func TestSlowPeersKeepNobodyWaiting(t *testing.T) {
	slow := need(t, "slowhttptest", "slowhttptest")
	home := t.TempDir()
	port := gantrytest.FreePort(t)
	config := fmt.Sprintf(`{"common":{"max_per_host_connections":0},"webdavd":{"header_timeout":3,"stall_timeout":3,"bindings":[{"address":"127.0.0.1","port":%s}]}}`, port)
	gantrytest.Start(t, gantrytest.Options{Bin: bin, Config: config, Dump: oneUser(newUser("c", home)), Secrets: []string{password}})
	url := "http://127.0.0.1:" + port + "/"
	gantrytest.WriteFile(t, filepath.Join(home, "small"), strings.Repeat("x", 4096))
	gantrytest.WriteFile(t, filepath.Join(home, "large"), strings.Repeat("x", 8<<20)) // more than a socket takes at once
	login := http.Request{Header: http.Header{}}
	login.SetBasicAuth("c", password)
	cookie := "a=b\r\nAuthorization: " + login.Header.Get("Authorization") // the program takes no other field
	for _, attack := range []struct {
		name  string
		conns int
		args  []string
	}{
		{"slow heads", 1000, []string{"-H", "-u", url + "small", "-i", "1", "-x", "8"}},
		{"slow bodies", 1000, []string{"-B", "-u", url + "up", "-t", "PUT", "-i", "5", "-s", "100000"}},
		{"slow reading", 100, []string{"-X", "-u", url + "large", "-w", "1", "-y", "2", "-n", "5", "-z", "1"}}, // megabytes for each
	} {
		t.Run(attack.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			args := append(attack.args, "-c", strconv.Itoa(attack.conns), "-r", "1000", "-l", "60", "-p", "20", "-j", cookie)
			cmd := exec.CommandContext(ctx, slow, args...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait() // after cancel
			defer cancel()
			me := &davPeer{client: &http.Client{Timeout: 20 * time.Second}, url: url, user: "c"}
			var times []time.Duration
			for most := 0; ; time.Sleep(10 * time.Millisecond) { // between two requests
				begun := time.Now()
				if err := me.do(200, "GET", "/small", ""); err != nil {
					t.Fatal(err)
				}
				times = append(times, time.Since(begun))
				held := heldSockets(t, port)
				if most = max(most, held); most > attack.conns/2 && held <= 1 { // mine
					break
				}
				if ctx.Err() != nil {
					t.Fatalf("%d of %d connections are not cut", held, most)
				}
			}
			slices.Sort(times)
			longest := times[len(times)-1]
			t.Logf("%d requests of others: median %v, longest %v", len(times), times[len(times)/2], longest)
			if longest > 10*time.Second {
				t.Errorf("somebody else waited for %v", longest)
			}
		})
	}
}

// heldSockets counts the server's sockets of a port that have a peer, or bytes for one.
func heldSockets(t *testing.T, port string) (n int) {
	t.Helper()
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	p, _ := strconv.Atoi(port)
	at := fmt.Appendf(nil, ":%04X", p)
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) < 4 || !bytes.HasSuffix(f[1], at) {
			continue
		}
		switch string(f[3]) {
		case "01", "04", "08", "09", "0B": // ESTABLISHED, FIN_WAIT1, CLOSE_WAIT, LAST_ACK, CLOSING
			n++
		}
	}
	return n
}
