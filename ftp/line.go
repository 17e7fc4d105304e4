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

// nextLine takes the first line of in, without its end and with Telnet's escapes undone. n is how much of in it is, 0
// if none is complete. errLineTooLong is final; a line with errBadLine is taken. line may be a part of in.
func nextLine(in []byte) (line []byte, n int, err error) {
	end := bytes.IndexByte(in[:min(len(in), maxLine)], '\n')
	if end < 0 {
		if len(in) >= maxLine {
			return nil, 0, errLineTooLong
		}
		return nil, 0, nil
	}
	raw := in[:end]
	if len(raw) > 0 && raw[len(raw)-1] == '\r' {
		raw = raw[:len(raw)-1]
	}
	line, err = unescape(raw)
	return line, end + 1, err
}

// unescape undoes Telnet's escapes, in a copy if there are any. What is left must hold no NUL, CR or LF (FTP-5).
func unescape(raw []byte) ([]byte, error) {
	if !bytes.ContainsAny(raw, "\x00\r\n") && bytes.IndexByte(raw, iac) < 0 {
		return raw, nil
	}
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
