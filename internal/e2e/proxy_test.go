//go:build linux

package e2e

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
	gossh "golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// proxied is a version 2 PROXY header from a client.
func proxied(client string) []byte {
	b := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c")
	b = append(b, net.ParseIP(client).To4()...)
	b = append(b, 198, 51, 100, 1)
	b = binary.BigEndian.AppendUint16(b, 40000)
	return binary.BigEndian.AppendUint16(b, 22)
}

// through connects from source, which must be let in, and sends head first.
func through(t *testing.T, source, addr string, head []byte) net.Conn {
	t.Helper()
	c, err := dialFrom(t, source, addr, head)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// dialFrom connects from source and sends head first.
func dialFrom(t *testing.T, source, addr string, head []byte) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: gantrytest.Wait}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(gantrytest.Wait))
	c.Write(head)
	return c, nil
}

// TestProxyProtocolOnTheServer: behind a proxy the client's own address is logged, banned and counted; a header of
// somebody else is refused.
func TestProxyProtocolOnTheServer(t *testing.T) {
	ftpPort := gantrytest.FreePort(t)
	home := filepath.Join(t.TempDir(), "joe")
	s := gantrytest.Start(t, gantrytest.Options{Bin: bin,
		Config: fmt.Sprintf(`{"common":{"proxy_protocol":2,"proxy_allowed":["127.0.0.1"],"proxy_skipped":["127.0.0.5"],"defender":{"enabled":true,"threshold":4,"login_delay":{"password_failed":0}}},
			"ftpd":{"bindings":[{"address":"127.0.0.1","port":%s}],"passive_port_range":{"start":0,"end":0}}}`, ftpPort),
		Dump: &account.Dump{Users: []account.User{newUser("joe", home)}}})
	addr, ftpAddr := "127.0.0.1:"+s.Port(), "127.0.0.1:"+ftpPort
	login := func(client, password string) (*gossh.Client, error) {
		c := through(t, "127.0.0.1", addr, proxied(client))
		cc, chans, reqs, err := gossh.NewClientConn(c, addr, &gossh.ClientConfig{User: "joe", Auth: []gossh.AuthMethod{gossh.Password(password)}, HostKeyCallback: gossh.InsecureIgnoreHostKey()})
		if err != nil {
			return nil, err
		}
		return gossh.NewClient(cc, chans, reqs), nil
	}
	c, err := login("192.0.2.7", "pw-joe")
	if err != nil {
		t.Fatal(err)
	}
	f, err := sftp.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	w, err := f.Create("/x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(strings.Repeat("through ", 100_000))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s.WaitLog(map[string]any{"sender": "login", "ip": "192.0.2.7", "username": "joe"})
	s.WaitLog(map[string]any{"sender": "Upload", "remote_addr": "192.0.2.7:40000", "local_addr": "198.51.100.1:22"})
	// The client is banned, the proxy is not.
	for range 4 {
		if _, err := login("192.0.2.66", "wrong"); err == nil {
			t.Fatal("a wrong password was taken")
		}
	}
	s.WaitLog(map[string]any{"sender": "defender", "event": "banned", "client_ip": "192.0.2.66"})
	if _, err := login("192.0.2.66", "pw-joe"); err == nil {
		t.Error("a banned client came in through the proxy")
	}
	if c, err := login("192.0.2.8", "pw-joe"); err != nil {
		t.Errorf("another client of the proxy: %v", err)
	} else {
		c.Close()
	}
	// Who is not a proxy is refused, with and without a header; who is skipped connects directly.
	for _, head := range [][]byte{proxied("192.0.2.9"), nil} {
		c, err := dialFrom(t, "127.0.0.2", addr, head)
		if err != nil {
			continue // refused so early that the client did not see it accepted
		}
		b := make([]byte, 4)
		if n, err := io.ReadFull(c, b); err == nil {
			t.Errorf("an untrusted source got %q", b[:n])
		}
	}
	b := make([]byte, 8)
	if _, err := io.ReadFull(through(t, "127.0.0.5", addr, nil), b); err != nil || string(b) != "SSH-2.0-" {
		t.Errorf("a skipped source: %q, %v", b, err)
	}
	// FTP: the data connection has a header too.
	ctl := through(t, "127.0.0.1", ftpAddr, proxied("192.0.2.8"))
	r := bufio.NewReader(ctl)
	say := func(command, want string) string {
		t.Helper()
		if command != "" {
			fmt.Fprintf(ctl, "%s\r\n", command)
		}
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("%s: %v", command, err)
			}
			if len(line) > 3 && line[3] == ' ' {
				if !strings.HasPrefix(line, want) {
					t.Fatalf("%s: %s, want %s", command, line, want)
				}
				return line
			}
		}
	}
	say("", "220")
	say("USER joe", "331")
	say("PASS pw-joe", "230")
	say("TYPE I", "200")
	var port int
	line := say("EPSV", "229")
	fmt.Sscanf(line[strings.Index(line, "|||")+3:], "%d", &port)
	dataAddr := fmt.Sprintf("127.0.0.1:%d", port)
	stranger := through(t, "127.0.0.1", dataAddr, proxied("192.0.2.99")) // of another client of the same proxy
	fmt.Fprintf(ctl, "RETR x\r\n")
	data := through(t, "127.0.0.1", dataAddr, proxied("192.0.2.8"))
	got, err := io.ReadAll(data)
	if err != nil || len(got) != 800_000 {
		t.Errorf("RETR gave %d bytes, %v", len(got), err)
	}
	if n, _ := stranger.Read(b); n > 0 {
		t.Error("a stranger's data connection was served")
	}
	say("", "150")
	say("", "226")
}
