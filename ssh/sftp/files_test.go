package sftp_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/ssh/sftp"
)

func newFiles(t testing.TB) *raw {
	return newRaw(t, sessiontest.NewSession(t, sessiontest.Options{}, sessiontest.User("u")))
}

// coreutil is the digest that another program computes.
func coreutil(t *testing.T, algo string, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(algo+"sum", file).Output()
	if err != nil {
		t.Skipf("%ssum: %v", algo, err)
	}
	return strings.Fields(string(out))[0]
}

func TestCheckFileAgreesWithCoreutils(t *testing.T) { // extensions-00 3
	c := newFiles(t)
	data := strings.Repeat("a line of some text\n", 40_000) // not a multiple of a block
	c.make("/f", data)
	h := c.open("/f", sftp.FlagRead)
	for _, algo := range []string{"md5", "sha1", "sha224", "sha256", "sha384", "sha512"} {
		for _, r := range []struct {
			off, n uint64
			block  uint32
		}{{0, 0, 0}, {5, 0, 0}, {0, 1000, 0}, {100, 1 << 40, 0}, {0, 0, 64 << 10}, {777, 200_000, 4096}, {uint64(len(data)), 0, 0}, {uint64(len(data)) + 9, 5, 0}} {
			part := data[min(r.off, uint64(len(data))):]
			if r.n > 0 {
				part = part[:min(r.n, uint64(len(part)))]
			}
			want := ""
			if r.block == 0 {
				want = coreutil(t, algo, []byte(part))
			}
			for ; r.block > 0 && part != ""; part = part[min(int(r.block), len(part)):] {
				want += coreutil(t, algo, []byte(part[:min(int(r.block), len(part))]))
			}
			q := sftp.Packet{Path: []byte("/f"), Handle: h, Algorithms: []byte("whirlpool," + algo + ",md5"), Offset: r.off, Length: r.n, BlockSize: r.block}
			for _, name := range []string{"check-file-name", "check-file-handle", "check-file"} {
				got := c.ask(extended(name, q))
				if got.Type != sftp.TypeExtendedReply {
					t.Fatalf("%s %s %+v: %s %d %q", name, algo, r, got.Type, got.Code, got.Message)
				}
				if text := chunk("check-file") + chunk(algo); string(got.Data[:len(text)]) != text || fmt.Sprintf("%x", got.Data[len(text):]) != want {
					t.Errorf("%s %s %+v: got %q, want %s", name, algo, r, got.Data, want)
				}
			}
		}
	}
	bad := sftp.Packet{Path: []byte("/f"), Algorithms: []byte("md5"), BlockSize: 255}
	c.want(sftp.CodeFailure, extended("check-file-name", bad))
	bad.BlockSize = 256 // more blocks than a packet holds
	c.want(sftp.CodeOpUnsupported, extended("check-file-name", bad))
	bad.Algorithms = []byte("whirlpool,,crc")
	c.want(sftp.CodeOpUnsupported, extended("check-file-name", bad))
	bad.Algorithms, bad.Offset = []byte("md5"), 1<<63
	c.want(sftp.CodeFailure, extended("check-file-name", bad))
	c.want(sftp.CodeNoSuchFile, extended("check-file-name", sftp.Packet{Path: []byte("/none"), Algorithms: []byte("md5")}))
	c.want(sftp.CodeFailure, extended("check-file-name", sftp.Packet{Path: []byte("/"), Algorithms: []byte("md5")}))
}

func chunk(s string) string { return string(binary.BigEndian.AppendUint32(nil, uint32(len(s)))) + s }

func TestCheckFileNeedsDownload(t *testing.T) { // PATH-4: the sum of a byte is the byte
	u := sessiontest.User("u")
	u.Permissions = map[string][]string{"/": {"list", "upload"}}
	c := newRaw(t, sessiontest.NewSession(t, sessiontest.Options{}, u))
	c.make("/f", "secret")
	c.want(sftp.CodePermissionDenied, extended("check-file-name", sftp.Packet{Path: []byte("/f"), Algorithms: []byte("md5")}))
}

func copyData(from []byte, off, n uint64, to []byte, at uint64) *sftp.Packet {
	return extended("copy-data", sftp.Packet{Handle: from, Offset: off, Length: n, Handle2: to, Offset2: at})
}

func TestCopyData(t *testing.T) { // OpenSSH PROTOCOL 4.10
	c := newFiles(t)
	c.make("/a", "0123456789")
	for _, tt := range []struct {
		name       string
		off, n, at uint64
		code       sftp.Code
		want       string
	}{
		{"whole", 0, 0, 0, sftp.CodeOK, "0123456789"},
		{"part", 3, 4, 0, sftp.CodeOK, "3456"},
		{"to a later place", 8, 2, 4, sftp.CodeOK, "\x00\x00\x00\x0089"},
		{"exactly to the end", 4, 6, 0, sftp.CodeOK, "456789"},
		{"past the end", 8, 10, 0, sftp.CodeEOF, "89"},
		{"from beyond the end, all", 100, 0, 0, sftp.CodeOK, ""},
		{"from beyond the end, some", 100, 1, 0, sftp.CodeEOF, ""},
		{"offset out of range", 1 << 62, 0, 0, sftp.CodeFailure, ""},
		{"length out of range", 0, 1 << 63, 0, sftp.CodeFailure, ""},
		{"target out of range", 0, 0, 1 << 62, sftp.CodeFailure, ""},
	} {
		from, to := c.open("/a", sftp.FlagRead), c.open("/b", sftp.FlagWrite|sftp.FlagCreate|sftp.FlagTruncate)
		if r := c.ask(copyData(from, tt.off, tt.n, to, tt.at)); sftp.Code(r.Code) != tt.code {
			t.Errorf("%s: got %d %q, want %d", tt.name, r.Code, r.Message, tt.code)
		}
		c.close(from)
		c.close(to)
		if got := c.content("/b"); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	rw := c.open("/a", sftp.FlagRead|sftp.FlagWrite)
	c.want(sftp.CodeFailure, copyData(rw, 0, 2, rw, 5)) // the same handle
	r := c.open("/a", sftp.FlagRead)
	c.want(sftp.CodeFailure, copyData(r, 0, 0, rw, 5)) // the same file: it would feed itself
	ro := c.open("/b", sftp.FlagRead)
	c.want(sftp.CodePermissionDenied, copyData(r, 0, 1, ro, 0))
	wo := c.open("/c", sftp.FlagWrite|sftp.FlagCreate)
	c.want(sftp.CodePermissionDenied, copyData(wo, 0, 1, rw, 0))
	c.want(sftp.CodeFailure, copyData([]byte("none"), 0, 1, rw, 0))
	if got := c.content("/a"); got != "0123456789" {
		t.Errorf("the source is %q", got)
	}
}

// A second name of the source must not make a copy that never ends: its end is that of the beginning.
func TestCopyDataOntoAnotherNameOfItselfEnds(t *testing.T) { // QUO-2, RES-1
	c := newFiles(t)
	c.make("/a", "0123456789")
	c.ok(extended("hardlink@openssh.com", sftp.Packet{Path: []byte("/a"), Path2: []byte("/b")}))
	from, to := c.open("/a", sftp.FlagRead), c.open("/b", sftp.FlagWrite)
	c.ask(copyData(from, 0, 0, to, 10))
	c.close(from)
	c.close(to)
	if n := len(c.content("/a")); n > 20 {
		t.Errorf("a copy of 10 bytes made %d", n)
	}
}

func TestAppendIgnoresOffsets(t *testing.T) { // draft 6.3
	c := newFiles(t)
	c.make("/f", "start")
	h := c.open("/f", sftp.FlagWrite|sftp.FlagAppend)
	c.ok(writeTo(h, 0, " one"))
	c.ok(writeTo(h, 2, " two"))
	c.close(h)
	if got := c.content("/f"); got != "start one two" {
		t.Errorf("got %q", got)
	}
	h = c.open("/new", sftp.FlagAppend|sftp.FlagCreate) // APPEND alone writes too
	c.ok(writeTo(h, 9, "x"))
	c.close(h)
	if got := c.content("/new"); got != "x" {
		t.Errorf("got %q", got)
	}
	c.want(sftp.CodeNoSuchFile, &sftp.Packet{Type: sftp.TypeOpen, Path: []byte("/none"), Flags: sftp.FlagWrite | sftp.FlagAppend})
}

func TestReadAndWriteOnOneHandle(t *testing.T) {
	c := newFiles(t)
	h := c.open("/f", sftp.FlagRead|sftp.FlagWrite|sftp.FlagCreate|sftp.FlagTruncate)
	c.ok(writeTo(h, 0, "abcdef"))
	if r := c.ask(&sftp.Packet{Type: sftp.TypeRead, Handle: h, Offset: 2, Length: 100}); string(r.Data) != "cdef" {
		t.Errorf("got %q", r.Data)
	}
	if r := c.ask(&sftp.Packet{Type: sftp.TypeFstat, Handle: h}); r.Attrs.Size != 6 {
		t.Errorf("size %d", r.Attrs.Size)
	}
	c.want(sftp.CodeEOF, &sftp.Packet{Type: sftp.TypeRead, Handle: h, Offset: 6, Length: 1})
	c.close(h)
	r := c.open("/f", sftp.FlagRead)
	c.want(sftp.CodePermissionDenied, writeTo(r, 0, "x"))
	w := c.open("/f", sftp.FlagWrite)
	c.want(sftp.CodePermissionDenied, &sftp.Packet{Type: sftp.TypeRead, Handle: w, Length: 1})
	c.close(w)
	c.close(r)
	c.want(sftp.CodeFailure, &sftp.Packet{Type: sftp.TypeClose, Handle: r}) // it is gone
}

func TestExclusiveCreateHasOneWinner(t *testing.T) { // draft 6.3, in every upload mode
	for mode := range 3 {
		cfg := session.DefaultConfig()
		cfg.UploadMode = mode
		env := sessiontest.New(t, sessiontest.Options{Config: &cfg}, sessiontest.User("u"))
		const n = 8
		clients := make([]*raw, n)
		for i := range clients {
			clients[i] = newRaw(t, env.Login("u"))
		}
		for round := range 20 {
			name := fmt.Appendf(nil, "/f%d", round)
			var wg sync.WaitGroup
			won := make([]bool, n)
			for i, c := range clients {
				wg.Go(func() {
					r := c.ask(&sftp.Packet{Type: sftp.TypeOpen, Path: name, Flags: sftp.FlagWrite | sftp.FlagCreate | sftp.FlagExclusive})
					if r.Type != sftp.TypeHandle {
						return
					}
					c.ok(writeTo(r.Handle, 0, fmt.Sprint(i)))
					won[i] = c.ask(&sftp.Packet{Type: sftp.TypeClose, Handle: r.Handle}).Code == uint32(sftp.CodeOK)
				})
			}
			wg.Wait()
			winner := -1
			for i, w := range won {
				if w && winner >= 0 {
					t.Fatalf("mode %d: %d and %d both made %s", mode, winner, i, name)
				} else if w {
					winner = i
				}
			}
			if winner < 0 {
				t.Fatalf("mode %d: nobody made %s", mode, name)
			}
			if got := clients[0].content(string(name)); got != fmt.Sprint(winner) {
				t.Errorf("mode %d: %s holds %q, want %d", mode, name, got, winner)
			}
		}
	}
}

func TestReaddirFillsPackets(t *testing.T) {
	c := newFiles(t)
	const n = 2000
	for i := range n {
		h := c.open(fmt.Sprintf("/a-name-of-usual-length-%04d.txt", i), sftp.FlagWrite|sftp.FlagCreate)
		c.close(h)
	}
	h := c.ask(&sftp.Packet{Type: sftp.TypeOpendir, Path: []byte("/")}).Handle
	seen := map[string]bool{}
	packets, names := 0, 0
	for {
		r := c.ask(&sftp.Packet{Type: sftp.TypeReaddir, Handle: h})
		if r.Type != sftp.TypeName {
			if sftp.Code(r.Code) != sftp.CodeEOF {
				t.Fatalf("%s %d %q", r.Type, r.Code, r.Message)
			}
			break
		}
		if packets == 0 && (string(r.Names[0].Name) != "." || string(r.Names[1].Name) != "..") {
			t.Errorf("the first names are %q and %q", r.Names[0].Name, r.Names[1].Name)
		}
		packets++
		names += len(r.Names)
		for _, x := range r.Names {
			if seen[string(x.Name)] {
				t.Errorf("%q twice", x.Name)
			}
			seen[string(x.Name)] = true
			if !bytes.HasSuffix(x.Long, append([]byte(" "), x.Name...)) {
				t.Errorf("long name %q of %q", x.Long, x.Name)
			}
		}
	}
	if names != n+2 {
		t.Errorf("%d names, want %d", names, n+2)
	}
	if most := names/150 + 2; packets > most { // about 180 bytes an entry, 32 KiB a packet
		t.Errorf("%d packets for %d names, want at most %d", packets, names, most)
	}
	c.want(sftp.CodeEOF, &sftp.Packet{Type: sftp.TypeReaddir, Handle: h}) // and it stays at the end
	c.want(sftp.CodeFailure, &sftp.Packet{Type: sftp.TypeRead, Handle: h, Length: 1})
	c.close(h)
	c.want(sftp.CodeFailure, &sftp.Packet{Type: sftp.TypeReaddir, Handle: h})
}
