package sftp_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/ssh/sftp"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/mem"
)

// A transcript is a session of a real client, packet by packet: C: what it sent, S: what it was answered, in
// hex without the length field, then what that means. Handles are random: the recorded one stands for the
// one of the replay. GANTRY_RECORD=1 go test -run TestRecord ./ssh/sftp makes them anew.

// transcriptSession has the tree that every transcript begins with, at a time that does not move.
func transcriptSession(t testing.TB) *session.Session {
	now := time.Date(2021, 6, 5, 12, 30, 0, 0, time.UTC)
	env := sessiontest.New(t, sessiontest.Options{Mem: func(string) mem.Options {
		return mem.Options{Now: func() time.Time { return now }, Identity: "transcript", MaxBytes: 1 << 30, UID: 1000, GID: 1000}
	}}, sessiontest.User("u"))
	s := env.Login("u")
	mkdir := func(name string) {
		if err := s.Mkdir(t.Context(), pathOf(t, name), vfs.Attr{}); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, content string) {
		h, err := s.OpenFile(t.Context(), pathOf(t, name), session.Flags{Write: true, Create: true})
		if err != nil {
			t.Fatal(err)
		}
		h.WriteAt([]byte(content), 0)
		if err := h.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	write("/hello.txt", "hello, world\n")
	mkdir("/dir")
	write("/dir/one", "1")
	write("/dir/two words", "22")
	if err := s.Symlink(t.Context(), "one", pathOf(t, "/dir/link")); err != nil {
		t.Fatal(err)
	}
	return s
}

func pathOf(t testing.TB, s string) vfs.Path {
	p, err := vfs.ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTranscriptsOfRealClients(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) < 4 {
		t.Fatalf("transcripts: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { replay(t, file) })
	}
}

func replay(t *testing.T, file string) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	here, there := newPipe()
	done := make(chan error, 1)
	s := transcriptSession(t)
	go func() { // ends when the pipe is closed
		done <- sftp.Serve(t.Context(), there, s, sftp.Options{})
		there.Close()
	}()
	in := make(chan []byte, 10_000)
	go func() { // the same
		defer close(in)
		for {
			b, err := readPacket(here)
			if err != nil {
				return
			}
			in <- b
		}
	}()
	defer func() {
		here.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}()
	handles := map[string][]byte{} // recorded: live
	late := map[uint32][]byte{}
	live := func(b []byte) []byte {
		for was, is := range handles {
			b = bytes.ReplaceAll(b, []byte(was), is)
		}
		return b
	}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 4<<20)
	for n := 1; lines.Scan(); n++ {
		side, text, ok := strings.Cut(lines.Text(), ": ")
		if !ok || side != "C" && side != "S" {
			continue
		}
		text, _, _ = strings.Cut(text, " ")
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatalf("line %d: %v", n, err)
		}
		if side == "C" {
			b = live(b)
			here.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
			continue
		}
		var want, got sftp.Packet
		if err := sftp.Parse(b, &want); err != nil {
			t.Fatalf("line %d: %v", n, err)
		}
		for late[want.ID] == nil {
			select {
			case r, ok := <-in:
				if !ok {
					t.Fatalf("line %d: the session has ended", n)
				}
				sftp.Parse(r, &got)
				late[got.ID] = r
			case <-time.After(20 * time.Second):
				t.Fatalf("line %d: no reply to %d", n, want.ID)
			}
		}
		r := late[want.ID]
		delete(late, want.ID)
		sftp.Parse(r, &got)
		if want.Type == sftp.TypeHandle && got.Type == sftp.TypeHandle {
			handles[string(want.Handle)] = got.Handle
		}
		if b = live(b); !bytes.Equal(b, r) {
			sftp.Parse(b, &want)
			t.Errorf("line %d:\ngot  %s\nwant %s", n, describe(r), describe(b))
		}
	}
}

// clientBytes are what the client of a transcript sent after INIT.
func clientBytes(t testing.TB, file string) (out []byte) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "C: "); ok {
			rest, _, _ = strings.Cut(rest, " ")
			b, err := hex.DecodeString(rest)
			if err != nil {
				t.Fatal(err)
			}
			if sftp.Type(b[0]) != sftp.TypeInit {
				out = append(binary.BigEndian.AppendUint32(out, uint32(len(b))), b...)
			}
		}
	}
	return out
}

// describe tells what a packet says, for readers of a transcript.
func describe(b []byte) string {
	var p sftp.Packet
	if err := sftp.Parse(b, &p); err != nil {
		return err.Error()
	}
	s := p.Type.String()
	add := func(format string, a ...any) { s += " " + fmt.Sprintf(format, a...) }
	if p.ID != 0 {
		add("%d", p.ID)
	}
	if p.Version != 0 {
		add("version %d", p.Version)
	}
	for _, x := range p.Pairs {
		add("%s=%s", x.Name, x.Data)
	}
	if len(p.Extension) > 0 {
		add("%s", p.Extension)
	}
	for _, x := range [][]byte{p.Path, p.Path2} {
		if len(x) > 0 {
			add("%q", x)
		}
	}
	for _, x := range [][]byte{p.Handle, p.Handle2} {
		if len(x) > 0 {
			add("handle %x", x[:min(4, len(x))])
		}
	}
	if p.Flags != 0 {
		add("flags %#x", p.Flags)
	}
	switch p.Type {
	case sftp.TypeRead, sftp.TypeWrite:
		add("at %d", p.Offset)
	case sftp.TypeStatus:
		add("%d %q", p.Code, p.Message)
	}
	if p.Length > 0 {
		add("%d bytes", p.Length)
	}
	if len(p.Data) > 0 {
		add("%q", p.Data[:min(len(p.Data), 40)])
	}
	for _, n := range p.Names {
		add("%q", n.Long)
	}
	if a := p.Attrs; a.Flags != 0 {
		add("attrs %x size %d mode %o mtime %d", a.Flags, a.Size, a.Permissions, a.Mtime)
	}
	return s
}

func readPacket(r io.Reader) ([]byte, error) {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(n[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

// duplex is one end of two pipes. Close ends what the other end reads.
type duplex struct {
	io.Reader
	io.WriteCloser
}

func newPipe() (here, there duplex) {
	ar, aw := io.Pipe()
	br, bw := io.Pipe()
	return duplex{br, aw}, duplex{ar, bw}
}

// TestServeStdio is the server that TestRecord gives to clients as their subsystem.
func TestServeStdio(t *testing.T) {
	file := os.Getenv("GANTRY_TRANSCRIPT")
	if file == "" {
		t.Skip("for TestRecord")
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorder{w: f}
	tee := struct {
		io.Reader
		io.Writer
		io.Closer
	}{io.TeeReader(os.Stdin, rec.side("C")), io.MultiWriter(rec.side("S"), os.Stdout), os.Stdin}
	sftp.Serve(t.Context(), tee, transcriptSession(t), sftp.Options{})
	f.Close()
}

// recorder writes the packets of both sides.
type recorder struct {
	mu sync.Mutex
	w  io.Writer
}

type side struct {
	*recorder
	name string
	buf  []byte
}

func (r *recorder) side(name string) io.Writer { return &side{r, name, nil} }

func (s *side) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf = append(s.buf, b...)
	for len(s.buf) >= 4 {
		n := int(binary.BigEndian.Uint32(s.buf))
		if len(s.buf) < 4+n {
			break
		}
		fmt.Fprintf(s.w, "%s: %x %s\n", s.name, s.buf[4:4+n], describe(s.buf[4:4+n]))
		s.buf = s.buf[4+n:]
	}
	return len(b), nil
}

const paramikoScript = `
import paramiko, subprocess, sys, os
p = subprocess.Popen(sys.argv[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
class Chan:
    def send(self, b): n = os.write(p.stdin.fileno(), b); return n
    def recv(self, n): return os.read(p.stdout.fileno(), n)
    def close(self): p.stdin.close()
    def get_name(self): return "c"
    def setblocking(self, b): pass
    @property
    def closed(self): return False
c = paramiko.SFTPClient(Chan())
c.listdir_attr("/")
c.stat("/hello.txt"); c.lstat("/dir/link"); c.readlink("/dir/link")
with c.open("/p.txt", "w") as f: f.write("from paramiko"); f.flush(); f.chmod(0o600)
with c.open("/p.txt", "a") as f: f.write(" again")
with c.open("/p.txt", "r") as f: f.check("md5"); f.prefetch(); f.read()
c.utime("/p.txt", (1600000000, 1600000001)); c.truncate("/p.txt", 4)
c.rename("/p.txt", "/q.txt"); c.posix_rename("/q.txt", "/r.txt")
c.mkdir("/pd"); c.chdir("/pd"); c.symlink("../r.txt", "l"); c.remove("l"); c.rmdir("/pd")
try: c.stat("/none")
except IOError: pass
c.remove("/r.txt"); c.close()
`

func TestRecord(t *testing.T) {
	if os.Getenv("GANTRY_RECORD") == "" {
		t.Skip("GANTRY_RECORD is not set")
	}
	os.MkdirAll("testdata/transcripts", 0o755)
	work := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		file := filepath.Join(work, name)
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	up := write("up.txt", "going up\n", 0o644)
	batch := write("batch", "pwd\nls -la\ncd dir\nget one "+work+"/one\nls -l\nput -p "+up+" up.txt\nchmod 640 up.txt\nrename up.txt new.txt\nln new.txt hard\nsymlink new.txt soft\ncp new.txt copy\nmkdir sub\nrmdir sub\nrm new.txt\n-rm none\nreget ../hello.txt "+work+"/h\nls -ln\n", 0o644)
	script := write("client.py", paramikoScript, 0o644)
	mnt := filepath.Join(work, "mnt")
	os.Mkdir(mnt, 0o755)
	rclone := os.Getenv("RCLONE") // one that has --sftp-ssh, which Debian's has not
	if rclone == "" {
		rclone = "rclone"
	}
	self, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, cmd := range map[string]string{
		"openssh":  "sftp -b " + batch + " -D %s",
		"paramiko": "/usr/bin/python3 " + script + " %s",
		"rclone":   rclone + " --config '' --sftp-ssh %s --sftp-shell-type none --retries 1 --low-level-retries 1 copy " + up + " :sftp:/dir/r && true",
		"sshfs": "sshfs -f -s -o ssh_command=%s,idmap=none nobody@host:/ " + mnt + " & sleep 1; ls -l " + mnt + "/dir >/dev/null; echo text > " + mnt + "/new; cat " + mnt +
			"/new >/dev/null; mv " + mnt + "/new " + mnt + "/dir/moved; stat " + mnt + "/dir/moved >/dev/null; rm " + mnt + "/dir/moved; fusermount -u " + mnt + " || umount " + mnt + "; wait",
	} {
		file, _ := filepath.Abs("testdata/transcripts/" + name + ".txt")
		os.Remove(file)
		server := write(name+".sh", "#!/bin/sh\nGANTRY_TRANSCRIPT="+file+" exec "+self+" -test.run='^TestServeStdio$' 2>/dev/null\n", 0o755)
		out, err := exec.Command("sh", "-c", fmt.Sprintf(cmd, server)).CombinedOutput()
		t.Logf("%s: %v\n%s", name, err, out)
	}
}
