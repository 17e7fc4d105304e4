package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// LinkOptions of RunLink.
type LinkOptions struct {
	Size int64 // bytes
	Link
	Rounds
}

// RunLink measures a download and an upload over a long link by every protocol. SFTP goes through the OpenSSH client,
// whose login is not counted; the others have a client of ours.
func RunLink(ctx context.Context, e *Env, sftp, ftp, dav []Peer, o LinkOptions) (*Table, error) {
	source := filepath.Join(e.Data, "source")
	if _, err := makeSource(source, o.Size); err != nil {
		return nil, err
	}
	defer os.Remove(source)
	if err := os.Chmod(source, 0o644); err != nil {
		return nil, err
	}
	all := &Table{}
	for _, way := range []struct {
		name  string
		peers []Peer
		tls   []bool
		addr  func(s *Server, tls bool) string
		run   func(s *Server, r *Relay, tls, put bool) (Run, error)
	}{
		{"SFTP", sftp, []bool{true}, plainAddr, func(s *Server, r *Relay, _, put bool) (Run, error) {
			return linkSFTP(ctx, e, s, r, put, source, o.Size)
		}},
		{"FTP", ftp, []bool{false, true}, plainAddr, func(s *Server, r *Relay, tls, put bool) (Run, error) { return linkFTP(s, r, tls, put, source, o.Size) }},
		{"WebDAV", dav, []bool{false, true}, func(s *Server, tls bool) string {
			if tls {
				return s.TLSAddr
			}
			return s.Addr
		}, func(s *Server, r *Relay, tls, put bool) (Run, error) {
			v := s.at(r.Addr())
			if v.TLSAddr != "" {
				v.TLSAddr = r.Addr()
			}
			return runDAVBulk(v, DAVBulk{tls, put, 1}, source, o.Size, false)
		}},
	} {
		t, err := func() (*Table, error) {
			servers, err := startAll(ctx, e, way.peers)
			if err != nil {
				return nil, err
			}
			defer stopAll(servers)
			for _, s := range servers {
				if err := errors.Join(os.Link(source, filepath.Join(s.Root, "source")), davFiles(s)); err != nil {
					return nil, err
				}
			}
			var tests []test
			for _, tls := range way.tls {
				relays := map[string]*Relay{} // by peer
				for _, s := range servers {
					r, err := NewRelay(way.addr(s, tls), o.Link)
					if err != nil {
						return nil, err
					}
					defer r.Close()
					relays[s.Peer] = r
				}
				for _, put := range []bool{false, true} {
					name := way.name + map[bool]string{false: "", true: " TLS"}[tls && way.name != "SFTP"] + map[bool]string{false: " get", true: " put"}[put]
					tests = append(tests, test{fmt.Sprintf("%s, round trip %v", name, 2*o.Delay), func(s *Server) (Run, error) {
						run, err := way.run(s, relays[s.Peer], tls, put)
						if o.Rate > 0 {
							run.Share = run.MBps * 1e6 / float64(o.Rate)
						}
						return run, err
					}})
				}
			}
			return interleave(ctx, e, servers, tests, o.Rounds)
		}()
		if t != nil {
			all.merge(t)
		}
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

func plainAddr(s *Server, _ bool) string { return s.Addr }

func linkSFTP(ctx context.Context, e *Env, s *Server, r *Relay, put bool, source string, size int64) (Run, error) {
	begin := time.Now()
	if _, err := sftpRun(ctx, e, s, r.Addr(), "", "pwd"); err != nil {
		return Run{}, err
	}
	login := time.Since(begin).Seconds()
	x, err := runBulk(ctx, e, s, r.Addr(), Bulk{Put: put}, source, size)
	if err == nil && x.Seconds > login {
		x.Seconds -= login
		x.MBps = float64(size) / 1e6 / x.Seconds
	}
	os.Remove(filepath.Join(s.Root, "up"))
	return x, err
}

func linkFTP(s *Server, r *Relay, secure, put bool, source string, size int64) (Run, error) {
	c, err := dialFTP(s.at(r.Addr()), secure, "")
	if err != nil {
		return Run{}, err
	}
	defer c.Close()
	c.via = r.Forward
	defer os.Remove(filepath.Join(s.Root, "up0"))
	return measured(s, 1, size, func() error { return ftpMove(s, c, FTPBulk{secure, put, 1}, 0, source, size) })
}

// LinkCheck is what happened when a link stalled or was cut under a transfer.
type LinkCheck struct {
	What    string  `json:"what"`
	Seconds float64 `json:"seconds"`
	Problem string  `json:"problem,omitempty"`
}

// mover is a client that can be stalled and cut.
type mover interface {
	io.Closer
	moveGet() (int64, error)
	movePut() error
}

type (
	sftpMover struct {
		*sftpClient
		content string
	}
	ftpMover struct {
		*ftpClient
		content string
	}
	davMover struct {
		*httpClient
		file string
		size int64
	}
)

func (m sftpMover) moveGet() (int64, error) { return m.get("source") }
func (m sftpMover) movePut() error          { return m.put("cut", m.content, false) }
func (m ftpMover) moveGet() (int64, error)  { return m.ftpClient.get("source", make([]byte, 64<<10)) }
func (m ftpMover) movePut() error {
	return m.ftpClient.put("cut", strings.NewReader(m.content), make([]byte, 64<<10))
}
func (m davMover) moveGet() (int64, error) { return m.httpClient.get("/source") }
func (m davMover) movePut() error {
	f, err := os.Open(m.file)
	if err != nil {
		return err
	}
	defer f.Close()
	return m.httpClient.put("/cut", f, m.size)
}

// RunLinkChecks stalls the link under a download, which must then end well, and cuts it under an upload, after which
// the server must hold nothing of it and serve the next client. Ours alone, by every protocol.
func RunLinkChecks(ctx context.Context, e *Env, size int64, stall time.Duration) ([]LinkCheck, error) {
	s, err := GantryAll{}.Start(ctx, e)
	if err != nil {
		return nil, err
	}
	defer s.Stop()
	source := filepath.Join(s.Root, "source")
	if _, err := makeSource(source, size); err != nil {
		return nil, err
	}
	content, err := os.ReadFile(source)
	if err != nil {
		return nil, err
	}
	var out []LinkCheck
	for _, way := range []struct {
		name, addr string
		whole      bool // nothing stays of a broken upload
		dial       func(r *Relay) (mover, error)
	}{
		{"SFTP", s.Addr, false, func(r *Relay) (mover, error) {
			c, err := dialSFTP(e, s.at(r.Addr()))
			return sftpMover{c, string(content)}, err
		}},
		{"FTP", s.FTPAddr, false, func(r *Relay) (mover, error) { return linkedFTP(s, r, false, string(content)) }},
		{"FTPS", s.FTPAddr, false, func(r *Relay) (mover, error) { return linkedFTP(s, r, true, string(content)) }},
		{"WebDAV", s.DAVAddr, true, func(r *Relay) (mover, error) {
			c, err := dialHTTP(s, r.Addr(), false, "", 64<<10)
			return davMover{c, source, size}, err
		}},
		{"WebDAV TLS", s.TLSAddr, true, func(r *Relay) (mover, error) {
			c, err := dialHTTP(s, r.Addr(), true, "", 64<<10)
			return davMover{c, source, size}, err
		}},
	} {
		relay, err := NewRelay(way.addr, Link{Delay: time.Millisecond, InFlight: 1 << 20, Rate: 10 << 20})
		if err != nil {
			return out, err
		}
		check := func(what string, f func() error) {
			begin := time.Now()
			c := LinkCheck{What: way.name + ": " + what}
			if err := f(); err != nil {
				c.Problem = err.Error()
			}
			c.Seconds = time.Since(begin).Seconds()
			out = append(out, c)
			fmt.Fprintf(e.Log, "link: %-60s %5.1f s %s\n", c.What, c.Seconds, c.Problem)
		}
		get := func() error {
			m, err := way.dial(relay)
			if err != nil {
				return err
			}
			defer m.Close()
			n, err := m.moveGet()
			if err == nil && n != size {
				err = fmt.Errorf("%d bytes came, want %d", n, size)
			}
			return err
		}
		check(fmt.Sprintf("a download over a link that stalls for %v", stall), func() error {
			begin := time.Now()
			relay.When(size/4, func() { relay.Stall(stall) })
			if err := get(); err != nil {
				return err
			}
			if took := time.Since(begin); took < stall {
				return fmt.Errorf("it took %v: the link did not stall", took)
			}
			return nil
		})
		check("an upload over a link that is cut, and the next client", func() error {
			before := usageOf(s.PID).FDs
			m, err := way.dial(relay)
			if err != nil {
				return err
			}
			defer m.Close()
			relay.When(size/4, relay.Cut)
			if err := m.movePut(); err == nil {
				return errors.New("the upload ended well")
			}
			for end := time.Now().Add(30 * time.Second); usageOf(s.PID).FDs > before; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(end) || ctx.Err() != nil {
					return fmt.Errorf("%d descriptors before, %d half a minute later", before, usageOf(s.PID).FDs)
				}
			}
			_, err = os.Stat(filepath.Join(s.Root, "cut"))
			os.Remove(filepath.Join(s.Root, "cut"))
			if way.whole && err == nil {
				return errors.New("a part of the upload stays")
			}
			return get()
		})
		relay.Close()
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
	}
	var errs []error
	for _, c := range out {
		if c.Problem != "" {
			errs = append(errs, fmt.Errorf("bench: %s: %s", c.What, c.Problem))
		}
	}
	return out, errors.Join(errs...)
}

func linkedFTP(s *Server, r *Relay, secure bool, content string) (mover, error) {
	c, err := dialFTP(s.at(r.Addr()), secure, "")
	if err != nil {
		return nil, err
	}
	c.via = r.Forward
	return ftpMover{c, content}, nil
}

// WriteLinkChecks prints them as Markdown.
func WriteLinkChecks(w io.Writer, all []LinkCheck) {
	fmt.Fprint(w, "| when the link fails | s | |\n|---|---|---|\n")
	for _, c := range all {
		verdict := "as it should"
		if c.Problem != "" {
			verdict = "**" + c.Problem + "**"
		}
		fmt.Fprintf(w, "| %s | %.1f | %s |\n", c.What, c.Seconds, verdict)
	}
}
