package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"
)

// ListingOptions of RunListing.
type ListingOptions struct {
	Entries []int // of the folders
	Rounds
}

// lister counts the entries of a folder, and calls first when the first has come.
type lister func(first func()) (int, error)

// RunListing measures listings of large folders by every protocol. Each runs over a session that is there already.
func RunListing(ctx context.Context, e *Env, sftp, ftp, dav []Peer, o ListingOptions) (*Table, error) {
	all := &Table{}
	for _, way := range []struct {
		name  string
		peers []Peer
		list  func(s *Server, dir string) (run lister, done func(), err error)
	}{
		{"SFTP", sftp, func(s *Server, dir string) (lister, func(), error) {
			c, err := dialSFTP(e, s)
			if err != nil {
				return nil, nil, err
			}
			return func(first func()) (int, error) { return c.list(dir, first) }, func() { c.Close() }, nil
		}},
		{"FTP MLSD", ftp, func(s *Server, dir string) (lister, func(), error) {
			if s.Peer == "vsftpd" { // it has none
				return nil, nil, errNotAsked
			}
			return listFTP(s, "MLSD "+dir)
		}},
		{"FTP LIST", ftp, func(s *Server, dir string) (lister, func(), error) { return listFTP(s, "LIST "+dir) }},
		{"PROPFIND depth 1", dav, func(s *Server, dir string) (lister, func(), error) {
			conns, leave, err := davMany(s, false, 1, false, 64<<10, smallFile)
			if err != nil {
				return nil, nil, err
			}
			return func(first func()) (int, error) {
				var seen responses
				_, err := conns[0].do(conns[0].propfind(dir+"/", "1"), 207, func(b []byte) {
					if seen.see(b); seen.n > 0 && first != nil {
						first()
						first = nil
					}
				})
				return seen.n, err
			}, leave, nil
		}},
	} {
		t, err := func() (*Table, error) {
			servers, err := startAll(ctx, e, way.peers)
			if err != nil {
				return nil, err
			}
			defer stopAll(servers)
			var tests []test
			for _, n := range o.Entries {
				dir := fmt.Sprintf("many%d", n)
				for _, s := range servers {
					defer os.RemoveAll(filepath.Join(s.Root, dir))
					if err := errors.Join(davFiles(s), manyFiles(ctx, filepath.Join(s.Root, dir), n)); err != nil {
						return nil, err
					}
				}
				tests = append(tests, test{fmt.Sprintf("%s, %d entries", way.name, n), func(s *Server) (Run, error) {
					list, done, err := way.list(s, s.Base+"/"+dir)
					if err != nil {
						return Run{}, err
					}
					defer done()
					var got int
					var first time.Duration
					r, err := measured(s, 1, 1, func() (err error) {
						begin := time.Now()
						got, err = list(func() { first = time.Since(begin) })
						return err
					})
					// Itself, its parent and a line with the total may be there too.
					if err == nil && (got < n || got > n+3) {
						err = fmt.Errorf("bench: %s listed %d entries, want %d", s.Peer, got, n)
					}
					r.First = first.Seconds() * 1e3
					r.Ops, r.MBps, r.CPUPerGB = 1, 0, 0
					return r, err
				}})
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

func listFTP(s *Server, command string) (lister, func(), error) {
	c, err := dialFTP(s, false, "")
	if err != nil {
		return nil, nil, err
	}
	return func(first func()) (n int, err error) {
		buf := make([]byte, 256<<10)
		err = c.data(command, func(nc net.Conn) error {
			for {
				k, err := nc.Read(buf)
				if k > 0 && first != nil {
					first()
					first = nil
				}
				n += bytes.Count(buf[:k], []byte("\n"))
				if err == io.EOF {
					return nil
				}
				if err != nil {
					return err
				}
			}
		})
		return n, err
	}, func() { c.Close() }, nil
}

// manyFiles makes a folder with n empty files.
func manyFiles(ctx context.Context, dir string, n int) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for i := range n {
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("entry-%07d.dat", i)), os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		f.Close()
		if i%1000 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// responses counts those of a multistatus that comes in pieces, by what closes each: the prefix is the server's.
type responses struct {
	n    int
	mark []byte // such as "</D:response>", once the first has come
	held []byte // all, until then; later the end of the last piece, in which a mark may begin
}

func (r *responses) see(b []byte) {
	if r.mark == nil {
		r.held = append(r.held, b...)
		for at := 0; ; {
			i := bytes.Index(r.held[at:], []byte("response>"))
			if i < 0 {
				return
			}
			at += i + len("response>")
			if k := bytes.LastIndexByte(r.held[:at], '<'); k >= 0 && k+1 < at && r.held[k+1] == '/' {
				r.mark = bytes.Clone(r.held[k:at])
				b, r.held = r.held, nil
				break
			}
		}
	}
	// A mark that lies in both pieces.
	m := len(r.mark) - 1
	joint := append(r.held, b[:min(len(b), m)]...)
	r.n += bytes.Count(joint, r.mark) + bytes.Count(b, r.mark)
	if len(b) < m {
		b = joint
	}
	r.held = append([]byte(nil), b[max(0, len(b)-m):]...)
}
