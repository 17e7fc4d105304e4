package ftp

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/gantryhq/gantry/engine"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

func (c *conn) cwdCmd(ctx context.Context, arg string) error {
	p, err := c.resolve(arg)
	if err != nil {
		return err
	}
	i, err := c.s.Stat(ctx, p)
	switch {
	case errors.Is(err, fs.ErrPermission):
		// The rights above say nothing of those inside: who may list a directory may enter it.
		for i, lerr := range c.s.List(ctx, p) {
			if lerr != nil && i.Name == "" {
				return err
			}
			break
		}
	case err != nil:
		return err
	case !i.IsDir():
		return errNotDir
	}
	c.cwd = p
	return c.reply(250, "CWD command successful")
}

func (c *conn) cdup(ctx context.Context, _ string) error {
	c.cwd = c.cwd.Dir()
	return c.reply(250, "CDUP command successful")
}

func (c *conn) pwd(context.Context, string) error {
	return c.reply(257, quoted(c.cwd.String())+" is the current directory")
}

func (c *conn) mkd(ctx context.Context, arg string) error {
	p, err := c.resolve(arg)
	if err == nil {
		err = c.s.Mkdir(ctx, p, vfs.Attr{})
	}
	if err != nil {
		return err
	}
	return c.reply(257, quoted(p.String())+" created")
}

func (c *conn) rmd(ctx context.Context, arg string) error {
	p, err := c.resolve(arg)
	if err == nil {
		err = c.s.Rmdir(ctx, p)
	}
	if err != nil {
		return err
	}
	return c.reply(250, "Directory removed")
}

func (c *conn) dele(ctx context.Context, arg string) error {
	p, err := c.resolve(arg)
	if err == nil {
		err = c.s.Remove(ctx, p)
	}
	if err != nil {
		return err
	}
	return c.reply(250, "File removed")
}

func (c *conn) rnfr(ctx context.Context, arg string) error {
	p, err := c.resolve(arg)
	if err != nil {
		return err
	}
	// Who may not list may still rename: RNTO judges.
	if _, err := c.s.Lstat(ctx, p); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	c.from = &p
	return c.reply(350, "Now RNTO")
}

func (c *conn) rnto(ctx context.Context, arg string) error {
	from := c.from
	c.from = nil
	if from == nil {
		return fail(503, "RNFR first")
	}
	p, err := c.resolve(arg)
	if err == nil {
		err = c.s.Rename(ctx, *from, p, true)
	}
	if err != nil {
		return err
	}
	return c.reply(250, "Renamed")
}

// regular finds a file.
func (c *conn) regular(ctx context.Context, arg string) (vfs.Path, vfs.FileInfo, error) {
	p, err := c.resolve(arg)
	if err != nil {
		return p, vfs.FileInfo{}, err
	}
	i, err := c.s.Stat(ctx, p)
	if err == nil && !i.Mode.IsRegular() {
		err = errNotFile // RFC 3659 4.2
	}
	return p, i, err
}

func (c *conn) size(ctx context.Context, arg string) error {
	if c.ascii {
		return errAsciiSize // it would have to be counted
	}
	_, i, err := c.regular(ctx, arg)
	if err != nil {
		return err
	}
	return c.reply(213, strconv.FormatInt(i.Size, 10))
}

// mdtm tells a file's time; "MDTM time path" of old clients sets it.
func (c *conn) mdtm(ctx context.Context, arg string) error {
	if stamp, name, ok := strings.Cut(arg, " "); ok && name != "" {
		if _, err := parseTime(stamp); err == nil {
			return c.setTime(ctx, 253, stamp, name)
		}
	}
	p, err := c.resolve(arg)
	if err != nil {
		return err
	}
	i, err := c.s.Stat(ctx, p)
	if err != nil {
		return err
	}
	return c.reply(213, i.ModTime.UTC().Format(timeVal))
}

func (c *conn) mfmt(ctx context.Context, arg string) error {
	stamp, name, ok := strings.Cut(arg, " ")
	if !ok || name == "" {
		return errSyntax
	}
	return c.setTime(ctx, 213, stamp, name)
}

func (c *conn) setTime(ctx context.Context, code int, stamp, name string) error {
	t, err := parseTime(stamp)
	if err != nil {
		return err
	}
	p, err := c.resolve(name)
	if err == nil {
		err = c.s.SetAttr(ctx, p, vfs.Attr{Set: vfs.AttrTimes, Atime: t, Mtime: t}, true)
	}
	if err != nil {
		return err
	}
	return c.reply(code, "Modify="+stamp+"; "+name)
}

func (c *conn) avbl(ctx context.Context, arg string) error {
	p, err := c.resolve(arg)
	if err != nil {
		return err
	}
	st, err := c.s.StatFS(ctx, p)
	if err != nil {
		return err
	}
	return c.reply(213, strconv.FormatUint(st.Avail*st.BlockSize, 10))
}

// hashNames are those of OPTS HASH, and how session calls them. Read-only.
var hashNames = []struct{ name, algo string }{
	{"CRC32", "crc32"}, {"MD5", "md5"}, {"SHA-1", "sha1"}, {"SHA-256", "sha256"}, {"SHA-512", "sha512"},
}

const hashDefault = 3 // SHA-256

// hashCmd answers "algorithm first-last hash name" (draft-bryan-ftpext-hash-02 3.2), of RANG's bytes if it was given.
func (c *conn) hashCmd(ctx context.Context, arg string) error {
	p, i, err := c.regular(ctx, arg)
	if err != nil {
		return err
	}
	off, n := c.offset, int64(0)
	end := i.Size
	if c.ranged {
		end = min(c.last+1, i.Size)
		if n = end - off; n <= 0 {
			return fail(556, "The range is past the end")
		}
	}
	c.offset, c.ranged = 0, false
	a := hashNames[c.hash]
	sum, err := c.s.Hash(ctx, p, a.algo, off, n)
	if err != nil {
		return err
	}
	return c.reply(213, fmt.Sprintf("%s %d-%d %s %s", a.name, off, end, hex.EncodeToString(sum), arg))
}

// oldHash answers the X commands: a name, in quotes or not, and after quotes a first and a last byte.
func (c *conn) oldHash(ctx context.Context, verb, algo, arg string) error {
	name, off, n := arg, int64(0), int64(0)
	if q, rest, ok := strings.Cut(strings.TrimPrefix(arg, `"`), `"`); ok && strings.HasPrefix(arg, `"`) {
		name = q
		var at [2]int64
		for k, s := range strings.Fields(rest) {
			v, err := decimal(s, 19, 1<<50)
			if err != nil || k > 1 {
				return errSyntax
			}
			at[k] = v
		}
		if off = at[0]; at[1] > 0 {
			if n = at[1] - off; n <= 0 {
				return errSyntax
			}
		}
	}
	p, _, err := c.regular(ctx, name)
	if err != nil {
		return err
	}
	sum, err := c.s.Hash(ctx, p, algo, off, n)
	if err != nil {
		return err
	}
	code := 250
	if verb == "MD5" {
		return c.reply(251, name+" "+strings.ToUpper(hex.EncodeToString(sum)))
	}
	return c.reply(code, strings.ToUpper(hex.EncodeToString(sum)))
}

// comb appends parts to a file and removes them: COMB "target" "part" …, with quotes where a name has spaces.
func (c *conn) comb(ctx context.Context, arg string) error {
	names := words(arg)
	if len(names) < 2 || len(names) > 256 {
		return errSyntax
	}
	var paths []vfs.Path
	for _, n := range names {
		p, err := c.resolve(n)
		if err != nil {
			return err
		}
		for _, q := range paths {
			if p == q {
				return errSyntax // a file that is its own part would never end
			}
		}
		paths = append(paths, p)
	}
	h, err := c.s.OpenFile(ctx, paths[0], session.Flags{Write: true, Create: true, Append: true, Size: -1})
	if err != nil {
		return err
	}
	i, err := h.Stat(ctx)
	off := i.Size
	for _, p := range paths[1:] {
		if err == nil {
			off, err = c.addPart(ctx, h, off, p)
		}
	}
	if err != nil {
		h.Abort(context.WithoutCancel(ctx), err)
		return err
	}
	if err := h.Close(ctx); err != nil {
		return err
	}
	for _, p := range paths[1:] {
		if err := c.s.Remove(ctx, p); err != nil {
			return err
		}
	}
	return c.reply(250, "Combined")
}

func (c *conn) addPart(ctx context.Context, to *session.Handle, off int64, p vfs.Path) (int64, error) {
	h, err := c.s.OpenFile(ctx, p, session.Flags{Read: true})
	if err != nil {
		return off, err
	}
	defer h.Close(ctx)
	buf, give := engine.Buffer()
	defer give()
	for at := int64(0); ; {
		n, rerr := h.ReadAt(buf, at)
		if n > 0 {
			if _, err := to.WriteAt(buf[:n], off); err != nil {
				return off, err
			}
		}
		at, off = at+int64(n), off+int64(n)
		if isEOF(rerr) || rerr == nil && n == 0 {
			return off, nil
		}
		if rerr != nil {
			return off, rerr
		}
		if err := ctx.Err(); err != nil {
			return off, err
		}
	}
}

// words parts an argument at spaces; quotes hold a word together.
func words(s string) []string {
	var out []string
	for s = strings.TrimLeft(s, " "); s != ""; s = strings.TrimLeft(s, " ") {
		var w string
		if s[0] == '"' {
			w, s, _ = strings.Cut(s[1:], `"`)
		} else {
			w, s, _ = strings.Cut(s, " ")
		}
		if w != "" {
			out = append(out, w)
		}
	}
	return out
}

// site runs what SITE has; nothing else (FTP-7).
func (c *conn) site(ctx context.Context, arg string) error {
	verb, rest, _ := strings.Cut(arg, " ")
	switch verb = strings.ToUpper(verb); verb {
	case "HELP":
		return c.reply(214, "CHMOD SYMLINK COPY CPFR CPTO MKDIR RMDIR UTIME HELP")
	case "CHMOD":
		m, name, ok := strings.Cut(rest, " ")
		mode, err := strconv.ParseUint(m, 8, 12)
		if !ok || err != nil || mode > 0o777 {
			return errSyntax
		}
		p, err := c.resolve(name)
		if err == nil {
			err = c.s.SetAttr(ctx, p, vfs.Attr{Set: vfs.AttrMode, Mode: fs.FileMode(mode)}, true)
		}
		return c.siteDone(verb, err)
	case "MKDIR", "RMDIR":
		if rest == "" {
			return errSyntax
		}
		if verb == "MKDIR" {
			return c.mkd(ctx, rest)
		}
		return c.rmd(ctx, rest)
	case "SYMLINK", "COPY":
		w := words(rest)
		if len(w) != 2 {
			return errSyntax
		}
		to, err := c.resolve(w[1])
		if err != nil {
			return err
		}
		if verb == "SYMLINK" {
			return c.siteDone(verb, c.s.Symlink(ctx, w[0], to))
		}
		from, err := c.resolve(w[0])
		if err == nil {
			err = c.s.Copy(ctx, from, to, true)
		}
		return c.siteDone(verb, err)
	case "CPFR":
		p, err := c.resolve(rest)
		if err != nil || rest == "" {
			return errSyntax
		}
		c.copyFrom = &p
		return c.reply(350, "Now SITE CPTO")
	case "CPTO":
		from := c.copyFrom
		c.copyFrom = nil
		if from == nil {
			return fail(503, "SITE CPFR first")
		}
		to, err := c.resolve(rest)
		if err == nil {
			err = c.s.Copy(ctx, *from, to, true)
		}
		return c.siteDone(verb, err)
	case "UTIME":
		return c.utime(ctx, rest)
	}
	return fail(504, "Unknown SITE command")
}

func (c *conn) siteDone(verb string, err error) error {
	if err != nil {
		return err
	}
	return c.reply(200, "SITE "+verb+" command successful")
}

// utime takes "time name" and the older "name atime mtime ctime UTC".
func (c *conn) utime(ctx context.Context, rest string) error {
	stamp, name, _ := strings.Cut(rest, " ")
	t, err := parseTime(stamp)
	if err != nil {
		f := strings.Fields(rest)
		if len(f) < 5 || !strings.EqualFold(f[len(f)-1], "UTC") {
			return errSyntax
		}
		if t, err = parseTime(f[len(f)-3]); err != nil {
			return err
		}
		name = strings.TrimSuffix(rest, strings.Join(f[len(f)-4:], " "))
		name = strings.TrimSpace(name)
	}
	p, err := c.resolve(name)
	if err == nil {
		err = c.s.SetAttr(ctx, p, vfs.Attr{Set: vfs.AttrTimes, Atime: t, Mtime: t}, true)
	}
	return c.siteDone("UTIME", err)
}
