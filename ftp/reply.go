package ftp

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"

	"github.com/gantryhq/gantry/engine"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// appendReply formats a reply (RFC 959 4.2). A text of several lines becomes a multi-line reply whose inner lines
// begin with a space, so that none looks like the last one.
func appendReply(b []byte, code int, text string) []byte {
	first, rest, more := strings.Cut(text, "\n")
	b = strconv.AppendInt(b, int64(code), 10)
	if !more {
		b = append(b, ' ')
		return append(appendPrintable(b, first), '\r', '\n')
	}
	b = append(b, '-')
	b = append(appendPrintable(b, first), '\r', '\n')
	for {
		line, after, more := strings.Cut(rest, "\n")
		if !more {
			b = strconv.AppendInt(b, int64(code), 10)
			b = append(b, ' ')
			return append(appendPrintable(b, line), '\r', '\n')
		}
		b = append(b, ' ')
		b = append(appendPrintable(b, line), '\r', '\n')
		rest = after
	}
}

// appendPrintable writes s with control bytes as "?", so that no name ends a line (FTP-5). 0xFF is doubled: on the
// control connection it is Telnet's escape.
func appendPrintable(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c < ' ' && c != '\t' || c == 0x7f:
			b = append(b, '?')
		case c == iac:
			b = append(b, iac, iac)
		default:
			b = append(b, c)
		}
	}
	return b
}

// quoted is a path as 257 shows it: in quotes, with quotes doubled (RFC 959 App. II).
func quoted(p string) string { return `"` + strings.ReplaceAll(p, `"`, `""`) + `"` }

// failure is an error that is its own reply.
type failure struct {
	code int
	text string
}

func (f *failure) Error() string { return strconv.Itoa(f.code) + " " + f.text }

func fail(code int, text string) error { return &failure{code, text} }

// Failures that several commands give.
var (
	errSyntax     = fail(501, "Syntax error in parameters or arguments")
	errNotDir     = fail(550, "Not a directory")
	errNotFile    = fail(550, "Not a regular file")
	errNoSource   = fail(425, "Use PASV or EPSV first")
	errNoData     = fail(425, "Cannot open the data connection")
	errAborted    = fail(426, "Transfer aborted")
	errAsciiSize  = fail(550, "Not available in ASCII mode")
	errParameter  = fail(504, "Not implemented for that parameter")
	errNoFeature  = fail(502, "Command not enabled")
	errControl    = errors.New("control connection lost")
	errIncomplete = errors.New("fewer bytes came than ALLO announced")
)

// replyFor is the reply to an error; known is false for one that clients are told nothing of. writing says that the
// command stores a file, whose refusals have a code of their own (RFC 959 5.4, STOR).
func replyFor(err error, writing bool) (code int, text string, known bool) {
	refused := 550
	if writing {
		refused = 553
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f.code, f.text, true
	}
	switch {
	case errors.Is(err, errControl), errors.Is(err, engine.ErrTruncated), errors.Is(err, errIncomplete), errors.Is(err, errDeflate):
		return 426, "Transfer aborted: " + cause(err).Error(), true
	case errors.Is(err, vfs.ErrInvalidPath):
		return refused, "The name is not valid", true
	case errors.Is(err, session.ErrReadQuota):
		return 550, "Denied: transfer limit reached", true
	case errors.Is(err, vfs.ErrQuota):
		return 552, "Denied: no space left", true
	case errors.Is(err, session.ErrClosed):
		return 421, "The session has ended", true
	case errors.Is(err, fs.ErrNotExist):
		return 550, "No such file or directory", true
	case errors.Is(err, fs.ErrExist):
		return refused, "The name exists", true
	case errors.Is(err, session.ErrLocked):
		return 450, "Locked by another client", true // RFC 959 5.4: busy, try again
	case errors.Is(err, vfs.ErrIsDir):
		return 550, "Is a directory", true
	case errors.Is(err, vfs.ErrNotDir):
		return 550, "Not a directory", true
	case errors.Is(err, vfs.ErrNotEmpty):
		return 550, "Directory not empty", true
	case errors.Is(err, vfs.ErrReadOnly), errors.Is(err, fs.ErrPermission):
		return refused, "Permission denied", true
	case errors.Is(err, vfs.ErrUnsupported), errors.Is(err, vfs.ErrOutOfOrder), errors.Is(err, vfs.ErrCrossDevice):
		return 550, "Not supported here", true
	case errors.Is(err, fs.ErrInvalid), errors.Is(err, vfs.ErrLoop):
		return 550, "Not possible with that name", true
	}
	return 451, "Internal error", false
}

// cause is the sentinel that err wraps.
func cause(err error) error {
	for _, e := range []error{errControl, engine.ErrTruncated, errIncomplete, errDeflate} {
		if errors.Is(err, e) {
			return e
		}
	}
	return err
}
