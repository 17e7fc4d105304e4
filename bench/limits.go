package bench

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// Limit is how fast one thing goes on this machine that transfers are made of, with nothing around it.
type Limit struct {
	Name     string  `json:"name"`
	GBps     float64 `json:"gb_per_s"`     // 10^9 bytes
	CPUPerGB float64 `json:"cpu_s_per_gb"` // of everybody who takes part
}

// RunLimits measures the machine: each thing for about the time given.
func RunLimits(ctx context.Context, e *Env, each time.Duration) ([]Limit, error) {
	file := filepath.Join(e.Data, "limits")
	if _, err := makeSource(file, 64<<20); err != nil {
		return nil, err
	}
	defer os.Remove(file)
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	piece := make([]byte, 256<<10)
	from, to := make([]byte, 64<<20), make([]byte, 64<<20)
	block, err := aes.NewCipher(piece[:16])
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	chacha, err := chacha20poly1305.New(piece[:32])
	if err != nil {
		return nil, err
	}
	const record = 16 << 10
	sealed := make([]byte, 0, record+64)
	seal := func(a cipher.AEAD) func() (int, error) {
		nonce := make([]byte, a.NonceSize())
		return func() (int, error) {
			for range 64 {
				a.Seal(sealed, nonce, piece[:record], nil)
			}
			return 64 * record, nil
		}
	}
	// over sends by step through a connection on loopback, whose other end reads everything away.
	over := func(step func(nc *net.TCPConn) (int, error), read func(nc net.Conn) (int64, error)) (Limit, error) {
		out, in, err := tcpPair()
		if err != nil {
			return Limit{}, err
		}
		defer in.Close()
		done := make(chan error, 1)
		go func() { // ends with the connection; waited for below
			_, err := read(in)
			done <- err
		}()
		l, err := speed(ctx, each, func() (int, error) { return step(out.(*net.TCPConn)) })
		out.Close()
		return l, errors.Join(err, <-done)
	}
	write := func(nc *net.TCPConn) (int, error) { return nc.Write(piece) }
	send := func(nc *net.TCPConn) (int, error) {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return 0, err
		}
		n, err := nc.ReadFrom(f)
		return int(n), err
	}
	copied := func(nc net.Conn) (int64, error) {
		return io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{nc}, make([]byte, 256<<10))
	}
	away := func(nc net.Conn) (int64, error) { return drain(nc, make([]byte, 256<<10)) }
	newPages := func() (int, error) {
		w, err := os.Create(filepath.Join(e.Data, "pages"))
		if err != nil {
			return 0, err
		}
		defer w.Close()
		n := 0
		for range 64 {
			k, err := w.Write(piece)
			if n += k; err != nil {
				return n, err
			}
		}
		return n, nil
	}
	defer os.Remove(filepath.Join(e.Data, "pages"))
	var out []Limit
	for _, x := range []struct {
		name string
		run  func() (Limit, error)
	}{
		{"copy in memory, 64 MiB at a time", func() (Limit, error) {
			return speed(ctx, each, func() (int, error) { return copy(to, from), nil })
		}},
		{"new pages of a file in memory", func() (Limit, error) { return speed(ctx, each, newPages) }},
		{"AES-128-GCM, records of 16 KiB", func() (Limit, error) { return speed(ctx, each, seal(gcm)) }},
		{"ChaCha20-Poly1305, the same", func() (Limit, error) { return speed(ctx, each, seal(chacha)) }},
		{"loopback, write and read, 256 KiB", func() (Limit, error) { return over(write, copied) }},
		{"loopback, sendfile and read", func() (Limit, error) { return over(send, copied) }},
		{"loopback, sendfile, read without a copy", func() (Limit, error) { return over(send, away) }},
	} {
		l, err := x.run()
		if err != nil {
			return out, fmt.Errorf("bench: %s: %w", x.name, err)
		}
		l.Name = x.name
		out = append(out, l)
		fmt.Fprintf(e.Log, "limit: %-42s %6.2f GB/s %6.3f CPU s/GB\n", l.Name, l.GBps, l.CPUPerGB)
	}
	return out, nil
}

// speed repeats step for a while.
func speed(ctx context.Context, lasts time.Duration, step func() (int, error)) (Limit, error) {
	if _, err := step(); err != nil { // warms up
		return Limit{}, err
	}
	var bytes int64
	used, begun := ownTime(), time.Now()
	for time.Since(begun) < lasts && ctx.Err() == nil {
		n, err := step()
		if bytes += int64(n); err != nil {
			return Limit{}, err
		}
	}
	took := time.Since(begun).Seconds()
	gb := float64(bytes) / 1e9
	return Limit{GBps: gb / took, CPUPerGB: (ownTime() - used).Seconds() / gb}, ctx.Err()
}

// tcpPair is a connection on loopback and its other end.
func tcpPair() (a, b net.Conn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	if b, err = l.Accept(); err != nil {
		a.Close()
		return nil, nil, err
	}
	for _, c := range []net.Conn{a, b} {
		c.SetDeadline(time.Now().Add(opTime))
	}
	return a, b, nil
}

// WriteLimits prints them as Markdown.
func WriteLimits(w io.Writer, all []Limit) {
	fmt.Fprint(w, "| one after the other | GB/s | CPU s/GB |\n|---|---|---|\n")
	for _, l := range all {
		fmt.Fprintf(w, "| %s | %.2f | %.3f |\n", l.Name, l.GBps, l.CPUPerGB)
	}
}
