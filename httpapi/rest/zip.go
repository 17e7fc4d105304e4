package rest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/klauspost/compress/zip"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// Bounds of an archive: its directory is kept in memory until the end (RES-1).
const (
	maxZipPaths   = 1000
	maxZipEntries = 100_000
	maxZipDepth   = 100
)

// userZip is POST /user/streamzip.
func userZip(q *Request) error {
	var names []string
	if err := q.Decode(&names); err != nil {
		return err
	}
	paths, err := zipPaths(names, q.Session.StartDir())
	if err != nil {
		return err
	}
	stem := "download"
	if len(paths) == 1 && !paths[0].IsRoot() {
		stem = strings.TrimSuffix(paths[0].Base(), path.Ext(paths[0].Base()))
	}
	return q.zip(paths, q.Login.Username()+"-"+stem+".zip")
}

func zipPaths(names []string, from vfs.Path) ([]vfs.Path, error) {
	if len(names) == 0 || len(names) > maxZipPaths {
		return nil, badRequest("between 1 and %d paths are needed", maxZipPaths)
	}
	var out []vfs.Path
	for _, n := range names {
		p, err := pathOf(n, from)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// zip answers with an archive of paths, made as it is sent. The first look at each path is before the answer begins, so
// that what is missing or refused has its status; later errors cut the connection.
func (q *Request) zip(paths []vfs.Path, name string) error {
	top := paths[0].Dir()
	infos := make([]vfs.FileInfo, len(paths))
	for i, p := range paths {
		for !p.Dir().Within(top) {
			top = top.Dir()
		}
		var err error
		if infos[i], err = q.Session.Stat(q.Context(), p); err != nil {
			return err
		}
		if !infos[i].IsDir() && !infos[i].Mode.IsRegular() {
			return badRequest("a path is neither a file nor a directory")
		}
	}
	q.HTTP.SetContentType("application/zip")
	q.SetHeader("Content-Disposition", attachment(name))
	q.SetHeader("X-Content-Type-Options", "nosniff")
	if q.HTTP.IsHead() {
		q.HTTP.Response.SkipBody = true
		return nil
	}
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(q.Context())
	done := make(chan struct{})
	z := &zipper{s: q.Session, w: zip.NewWriter(w), top: top}
	go func() { // ends when the pipe is closed, which OnDone does and waits for
		defer close(done)
		err := z.all(ctx, paths, infos)
		if err == nil {
			err = z.w.Close()
		}
		if err != nil {
			q.Log.Warn("an archive was cut", "error", err)
		}
		w.CloseWithError(err)
	}()
	q.OnDone(func() {
		cancel()
		r.CloseWithError(errors.New("the client has gone"))
		<-done
	})
	q.zipped = z
	q.HTTP.SetBodyStream(r, -1)
	return nil
}

// zipper writes an archive.
type zipper struct {
	s   *session.Session
	w   *zip.Writer
	top vfs.Path // names begin here
	n   int      // entries
}

func (z *zipper) all(ctx context.Context, paths []vfs.Path, infos []vfs.FileInfo) error {
	for i, p := range paths {
		if err := z.add(ctx, p, infos[i], 0); err != nil {
			return err
		}
	}
	return nil
}

// header makes an entry's header (ZIP-1): a relative name with "/" between its parts and no other meaning anywhere.
func (z *zipper) header(p vfs.Path, i vfs.FileInfo) (*zip.FileHeader, error) {
	if z.n++; z.n > maxZipEntries {
		return nil, errors.New("the archive would have too many entries")
	}
	rel, _ := p.Rel(z.top)
	name := strings.Map(func(r rune) rune {
		if r == '\\' || r == ':' || r < ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(rel.Relative(), "_"))
	h := &zip.FileHeader{Name: name, Modified: i.ModTime.UTC().Truncate(time.Second), Method: zip.Deflate}
	if h.Modified.Year() < 1980 {
		h.Modified = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	h.SetMode(i.Mode & (fs.ModeDir | fs.ModePerm))
	if i.IsDir() {
		h.Name, h.Method = name+"/", zip.Store
	}
	return h, nil
}

// add writes p with all below it. Links are left out, and so is in a directory what may not be read (SYM-2).
func (z *zipper) add(ctx context.Context, p vfs.Path, i vfs.FileInfo, depth int) error {
	if depth > maxZipDepth {
		return errors.New("the tree is too deep for an archive")
	}
	if !i.IsDir() {
		return z.file(ctx, p, i)
	}
	if p != z.top {
		h, err := z.header(p, i)
		if err != nil {
			return err
		}
		if _, err := z.w.CreateHeader(h); err != nil {
			return err
		}
	}
	var dirs []vfs.FileInfo // walked when the listing is over, so that one directory is open at a time
	for e, err := range z.s.List(ctx, p) {
		if err != nil {
			if e.Name != "" || depth > 0 && errors.Is(err, fs.ErrPermission) {
				continue
			}
			return err
		}
		c, err := p.Child(e.Name)
		if err != nil {
			return err
		}
		switch {
		case e.IsDir():
			if dirs = append(dirs, e); len(dirs) > maxZipEntries {
				return errors.New("the archive would have too many entries")
			}
		case e.Mode.IsRegular():
			if err := z.file(ctx, c, e); err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	for _, e := range dirs {
		c, err := p.Child(e.Name)
		if err != nil {
			return err
		}
		if err := z.add(ctx, c, e, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// file writes one file. A refusal comes before anything of it is written.
func (z *zipper) file(ctx context.Context, p vfs.Path, i vfs.FileInfo) error {
	f, err := z.s.OpenFile(ctx, p, session.Flags{Read: true})
	if err != nil {
		return err
	}
	h, err := z.header(p, i)
	var w io.Writer
	if err == nil {
		w, err = z.w.CreateHeader(h)
	}
	if err == nil {
		buf := uploadBuffers.Get().(*[]byte)
		_, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{io.NewSectionReader(f, 0, 1<<62)}, *buf)
		uploadBuffers.Put(buf)
	}
	if err != nil {
		f.Abort(ctx, err)
		return cutError{err}
	}
	return f.Close(ctx)
}

// cutError is an error in the middle of an archive, whatever it was.
type cutError struct{ err error }

func (c cutError) Error() string { return c.err.Error() }
