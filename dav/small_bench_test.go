package dav

import (
	"bytes"
	"context"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/local"
)

// benchSmall sends a request over and over on 8 connections to a server on a local directory, from socket to socket.
func benchSmall(b *testing.B, request string) {
	dir := b.TempDir()
	env := sessiontest.New(b, sessiontest.Options{NewFS: func(context.Context, session.Storage) (vfs.FS, error) {
		return local.New(dir, local.Options{})
	}}, sessiontest.User("u"))
	x := start(b, setup{env: env})
	x.dial().do("PUT", "/small.bin", bytes.Repeat([]byte("x"), 4<<10))
	raw := []byte(request)
	ask := func(nc net.Conn, buf []byte) int {
		if _, err := nc.Write(raw); err != nil {
			b.Error(err)
			return 0
		}
		n, want := 0, -1
		for want < 0 || n < want {
			m, err := nc.Read(buf[n:])
			if err != nil {
				b.Error(err)
				return 0
			}
			n += m
			if head, _, ok := bytes.Cut(buf[:n], []byte("\r\n\r\n")); ok && want < 0 {
				_, length, _ := bytes.Cut(head, []byte("Content-Length: "))
				length, _, _ = bytes.Cut(length, []byte("\r"))
				size, err := strconv.Atoi(string(length))
				if err != nil {
					b.Errorf("%s", buf[:n])
					return 0
				}
				want = len(head) + 4 + size
			}
		}
		return n
	}
	const conns = 8
	var all sync.WaitGroup
	b.ReportAllocs()
	ready := make(chan struct{})
	for i := range conns {
		nc, err := net.Dial("tcp", x.addr)
		if err != nil {
			b.Fatal(err)
		}
		defer nc.Close()
		buf := make([]byte, 64<<10)
		size := ask(nc, buf)
		all.Go(func() {
			<-ready
			for j := i; j < b.N; j += conns {
				if _, err := nc.Write(raw); err != nil {
					b.Error(err)
					return
				}
				if _, err := io.ReadFull(nc, buf[:size]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	b.ResetTimer()
	close(ready)
	all.Wait()
	b.StopTimer()
}

func BenchmarkSmallGet(b *testing.B) {
	benchSmall(b, headOf("GET", "/small.bin", login)+"\r\n")
}

func BenchmarkSmallPropfind(b *testing.B) {
	benchSmall(b, headOf("PROPFIND", "/small.bin", login, "Depth: 0", "Content-Length: "+strconv.Itoa(len(clientFind)))+"\r\n"+clientFind)
}
