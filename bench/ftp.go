package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ftpClient is a client that costs little: the same for every server.
type ftpClient struct {
	nc   net.Conn
	r    *bufio.Reader
	conf *tls.Config // nil: in clear
	addr string
	via  func(addr string) (string, error) // nil: data connections go straight
}

// dialFTP logs in. from is a local address, or empty.
func dialFTP(s *Server, secure bool, from string) (*ftpClient, error) {
	d := net.Dialer{Timeout: 30 * time.Second}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	nc, err := d.Dial("tcp", s.Addr)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(opTime))
	c := &ftpClient{nc: nc, r: bufio.NewReaderSize(nc, 512), addr: s.Addr}
	err = c.want("220")
	if err == nil && secure {
		if err = c.cmd("AUTH TLS", "234"); err == nil {
			// Our own certificate, on loopback.
			c.conf = &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1), ServerName: "localhost"}
			t := tls.Client(nc, c.conf)
			if err = t.Handshake(); err == nil {
				c.nc, c.r = t, bufio.NewReaderSize(t, 512)
				err = errors.Join(c.cmd("PBSZ 0", "200"), c.cmd("PROT P", "200"))
			}
		}
	}
	if err == nil {
		err = c.login(s)
	}
	if err == nil {
		err = c.cmd("TYPE I", "200")
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("bench: ftp login at %s: %w", s.Peer, err)
	}
	return c, nil
}

func (c *ftpClient) login(s *Server) error {
	if err := c.cmd("USER "+s.User, "331"); err != nil {
		return err
	}
	return c.cmd("PASS "+ftpPassword, "230")
}

// Close ends the connection without a word.
func (c *ftpClient) Close() error { return c.nc.Close() }

// reply reads a whole reply and gives its last line.
func (c *ftpClient) reply() (string, error) {
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return "", err
		}
		if len(line) > 3 && line[3] == ' ' && line[0] >= '1' && line[0] <= '5' {
			return line, nil
		}
	}
}

func (c *ftpClient) want(code string) error {
	line, err := c.reply()
	if err == nil && !strings.HasPrefix(line, code) {
		err = fmt.Errorf("reply %q, want %s", line, code)
	}
	return err
}

func (c *ftpClient) cmd(line, code string) error {
	c.nc.SetDeadline(time.Now().Add(opTime))
	if _, err := io.WriteString(c.nc, line+"\r\n"); err != nil {
		return err
	}
	if err := c.want(code); err != nil {
		return fmt.Errorf("%s: %w", strings.Fields(line)[0], err)
	}
	return nil
}

// data runs a transfer: move has the data connection.
func (c *ftpClient) data(command string, move func(nc net.Conn) error) error {
	c.nc.SetDeadline(time.Now().Add(opTime))
	if _, err := io.WriteString(c.nc, "EPSV\r\n"); err != nil {
		return err
	}
	line, err := c.reply()
	if err != nil {
		return err
	}
	i := strings.Index(line, "|||")
	if i < 0 {
		return fmt.Errorf("EPSV: %q", line)
	}
	port, _, _ := strings.Cut(line[i+3:], "|")
	host, _, _ := net.SplitHostPort(c.addr)
	d := net.Dialer{Timeout: 30 * time.Second}
	if ip := c.nc.LocalAddr().(*net.TCPAddr).IP; ip.String() != "127.0.0.1" { // else the kernel finds a port by itself, and cheaper
		d.LocalAddr = &net.TCPAddr{IP: ip}
	}
	to := net.JoinHostPort(host, port)
	if c.via != nil {
		if to, err = c.via(to); err != nil {
			return err
		}
	}
	raw, err := d.Dial("tcp", to)
	if err != nil {
		return err
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(opTime))
	if err := c.cmd(command, "150"); err != nil {
		return err
	}
	nc := raw
	if c.conf != nil {
		t := tls.Client(raw, c.conf)
		if err := t.Handshake(); err != nil {
			return fmt.Errorf("%s: data: %w", command, err)
		}
		nc = t
	}
	if err := move(nc); err != nil {
		return fmt.Errorf("%s: data: %w", command, err)
	}
	if t, ok := nc.(*tls.Conn); ok {
		t.CloseWrite()
		t.Read(make([]byte, 1)) // the tickets: what is not read would make a reset of the end
	}
	nc.Close()
	return c.want("226")
}

// get reads a file to nowhere and gives its size.
func (c *ftpClient) get(name string, buf []byte) (n int64, err error) {
	err = c.data("RETR "+name, func(nc net.Conn) (err error) {
		n, err = drain(nc, buf)
		return err
	})
	return n, err
}

// drain reads a connection to its end, in clear without copying.
func drain(nc net.Conn, buf []byte) (n int64, err error) {
	read := func() (int, error) { return nc.Read(buf) }
	if t, ok := nc.(*net.TCPConn); ok && runtime.GOOS == "linux" {
		raw, err := t.SyscallConn()
		if err != nil {
			return 0, err
		}
		read = func() (int, error) {
			k, err := discard(raw, buf)
			if err == nil && k == 0 {
				err = io.EOF
			}
			return k, err
		}
	}
	for {
		k, err := read()
		n += int64(k)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// put sends what r gives.
func (c *ftpClient) put(name string, r io.Reader, buf []byte) error {
	return c.data("STOR "+name, func(nc net.Conn) error {
		if f, ok := r.(*os.File); ok && c.conf == nil {
			_, err := nc.(*net.TCPConn).ReadFrom(f) // sendfile
			return err
		}
		_, err := io.CopyBuffer(struct{ io.Writer }{nc}, struct{ io.Reader }{r}, buf)
		return err
	})
}

// FTPBulk is large files in one direction, some at a time.
type FTPBulk struct {
	TLS     bool
	Put     bool
	Streams int
}

func (b FTPBulk) String() string {
	name := map[bool]string{false: "FTP", true: "FTPS"}[b.TLS] + " " + map[bool]string{false: "get", true: "put"}[b.Put]
	return fmt.Sprintf("%s, %d at a time", name, b.Streams)
}

// measured runs work and fills what can be seen of a server from outside. The sessions that work uses are there before
// and after: some servers' processes are not counted by anybody once they have ended.
func measured(s *Server, streams int, bytes int64, work func() error) (Run, error) {
	r := Run{LoadBefore: load()}
	p := watchPeak(s.PID)
	resident := int64(0)
	for _, p := range tree(s.PID) {
		resident += kib(fmt.Sprintf("/proc/%d/status", p), "VmRSS") << 10
	}
	before, err := cpuTime(s.PID)
	if err != nil {
		p.end()
		return r, err
	}
	used, _ := busy()
	mine := ownTime()
	begin := time.Now()
	err = work()
	took := time.Since(begin)
	client := ownTime() - mine
	usedAfter, _ := busy()
	if err != nil {
		p.end()
		return r, err
	}
	after, err := cpuTime(s.PID)
	r.PeakBytes = p.end()
	if err != nil {
		return r, err
	}
	r.Seconds = took.Seconds()
	r.MBps = float64(bytes) / 1e6 / r.Seconds
	r.CPU = (after - before).Seconds()
	r.CPUPerGB = r.CPU / (float64(bytes) / 1e9)
	r.Client = client.Seconds() / r.Seconds
	r.Other = max(0, (usedAfter-used-(after-before)-client).Seconds()/r.Seconds)
	r.Growth = max(0, r.PeakBytes-resident)
	r.LoadAfter = load()
	r.bound(streams)
	return r, nil
}

// runFTPBulk moves the source. keep leaves the one upload of one stream, to be looked at.
func runFTPBulk(s *Server, b FTPBulk, source string, size int64, keep bool) (Run, error) {
	remove := func() {
		for i := range b.Streams {
			os.Remove(filepath.Join(s.Root, "up"+strconv.Itoa(i)))
		}
	}
	remove()
	if b.Streams > 1 || !keep {
		defer remove() // memory does not hold everybody's
	}
	clients, leave, err := ftpMany(s, b.TLS, b.Streams, false)
	if err != nil {
		return Run{}, err
	}
	defer leave()
	return measured(s, b.Streams, size*int64(b.Streams), func() error {
		errs := make(chan error, b.Streams)
		for i, c := range clients {
			go func() { errs <- ftpMove(s, c, b, i, source, size) }()
		}
		var err error
		for range b.Streams {
			err = errors.Join(err, <-errs)
		}
		return err
	})
}

func ftpMove(s *Server, c *ftpClient, b FTPBulk, i int, source string, size int64) error {
	buf := make([]byte, 256<<10)
	if !b.Put {
		n, err := c.get(s.Base+"/source", buf)
		if err == nil && n != size {
			err = fmt.Errorf("bench: %s gave %d bytes, want %d", s.Peer, n, size)
		}
		return err
	}
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	defer f.Close()
	name := "up" + strconv.Itoa(i)
	if err := c.put(s.Base+"/"+name, f, buf); err != nil {
		return err
	}
	st, err := os.Stat(filepath.Join(s.Root, name))
	if err == nil && st.Size() != size {
		err = fmt.Errorf("bench: %s has %d bytes of an upload, want %d", s.Peer, st.Size(), size)
	}
	return err
}

// FTPOptions of RunFTP.
type FTPOptions struct {
	Size        int64 // bytes of a bulk file
	Files       int   // small files, 4 KiB each
	Clients     int   // that move them
	Storm       int   // connections that log in at once
	StreamCases []int
	Rounds
}

// RunFTP measures bulk transfers, small files and logins on every peer, interleaved.
func RunFTP(ctx context.Context, e *Env, peers []Peer, o FTPOptions) (*Table, error) {
	source := filepath.Join(e.Data, "source")
	sum, err := makeSource(source, o.Size)
	if err != nil {
		return nil, err
	}
	defer os.Remove(source)
	started, err := startAll(ctx, e, peers)
	if err != nil {
		return nil, err
	}
	defer stopAll(started)
	servers, err := ready(e, started, func(s *Server) error {
		if err := os.Link(source, filepath.Join(s.Root, "source")); err != nil {
			return err
		}
		for _, secure := range []bool{false, true} {
			if _, err := runFTPBulk(s, FTPBulk{secure, true, 1}, source, o.Size, true); err != nil {
				return err
			}
			got, err := hashFile(filepath.Join(s.Root, "up0"))
			if err == nil && got != sum {
				err = errors.New("the upload differs")
			}
			os.Remove(filepath.Join(s.Root, "up0"))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var cases []test
	if o.Size > 0 {
		for _, n := range o.StreamCases {
			for _, secure := range []bool{false, true} {
				for _, put := range []bool{false, true} {
					b := FTPBulk{secure, put, n}
					cases = append(cases, test{b.String(), func(s *Server) (Run, error) { return runFTPBulk(s, b, source, o.Size, false) }})
				}
			}
		}
	}
	if o.Files > 0 {
		for _, put := range []bool{true, false} {
			name := fmt.Sprintf("FTP %s of 4 KiB with EPSV, %d clients", map[bool]string{false: "get", true: "put"}[put], o.Clients)
			cases = append(cases, test{name, func(s *Server) (Run, error) { return runFTPSmall(s, put, o) }})
		}
	}
	if o.Storm > 0 {
		for _, secure := range []bool{false, true} {
			name := fmt.Sprintf("%s login, %d at once", map[bool]string{false: "FTP", true: "FTPS"}[secure], o.Storm)
			cases = append(cases, test{name, func(s *Server) (Run, error) {
				if s.Peer != "gantry" { // their backlogs of 32 to 128 reset most of it
					return Run{}, errNotAsked
				}
				return runFTPStorm(s, secure, o.Storm)
			}})
		}
	}
	return interleave(ctx, e, servers, cases, o.Rounds)
}

// runFTPSmall moves small files, each with a data connection of its own.
func runFTPSmall(s *Server, put bool, o FTPOptions) (Run, error) {
	content := strings.Repeat("0123456789abcdef", 256)
	var next atomic.Int64
	var mu sync.Mutex
	var failed error
	clients, leave, err := ftpMany(s, false, o.Clients, false)
	if err != nil {
		return Run{}, err
	}
	defer leave()
	r, err := measured(s, o.Clients, int64(o.Files)*int64(len(content)), func() error {
		var all sync.WaitGroup
		for _, c := range clients {
			all.Go(func() {
				err := func() (err error) {
					buf := make([]byte, 16<<10)
					for {
						i := next.Add(1)
						if i > int64(o.Files) {
							return nil
						}
						name := fmt.Sprintf("%s/small%d", s.Base, i)
						if put {
							err = c.put(name, strings.NewReader(content), buf)
						} else {
							var n int64
							if n, err = c.get(name, buf); err == nil && n != int64(len(content)) {
								err = fmt.Errorf("%d bytes", n)
							}
						}
						if err != nil {
							return err
						}
					}
				}()
				if err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
				}
			})
		}
		all.Wait()
		return failed
	})
	r.Ops = int64(o.Files)
	return r, err
}

// runFTPStorm has many clients log in at once, and leave.
func runFTPStorm(s *Server, secure bool, n int) (Run, error) {
	r, err := measured(s, n, 1, func() error {
		errs := make(chan error, n)
		var ready, begun sync.WaitGroup
		begun.Add(1)
		for i := range n {
			ready.Add(1)
			go func() {
				ready.Done()
				begun.Wait()
				c, err := dialFTP(s, secure, fmt.Sprintf("127.0.0.%d", 2+i%200))
				if err == nil {
					err = c.cmd("QUIT", "221")
					c.Close()
				}
				errs <- err
			}()
		}
		ready.Wait()
		begun.Done()
		var err error
		for range n {
			if e := <-errs; e != nil {
				err = e
			}
		}
		return err
	})
	r.Ops, r.MBps, r.CPUPerGB = int64(n), 0, 0
	return r, err
}

// RunFTPIdle measures a server with n idle logged-in control connections from several addresses.
func RunFTPIdle(ctx context.Context, e *Env, p Peer, secure bool, n int, settle time.Duration) (ConnIdle, error) {
	return runConnIdle(ctx, e, p, secure, n, settle, func(s *Server, n int) (func(), error) {
		_, leave, err := ftpMany(s, secure, n, true)
		return leave, err
	})
}

// ftpMany logs in n times, from 200 addresses or from one.
func ftpMany(s *Server, secure bool, n int, spread bool) (conns []*ftpClient, leave func(), err error) {
	conns = make([]*ftpClient, n)
	err = each(n, 50, func(i int) error {
		from := ""
		if spread {
			from = fmt.Sprintf("127.0.0.%d", 2+i%200)
		}
		c, err := dialFTP(s, secure, from)
		conns[i] = c
		return err
	})
	leave = func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}
	if err != nil {
		leave()
		return nil, nil, err
	}
	return conns, leave, nil
}
