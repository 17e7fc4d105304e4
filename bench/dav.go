package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// DAVBulk is large files in one direction, some at a time, each over a connection of its own.
type DAVBulk struct {
	TLS     bool
	Put     bool
	Streams int
}

func (b DAVBulk) String() string {
	name := "WebDAV " + map[bool]string{false: "get", true: "put"}[b.Put] + map[bool]string{false: "", true: " TLS"}[b.TLS]
	return fmt.Sprintf("%s, %d at a time", name, b.Streams)
}

// davMany connects n times, some at a time, from 200 addresses or from one, and has every connection get the file of
// that name once.
func davMany(s *Server, secure bool, n int, spread bool, size int, file string) (conns []*httpClient, leave func(), err error) {
	addr := s.Addr
	if secure {
		if addr = s.TLSAddr; addr == "" {
			return nil, nil, errNotAsked
		}
	}
	conns = make([]*httpClient, n)
	err = each(n, 50, func(i int) error {
		from := ""
		if spread {
			from = fmt.Sprintf("127.0.0.%d", 2+i%200)
		}
		c, err := dialHTTP(s, addr, secure, from, size)
		if err != nil {
			return err
		}
		conns[i] = c
		_, err = c.get(s.Base + "/" + file)
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
		return nil, nil, fmt.Errorf("bench: %s: %w", s.Peer, err)
	}
	return conns, leave, nil
}

// each calls f for 0 to n-1, so many at a time, until one fails.
func each(n, atOnce int, f func(i int) error) error {
	var next atomic.Int64
	errs := make(chan error, min(n, atOnce))
	for range cap(errs) {
		go func() { // all are waited for below
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					errs <- nil
					return
				}
				if err := f(i); err != nil {
					next.Store(int64(n))
					errs <- err
					return
				}
			}
		}()
	}
	var err error
	for range cap(errs) {
		err = errors.Join(err, <-errs)
	}
	return err
}

// smallFile is a file of 4 KiB that every server has.
const smallFile = "small"

func runDAVBulk(s *Server, b DAVBulk, source string, size int64, keep bool) (Run, error) {
	remove := func() {
		for i := range b.Streams {
			os.Remove(filepath.Join(s.Root, "up"+strconv.Itoa(i)))
		}
	}
	remove()
	if !keep {
		defer remove() // memory does not hold everybody's
	}
	clients, leave, err := davMany(s, b.TLS, b.Streams, false, 256<<10, smallFile)
	if err != nil {
		return Run{}, err
	}
	defer leave()
	r, err := measured(s, b.Streams, size*int64(b.Streams), func() error {
		return each(b.Streams, b.Streams, func(i int) error {
			if !b.Put {
				n, err := clients[i].get(s.Base + "/source")
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
			return clients[i].put(fmt.Sprintf("%s/up%d", s.Base, i), f, size)
		})
	})
	if err != nil || !b.Put {
		return r, err
	}
	for i := range b.Streams {
		st, err := os.Stat(filepath.Join(s.Root, "up"+strconv.Itoa(i)))
		if err == nil && st.Size() != size {
			err = fmt.Errorf("bench: %s has %d bytes of an upload, want %d", s.Peer, st.Size(), size)
		}
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

// propfindBody asks for what clients ask for in a listing.
const propfindBody = `<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop>` +
	`<resourcetype/><getcontentlength/><getlastmodified/><creationdate/><getetag/></prop></propfind>`

func (c *httpClient) propfind(target, depth string) []byte {
	h := c.head("PROPFIND", target, "Depth: "+depth, "Content-Type: application/xml", "Content-Length: "+strconv.Itoa(len(propfindBody)))
	return append(h, propfindBody...)
}

// small is one kind of small request.
type small struct {
	name    string
	request func(c *httpClient) []byte
	status  int
	entries int // responses in the multistatus; 0 is not one
}

// ask sends the request once and looks at the answer, whose length it gives.
func (q small) ask(c *httpClient) (int64, error) {
	if q.entries == 0 {
		return c.do(q.request(c), q.status, nil)
	}
	var all bytes.Buffer
	n, err := c.do(q.request(c), q.status, func(b []byte) { all.Write(b) })
	if err != nil {
		return n, err
	}
	var seen responses
	if seen.see(all.Bytes()); seen.n != q.entries {
		return n, fmt.Errorf("bench: %s: %d responses, want %d: %q", q.name, seen.n, q.entries, all.Bytes()[:min(all.Len(), 500)])
	}
	return n, nil
}

// runDAVSmall has some clients send a request again and again.
func runDAVSmall(s *Server, q small, clients, requests int) (Run, error) {
	conns, leave, err := davMany(s, false, clients, false, 64<<10, smallFile)
	if err != nil {
		return Run{}, err
	}
	defer leave()
	want, err := q.ask(conns[0])
	if err != nil {
		return Run{}, err
	}
	took := make([][]time.Duration, clients)
	for i := range took {
		took[i] = make([]time.Duration, 0, requests)
	}
	var left atomic.Int64
	left.Store(int64(requests))
	r, err := measured(s, clients, want*int64(requests), func() error {
		return each(clients, clients, func(i int) error {
			c, request := conns[i], q.request(conns[i])
			for left.Add(-1) >= 0 {
				begin := time.Now()
				n, err := c.do(request, q.status, nil)
				took[i] = append(took[i], time.Since(begin))
				if err != nil {
					return err
				}
				if n != want {
					return fmt.Errorf("bench: %s: %s gave %d bytes, want %d", q.name, s.Peer, n, want)
				}
			}
			return nil
		})
	})
	r.Ops = int64(requests)
	r.P50, r.P99 = percentiles(took)
	return r, err
}

// percentiles are the median and the 99th of all times, in microseconds.
func percentiles(took [][]time.Duration) (p50, p99 float64) {
	all := slices.Concat(took...)
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	at := func(p float64) float64 { return float64(all[min(len(all)-1, int(p*float64(len(all))))]) / 1e3 }
	return at(0.5), at(0.99)
}

// DAVOptions of RunDAV.
type DAVOptions struct {
	Size        int64 // bytes of a bulk file
	StreamCases []int
	Requests    int // small requests of each kind
	Clients     int // that send them
	Rounds
}

// prepareDAV puts the files into a server's folder that the cases ask for, and looks whether both ways keep every byte.
func prepareDAV(s *Server, source string, sum [32]byte, size int64) error {
	if err := os.Link(source, filepath.Join(s.Root, "source")); err != nil {
		return err
	}
	if err := davFiles(s); err != nil {
		return err
	}
	for _, secure := range []bool{false, true} {
		if secure && s.TLSAddr == "" {
			continue
		}
		if _, err := runDAVBulk(s, DAVBulk{secure, true, 1}, source, size, true); err != nil {
			return err
		}
		up := filepath.Join(s.Root, "up0")
		got, err := hashFile(up)
		os.Remove(up)
		if err == nil && got != sum {
			err = errors.New("the upload differs")
		}
		if err == nil {
			_, err = runDAVBulk(s, DAVBulk{secure, false, 1}, source, size, false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// davFiles makes the small file, and the folder "twenty" with 20 of them. They are old: entity tags of what has changed
// within the last seconds are weak, and longer.
func davFiles(s *Server) error {
	content := bytes.Repeat([]byte("0123456789abcdef"), 256)
	dir := filepath.Join(s.Root, "twenty")
	files := []string{filepath.Join(s.Root, smallFile)}
	for i := range 20 {
		files = append(files, filepath.Join(dir, fmt.Sprintf("file%02d.txt", i)))
	}
	err := os.MkdirAll(dir, 0o755)
	old := time.Now().Add(-time.Hour)
	for _, f := range files {
		err = errors.Join(err, os.WriteFile(f, content, 0o644), os.Chtimes(f, old, old))
	}
	return err
}

// RunDAV measures bulk transfers and small requests on every peer, interleaved.
func RunDAV(ctx context.Context, e *Env, peers []Peer, o DAVOptions) (*Table, error) {
	source := filepath.Join(e.Data, "source")
	sum, err := makeSource(source, o.Size)
	if err != nil {
		return nil, err
	}
	defer os.Remove(source)
	if err := os.Chmod(source, 0o644); err != nil {
		return nil, err
	}
	started, err := startAll(ctx, e, peers)
	if err != nil {
		return nil, err
	}
	defer stopAll(started)
	servers, err := ready(e, started, func(s *Server) error { return prepareDAV(s, source, sum, o.Size) })
	if err != nil {
		return nil, err
	}
	var tests []test
	for _, n := range o.StreamCases {
		for _, secure := range []bool{false, true} {
			for _, put := range []bool{false, true} {
				b := DAVBulk{secure, put, n}
				tests = append(tests, test{b.String(), func(s *Server) (Run, error) { return runDAVBulk(s, b, source, o.Size, false) }})
			}
		}
	}
	for _, q := range []small{
		{"GET of 4 KiB", func(c *httpClient) []byte { return c.head("GET", "/"+smallFile) }, 200, 0},
		{"PROPFIND depth 0", func(c *httpClient) []byte { return c.propfind("/"+smallFile, "0") }, 207, 1},
		{"PROPFIND depth 1 of 20 files", func(c *httpClient) []byte { return c.propfind("/twenty/", "1") }, 207, 21},
	} {
		if o.Requests == 0 {
			break
		}
		cannot := map[*Server]bool{}
		for i, s := range servers {
			if _, err := runDAVSmall(s, q, 1, 20); err != nil {
				if i == 0 {
					return nil, fmt.Errorf("bench: %s: %s: %w", s.Peer, q.name, err)
				}
				fmt.Fprintf(e.Log, "left out: %s: %s: %v\n", s.Peer, q.name, err)
				cannot[s] = true
			}
		}
		tests = append(tests, test{fmt.Sprintf("WebDAV %s, %d clients", q.name, o.Clients), func(s *Server) (Run, error) {
			if cannot[s] {
				return Run{}, errNotAsked
			}
			return runDAVSmall(s, q, o.Clients, o.Requests)
		}})
	}
	return interleave(ctx, e, servers, tests, o.Rounds)
}

// RunDAVIdle measures a server with n idle keep-alive connections from several addresses, each of which has logged in
// and got a file.
func RunDAVIdle(ctx context.Context, e *Env, p Peer, secure bool, n int, settle time.Duration) (ConnIdle, error) {
	return runConnIdle(ctx, e, p, secure, n, settle, func(s *Server, n int) (func(), error) {
		if err := davFiles(s); err != nil {
			return nil, err
		}
		_, leave, err := davMany(s, secure, n, true, 8<<10, smallFile)
		return leave, err
	})
}
