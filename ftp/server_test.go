package ftp

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gantryhq/gantry/engine"
	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
)

// peer is a client that speaks line by line.
type peer struct {
	t  testing.TB
	nc net.Conn
	r  *bufio.Reader
}

type server struct {
	*Server
	env  *sessiontest.Env
	addr string
}

func start(t testing.TB, change func(*Config), users ...account.User) *server {
	t.Helper()
	if len(users) == 0 {
		users = []account.User{sessiontest.User("u")}
	}
	return serve(t, sessiontest.New(t, sessiontest.Options{}, users...), change)
}

// serve runs a server on the accounts of env.
func serve(t testing.TB, env *sessiontest.Env, change func(*Config)) *server {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Bindings[0].Address, cfg.Bindings[0].Port = "127.0.0.1", 2121
	cfg.PassivePortRange = PortRange{}
	cfg.EnableSite, cfg.HashSupport, cfg.CombineSupport, cfg.DisableActiveMode = true, 1, 1, false
	cfg.DataTimeout = 2
	if change != nil {
		change(&cfg)
	}
	e, err := engine.New(engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(cfg, e, env.Server, nil, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	s.failDelay = 0
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), 0, l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		s.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return &server{s, env, l.Addr().String()}
}

func (s *server) dial(t testing.TB) *peer {
	t.Helper()
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return newPeer(t, nc)
}

func newPeer(t testing.TB, nc net.Conn) *peer { return &peer{t, nc, bufio.NewReader(nc)} }

func (s *server) loggedIn(t testing.TB) *peer {
	t.Helper()
	p := s.dial(t)
	p.want("220")
	p.cmd("USER u", "331")
	p.cmd("PASS secret", "230")
	return p
}

func (p *peer) send(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.nc, s); err != nil {
		p.t.Fatal(err)
	}
}

// reply reads a whole reply.
func (p *peer) reply() string {
	p.t.Helper()
	var b strings.Builder
	code := ""
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			p.t.Fatalf("after %q: %v", b.String(), err)
		}
		b.WriteString(line)
		if code == "" {
			code = line[:3]
			if line[3] == ' ' {
				return b.String()
			}
		} else if strings.HasPrefix(line, code+" ") {
			return b.String()
		}
	}
}

func (p *peer) want(code string) string {
	p.t.Helper()
	r := p.reply()
	if !strings.HasPrefix(r, code) {
		p.t.Fatalf("reply %q, want %s", r, code)
	}
	return r
}

func (p *peer) cmd(line, code string) string {
	p.t.Helper()
	p.send(line + "\r\n")
	r := p.reply()
	if !strings.HasPrefix(r, code) {
		p.t.Fatalf("%s: %q, want %s", line, r, code)
	}
	return r
}

func (p *peer) epsv() net.Conn {
	p.t.Helper()
	r := p.cmd("EPSV", "229")
	var port int
	fmt.Sscanf(r[strings.Index(r, "|||")+3:], "%d", &port)
	nc, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		p.t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return nc
}

func (p *peer) get(line string) string {
	p.t.Helper()
	d := p.epsv()
	defer d.Close()
	p.cmd(line, "150")
	b, err := io.ReadAll(d)
	if err != nil {
		p.t.Fatal(err)
	}
	p.want("226")
	return string(b)
}

func (p *peer) put(line, data string) {
	p.t.Helper()
	d := p.epsv()
	p.cmd(line, "150")
	io.WriteString(d, data)
	d.Close()
	p.want("226")
}

func TestMain(m *testing.M) {
	// gnet's worker pool, which starts when it is imported.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"))
}

func TestTransfers(t *testing.T) {
	s := start(t, nil)
	p := s.loggedIn(t)
	big := strings.Repeat("0123456789abcdef", 100_000)
	p.put("STOR big", big)
	if got := p.get("RETR big"); got != big {
		t.Fatalf("%d bytes, want %d", len(got), len(big))
	}
	p.cmd("REST 1599990", "350")
	if got := p.get("RETR big"); got != big[1599990:] {
		t.Fatalf("%q", got)
	}
	p.cmd("RANG 3 7", "350")
	if got := p.get("RETR big"); got != "34567" {
		t.Fatalf("%q", got)
	}
	p.put("APPE big", "end")
	if got := p.cmd("SIZE big", "213"); got != "213 1600003\r\n" {
		t.Fatal(got)
	}
	p.cmd("REST 2", "350")
	p.put("STOR big", "XX")
	p.cmd("RANG 0 5", "350")
	if got := p.get("RETR big"); got != "01XX45" {
		t.Fatal(got)
	}
	p.cmd("TYPE A", "200")
	p.put("STOR text", "a\r\nb\r\n")
	p.cmd("SIZE text", "550")
	if got := p.get("RETR text"); got != "a\r\nb\r\n" {
		t.Fatalf("%q", got)
	}
	p.cmd("TYPE I", "200")
	if got := p.get("RETR text"); got != "a\nb\n" {
		t.Fatalf("%q", got)
	}
	p.cmd("EPSV", "229")
	p.cmd("RETR none", "550")
	p.cmd("RETR none", "550")
	p.cmd("RETR text", "425") // the last EPSV was used up
	p.cmd("QUIT", "221")
}

func TestListings(t *testing.T) {
	s := start(t, nil)
	p := s.loggedIn(t)
	p.put("STOR b.txt", "12345")
	p.cmd("MKD d", "257")
	p.put("STOR d/x.bin", "")
	p.cmd("MFMT 20200102030405 b.txt", "213")
	if got := p.cmd("MDTM b.txt", "213"); got != "213 20200102030405\r\n" {
		t.Fatal(got)
	}
	if got := p.get("LIST -la"); !strings.Contains(got, " 5 Jan  2  2020 b.txt\r\n") || !strings.Contains(got, "drwx") {
		t.Fatalf("%q", got)
	}
	if got := p.get("NLST *.txt"); got != "b.txt\r\n" {
		t.Fatalf("%q", got)
	}
	if got := p.get("NLST d/*"); got != "d/x.bin\r\n" {
		t.Fatalf("%q", got)
	}
	if got := p.get("MLSD"); !strings.Contains(got, "type=file;size=5;modify=20200102030405;") || !strings.Contains(got, " b.txt\r\n") {
		t.Fatalf("%q", got)
	}
	p.cmd("OPTS MLST size;junk;", "200 MLST OPTS size;")
	if got := p.cmd("MLST b.txt", "250"); !strings.Contains(got, "\r\n size=5; /b.txt\r\n") {
		t.Fatalf("%q", got)
	}
	if got := p.cmd("STAT d", "213"); !strings.Contains(got, "x.bin") {
		t.Fatal(got)
	}
	if got := p.cmd("FEAT", "211"); !strings.Contains(got, "\r\n MLST type;size*;modify;unique;UNIX.mode;\r\n") || !strings.Contains(got, "SHA-256*") || strings.Contains(got, "AUTH TLS") {
		t.Fatal(got)
	}
	d := p.epsv()
	p.cmd("LIST none", "550")
	d.Close()
}

func TestCommands(t *testing.T) {
	s := start(t, nil)
	p := s.loggedIn(t)
	p.put("STOR f", "content")
	for _, x := range [][2]string{
		{"MKD a b", "257"}, {"CWD a b", "250"}, {"PWD", `257 "/a b"`}, {"CDUP", "250"}, {`MKD q"q`, `257 "/q""q"`}, {`RMD q"q`, "250"},
		{"XMKD x", "257"}, {"XRMD x", "250"}, {"CWD f", "550"}, {"CWD none", "550"}, {"RNTO y", "503"}, {"RNFR f", "350"}, {"NOOP", "200"}, {"RNTO g", "503"},
		{"RNFR f", "350"}, {"RNTO g", "250"}, {"RNFR none", "550"}, {"SIZE a b", "550"}, {"HASH g", "213 SHA-256 0-7 ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73 g"},
		{"OPTS HASH MD5", "200"}, {"HASH g", "213 MD5 0-7 9a0364b9e99bb480dd25e1f0284c8555 g"}, {"XMD5 g", "250 9A0364"}, {`XMD5 "g" 0 3`, "250"}, {"MD5 g", "251"},
		{"SITE COPY g h", "200"}, {"SITE CHMOD 600 g", "200"}, {"SITE CHMOD 7777 g", "501"}, {"SITE CPFR g", "350"}, {"SITE CPTO i", "200"}, {"SITE EXEC ls", "504"},
		{"SITE UTIME 20200101000000 g", "200"}, {"SITE UTIME g 20200101000000 20210101000000 20200101000000 UTC", "200"}, {"MDTM g", "213 20210101000000"},
		{"SITE SYMLINK g l", "200"}, {"COMB g h i", "250"}, {"SIZE g", "213 21"}, {"SIZE h", "550"}, {"DELE g", "250"}, {"DELE g", "550"}, {"AVBL", "213"},
		{"TYPE E", "504"}, {"TYPE L 8", "200"}, {"STRU R", "504"}, {"STRU F", "200"}, {"MODE B", "504"}, {"MODE S", "200"}, {"OPTS MODE Z LEVEL 9", "200"}, {"OPTS MODE Z LEVEL 0", "501"}, {"OPTS MODE X", "501"}, {"ALLO 10 R 5", "200"}, {"ALLO x", "501"},
		{"SYST", "215"}, {"HELP", "214"}, {"HELP RETR", "214"}, {"ACCT x", "202"}, {"FOO", "500"}, {"AUTH TLS", "500"}, {"REST -1", "501"}, {"ABOR", "226"},
		{"USER u", "503"}, {"HOST x", "503"}, {"REIN", "220"}, {"PWD", "530"}, {"USER u", "331"}, {"PASS secret", "230"}, {"PWD", `257 "/"`}, {"MKD a\rb", "501"},
		{"PORT 8,8,8,8,200,1", "500"}, {"PORT 127,0,0,1,0,22", "500"}, {"EPRT |1|8.8.8.8|5000|", "500"}, {"EPRT |2|::1|5000|", "500"}, {"EPSV ALL", "200"}, {"PASV", "501"}, // FTP-1
		{"EPSV 2", "522"}, {"EPSV 1", "229"},
	} {
		p.cmd(x[0], x[1])
	}
}

func TestBeforeLogin(t *testing.T) { // FTP-7
	s := start(t, nil)
	p := s.dial(t)
	p.want("220")
	for _, c := range []string{"PWD", "LIST", "STOR x", "SITE HELP", "EPSV", "PORT 127,0,0,1,4,5", "MLST", "STAT", "SYST", "REIN"} {
		p.cmd(c, "530")
	}
	for _, c := range []string{"NOOP", "CLNT x", "FEAT", "HELP", "OPTS UTF8 ON"} {
		p.cmd(c, "2")
	}
	p.cmd("PASS x", "503")
	for range 3 {
		p.cmd("USER nobody", "331")
		p.cmd("PASS x", "530")
	}
	if _, err := p.r.ReadByte(); err != io.EOF {
		t.Errorf("after three failed logins: %v, want the end", err)
	}
}

func TestHTTPCloses(t *testing.T) { // FTP-6
	s := start(t, nil)
	p := s.dial(t)
	p.want("220")
	p.send("POST / HTTP/1.1\r\nHost: x\r\n\r\nUSER u\r\n")
	if rest, _ := io.ReadAll(p.r); len(rest) > 0 {
		t.Errorf("answered %q", rest)
	}
}

// Pipelined commands run one by one in their order, around a transfer too.
func TestPipelining(t *testing.T) {
	s := start(t, nil)
	p := s.loggedIn(t)
	d := p.epsv()
	p.send("STOR f\r\nSIZE f\r\nDELE f\r\nSIZE f\r\nNOOP\r\n")
	p.want("150")
	io.WriteString(d, "12345")
	d.Close()
	for _, want := range []string{"226", "213 5", "250", "550", "200"} {
		p.want(want)
	}
}

func TestCommandsDuringTransfer(t *testing.T) {
	s := start(t, nil)
	p := s.loggedIn(t)
	d := p.epsv()
	p.cmd("STOR f", "150")
	p.cmd("NOOP", "200")
	if got := p.cmd("STAT", "211"); !strings.Contains(got, "STOR in progress") {
		t.Error(got)
	}
	p.send("\xff\xf4\xff\xf2ABOR\r\n")
	p.want("426")
	p.want("226")
	d.Close()
	d = p.epsv()
	p.cmd("STOR g", "150")
	p.send("QUIT\r\n")
	io.WriteString(d, "x")
	d.Close()
	p.want("226")
	p.want("221")
}

// A client that vanishes in the middle leaves no complete upload.
func TestControlGone(t *testing.T) {
	s := start(t, nil)
	p := s.loggedIn(t)
	d := p.epsv()
	defer d.Close()
	p.cmd("STOR f", "150")
	io.WriteString(d, "x")
	s.env.Events.Take()
	p.nc.Close()
	if _, err := d.Read(make([]byte, 1)); err == nil {
		t.Error("the data connection goes on")
	}
	until(t, func() bool { return len(s.env.Server.Sessions()) == 0 })
	for _, e := range s.env.Events.Take() {
		if e.Action == "upload" && e.Complete {
			t.Error("the upload counts as complete")
		}
	}
}

func TestAlloMissed(t *testing.T) {
	s := start(t, nil)
	p := s.loggedIn(t)
	p.cmd("ALLO 10", "200")
	d := p.epsv()
	p.cmd("STOR f", "150")
	io.WriteString(d, "short")
	d.Close()
	p.want("426")
}

func TestDataNeverComes(t *testing.T) { // FTP-2
	port := 0
	for port == 0 { // one that no client's socket has
		port = 15000 + rand.IntN(15000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			port = 0
			continue
		}
		l.Close()
	}
	s := start(t, func(c *Config) { c.DataTimeout = 1; c.PassivePortRange = PortRange{port, port} })
	p := s.loggedIn(t)
	p.cmd("EPSV", "229")
	p.cmd("LIST", "150")
	p.want("425")
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatalf("the port is not free: %v", err)
	}
	defer l.Close()
	p.cmd("EPSV", "425")
}

func TestDataFromStranger(t *testing.T) { // FTP-2
	s := start(t, nil)
	p := s.loggedIn(t)
	r := p.cmd("PASV", "227")
	var n [6]int
	fmt.Sscanf(r[strings.Index(r, "("):], "(%d,%d,%d,%d,%d,%d)", &n[0], &n[1], &n[2], &n[3], &n[4], &n[5])
	addr := fmt.Sprintf("127.0.0.1:%d", n[4]<<8|n[5])
	thief := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
	stolen, err := thief.Dial("tcp", addr)
	if err != nil {
		t.Skip(err)
	}
	defer stolen.Close()
	d, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p.cmd("STOR f", "150")
	stolen.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := stolen.Read(make([]byte, 1)); err == nil {
		t.Error("the stranger was served")
	}
	d.Close()
	p.want("226")
}

func TestActive(t *testing.T) {
	s := start(t, nil)
	p := s.loggedIn(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	p.cmd(fmt.Sprintf("EPRT |1|127.0.0.1|%d|", port), "200")
	p.send("STOR f\r\n")
	d, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	p.want("150")
	io.WriteString(d, "active")
	d.Close()
	p.want("226")
	if got := p.get("RETR f"); got != "active" {
		t.Error(got)
	}
}

func TestShutdownLetsTransfersFinish(t *testing.T) {
	s := start(t, nil)
	idle, p := s.loggedIn(t), s.loggedIn(t)
	d := p.epsv()
	p.cmd("STOR f", "150")
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		done <- s.Shutdown(ctx)
	}()
	idle.want("421")
	io.WriteString(d, "x")
	d.Close()
	p.want("226")
	p.want("421")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestKill(t *testing.T) {
	s := start(t, nil)
	p := s.loggedIn(t)
	if s.env.Server.KillUser("u", io.EOF) != 1 {
		t.Fatal("no session")
	}
	p.want("421")
}

func TestPermissions(t *testing.T) {
	u := sessiontest.User("u")
	u.Permissions = map[string][]string{"/": {"list"}, "/in": {"*"}}
	s := start(t, nil, u)
	p := s.loggedIn(t)
	for _, x := range [][2]string{{"MKD x", "550"}, {"DELE x", "550"}} {
		p.cmd(x[0], x[1])
	}
	d := p.epsv()
	p.cmd("STOR x", "553")
	d.Close()
}

func certificate(t testing.TB) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(crand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kb, _ := x509.MarshalPKCS8PrivateKey(k)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "c"), filepath.Join(dir, "k")
	os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kb}), 0o600)
	return cert, key
}

func withTLS(t testing.TB, mode, reuse int) func(*Config) {
	return func(c *Config) {
		c.CertificateFile, c.CertificateKeyFile = certificate(t)
		c.Bindings[0].TLSMode, c.Bindings[0].TLSSessionReuse = mode, reuse
	}
}

func (p *peer) startTLS(conf *tls.Config) {
	p.t.Helper()
	c := tls.Client(p.nc, conf)
	if err := c.Handshake(); err != nil {
		p.t.Fatal(err)
	}
	p.nc, p.r = c, bufio.NewReader(c)
}

func TestTLS(t *testing.T) { // FTP-3, FTP-4
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s := start(t, withTLS(t, 1, 1))
		conf := &tls.Config{InsecureSkipVerify: true, MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1), ServerName: "x"}
		p := s.dial(t)
		p.want("220")
		p.cmd("USER u", "530")
		p.cmd("PROT P", "503")
		p.cmd("AUTH X", "504")
		p.cmd("AUTH TLS", "234")
		p.startTLS(conf)
		p.cmd("AUTH TLS", "503")
		p.cmd("PROT P", "503")
		p.cmd("USER u", "331")
		p.cmd("PASS secret", "230")
		p.cmd("EPSV", "229")
		p.cmd("LIST", "522")
		p.cmd("PBSZ 0", "200")
		p.cmd("PROT C", "534")
		p.cmd("PROT P", "200")
		p.cmd("CCC", "533")
		big := strings.Repeat("x", 700_000)
		d := tls.Client(p.epsv(), conf)
		p.cmd("STOR f", "150")
		if _, err := io.WriteString(d, big); err != nil {
			t.Fatal(err)
		}
		if !d.ConnectionState().DidResume {
			t.Fatal("no resumption")
		}
		d.Close()
		p.want("226")
		d = tls.Client(p.epsv(), conf)
		p.cmd("RETR f", "150")
		got, err := io.ReadAll(d)
		if err != nil || string(got) != big {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		d.Close()
		p.want("226")

		// A cut without close_notify is no end of a file.
		raw := p.epsv()
		d = tls.Client(raw, conf)
		p.cmd("STOR cut", "150")
		io.WriteString(d, big)
		raw.(*net.TCPConn).CloseWrite()
		p.want("426")
		raw.Close()

		// Another session's ticket, or none, is refused.
		d = tls.Client(p.epsv(), &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
		p.send("LIST\r\n")
		p.want("150")
		d.Handshake()
		p.want("522")
		d.Close()
	}
}

func TestImplicitTLS(t *testing.T) {
	s := start(t, withTLS(t, 2, 0))
	p := s.dial(t)
	conf := &tls.Config{InsecureSkipVerify: true}
	p.startTLS(conf)
	p.want("220")
	p.cmd("USER u", "331")
	p.cmd("PASS secret", "230")
	d := tls.Client(p.epsv(), conf)
	p.cmd("STOR f", "150")
	io.WriteString(d, "x")
	d.Close()
	p.want("226")
}

func TestCommandsBehindAuthAreNotExecuted(t *testing.T) { // FTP-3
	s := start(t, withTLS(t, 0, 0))
	p := s.dial(t)
	p.want("220")
	p.send("AUTH TLS\r\nUSER u\r\nPASS secret\r\nNOOP\r\n")
	rest, _ := io.ReadAll(p.r)
	if !bytes.HasPrefix(rest, []byte("421 ")) || bytes.Count(rest, []byte("\n")) != 1 {
		t.Errorf("%q", rest)
	}
}

// FuzzConnection: no bytes of a peer, split anywhere, stop the server from serving the next one.
func FuzzConnection(f *testing.F) {
	f.Add([]byte("USER u\r\nPASS secret\r\nEPSV\r\nLIST\r\nABOR\r\nQUIT\r\n"), 5)
	f.Add([]byte("USER u\r\nPASS secret\r\nMLST\r\nSTAT /\r\nSITE UTIME a b c d UTC\r\nCOMB a b\r\n"), 40)
	f.Add([]byte("AUTH TLS\r\nUSER u\r\n"), 3)
	s := start(f, func(c *Config) { c.DataTimeout = 1 })
	f.Fuzz(func(t *testing.T, data []byte, at int) {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(30 * time.Second))
		at = max(0, min(at, len(data)))
		nc.Write(data[:at])
		nc.Write(data[at:])
		nc.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, nc); err != nil && os.IsTimeout(err) {
			t.Fatalf("%q at %d: the connection hangs", data, at)
		}
	})
}

func until(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}
