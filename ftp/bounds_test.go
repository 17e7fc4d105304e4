package ftp

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/mem"
)

func TestLoginGrace(t *testing.T) { // RES-2
	s := start(t, func(c *Config) { c.LoginGraceTime = 1 })
	idle := s.loggedIn(t)
	p := s.dial(t)
	p.want("220")
	p.cmd("USER u", "331")
	p.want("421")
	if _, err := p.r.ReadByte(); err != io.EOF {
		t.Errorf("after the goodbye: %v", err)
	}
	idle.cmd("NOOP", "200") // who has logged in stays
}

func TestLongLineCloses(t *testing.T) { // FTP-5
	s := start(t, nil)
	p := s.loggedIn(t)
	p.cmd("NOOP "+strings.Repeat("x", 4000), "200")
	p.send("NOOP " + strings.Repeat("x", 5000))
	p.want("500")
	if _, err := p.r.ReadByte(); err == nil {
		t.Error("it goes on")
	}
}

// TestPipelinedFlood: what a client sends ahead of a command that takes its time is not read, and lost no more than held.
func TestPipelinedFlood(t *testing.T) { // RES-1
	s := start(t, nil)
	p := s.loggedIn(t)
	d := p.epsv()
	p.cmd("STOR f", "150")
	const n = 3000
	go p.send(strings.Repeat("NOOP x\r\nMKD /\r\n", n)) // blocks until it is read
	var before, during runtime.MemStats
	runtime.ReadMemStats(&before)
	time.Sleep(300 * time.Millisecond)
	runtime.ReadMemStats(&during)
	if grown := int64(during.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("%d bytes more are held", grown)
	}
	io.WriteString(d, "x")
	d.Close()
	codes := map[string]int{}
	p.nc.SetDeadline(time.Now().Add(60 * time.Second))
	for range 2*n + 1 {
		line, err := p.r.ReadString('\n')
		if err != nil {
			t.Fatalf("after %v: %v", codes, err)
		}
		codes[line[:3]]++
	}
	if codes["200"] != n || codes["550"] != n || codes["226"] != 1 {
		t.Errorf("the answers are %v", codes)
	}
}

// hole is a storage that answers nothing until it is told to.
type hole struct {
	vfs.FS
	wait chan struct{}
}

func (h hole) Stat(ctx context.Context, p vfs.Path) (vfs.FileInfo, error) {
	select {
	case <-h.wait:
	case <-ctx.Done():
		return vfs.FileInfo{}, ctx.Err()
	}
	return h.FS.Stat(ctx, p)
}

// TestBlackHoledStorage: users of a storage that hangs hold up nobody else, however many they are.
func TestBlackHoledStorage(t *testing.T) {
	wait := make(chan struct{})
	env := sessiontest.New(t, sessiontest.Options{NewFS: func(_ context.Context, st session.Storage) (vfs.FS, error) {
		f := mem.New(mem.Options{})
		if strings.Contains(st.Root, "stuck") {
			return hole{f, wait}, nil
		}
		return f, nil
	}}, sessiontest.User("stuck"), sessiontest.User("u"))
	s := serve(t, env, nil)
	defer close(wait)
	for range 40 {
		p := s.dial(t)
		p.want("220")
		p.cmd("USER stuck", "331")
		p.send("PASS secret\r\nSIZE x\r\n")
	}
	p := s.loggedIn(t)
	begun := time.Now()
	for i := range 100 {
		p.cmd(fmt.Sprintf("MKD d%d", i), "257")
		p.cmd(fmt.Sprintf("SIZE none%d", i), "550")
	}
	if d := time.Since(begun); d > 10*time.Second { // it would be for ever
		t.Errorf("200 commands took %s", d)
	}
}

// TestVanishing: clients that go at any moment of a transfer leave no session, descriptor or goroutine. RES-1
func TestVanishing(t *testing.T) {
	s := start(t, nil)
	s.loggedIn(t).put("STOR source", strings.Repeat("x", 1<<20))
	before := runtime.NumGoroutine()
	for i := range 60 {
		p := s.loggedIn(t)
		d := p.epsv()
		switch i % 6 {
		case 0:
			p.send("RETR source\r\n")
		case 1:
			p.send("STOR cut\r\n")
			d.Write(make([]byte, 1000))
		case 2:
			p.send("MLSD\r\n")
			d.Close()
		case 3:
			p.send("STOR never\r\n")
		case 4:
			p.send("RETR source\r\nQUIT\r\n")
			d.(*net.TCPConn).SetLinger(0)
			d.Close()
		}
		p.nc.(*net.TCPConn).SetLinger(i % 2 * -1)
		p.nc.Close()
		d.Close()
	}
	until(t, func() bool { return len(s.env.Server.Sessions()) == 1 }) // that of the first upload
	until(t, func() bool { return runtime.NumGoroutine() <= before+40 })
	p := s.loggedIn(t)
	p.cmd("SIZE source", "213")
}
