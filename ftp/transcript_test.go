package ftp

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestTranscripts plays the sessions of testdata. "C:" is sent, "S:" must come, to the letter. LISTEN opens a port for
// active mode, whose address {PORT} stands for; "DATA>" sends on its connection and closes it, "DATA<" must come there.
func TestTranscripts(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) < 2 {
		t.Fatal("there are no transcripts")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			s := start(t, func(c *Config) {
				withTLS(t, 0, 0)(c)
				c.ActiveTransfersPortNon20 = true
			})
			p := s.dial(t)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var l net.Listener
			accept := func() net.Conn {
				l.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second))
				d, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				d.SetDeadline(time.Now().Add(10 * time.Second))
				return d
			}
			for i, line := range strings.Split(string(text), "\n") {
				at := fmt.Sprintf("%s:%d", file, i+1)
				verb, rest, _ := strings.Cut(line, " ")
				plain, err := strconv.Unquote(`"` + strings.ReplaceAll(rest, `"`, `\"`) + `"`)
				if err != nil {
					t.Fatal(at, err)
				}
				switch verb {
				case "", "#":
				case "C:":
					if l != nil {
						port := l.Addr().(*net.TCPAddr).Port
						plain = strings.ReplaceAll(plain, "{PORT}", fmt.Sprintf("127,0,0,1,%d,%d", port>>8, port&255))
					}
					p.send(plain + "\r\n")
				case "S:":
					got, err := p.r.ReadString('\n')
					if err != nil || got != plain+"\r\n" {
						t.Fatalf("%s: %q %v, want %q", at, got, err, plain)
					}
				case "LISTEN":
					if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
						t.Fatal(err)
					}
					defer l.Close()
				case "DATA>":
					d := accept()
					io.WriteString(d, plain)
					d.Close()
				case "DATA<":
					d := accept()
					got, err := io.ReadAll(d)
					d.Close()
					if err != nil || string(got) != plain {
						t.Fatalf("%s: %q %v, want %q", at, got, err, plain)
					}
				default:
					t.Fatalf("%s: %q", at, line)
				}
			}
		})
	}
}
