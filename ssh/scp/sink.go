package scp

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/ssh/command"
	"github.com/gantryhq/gantry/vfs"
)

// Line is one line of a source.
type Line struct {
	Kind         byte // C, D, E or T
	Mode         fs.FileMode
	Size         int64
	Name         string
	Mtime, Atime time.Time
}

// ParseLine reads a line of a source, without its end.
func ParseLine(s string) (l Line, err error) {
	bad := func(what string) (Line, error) {
		return Line{}, fmt.Errorf("%w: %s in %.100q", errProtocol, what, s)
	}
	if s == "" {
		return bad("nothing")
	}
	l.Kind = s[0]
	switch rest := s[1:]; l.Kind {
	case 'E':
		if rest != "" {
			return bad("more than E")
		}
	case 'T':
		var n [4]int64
		part := strings.Split(rest, " ")
		if len(part) != 4 {
			return bad("times")
		}
		for i, p := range part {
			if n[i], err = strconv.ParseInt(p, 10, 64); err != nil || n[i] < 0 || n[i] > 1<<40 || i%2 == 1 && n[i] > 999_999 {
				return bad("times")
			}
		}
		l.Mtime, l.Atime = time.Unix(n[0], n[1]*1000), time.Unix(n[2], n[3]*1000)
	case 'C', 'D':
		mode, rest, _ := strings.Cut(rest, " ")
		size, name, ok := strings.Cut(rest, " ")
		m, err := strconv.ParseUint(mode, 8, 32)
		if err != nil || len(mode) != 4 {
			return bad("mode")
		}
		l.Mode = fs.FileMode(m) & fs.ModePerm // no set-user-ID from the wire
		n, err := strconv.ParseUint(size, 10, 63)
		if err != nil || n > maxSize || !ok || size[0] == '+' {
			return bad("size")
		}
		if err := nameOf(name); err != nil {
			return Line{}, err
		}
		l.Size, l.Name = int64(n), name
	default:
		return bad("kind")
	}
	return l, nil
}

// sink receives what the peer sends.
func (c *conn) sink() error {
	target, err := command.Resolve(c.s, c.Paths[0])
	if err != nil {
		return c.refuse(fatal, command.Explain(err))
	}
	i, serr := c.s.Stat(c.ctx, target)
	isDir := serr == nil && i.IsDir() || target.IsRoot()
	if c.WantsDirectory && !isDir {
		if serr == nil {
			serr = vfs.ErrNotDir
		}
		return c.refuse(fatal, clean(target.String())+": "+command.Explain(serr))
	}
	if err := c.accept(); err != nil {
		return err
	}
	return c.receive(target, isDir, 0)
}

// receive takes files and directories to dir, or to the name dir if that is no directory, up to E or the end.
func (c *conn) receive(dir vfs.Path, isDir bool, depth int) error {
	var times *Line
	for {
		b, err := c.in.ReadByte()
		if err == io.EOF && depth == 0 && times == nil {
			return nil
		}
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if b == warn || b == fatal { // the source tells of what it could not send
			if _, err := c.line(); err != nil {
				return err
			}
			c.failed = true
			if b == fatal {
				return errTold
			}
			continue
		}
		if err := c.in.UnreadByte(); err != nil {
			return err
		}
		text, err := c.line()
		if err != nil {
			return err
		}
		l, err := ParseLine(text)
		if err != nil {
			return err
		}
		p := dir
		if isDir && l.Name != "" {
			if p, err = dir.Child(l.Name); err != nil {
				return fmt.Errorf("%w: %w", errProtocol, err)
			}
		}
		switch l.Kind {
		case 'E':
			if depth == 0 {
				return fmt.Errorf("%w: E outside of a directory", errProtocol)
			}
			return c.accept()
		case 'T':
			times = &l
			if err := c.accept(); err != nil {
				return err
			}
			continue
		case 'D':
			err = c.receiveDir(p, l, times, depth)
		case 'C':
			err = c.receiveFile(p, l, times)
		}
		times = nil
		if err != nil {
			return err
		}
	}
}

func (c *conn) receiveDir(p vfs.Path, l Line, times *Line, depth int) error {
	switch {
	case !c.Recursive:
		return fmt.Errorf("%w: a directory without -r", errProtocol)
	case depth == maxDepth:
		return fmt.Errorf("%w: more than %d directories in each other", errProtocol, maxDepth)
	}
	// A missing right to list must not end an upload that is allowed: what is there is asked only afterwards.
	err := c.s.Mkdir(c.ctx, p, vfs.Attr{Set: vfs.AttrMode, Mode: l.Mode | 0o700})
	made := err == nil
	if err != nil {
		if i, serr := c.s.Stat(c.ctx, p); p.IsRoot() || serr == nil && i.IsDir() {
			err = nil
		} else if serr == nil {
			err = vfs.ErrNotDir
		}
	}
	if err != nil {
		return c.report(clean(p.String()), err) // the peer leaves the directory out
	}
	if err := c.accept(); err != nil {
		return err
	}
	if err := c.receive(p, true, depth+1); err != nil {
		return err
	}
	a := vfs.Attr{}
	if made && l.Mode&0o700 != 0o700 || c.Times {
		a.Set, a.Mode = vfs.AttrMode, l.Mode
	}
	if times != nil {
		a.Set, a.Mtime, a.Atime = a.Set|vfs.AttrTimes, times.Mtime, times.Atime
	}
	if a.Set != 0 && !p.IsRoot() {
		c.setAttr(p, a)
	}
	return nil
}

// setAttr sets what was asked beside the copy: without the right to it the copy is still good.
func (c *conn) setAttr(p vfs.Path, a vfs.Attr) {
	if err := c.s.SetAttr(c.ctx, p, a, true); err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, vfs.ErrUnsupported) {
		c.failed = true
	}
}

func (c *conn) receiveFile(p vfs.Path, l Line, times *Line) error {
	f := session.Flags{Write: true, Create: true, Truncate: true, Whole: true, Size: l.Size, Attr: vfs.Attr{Set: vfs.AttrMode, Mode: l.Mode}}
	if times != nil {
		f.Attr.Set |= vfs.AttrTimes
		f.Attr.Mtime, f.Attr.Atime = times.Mtime, times.Atime
	}
	h, err := c.s.OpenFile(c.ctx, p, f)
	if err != nil {
		return c.report(clean(p.String()), err) // the peer does not send the bytes
	}
	defer h.Abort(c.ctx, io.ErrUnexpectedEOF) // does nothing after a close
	if err := c.accept(); err != nil {
		return err
	}
	failure, err := c.bytes(h, l.Size)
	if err != nil {
		h.Abort(c.ctx, err)
		return err
	}
	// The source says whether what it sent is the file.
	told := c.answer()
	if told != nil && !errors.Is(told, errTold) {
		h.Abort(c.ctx, told)
		return told
	}
	switch {
	case told != nil:
		h.Abort(c.ctx, told)
		return c.accept()
	case failure != nil:
		h.Abort(c.ctx, failure)
	default:
		failure = h.Close(c.ctx)
	}
	if failure != nil {
		return c.report(clean(p.String()), failure)
	}
	if c.Times {
		c.setAttr(p, vfs.Attr{Set: vfs.AttrMode, Mode: l.Mode})
	}
	return c.accept()
}

// bytes takes size bytes to h. After a failed write it takes the rest to nowhere, to stay in step with the peer.
func (c *conn) bytes(h *session.Handle, size int64) (failure, err error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for off := int64(0); off < size; {
		if err := c.ctx.Err(); err != nil {
			return nil, err
		}
		n, err := c.in.Read((*buf)[:min(int64(len(*buf)), size-off)])
		if n > 0 && failure == nil {
			_, failure = h.WriteAt((*buf)[:n], off)
		}
		off += int64(n)
		if err == io.EOF && off < size {
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
	}
	return failure, nil
}
