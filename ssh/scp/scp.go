// Package scp serves the old protocol of scp and rcp, for clients that do not speak SFTP ("scp -O"). It has
// no document; what is known is what OpenSSH's scp sends and takes.
//
// One side is the source ("scp -f"), the other the sink ("scp -t"). The source sends lines: "C0644 12 name" and
// 12 bytes for a file, "D0755 0 name" … "E" for a directory, "T<mtime> 0 <atime> 0" before either for times. Each
// is answered by a zero byte, or by 1 (an error, go on) or 2 (fatal) and a line of text.
//
// What a peer controls: options and paths, split before they come here and never expanded; lines, bounded;
// names, which must be one component without control bytes (SSH-7, CVE-2019-6111); sizes. Uploads are whole or
// nothing in every upload mode.
package scp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/ssh/command"
	"github.com/gantryhq/gantry/vfs"
)

// Bounds of what a peer sends.
const (
	maxLine  = 4 << 10 // bytes
	maxSize  = 1 << 50 // bytes of a file
	maxDepth = 500     // directories in each other
)

// Answers to a line.
const (
	ok    = 0
	warn  = 1
	fatal = 2
)

var (
	errUsage    = errors.New("scp: bad arguments")
	errProtocol = errors.New("scp: protocol error")
	// errTold is a failure that the peer has told us of, or we the peer; the rest goes on.
	errTold = errors.New("scp: not everything was copied")
)

// Options are what a client's command line asks for.
type Options struct {
	Sink, Source   bool // -t, -f
	Recursive      bool // -r
	Times          bool // -p
	WantsDirectory bool // -d: the target must be a directory
	Paths          []string
}

// Parse reads the words after "scp". Options that only concern the client's side are taken and mean nothing.
func Parse(args []string) (Options, error) {
	var o Options
	for len(args) > 0 && strings.HasPrefix(args[0], "-") && args[0] != "-" {
		a := args[0]
		args = args[1:]
		if a == "--" {
			break
		}
		for _, b := range []byte(a[1:]) {
			switch b {
			case 't':
				o.Sink = true
			case 'f':
				o.Source = true
			case 'r':
				o.Recursive = true
			case 'p':
				o.Times = true
			case 'd':
				o.WantsDirectory = true
			case 'v', 'q', 'E', 'C':
			default:
				return o, fmt.Errorf("%w: the option -%q is not known", errUsage, b)
			}
		}
	}
	o.Paths = args
	switch {
	case o.Sink == o.Source:
		return o, fmt.Errorf("%w: one of -t and -f is wanted", errUsage)
	case o.Sink && len(args) != 1, len(args) == 0:
		return o, fmt.Errorf("%w: %d paths", errUsage, len(args))
	}
	return o, nil
}

// Serve runs one command of a client on rw and gives its exit status. Log lines are the caller's: the error
// says why the status is not 0.
func Serve(ctx context.Context, rw io.ReadWriter, s *session.Session, args []string) (int, error) {
	c := &conn{ctx: ctx, s: s, in: bufio.NewReaderSize(rw, 32<<10), out: rw}
	o, err := Parse(args)
	if err != nil {
		c.refuse(fatal, err.Error())
		return 1, err
	}
	c.Options = o
	if o.Sink {
		err = c.sink()
	} else {
		err = c.source()
	}
	if err == nil && c.failed {
		err = errTold
	}
	if errors.Is(err, errProtocol) {
		c.refuse(fatal, err.Error())
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}

// conn is one copy. Owned by the goroutine of Serve.
type conn struct {
	Options
	ctx    context.Context
	s      *session.Session
	in     *bufio.Reader
	out    io.Writer
	failed bool
}

// accept answers a line.
func (c *conn) accept() error {
	_, err := c.out.Write([]byte{ok})
	return err
}

// refuse tells the peer of an error. The text is one line without control bytes.
func (c *conn) refuse(code byte, text string) error {
	c.failed = true
	if !strings.HasPrefix(text, "scp: ") {
		text = "scp: " + text
	}
	_, err := c.out.Write(append(append([]byte{code}, clean(text)...), '\n'))
	return err
}

// report tells the peer of a failed operation and lets the copy go on.
func (c *conn) report(what string, err error) error {
	text := command.Explain(err)
	if !strings.Contains(text, ": ") {
		text = what + ": " + text
	}
	return c.refuse(warn, text)
}

// answer reads the peer's answer to a line. errTold: it has refused this one.
func (c *conn) answer() error {
	b, err := c.in.ReadByte()
	if err != nil {
		return err
	}
	switch b {
	case ok:
		return nil
	case warn, fatal:
		if _, err := c.line(); err != nil {
			return err
		}
		c.failed = true
		if b == warn {
			return errTold
		}
		return fmt.Errorf("scp: the peer gave up")
	}
	return fmt.Errorf("%w: answer %#x", errProtocol, b)
}

// line reads up to a line end, which is not given.
func (c *conn) line() (string, error) {
	var b []byte
	for {
		x, err := c.in.ReadByte()
		switch {
		case err == io.EOF:
			return "", io.ErrUnexpectedEOF
		case err != nil:
			return "", err
		case x == '\n':
			return string(b), nil
		case len(b) == maxLine:
			return "", fmt.Errorf("%w: a line longer than %d bytes", errProtocol, maxLine)
		}
		b = append(b, x)
	}
}

// nameOf checks a name that goes over the wire: one component that cannot act on a terminal or end a line.
func nameOf(name string) error {
	if _, err := vfs.Root.Child(name); err != nil {
		return fmt.Errorf("%w: unexpected name %q", errProtocol, name)
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("%w: a control byte in the name %q", errProtocol, name)
	}
	return nil
}

// clean makes s fit on a line of a terminal (LOG-1).
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
