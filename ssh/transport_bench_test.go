//go:build unix

package ssh

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"
	//lint:ignore SA1019 x/crypto/ssh uses the same code by its internal name
	"golang.org/x/crypto/poly1305"
	gossh "golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/ssh/sftp"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/local"
)

// What SSH costs, from the cipher up: BenchmarkCipher is the cipher of one packet after the other and nothing else,
// BenchmarkTransport a channel of x/crypto/ssh with nothing behind it, BenchmarkSFTP our server with a file in memory.
// The client runs in a process of its own, so that the CPU counted is the server's. bench/RESULTS.md has the figures.

const (
	benchPiece   = 32 << 10 // bytes of a channel's packet in x/crypto, and of a request
	benchFile    = 64 << 20 // bytes of the file, which is gone through again and again
	benchAhead   = 64       // requests on their way
	benchRequest = 29       // bytes of a READ with a handle of four
)

// benchClient is set for the process that is the client: address, cipher, what to do and how many pieces.
const benchClient = "GANTRY_BENCH_SSH_CLIENT"

func TestMain(m *testing.M) {
	if what := os.Getenv(benchClient); what != "" {
		if err := runBenchClient(strings.Fields(what)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// benchCiphers are those that the budgets name, and the MAC of the one that needs one.
var benchCiphers = []string{gossh.CipherAES128GCM, gossh.CipherAES128CTR, gossh.CipherChaCha20Poly1305}

func benchConfig(cipher string) gossh.Config {
	return gossh.Config{Ciphers: []string{cipher}, MACs: []string{gossh.HMACSHA256ETM}, RekeyThreshold: 1 << 40}
}

// ownCPU is the processor time of this process, of its children not.
func ownCPU(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measured runs work, which moves b.N pieces, and reports the CPU of this process for each GB.
func measured(b *testing.B, work func() error) {
	b.SetBytes(benchPiece)
	b.ReportAllocs()
	from := ownCPU(b)
	b.ResetTimer()
	if err := work(); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric((ownCPU(b)-from).Seconds()/(float64(b.N)*benchPiece/1e9), "CPU-s/GB")
}

// startBenchClient starts the client, which waits for a line before it begins. The function waits for its end.
func startBenchClient(b *testing.B, addr, cipher, what string) (begin func(), wait func() error) {
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), benchClient+"="+strings.Join([]string{addr, cipher, what, strconv.Itoa(b.N)}, " "))
	var said strings.Builder
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil { // its channel is open
		b.Fatalf("the client: %v %s", cmd.Wait(), said.String())
	}
	return func() { in.Close() }, func() error {
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("the client: %w %s", err, said.String())
		}
		return nil
	}
}

// runBenchClient is the client's process.
func runBenchClient(args []string) error {
	addr, cipher, what := args[0], args[1], args[2]
	n, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	c, err := gossh.Dial("tcp", addr, &gossh.ClientConfig{
		Config: benchConfig(cipher), User: "alice", Auth: []gossh.AuthMethod{gossh.Password("secret")},
		HostKeyCallback: gossh.InsecureIgnoreHostKey(), // the benchmark's own, on loopback
	})
	if err != nil {
		return err
	}
	defer c.Close()
	ch, reqs, err := c.OpenChannel("session", nil)
	if err != nil {
		return err
	}
	go gossh.DiscardRequests(reqs) // ends with the connection
	handle := ""
	if what == "get" || what == "put" {
		if handle, err = openBenchFile(ch); err != nil {
			return err
		}
	}
	os.Stdout.Write([]byte{'.'})
	os.Stdin.Read(make([]byte, 1)) // until it is closed
	switch what {
	case "ask":
		room := make(chan struct{}, benchAhead)
		go func() { // ends with the connection or after n
			request := make([]byte, benchRequest)
			for range n {
				room <- struct{}{}
				if _, err := ch.Write(request); err != nil {
					return
				}
			}
		}()
		for range n {
			if _, err = io.CopyN(discard{}, ch, benchPiece); err != nil {
				return err
			}
			<-room
		}
	case "take":
		_, err = io.CopyN(discard{}, ch, int64(n)*benchPiece)
	case "give":
		piece := make([]byte, benchPiece)
		for range n {
			if _, err = ch.Write(piece); err != nil {
				return err
			}
		}
		_, err = io.ReadFull(ch, make([]byte, 1)) // all has arrived
	default:
		err = requests(ch, handle, n, what == "put")
	}
	return err
}

// discard reads with a larger piece than io.Discard.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func (discard) ReadFrom(r io.Reader) (n int64, err error) {
	for buf := make([]byte, 256<<10); ; {
		k, err := r.Read(buf)
		if n += int64(k); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
}

// openBenchFile begins SFTP and opens the file.
func openBenchFile(ch gossh.Channel) (handle string, err error) {
	if ok, err := ch.SendRequest("subsystem", true, gossh.Marshal(struct{ Name string }{"sftp"})); err != nil || !ok {
		return "", fmt.Errorf("no sftp subsystem: %v", err)
	}
	ask := func(p []byte, want byte) ([]byte, error) {
		if _, err := ch.Write(p); err != nil {
			return nil, err
		}
		var head [4]byte
		if _, err := io.ReadFull(ch, head[:]); err != nil {
			return nil, err
		}
		body := make([]byte, binary.BigEndian.Uint32(head[:])%(1<<20))
		if _, err := io.ReadFull(ch, body); err != nil {
			return nil, err
		}
		if body[0] != want {
			return nil, fmt.Errorf("packet %q, want type %d", body, want)
		}
		return body, nil
	}
	if _, err := ask([]byte{0, 0, 0, 5, 1, 0, 0, 0, 3}, 2); err != nil { // INIT, VERSION
		return "", err
	}
	body, err := ask(append([]byte{0, 0, 0, 19, 3, 0, 0, 0, 1, 0, 0, 0, 2, '/', 'f', 0, 0, 0, 1 | 2}, 0, 0, 0, 0), 102) // OPEN to read and write, HANDLE
	if err != nil || len(body) < 9 {
		return "", fmt.Errorf("no handle: %v", err)
	}
	return string(body[9:]), nil
}

// requests reads or writes n pieces, with some on their way, as clients do.
func requests(ch gossh.Channel, handle string, n int, put bool) error {
	sent, room := make(chan error, 1), make(chan struct{}, benchAhead)
	go func() { // ends with the connection or after n
		head := append([]byte{0, 0, 0, 0, 5, 0, 0, 0, 2}, binary.BigEndian.AppendUint32(nil, uint32(len(handle)))...)
		head = append(head, handle...)
		at := len(head)
		head = append(head, make([]byte, 12)...)
		binary.BigEndian.PutUint32(head[at+8:], benchPiece)
		if put {
			head[4] = 6
			head = append(head, make([]byte, benchPiece)...)
		}
		binary.BigEndian.PutUint32(head, uint32(len(head)-4))
		for i := range n {
			room <- struct{}{}
			binary.BigEndian.PutUint64(head[at:], uint64(i)*benchPiece%benchFile)
			if _, err := ch.Write(head); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	buf := make([]byte, 1<<20)
	for range n {
		if _, err := io.ReadFull(ch, buf[:4]); err != nil {
			return err
		}
		body := buf[:binary.BigEndian.Uint32(buf)%uint32(len(buf))]
		if _, err := io.ReadFull(ch, body); err != nil {
			return err
		}
		switch {
		case put && body[0] == 101 && binary.BigEndian.Uint32(body[5:]) == 0:
		case !put && body[0] == 103 && binary.BigEndian.Uint32(body[5:]) == benchPiece:
		default:
			return fmt.Errorf("answered %q", body[:min(len(body), 100)])
		}
		<-room
	}
	return <-sent
}

// BenchmarkTransport is x/crypto/ssh alone: the server sends pieces, as they come or each for a small request, or receives
// them and throws them away.
func BenchmarkTransport(b *testing.B) {
	key := newKey(b)
	for _, name := range benchCiphers {
		for _, way := range []struct{ server, client string }{{"send", "take"}, {"answer", "ask"}, {"receive", "give"}} {
			what := way.client
			b.Run(way.server+"/"+name, func(b *testing.B) {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					b.Fatal(err)
				}
				defer l.Close()
				begin, wait := func() {}, func() error { return nil }
				got := make(chan gossh.Channel, 1)
				go func() { // ends with the listener or the connection
					defer close(got)
					nc, err := l.Accept()
					if err != nil {
						return
					}
					cfg := &gossh.ServerConfig{Config: benchConfig(name), NoClientAuth: true}
					cfg.AddHostKey(key)
					_, chans, reqs, err := gossh.NewServerConn(nc, cfg)
					if err != nil {
						return
					}
					go gossh.DiscardRequests(reqs)
					for n := range chans {
						ch, reqs, err := n.Accept()
						if err != nil {
							return
						}
						go gossh.DiscardRequests(reqs)
						got <- ch
					}
				}()
				begin, wait = startBenchClient(b, l.Addr().String(), name, what)
				ch, ok := <-got
				if !ok {
					b.Fatal("no channel")
				}
				piece := make([]byte, benchPiece)
				measured(b, func() error {
					begin()
					for range b.N {
						var err error
						if what == "ask" {
							_, err = io.ReadFull(ch, piece[:benchRequest])
						}
						if what == "give" {
							_, err = io.ReadFull(ch, piece)
						} else if err == nil {
							_, err = ch.Write(piece)
						}
						if err != nil {
							return err
						}
					}
					if what == "give" {
						ch.Write([]byte{0})
					}
					return wait()
				})
			})
		}
	}
}

// BenchmarkSFTP is our server with a file in memory and requests of 32 KiB, 64 of them on their way.
func BenchmarkSFTP(b *testing.B) {
	dir, err := os.MkdirTemp("/dev/shm", "gantry-bench-")
	if err != nil {
		dir = b.TempDir()
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.WriteFile(dir+"/f", make([]byte, benchFile), 0o600); err != nil {
		b.Fatal(err)
	}
	open := func(context.Context, session.Storage) (vfs.FS, error) { return local.New(dir, local.Options{}) }
	env := sessiontest.New(b, sessiontest.Options{NewFS: open}, sessiontest.User("u"))
	buffers := &sftp.Buffers{}
	for _, name := range benchCiphers {
		for _, what := range []string{"get", "put"} {
			b.Run(what+"/"+name, func(b *testing.B) {
				s := startServer(b, func(cfg *Config, f *fakeBackend) {
					cfg.Ciphers = []string{name}
					f.run = func(ctx context.Context, rw io.ReadWriteCloser, widen func()) error {
						return sftp.Serve(ctx, rw, env.Login("u"), sftp.Options{Widen: widen, Buffers: buffers})
					}
				})
				begin, wait := startBenchClient(b, s.addr, name, what)
				measured(b, func() error {
					begin()
					return wait()
				})
			})
		}
	}
}

// BenchmarkCipher seals packets of 32 KiB in place, and does with chacha20-poly1305 what x/crypto/ssh does and what it
// could do: the fused code of x/crypto/chacha20poly1305 makes the same key stream, but a tag over other bytes.
func BenchmarkCipher(b *testing.B) {
	packet := make([]byte, benchPiece+16, benchPiece+64)
	key, nonce := make([]byte, 32), make([]byte, 12)
	aead := func(a cipher.AEAD, err error) func() error {
		return func() error {
			if err != nil {
				return err
			}
			a.Seal(packet[:0], nonce, packet[:benchPiece], nil)
			return nil
		}
	}
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		b.Fatal(err)
	}
	fused, err := chacha20poly1305.New(key)
	if err != nil {
		b.Fatal(err)
	}
	var tag [16]byte
	for _, c := range []struct {
		name string
		step func() error
	}{
		{"aes128-gcm", aead(cipher.NewGCM(block))},
		{"chacha20-poly1305/as-ssh", func() error {
			s, err := chacha20.NewUnauthenticatedCipher(key, nonce)
			if err != nil {
				return err
			}
			var poly [64]byte
			s.XORKeyStream(poly[:], poly[:])
			s.XORKeyStream(packet[:benchPiece], packet[:benchPiece])
			poly1305.Sum(&tag, packet[:benchPiece], (*[32]byte)(poly[:32]))
			return nil
		}},
		{"chacha20-poly1305/fused-and-poly1305", func() error {
			fused.Seal(packet[:0], nonce, packet[:benchPiece], nil)
			poly1305.Sum(&tag, packet[:benchPiece], (*[32]byte)(key))
			return nil
		}},
		{"chacha20-poly1305/fused", aead(fused, nil)},
		{"poly1305", func() error {
			poly1305.Sum(&tag, packet[:benchPiece], (*[32]byte)(key))
			return nil
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			measured(b, func() error {
				for range b.N {
					if err := c.step(); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}

// The key stream of chacha20poly1305 is that of SSH's packets: the tag alone is made of other bytes, so that a transport
// which is told only the key stream could use it both ways.
func TestFusedKeyStreamIsSSHs(t *testing.T) {
	key, nonce, plain := make([]byte, 32), make([]byte, 12), make([]byte, 1000)
	for i := range key {
		key[i] = byte(i)
	}
	binary.BigEndian.PutUint32(nonce[8:], 7) // a packet's number
	for i := range plain {
		plain[i] = byte(i * 3)
	}
	a, err := chacha20poly1305.New(key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := chacha20.NewUnauthenticatedCipher(key, nonce)
	if err != nil {
		t.Fatal(err)
	}
	var first [64]byte // the key of the tag and what SSH leaves unused
	s.XORKeyStream(first[:], first[:])
	want := make([]byte, len(plain))
	s.XORKeyStream(want, plain)
	got := a.Seal(nil, nonce, plain, nil)[:len(plain)]
	if !bytes.Equal(got, want) {
		t.Errorf("sealed: got %x, want %x", got, want)
	}
	if back := a.Seal(nil, nonce, got, nil)[:len(plain)]; !bytes.Equal(back, plain) {
		t.Errorf("sealed twice: got %x, want %x", back, plain)
	}
}
