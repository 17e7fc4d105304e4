package logs

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"

	"github.com/valyala/bytebufferpool"
)

// Console is a slog.Handler for people: time, level, sender, message, then key=value. Values are escaped as
// in JSON lines; nothing that a peer chose reaches the terminal raw.
type Console struct {
	common
	colour bool
}

// NewConsole makes a handler that writes to w.
func NewConsole(w io.Writer, level slog.Leveler, utc, colour bool) *Console {
	return &Console{common: common{w: w, level: level, utc: utc, mu: new(sync.Mutex)}, colour: colour}
}

// WithAttrs adds attributes to every record.
func (h *Console) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Console{h.with(attrs), h.colour}
}

// WithGroup puts name and a dot in front of the names of attributes to come.
func (h *Console) WithGroup(name string) slog.Handler { return &Console{h.withGroup(name), h.colour} }

// Handle writes a record.
func (h *Console) Handle(_ context.Context, r slog.Record) error {
	buf := bytebufferpool.Get()
	defer bytebufferpool.Put(buf)
	rest := bytebufferpool.Get()
	defer bytebufferpool.Put(rest)
	sender := h.each(r, func(a slog.Attr) {
		rest.B = append(rest.B, ' ')
		rest.B = h.paint(rest.B, dim, bare(a.Key, maxName))
		rest.B = append(rest.B, '=')
		text := strings.TrimPrefix(string(appendAttr(nil, slog.Attr{Key: a.Key, Value: a.Value})), `,"`+a.Key+`":`)
		rest.B = append(rest.B, unquote(text)...)
	})
	b := h.stamp(buf.B, r.Time, "15:04:05.000")
	b = append(b, ' ')
	b = h.paint(b, colourOf(r.Level), strings.ToUpper(levelName(r.Level)))
	for range 5 - len(levelName(r.Level)) {
		b = append(b, ' ')
	}
	b = append(b, ' ')
	b = append(b, bare(sender, maxName)...)
	if r.Message != "" && r.Message != sender {
		b = append(b, ": "...)
		b = append(b, bare(redact(r.Message), maxText)...)
	}
	b = append(b, rest.B...)
	b = append(b, '\n')
	buf.B = b
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.w.Write(b)
	return err
}

// bare gives s escaped, without quotes around it.
func bare(s string, limit int) string {
	q := string(appendString(nil, s, limit))
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// unquote takes the quotes from a JSON value that needs none to be read.
func unquote(s string) string {
	if len(s) > 2 && s[0] == '"' && !strings.ContainsAny(s[1:len(s)-1], " \"\\=") {
		return s[1 : len(s)-1]
	}
	return s
}

// Colours of a terminal.
const (
	dim    = "2"
	red    = "31"
	yellow = "33"
	green  = "32"
)

func colourOf(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return red
	case l >= slog.LevelWarn:
		return yellow
	case l >= slog.LevelInfo:
		return green
	}
	return dim
}

func (h *Console) paint(b []byte, colour, s string) []byte {
	if !h.colour {
		return append(b, s...)
	}
	b = append(append(append(b, "\x1b["...), colour...), 'm')
	b = append(b, s...)
	return append(b, "\x1b[0m"...)
}
