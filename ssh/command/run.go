package command

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// Streams are a command's standard input and outputs.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Names are the commands that Run knows.
func Names() []string {
	var out []string
	for name := range commands {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

type command struct {
	run  func(ctx context.Context, s *session.Session, args []string, std Streams) error
	hash func() hash.Hash
	algo string
}

// commands is the table of what may be asked. Read-only.
var commands = map[string]command{
	"md5sum":        {hash: md5.New, algo: "md5"},
	"sha1sum":       {hash: sha1.New, algo: "sha1"},
	"sha256sum":     {hash: sha256.New, algo: "sha256"},
	"sha384sum":     {hash: sha512.New384, algo: "sha384"},
	"sha512sum":     {hash: sha512.New, algo: "sha512"},
	"cd":            {run: func(context.Context, *session.Session, []string, Streams) error { return nil }},
	"pwd":           {run: pwd},
	"sftpgo-copy":   {run: copyTree},
	"gantry-copy":   {run: copyTree},
	"sftpgo-remove": {run: remove},
	"gantry-remove": {run: remove},
}

// errUsage is a command with arguments that it does not take.
var errUsage = errors.New("bad arguments")

// Run runs one command and gives its exit status: 0 if all of it worked. What went wrong stands on std.Err.
// words is the split line, its first the name, which must be one of Names.
func Run(ctx context.Context, s *session.Session, words []string, std Streams) int {
	name, args := words[0], words[1:]
	c, ok := commands[name]
	if !ok {
		fmt.Fprintf(std.Err, "%s: unknown command\n", clean(name))
		return 127
	}
	if c.run == nil {
		c.run = c.sum
	}
	if err := c.run(ctx, s, args, std); err != nil {
		fmt.Fprintf(std.Err, "%s: %s\n", name, Explain(err))
		return 1
	}
	return 0
}

func pwd(_ context.Context, s *session.Session, _ []string, std Streams) error {
	_, err := fmt.Fprintln(std.Out, clean(s.StartDir().String()))
	return err
}

// sum writes the digest of each file, or of standard input, as coreutils do.
func (c command) sum(ctx context.Context, s *session.Session, args []string, std Streams) error {
	names, err := operands(args)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		h := c.hash()
		if _, err := io.Copy(h, std.In); err != nil {
			return err
		}
		_, err := fmt.Fprintf(std.Out, "%x  -\n", h.Sum(nil))
		return err
	}
	for _, name := range names {
		p, err := Resolve(s, name)
		if err != nil {
			return err
		}
		digest, err := s.Hash(ctx, p, c.algo, 0, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", clean(name), err)
		}
		mark, shown := escape(name)
		if _, err := fmt.Fprintf(std.Out, "%s%x  %s\n", mark, digest, shown); err != nil {
			return err
		}
	}
	return nil
}

// escape is how coreutils show a name that does not fit on a line.
func escape(name string) (mark, shown string) {
	if !strings.ContainsAny(name, "\\\n\r") {
		return "", name
	}
	return `\`, strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(name)
}

func copyTree(ctx context.Context, s *session.Session, args []string, std Streams) error {
	ps, err := paths(s, args, 2)
	if err != nil {
		return err
	}
	if err := s.Copy(ctx, ps[0], ps[1], false); err != nil {
		return err
	}
	_, err = fmt.Fprintln(std.Out, "OK")
	return err
}

func remove(ctx context.Context, s *session.Session, args []string, std Streams) error {
	ps, err := paths(s, args, 1)
	if err != nil {
		return err
	}
	if err := s.RemoveAll(ctx, ps[0]); err != nil {
		return err
	}
	_, err = fmt.Fprintln(std.Out, "OK")
	return err
}

// operands are the arguments that are no options. There are no options but "--" (HOOK-2).
func operands(args []string) ([]string, error) {
	for i, a := range args {
		switch {
		case a == "--":
			return append(args[:i:i], args[i+1:]...), nil
		case strings.HasPrefix(a, "-"):
			return nil, fmt.Errorf("%w: the option %q is not known", errUsage, a)
		}
	}
	return args, nil
}

func paths(s *session.Session, args []string, n int) ([]vfs.Path, error) {
	names, err := operands(args)
	if err != nil {
		return nil, err
	}
	if len(names) != n {
		return nil, fmt.Errorf("%w: %d are wanted, %d were given", errUsage, n, len(names))
	}
	var out []vfs.Path
	for _, name := range names {
		p, err := Resolve(s, name)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// Resolve makes a path of an argument, from where relative ones begin; "~" means that place, as it does to
// the shell for which clients write. An empty argument is no path.
func Resolve(s *session.Session, name string) (vfs.Path, error) {
	if name == "" {
		return vfs.Path{}, fmt.Errorf("%w: an empty name", errUsage)
	}
	if name == "~" {
		name = "."
	}
	return s.StartDir().Resolve(strings.TrimPrefix(name, "~/"))
}

// reasons are the errors that clients have a name for; the first that matches wins. Read-only.
var reasons = []struct {
	err  error
	text string
}{
	{fs.ErrNotExist, "no such file or directory"},
	{vfs.ErrNotDir, "not a directory"},
	{vfs.ErrIsDir, "is a directory"},
	{vfs.ErrReadOnly, "read-only file system"},
	{vfs.ErrLoop, "symbolic link loops or leaves the tree"},
	{fs.ErrPermission, "permission denied"},
	{session.ErrLocked, "locked"},
	{vfs.ErrQuota, "no space left"},
	{fs.ErrExist, "file already exists"},
	{vfs.ErrNotEmpty, "directory not empty"},
	{vfs.ErrInvalidPath, "invalid path"},
	{vfs.ErrUnsupported, "operation unsupported"},
	{context.Canceled, "session is ending"},
	{context.DeadlineExceeded, "timed out"},
}

// Explain is what a client may read of an error: nothing of a storage's own text.
func Explain(err error) string {
	if errors.Is(err, errUsage) || errors.Is(err, ErrLine) {
		return clean(err.Error())
	}
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			if pe, ok := errors.AsType[*fs.PathError](err); ok {
				return clean(pe.Path) + ": " + r.text
			}
			return r.text
		}
	}
	return "internal error"
}

// clean takes control bytes out of a text for a terminal (LOG-1).
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
