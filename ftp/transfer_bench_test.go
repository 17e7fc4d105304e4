package ftp

import (
	"io"
	"testing"
	"time"
)

// BenchmarkTransfer is RETR and STOR with EPSV and the replies, of a small file and of one where the bytes count, with
// a client that does little. The files are in memory.
func BenchmarkTransfer(b *testing.B) {
	for _, size := range []struct {
		name string
		n    int
	}{{"4K", 4 << 10}, {"16M", 16 << 20}} {
		p := start(b, nil).loggedIn(b)
		p.cmd("TYPE I", "200")
		data, buf := make([]byte, size.n), make([]byte, 256<<10)
		stor := func() {
			p.nc.SetDeadline(time.Now().Add(20 * time.Second))
			d := p.epsv()
			p.cmd("STOR f", "150")
			if _, err := d.Write(data); err != nil {
				b.Fatal(err)
			}
			d.Close()
			p.want("226")
		}
		b.Run("stor"+size.name, func(b *testing.B) {
			b.SetBytes(int64(size.n))
			b.ReportAllocs()
			for b.Loop() {
				stor()
			}
		})
		stor()
		b.Run("retr"+size.name, func(b *testing.B) {
			b.SetBytes(int64(size.n))
			b.ReportAllocs()
			for b.Loop() {
				p.nc.SetDeadline(time.Now().Add(20 * time.Second))
				d := p.epsv()
				p.cmd("RETR f", "150")
				n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{d}, buf)
				if d.Close(); n != int64(size.n) || err != nil {
					b.Fatal(n, err)
				}
				p.want("226")
			}
		})
	}
}

// BenchmarkCommand is a command and its reply, which the loop gives by itself.
func BenchmarkCommand(b *testing.B) {
	p := start(b, nil).loggedIn(b)
	b.ReportAllocs()
	for b.Loop() {
		p.nc.SetDeadline(time.Now().Add(20 * time.Second))
		p.cmd("NOOP", "200")
	}
}
