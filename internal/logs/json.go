package logs

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/bytebufferpool"
)

// timeLayout is that of the time field, without a zone.
const timeLayout = "2006-01-02T15:04:05.000"

// JSON is a slog.Handler for one object a line: level, time, sender, the attributes in their order, then
// the message. Record kinds whose name is their sender (Upload, Rename, connection_failed) have no message.
type JSON struct{ common }

// NewJSON makes a handler that writes to w, one call a line.
func NewJSON(w io.Writer, level slog.Leveler, utc bool) *JSON {
	return &JSON{common{w: w, level: level, utc: utc, mu: new(sync.Mutex)}}
}

// WithAttrs adds attributes to every record.
func (h *JSON) WithAttrs(attrs []slog.Attr) slog.Handler { return &JSON{h.with(attrs)} }

// WithGroup puts name and a dot in front of the names of attributes to come.
func (h *JSON) WithGroup(name string) slog.Handler { return &JSON{h.withGroup(name)} }

// Handle writes a record.
func (h *JSON) Handle(_ context.Context, r slog.Record) error {
	buf := bytebufferpool.Get()
	defer bytebufferpool.Put(buf)
	rest := bytebufferpool.Get()
	defer bytebufferpool.Put(rest)

	// fail2ban filters want error at the line's end, so it waits for the others.
	var cause slog.Attr
	sender := h.each(r, func(a slog.Attr) {
		if a.Key == errorKey {
			cause = a
			return
		}
		rest.B = appendAttr(rest.B, a)
	})
	b := append(buf.B, `{"level":"`...)
	b = append(b, levelName(r.Level)...)
	b = append(b, `","time":"`...)
	b = h.stamp(b, r.Time, timeLayout)
	b = append(b, `","sender":`...)
	b = appendString(b, sender, maxName)
	b = append(b, rest.B...)
	if r.Message != "" && r.Message != sender && sender != connectionFailed {
		b = append(b, `,"message":`...)
		b = appendString(b, redact(r.Message), maxText)
	}
	if cause.Key != "" {
		b = appendAttr(b, cause)
	}
	b = append(b, "}\n"...)
	buf.B = b
	if g, ok := h.w.(*gather); ok { // which several may write to
		_, err := g.Write(b)
		if r.Level >= slog.LevelError {
			err = g.Flush() // what follows may be the end
		}
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.w.Write(b)
	return err
}

// Waits reports whether a record may have to wait for the log's file.
func (h *JSON) Waits() bool {
	g, ok := h.w.(*gather)
	return !ok || g.busy()
}

// connectionFailed is the sender of records that fail2ban reads.
const connectionFailed = "connection_failed"

// appendAttr writes ,"key":value.
func appendAttr(b []byte, a slog.Attr) []byte {
	b = append(b, ',')
	b = appendString(b, a.Key, maxName)
	b = append(b, ':')
	if isSecret(a.Key) {
		return append(b, `"[redacted]"`...)
	}
	switch v := a.Value; v.Kind() {
	case slog.KindBool:
		return strconv.AppendBool(b, v.Bool())
	case slog.KindInt64:
		return strconv.AppendInt(b, v.Int64(), 10)
	case slog.KindUint64:
		return strconv.AppendUint(b, v.Uint64(), 10)
	case slog.KindFloat64:
		f := v.Float64()
		if f != f || f > 1e308 || f < -1e308 { // JSON has no NaN and no infinity
			return append(b, "null"...)
		}
		return strconv.AppendFloat(b, f, 'g', -1, 64)
	case slog.KindTime:
		b = append(b, '"')
		b = v.Time().AppendFormat(b, time.RFC3339Nano)
		return append(b, '"')
	default:
		return appendString(b, clean(a), limitOf(a.Key))
	}
}

const hexDigits = "0123456789abcdef"

// appendString writes s as a JSON string of at most limit bytes of s, without a byte that a terminal or a
// line reader could act on.
func appendString(b []byte, s string, limit int) []byte {
	s, cut := bound(s, limit)
	b = append(b, '"')
	for i := 0; i < len(s); {
		from := i
		for i < len(s) && s[i] >= 0x20 && s[i] < 0x7f && s[i] != '"' && s[i] != '\\' {
			i++
		}
		if b = append(b, s[from:i]...); i == len(s) {
			break
		}
		if c := s[i]; c == '"' || c == '\\' {
			b = append(b, '\\', c)
			i++
			continue
		}
		r, n := decodeRune(s[i:])
		switch {
		case r == '\n':
			b = append(b, '\\', 'n')
		case r == '\r':
			b = append(b, '\\', 'r')
		case r == '\t':
			b = append(b, '\\', 't')
		case isHarmful(r):
			b = append(b, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
		default:
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	if cut {
		b = append(b, "…"...)
	}
	return append(b, '"')
}
