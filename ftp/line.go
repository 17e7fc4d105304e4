package ftp

import (
	"bytes"
	"errors"
	"strings"
)

// maxLine bounds a command line with its end, in bytes (FTP-5).
const maxLine = 4096

// Errors of a command line.
var (
	errLineTooLong = errors.New("command line too long")
	errBadLine     = errors.New("NUL, CR or a broken escape in the command line")
)

// Telnet's codes (RFC 854), of which FTP clients send IAC IP, IAC DM before ABOR.
const (
	iac  = 255
	will = 251
	dont = 254
)

// lines takes commands from a stream of bytes that comes in any pieces. The zero value is ready.
type lines struct {
	buf []byte
	at  int // what is before it has been taken
}

// room is where the next bytes of the peer go; empty when a line's bound is reached.
func (l *lines) room() []byte {
	if cap(l.buf) == 0 {
		l.buf = make([]byte, 0, 512)
	}
	if l.at > 0 {
		l.buf = l.buf[:copy(l.buf, l.buf[l.at:])]
		l.at = 0
	}
	if len(l.buf) == cap(l.buf) && cap(l.buf) < maxLine {
		l.buf = append(make([]byte, 0, min(maxLine, 4*cap(l.buf))), l.buf...)
	}
	return l.buf[len(l.buf):cap(l.buf)]
}

// got tells that n bytes were put into room.
func (l *lines) got(n int) { l.buf = l.buf[:len(l.buf)+n] }

// pending reports whether bytes wait that are no part of a line taken.
func (l *lines) pending() bool { return len(l.buf) > l.at }

// next takes the next line, without its end and with Telnet's escapes undone. ok is false if none is complete.
// errLineTooLong is final; a line with errBadLine has been taken.
func (l *lines) next() (line []byte, ok bool, err error) {
	end := bytes.IndexByte(l.buf[l.at:], '\n')
	if end < 0 {
		if len(l.buf)-l.at >= maxLine {
			return nil, false, errLineTooLong
		}
		return nil, false, nil
	}
	raw := l.buf[l.at : l.at+end]
	if len(raw) > 0 && raw[len(raw)-1] == '\r' {
		raw = raw[:len(raw)-1]
	}
	line, err = unescape(raw)
	if l.at += end + 1; l.at == len(l.buf) {
		l.buf, l.at = l.buf[:0], 0
		if cap(l.buf) > 512 {
			l.buf = nil // an idle connection holds no large buffer
		}
	}
	return line, true, err
}

// unescape undoes Telnet's escapes in a copy. What is left must hold no NUL, CR or LF (FTP-5).
func unescape(raw []byte) ([]byte, error) {
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		b := raw[i]
		if b != iac {
			if b == 0 || b == '\r' || b == '\n' {
				return nil, errBadLine
			}
			out = append(out, b)
			continue
		}
		if i++; i == len(raw) {
			break // an escape cut short by the end says nothing
		}
		switch c := raw[i]; {
		case c == iac:
			out = append(out, iac)
		case c >= will && c <= dont:
			i++ // and its option
		}
	}
	return out, nil
}

// parseCommand parts a line into its verb, in capitals, and its argument. One space parts them; others belong to the
// argument, for names may begin with one.
func parseCommand(line []byte) (verb, arg string) {
	s := string(line)
	verb, arg, _ = strings.Cut(s, " ")
	return strings.ToUpper(verb), arg
}

// isVerb reports whether v may be shown and logged: a few ASCII letters.
func isVerb(v string) bool {
	if v == "" || len(v) > 12 {
		return false
	}
	for _, r := range v {
		if (r < 'A' || r > 'Z') && (r < '0' || r > '9') {
			return false
		}
	}
	return true
}

// isHTTP reports whether v is a method of HTTP: a browser was led here to speak for its user (FTP-6).
func isHTTP(v string) bool {
	switch v {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PRI":
		return true
	}
	return false
}
