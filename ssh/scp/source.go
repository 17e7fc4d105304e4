package scp

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/ssh/command"
	"github.com/gantryhq/gantry/vfs"
)

// buffers move file contents.
var buffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// source sends what the peer asks for.
func (c *conn) source() error {
	if err := c.answer(); err != nil {
		return err
	}
	for _, name := range c.Paths {
		p, err := command.Resolve(c.s, name)
		if err != nil {
			if err := c.report(clean(name), err); err != nil {
				return err
			}
			continue
		}
		i, err := c.s.Stat(c.ctx, p)
		if err != nil {
			if err := c.report(clean(p.String()), err); err != nil {
				return err
			}
			continue
		}
		if err := c.send(p, i, 0); err != nil && !errors.Is(err, errTold) {
			return err
		}
	}
	return nil
}

// send sends one file or tree. errTold: the peer did not want it.
func (c *conn) send(p vfs.Path, i vfs.FileInfo, depth int) error {
	name := p.Base()
	if p.IsRoot() {
		name = "root" // a sink takes no "/"; its own name for the copy wins anyway
	} else if err := nameOf(name); err != nil {
		return c.refuse(warn, fmt.Sprintf("%q: a name that this protocol cannot carry", p.String()))
	}
	switch {
	case i.IsDir() && c.Recursive:
		return c.sendDir(p, name, i, depth)
	case i.Mode.IsRegular():
		return c.sendFile(p, name, i)
	}
	return c.refuse(warn, clean(p.String())+": not a regular file")
}

// header sends the line of a file or directory, after its times, and waits for the answers.
func (c *conn) header(kind byte, i vfs.FileInfo, size int64, name string) error {
	if c.Times {
		atime := i.AccessTime
		if atime.IsZero() {
			atime = i.ModTime
		}
		if _, err := fmt.Fprintf(c.out, "T%d 0 %d 0\n", max(0, i.ModTime.Unix()), max(0, atime.Unix())); err != nil {
			return err
		}
		if err := c.answer(); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(c.out, "%c%04o %d %s\n", kind, i.Mode.Perm(), size, name); err != nil {
		return err
	}
	return c.answer()
}

func (c *conn) sendDir(p vfs.Path, name string, i vfs.FileInfo, depth int) error {
	if depth == maxDepth {
		return c.refuse(warn, fmt.Sprintf("more than %d directories in each other", maxDepth))
	}
	if err := c.header('D', i, 0, name); err != nil {
		return err
	}
	for e, err := range c.s.List(c.ctx, p) {
		if err != nil {
			if err := c.report(clean(p.String()), err); err != nil {
				return err
			}
			continue
		}
		child, err := p.Child(e.Name)
		if err != nil {
			continue
		}
		if e.IsSymlink() { // a link to a file is sent as that; one to a directory could lead in circles
			to, err := c.s.Stat(c.ctx, child)
			if err != nil {
				if err := c.report(clean(child.String()), err); err != nil {
					return err
				}
				continue
			}
			if to.IsDir() {
				if err := c.refuse(warn, clean(child.String())+": a link to a directory is left out"); err != nil {
					return err
				}
				continue
			}
			e = to
		}
		if err := c.send(child, e, depth+1); err != nil && !errors.Is(err, errTold) {
			return err
		}
	}
	if _, err := io.WriteString(c.out, "E\n"); err != nil {
		return err
	}
	return c.answer()
}

func (c *conn) sendFile(p vfs.Path, name string, i vfs.FileInfo) error {
	h, err := c.s.OpenFile(c.ctx, p, session.Flags{Read: true})
	if err != nil {
		return c.report(clean(p.String()), err)
	}
	defer h.Abort(c.ctx, errTold) // does nothing after a close
	if now, err := h.Stat(c.ctx); err == nil {
		i.Size, i.ModTime = now.Size, now.ModTime
	}
	if err := c.header('C', i, i.Size, name); err != nil {
		return err
	}
	failure, err := c.contents(h, i.Size)
	if err != nil {
		return err
	}
	if failure != nil {
		err = c.report(clean(p.String()), failure)
	} else {
		err = c.accept()
	}
	if err != nil {
		return err
	}
	if err := c.answer(); err != nil {
		return err
	}
	return h.Close(c.ctx)
}

// contents sends size bytes of h: as many as were announced, whatever happens to the file meanwhile.
func (c *conn) contents(h *session.Handle, size int64) (failure, err error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for off := int64(0); off < size; {
		if err := c.ctx.Err(); err != nil {
			return nil, err
		}
		b := (*buf)[:min(int64(len(*buf)), size-off)]
		if failure == nil {
			n, rerr := h.ReadAt(b, off)
			if n == 0 {
				failure = rerr
				if rerr == nil || rerr == io.EOF {
					failure = fmt.Errorf("%w: it became shorter", io.ErrUnexpectedEOF)
				}
			} else {
				b = b[:n]
			}
		}
		if failure != nil {
			clear(b)
		}
		if _, err := c.out.Write(b); err != nil {
			return nil, err
		}
		off += int64(len(b))
	}
	return failure, nil
}
