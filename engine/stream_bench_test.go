package engine

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// streamPair is a stream over loopback, secured if secure, and the socket of its peer, which has done what TLS wants.
func streamPair(t testing.TB, secure bool) (*Stream, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close(); nc.Close() })
	s := NewStream(nc, time.Minute)
	if secure {
		shaken := make(chan error, 1)
		go func() { shaken <- tls.Client(peer, &tls.Config{InsecureSkipVerify: true}).Handshake() }() // waited for below
		if err := s.Secure(context.Background(), serverTLS(t)); err != nil {
			t.Fatal(err)
		}
		if err := <-shaken; err != nil {
			t.Fatal(err)
		}
	}
	return s, peer
}

// drain reads a socket away, whatever the bytes mean, until it is closed.
func drain(peer net.Conn) {
	for buf := make([]byte, 256<<10); ; {
		if _, err := peer.Read(buf); err != nil {
			return
		}
	}
}

// inMemory is a source without a file, of zeros.
type inMemory struct{}

func (inMemory) ReadAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (inMemory) File() *os.File                        { return nil }
func (inMemory) Pass(n int) (int, error)               { return n, nil }
func (inMemory) Chunk() int                            { return 1 << 30 }

// inFile is a source that the kernel may read.
type inFile struct{ f *os.File }

func (f inFile) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }

func (f inFile) File() *os.File        { return f.f }
func (inFile) Pass(n int) (int, error) { return n, nil }
func (inFile) Chunk() int              { return 1 << 30 }

// BenchmarkSend is a download's step, for MiB after MiB: by the kernel, through a buffer, and as TLS records.
func BenchmarkSend(b *testing.B) {
	const size = 4 << 20
	name := filepath.Join(b.TempDir(), "f")
	if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for _, c := range []struct {
		name   string
		src    Source
		secure bool
	}{{"file", inFile{f}, false}, {"buffer", inMemory{}, false}, {"file-TLS", inFile{f}, true}, {"buffer-TLS", inMemory{}, true}} {
		b.Run(c.name, func(b *testing.B) {
			s, peer := streamPair(b, c.secure)
			go drain(peer) // ends with the socket
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				if n, err := s.Send(c.src, 0, size, nil); n != size || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// BenchmarkFill is an upload's step: a chunk from the socket, in clear and out of TLS records.
func BenchmarkFill(b *testing.B) {
	for _, secure := range []bool{false, true} {
		b.Run(map[bool]string{false: "clear", true: "TLS"}[secure], func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			nc, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer nc.Close()
			if secure {
				nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
			}
			go func() { // ends with the socket
				for buf := make([]byte, 256<<10); ; {
					if _, err := nc.Write(buf); err != nil {
						return
					}
				}
			}()
			in, err := l.Accept()
			if err != nil {
				b.Fatal(err)
			}
			defer in.Close()
			s := NewStream(in, time.Minute)
			if secure {
				if err := s.Secure(b.Context(), serverTLS(b)); err != nil {
					b.Fatal(err)
				}
			}
			chunk, give := Buffer()
			defer give()
			var total int64
			b.ReportAllocs()
			for b.Loop() {
				n, err := s.Fill(chunk)
				if err != nil {
					b.Fatal(err)
				}
				total += int64(n)
			}
			b.SetBytes(total / int64(b.N))
		})
	}
}

// BenchmarkParkedRoundTripTLS is BenchmarkParkedRoundTrip through the loop's TLS: a small record each way.
func BenchmarkParkedRoundTripTLS(b *testing.B) {
	s := startToys(b, nil, Options{}, nil, nil)
	nc, r := dialToy(b, "tcp", s.addr)
	if _, err := nc.Write(command('t', nil)); err != nil {
		b.Fatal(err)
	}
	if _, err := r.ReadSlice('\n'); err != nil {
		b.Fatal(err)
	}
	c := tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	cmd, buf := command('e', nil), make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(cmd); err != nil {
			b.Fatal(err)
		}
		for got := false; !got; {
			n, err := c.Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			got = bytes.IndexByte(buf[:n], '\n') >= 0
		}
	}
}
