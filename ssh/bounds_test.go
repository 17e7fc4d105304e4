package ssh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	gossh "golang.org/x/crypto/ssh"
)

// AUTH-1: the rights are those of the key that was proven, not of one that was offered before it.
func TestOfferedKeyGivesNoRights(t *testing.T) {
	_, admin, _ := ed25519.GenerateKey(rand.Reader)
	_, guest, _ := ed25519.GenerateKey(rand.Reader)
	blob := func(k ed25519.PrivateKey) string {
		return string(cat(str("ssh-ed25519"), str(string(k.Public().(ed25519.PublicKey)))))
	}
	s := startServer(t, func(_ *Config, b *fakeBackend) {
		b.keys[blob(admin)], b.keys[blob(guest)] = "admin", "guest"
	})
	c := mustRaw(t, s)
	if err := c.service(); err != nil {
		t.Fatal(err)
	}
	for _, k := range []ed25519.PrivateKey{guest, admin} {
		if err := c.send(c.keyRequest("u", k, false)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.recvType(60); err != nil {
			t.Fatalf("the offer was not answered with PK_OK: %v", err)
		}
	}
	if err := c.send(c.keyRequest("u", guest, true)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.recvType(52); err != nil {
		t.Fatal(err)
	}
	if _, err := c.openSFTP(); err != nil {
		t.Fatal(err)
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if len(s.b.users) != 1 || s.b.users[0] != "guest" {
		t.Errorf("sessions of %q, want guest", s.b.users)
	}
}

// AUTH-1: a key that is only offered never logs in, nor does one with another's signature.
func TestUnprovenKeyIsNoLogin(t *testing.T) {
	_, admin, _ := ed25519.GenerateKey(rand.Reader)
	_, other, _ := ed25519.GenerateKey(rand.Reader)
	s := startServer(t, func(_ *Config, b *fakeBackend) {
		b.keys[string(cat(str("ssh-ed25519"), str(string(admin.Public().(ed25519.PublicKey)))))] = "admin"
	})
	c := mustRaw(t, s)
	if err := c.service(); err != nil {
		t.Fatal(err)
	}
	forged := c.keyRequest("u", admin, true)
	sig := ed25519.Sign(other, []byte("something"))
	copy(forged[len(forged)-64:], sig)
	c.send(c.keyRequest("u", admin, false))
	c.send(forged)
	if p, err := c.recvType(52); err == nil {
		t.Fatalf("logged in: %v", p)
	}
}

// SSH-3: what is not SSH is refused at its first wrong byte, and nothing long is read.
func TestGarbageInsteadOfAVersion(t *testing.T) {
	s := startServer(t, nil)
	for _, in := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01", "SSH-1.5-old\r\n", "SSH-2.0-\r\n", "SSH-2.0-a\x00b\r\n",
		"SSH-2.0-" + strings.Repeat("x", 300) + "\r\n", "hello\r\nSSH-2.0-x\r\n", "\r\n", "SSH-2.0-x\r\ny", "SSH-2.0-\xff\r\n",
		"SSH-2.0-x\r\n\xff\xff\xff\xff", "SSH-2.0-x\r\n" + string(plainPacket([]byte{21})), "SSH-2.0-x\r\n" + string(plainPacket(append([]byte{20}, make([]byte, 30)...))),
		"SSH-2.0-x\r\n\x00\x00\x00\x20\xff" + strings.Repeat("\x14", 40),
	} {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		nc.SetDeadline(time.Now().Add(5 * time.Second))
		nc.Write([]byte(in))
		if in == "SSH-2.0-x\r\ny" { // not yet wrong: half a packet
			nc.Close()
			<-s.b.left
			continue
		}
		if _, err := io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: the connection was kept", in)
		}
		nc.Close()
		if g := <-s.b.left; g.username != "" || len(g.tried) != 0 {
			t.Errorf("%q: recorded as %+v", in, g)
		}
	}
}

// SSH-3: LoginGraceTime holds at every stage of the handshake.
func TestLoginGraceTime(t *testing.T) {
	s := startServer(t, func(_ *Config, b *fakeBackend) { b.grace, b.patience = 300*time.Millisecond, 50*time.Millisecond })
	stages := map[string]func() (net.Conn, error){
		"nothing": func() (net.Conn, error) { return net.Dial("tcp", s.addr) },
		"version": func() (net.Conn, error) { return sayTo(s.addr, "SSH-2.0-x\r\n") },
		"half kexinit": func() (net.Conn, error) {
			return sayTo(s.addr, "SSH-2.0-x\r\n"+string(plainPacket(kexInitPayload(rawKex{}))[:50]))
		},
		"kexinit": func() (net.Conn, error) {
			return sayTo(s.addr, "SSH-2.0-x\r\n"+string(plainPacket(kexInitPayload(rawKex{}))))
		},
		"keys": func() (net.Conn, error) { return rawDial(s.addr, rawKex{}, nil) },
		"half packet after keys": func() (net.Conn, error) {
			c, err := rawDial(s.addr, rawKex{}, nil)
			if err == nil {
				c.Write(append(u32(20000), make([]byte, 3000)...))
			}
			return c, err
		},
		"service": func() (net.Conn, error) {
			c, err := rawDial(s.addr, rawKex{}, nil)
			if err == nil {
				err = c.service()
			}
			return c, err
		},
		"failed try": func() (net.Conn, error) {
			c, err := rawDial(s.addr, rawKex{}, nil)
			if err == nil {
				err = c.service()
				c.send(passwordRequest("alice", "guess"))
			}
			return c, err
		},
	}
	for name, dial := range stages {
		t.Run(name, func(t *testing.T) {
			nc, err := dial()
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			nc.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection outlived the grace time")
			}
		})
	}
}

func sayTo(addr, what string) (net.Conn, error) {
	nc, err := net.Dial("tcp", addr)
	if err == nil {
		_, err = nc.Write([]byte(what))
	}
	return nc, err
}

// SSH-3: MaxStartups with random early drop, and a limit per source.
func TestDoorway(t *testing.T) {
	roll := 0
	d := &doorway{limit: startups{start: 2, rate: 30, full: 4}, perSource: 3, chance: func() int { return roll }, sources: map[netip.Addr]int{}}
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	sameNet := netip.MustParseAddr("2001:db8::ffff")
	enter := func(addr netip.Addr, want error) func() {
		t.Helper()
		leave, err := d.enter(addr)
		if !errors.Is(err, want) {
			t.Fatalf("enter %v with %d inside: got %v, want %v", addr, d.total, err, want)
		}
		return leave
	}
	l1 := enter(a, nil)
	enter(b, nil)
	roll = 29
	enter(a, errTooMany) // 30 %
	roll = 30
	enter(sameNet, nil)
	roll = 64 // 30 + 70*1/2
	enter(a, errTooMany)
	roll = 65
	enter(b, nil)
	roll = 99
	enter(a, errTooMany) // full
	l1()
	l1() // a second call changes nothing
	if d.total != 3 || len(d.sources) != 1 {
		t.Fatalf("total %d, sources %v", d.total, d.sources)
	}
	enter(sameNet, errTooManySource)
	enter(a, nil)
}

func TestDoorwayIsLeftAtLogin(t *testing.T) {
	s := startServer(t, func(c *Config, _ *fakeBackend) { c.MaxStartups, c.MaxHandshakes = "1:100:1", 1 })
	counted := func() int {
		s.door.mu.Lock()
		defer s.door.mu.Unlock()
		return s.door.total
	}
	for range 2 {
		s.mustDial(t)
		eventually(t, "a login is not counted any more", func() bool { return counted() == 0 })
	}
	held, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a silent peer is counted", func() bool { return counted() == 1 })
	if _, err := s.dial(t, nil); err == nil {
		t.Error("a second peer came through a full door")
	}
	held.Close()
	eventually(t, "the place is given up", func() bool {
		c, err := s.dial(t, nil)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// Goroutines and descriptors are back where they were after 500 connections that ended at every stage,
// also those that sent more than anyone took (RES-1).
func TestAbortedConnectionsLeaveNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("connections", func(t *testing.T) {
		s := startServer(t, func(c *Config, _ *fakeBackend) { c.MaxAuthTries = 3 })
		flood := func(c *rawClient, payload []byte) {
			var b []byte
			for range 60 {
				b = append(b, c.seal(payload)...)
			}
			c.Write(b)
		}
		stages := []func(){
			func() {
				if nc, err := net.Dial("tcp", s.addr); err == nil {
					nc.Close()
				}
			},
			func() {
				if nc, err := sayTo(s.addr, "SSH-2.0-x\r\n"); err == nil {
					nc.Close()
				}
			},
			func() {
				if nc, err := sayTo(s.addr, "SSH-2.0-x\r\n"+string(plainPacket(kexInitPayload(rawKex{})))); err == nil {
					nc.Close()
				}
			},
			func() { // no common cipher
				rawDial(s.addr, rawKex{ciphers: "none"}, nil)
			},
			func() {
				if c, err := rawDial(s.addr, rawKex{}, nil); err == nil {
					c.Close()
				}
			},
			func() { // a wrong service, with more behind it than the queue takes
				if c, err := rawDial(s.addr, rawKex{}, nil); err == nil {
					flood(c, cat([]byte{5}, str("x")))
					io.Copy(io.Discard, c)
					c.Close()
				}
			},
			func() { // more passwords than tries
				if c, err := rawDial(s.addr, rawKex{}, nil); err == nil {
					c.service()
					flood(c, passwordRequest("alice", "guess"))
					io.Copy(io.Discard, c)
					c.Close()
				}
			},
			func() { // a malformed try in front of a queue
				if c, err := rawDial(s.addr, rawKex{}, nil); err == nil {
					c.service()
					c.send([]byte{50, 1})
					flood(c, []byte{50})
					io.Copy(io.Discard, c)
					c.Close()
				}
			},
			func() {
				if c, err := rawDial(s.addr, rawKex{}, nil); err == nil {
					c.login()
					c.Close()
				}
			},
			func() { // after the login: a message for no channel, in front of a queue
				if c, err := rawDial(s.addr, rawKex{}, nil); err == nil {
					c.login()
					flood(c, cat([]byte{94}, u32(99), str("x")))
					io.Copy(io.Discard, c)
					c.Close()
				}
			},
			func() { // with SFTP open, cut in the middle of a packet
				if c, err := rawDial(s.addr, rawKex{}, nil); err == nil {
					c.login()
					if id, err := c.openSFTP(); err == nil {
						c.send(cat([]byte{94}, u32(id), str("\x00\x00\x00\x05\x01\x00\x00\x00\x03")))
						p := c.seal(cat([]byte{94}, u32(id), str(strings.Repeat("x", 1000))))
						c.Write(p[:500])
					}
					c.Close()
				}
			},
		}
		before := openFiles()
		sem := make(chan struct{}, 8)
		for i := range 500 {
			sem <- struct{}{}
			go func() {
				defer func() { <-sem }()
				stages[i%len(stages)]()
			}()
		}
		for range cap(sem) {
			sem <- struct{}{}
		}
		eventually(t, "no connection is left", func() bool { return len(s.all()) == 0 })
		eventually(t, "no descriptor is left", func() bool { return openFiles() <= before })
		if n := s.pools.lent.Load(); n != 0 {
			t.Errorf("%d buffers were not given back", n)
		}
		if s.door.total != 0 {
			t.Errorf("%d places at the door were not given up", s.door.total)
		}
	})
}

func openFiles() int {
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(d)
}

// SSH-4: a client that floods one kind of message and reads nothing costs no memory.
func TestFloodsCostNoMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	s := startServer(t, nil)
	big := strings.Repeat("x", 200<<10)
	kinds := map[string]func(ch uint32) []byte{
		"global request":        func(uint32) []byte { return cat([]byte{80}, str("flood"), []byte{1}) },
		"global without reply":  func(uint32) []byte { return cat([]byte{80}, str("flood"), []byte{0}, []byte(big)) },
		"channel open":          func(uint32) []byte { return cat([]byte{90}, str("session"), u32(1), u32(0), u32(32<<10)) },
		"unknown channel open":  func(uint32) []byte { return cat([]byte{90}, str("x"), u32(1), u32(0), u32(32<<10), []byte(big)) },
		"channel request":       func(ch uint32) []byte { return cat([]byte{98}, u32(ch), str("env"), []byte{1}, str("A"), str("b")) },
		"large channel request": func(ch uint32) []byte { return cat([]byte{98}, u32(ch), str("env"), []byte{1}, str("A"), str(big)) },
		"window adjust":         func(ch uint32) []byte { return cat([]byte{93}, u32(ch), u32(1)) },
		"window adjust of 0":    func(ch uint32) []byte { return cat([]byte{93}, u32(ch), u32(0)) },
		"ignore":                func(uint32) []byte { return cat([]byte{2}, str(big)) },
		"debug":                 func(uint32) []byte { return cat([]byte{4}, []byte{1}, str(big), str("")) },
		"ext-info":              func(uint32) []byte { return cat([]byte{7}, u32(1), str("a"), str("b")) },
		"ping":                  func(uint32) []byte { return cat([]byte{192}, str(big)) },
		"stray reply":           func(uint32) []byte { return []byte{81} },
		"stray channel reply":   func(ch uint32) []byte { return cat([]byte{99}, u32(ch)) },
		"extended data":         func(ch uint32) []byte { return cat([]byte{95}, u32(ch), u32(7), str(big[:30000])) },
		"standard error":        func(ch uint32) []byte { return cat([]byte{95}, u32(ch), u32(1), str(big[:30000])) },
		"key exchange":          func(uint32) []byte { return kexInitPayload(rawKex{}) },
		"unknown":               func(uint32) []byte { return []byte{250} },
	}
	for name, message := range kinds {
		t.Run(name, func(t *testing.T) {
			c := mustRaw(t, s)
			if err := c.login(); err != nil {
				t.Fatal(err)
			}
			ch, err := c.openSFTP()
			if err != nil {
				t.Fatal(err)
			}
			payload, b := message(ch), make([]byte, 0, 512<<10)
			debug.FreeOSMemory()
			before, peak, heldBefore := rss(t), 0, heldNow()
			// Until the server has had enough or stops reading: back-pressure.
			c.SetWriteDeadline(time.Now().Add(700 * time.Millisecond))
			var sent int
			for range 2000 {
				b = b[:0]
				for len(b) < 64<<10 {
					b = c.appendSealed(b, payload)
				}
				n, err := c.Write(b)
				sent += n
				peak = max(peak, rss(t))
				if err != nil {
					break
				}
			}
			// What the flood holds once the server has come to rest, garbage aside, is exact; the resident memory
			// in between has what the collector had not yet freed, and the race detector's shadow of it.
			rest(t)
			now := heldNow()
			held, grown, limit := now.heap+now.stack-heldBefore.heap-heldBefore.stack, peak-before, 32<<20
			if raceEnabled {
				limit *= 3
			}
			t.Logf("%d KiB sent, %d KiB held, %d KiB more memory in between", sent>>10, held>>10, grown>>10)
			if held > 8<<20 {
				t.Errorf("%d bytes of %q hold %d KiB", sent, name, held>>10)
			}
			if grown > limit {
				t.Errorf("%d bytes of %q cost %d MiB", sent, name, grown>>20)
			}
		})
	}
	// Others are served as ever.
	s.mustDial(t)
}

// rest returns when the process has hardly allocated for a while. As long as messages are answered, a collection
// counts as held what is allocated during it; the race detector makes pools forget buffers of 272 KiB besides.
func rest(t testing.TB) {
	t.Helper()
	var last uint64
	for end, still := time.Now().Add(time.Minute), 0; still < 30; time.Sleep(5 * time.Millisecond) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		still++
		if m.Mallocs-last > 20 {
			still = 0
		}
		if last = m.Mallocs; time.Now().After(end) {
			t.Fatal("the server is still at work after a minute")
		}
	}
}

func rss(t testing.TB) int {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, res int
	fmt.Sscan(string(b), &size, &res)
	return res * os.Getpagesize()
}

// SSH-2: only modern algorithms are offered, with the mark of strict key exchange (Terrapin).
func TestOfferedAlgorithms(t *testing.T) {
	s := startServer(t, nil)
	c := mustRaw(t, s)
	o, err := parseOffer(append([]byte("SSH-2.0-x\r\n"), plainPacket(c.serverKex)...))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(o.Kex, ","), "kex-strict-s-v00@openssh.com") {
		t.Errorf("no strict key exchange in %q", o.Kex)
	}
	for what, names := range map[string][]string{"kex": o.Kex, "host key": o.HostKey, "cipher": o.CiphersC2S, "cipher out": o.CiphersS2C, "mac": o.MACsC2S, "mac out": o.MACsS2C} {
		if len(names) == 0 {
			t.Errorf("no %s", what)
		}
		for _, n := range names {
			for _, bad := range []string{"sha1", "cbc", "arcfour", "group1-", "md5", "ssh-dss", "-96", "nistp"} {
				if strings.Contains(n, bad) || n == "ssh-rsa" {
					t.Errorf("%s %s is offered", what, n)
				}
			}
		}
	}
}

// SSH-2: a packet slipped into a strict key exchange ends it.
func TestStrayPacketInKeyExchange(t *testing.T) {
	s := startServer(t, nil)
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(5 * time.Second))
	nc.Write(cat([]byte(rawVersion+"\r\n"), plainPacket(kexInitPayload(rawKex{})), plainPacket(cat([]byte{2}, str("slipped in")))))
	if _, err := io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the exchange went on")
	}
}

// RES-2: a peer that has vanished is noticed.
func TestSilentPeerIsCutOff(t *testing.T) {
	cfg := testConfig(t)
	cfg.KeepaliveCount = 2
	b := &fakeBackend{}
	log := &syncBuffer{}
	srv, err := newServer(cfg, b, nil, discardLog())
	if err != nil {
		t.Fatal(err)
	}
	srv.keepalive = 30 * time.Millisecond
	s := serveTest(t, srv, b, log)
	c := mustRaw(t, s)
	if err := c.login(); err != nil {
		t.Fatal(err)
	}
	var asked bool
	for {
		p, err := c.recv() // reads, but never answers
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("the silent peer was kept")
			}
			break
		}
		asked = asked || bytes.Contains(p, []byte("keepalive@openssh.com"))
	}
	if !asked {
		t.Error("the peer was not asked")
	}
	// One that answers stays.
	cl := s.mustDial(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	gone := make(chan error, 1)
	go func() { gone <- cl.Wait() }()
	select {
	case err := <-gone:
		t.Errorf("a peer that answers was cut off: %v", err)
	case <-ctx.Done():
	}
}

// RES-2: a peer that sends but never reads does not hold its writers for ever.
func TestPeerThatDoesNotReadIsCutOff(t *testing.T) {
	cfg := testConfig(t)
	cfg.KeepaliveCount = 2
	b := &fakeBackend{}
	stopped := make(chan error, 1)
	b.run = func(_ context.Context, rw io.ReadWriteCloser, _ func()) error {
		buf := make([]byte, 256<<10)
		for {
			if _, err := rw.Write(buf); err != nil {
				stopped <- err
				return err
			}
		}
	}
	srv, err := newServer(cfg, b, nil, discardLog())
	if err != nil {
		t.Fatal(err)
	}
	srv.keepalive = 50 * time.Millisecond
	s := serveTest(t, srv, b, &syncBuffer{})
	c := mustRaw(t, s)
	if err := c.login(); err != nil {
		t.Fatal(err)
	}
	id, err := c.openSFTP()
	if err != nil {
		t.Fatal(err)
	}
	c.send(cat([]byte{93}, u32(id), u32(1<<30)))
	for {
		select {
		case <-stopped:
			return
		case <-time.After(20 * time.Millisecond):
			c.send(cat([]byte{2}, str("alive")))
		}
	}
}

// SSH-5
func TestWeakClientKeysAreRefused(t *testing.T) {
	for bits, ok := range map[int]bool{1024: false, 2048: true} {
		key, err := rsaKey(bits)
		if err != nil {
			t.Fatal(err)
		}
		pub, err := gossh.NewPublicKey(&key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkClientKey(pub); (err == nil) != ok {
			t.Errorf("RSA of %d bits: got %v, want accepted %v", bits, err, ok)
		}
	}
}
