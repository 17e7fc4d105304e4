// Package command runs the commands that an SSH client may ask for in place of SFTP: checksums, a server-side
// copy, a recursive removal, and what clients probe for. No shell and no program is ever started: a line is
// split into words here, and the words are data (SSH-7, HOOK-2).
//
// What a peer controls: the line, bounded and split by Split; the arguments, which become a vfs.Path; its
// standard input, which is only hashed.
package command

import (
	"errors"
	"fmt"
	"strings"
)

// MaxLine and MaxWords bound a command line: two paths of the greatest length with every byte quoted.
const (
	MaxLine  = 32 << 10 // bytes
	MaxWords = 64
)

// ErrLine says that a line cannot be split into words.
var ErrLine = errors.New("bad command line")

// Split splits a line as a POSIX shell does, without expanding anything: words end at spaces and tabs, '…' is
// literal, "…" knows \ before $ ` " and \, and elsewhere \ makes the next byte literal. Every other byte is
// data, also what means something to a shell. NUL and, outside of quotes, line ends are refused.
func Split(line string) ([]string, error) {
	if len(line) > MaxLine {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrLine, MaxLine)
	}
	if strings.IndexByte(line, 0) >= 0 {
		return nil, fmt.Errorf("%w: a NUL byte", ErrLine)
	}
	var words []string
	var w []byte
	in := false // a word has begun; it may be empty
	end := func() error {
		if !in {
			return nil
		}
		if len(words) == MaxWords {
			return fmt.Errorf("%w: more than %d words", ErrLine, MaxWords)
		}
		words = append(words, string(w))
		w, in = w[:0], false
		return nil
	}
	for i := 0; i < len(line); i++ {
		switch b := line[i]; b {
		case '\n', '\r':
			return nil, fmt.Errorf("%w: a line end", ErrLine)
		case ' ', '\t':
			if err := end(); err != nil {
				return nil, err
			}
		case '\'':
			n := strings.IndexByte(line[i+1:], '\'')
			if n < 0 {
				return nil, fmt.Errorf("%w: a quote is not closed", ErrLine)
			}
			w, in = append(w, line[i+1:i+1+n]...), true
			i += n + 1
		case '"':
			n, err := double(line[i+1:], &w)
			if err != nil {
				return nil, err
			}
			in = true
			i += n
		case '\\':
			i++
			if i == len(line) || line[i] == '\n' {
				return nil, fmt.Errorf("%w: nothing after a backslash", ErrLine)
			}
			w, in = append(w, line[i]), true
		default:
			w, in = append(w, b), true
		}
	}
	if err := end(); err != nil {
		return nil, err
	}
	return words, nil
}

// double takes what stands in double quotes and gives the length up to and with the closing one.
func double(s string, w *[]byte) (int, error) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			return i + 1, nil
		case '\\':
			if i+1 < len(s) && strings.IndexByte("$`\"\\", s[i+1]) >= 0 {
				i++
			}
		}
		*w = append(*w, s[i])
	}
	return 0, fmt.Errorf("%w: a quote is not closed", ErrLine)
}

// Quote makes one word of s that Split, and a shell, takes apart to s again.
func Quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
