package logs

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/bytebufferpool"
)

// JSON is a slog.Handler for one object a line: level, time, sender, the attributes in their order, then
// the message. Record kinds whose name is their sender (Upload, Rename, connection_failed) have no message.
type JSON struct {
	common
	second *atomic.Pointer[second] // the last one that was formatted
}

// second is a time stamp without its milliseconds.
type second struct {
	unix int64
	text string
}

// NewJSON makes a handler that writes to w, one call a line.
func NewJSON(w io.Writer, level slog.Leveler, utc bool) *JSON {
	return &JSON{common{w: w, level: level, utc: utc, mu: new(sync.Mutex)}, new(atomic.Pointer[second])}
}

// WithAttrs adds attributes to every record.
func (h *JSON) WithAttrs(attrs []slog.Attr) slog.Handler { return &JSON{h.with(attrs), h.second} }

// WithGroup puts name and a dot in front of the names of attributes to come.
func (h *JSON) WithGroup(name string) slog.Handler { return &JSON{h.withGroup(name), h.second} }

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
	b := h.begin(buf.B, r.Level, r.Time, sender)
	b = append(b, rest.B...)
	if r.Message != "" && r.Message != sender && sender != connectionFailed {
		b = append(b, `,"message":`...)
		b = appendString(b, redact(r.Message), maxText)
	}
	if cause.Key != "" {
		b = appendAttr(b, cause)
	}
	buf.B = append(b, "}\n"...)
	return h.write(buf.B, r.Level)
}

// Line writes what Handle writes of a record with these attributes, which are neither groups nor sender, and error only
// at the end, and no message. It costs a fraction of it: one is written for each transfer.
func (h *JSON) Line(level slog.Level, now time.Time, sender string, attrs []slog.Attr) error {
	if h.sender != "" || h.group != "" || len(h.attrs) > 0 {
		r := slog.NewRecord(now, level, "", 0)
		r.AddAttrs(slog.String(senderKey, sender))
		r.AddAttrs(attrs...)
		return h.Handle(context.Background(), r) // which waits for nothing that a context could end
	}
	buf := bytebufferpool.Get()
	defer bytebufferpool.Put(buf)
	b := h.begin(buf.B, level, now, sender)
	for i := range attrs {
		b = appendAttr(b, attrs[i])
	}
	buf.B = append(b, "}\n"...)
	return h.write(buf.B, level)
}

// begin begins a line.
func (h *JSON) begin(b []byte, level slog.Level, t time.Time, sender string) []byte {
	b = append(b, `{"level":"`...)
	b = append(b, levelName(level)...)
	b = append(b, `","time":"`...)
	b = h.now(b, t)
	b = append(b, `","sender":`...)
	return appendString(b, sender, maxName)
}

// now is stamp in the layout of lines. To format a time anew for each of thousands of lines in a second costs more than
// all else of them.
func (h *JSON) now(b []byte, t time.Time) []byte {
	if t.IsZero() {
		t = time.Now()
	}
	s := h.second.Load()
	if unix := t.Unix(); s == nil || s.unix != unix {
		s = &second{unix, string(h.stamp(nil, t, "2006-01-02T15:04:05"))}
		h.second.Store(s)
	}
	ms := t.Nanosecond() / 1e6
	return append(append(b, s.text...), '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
}

// write writes a line.
func (h *JSON) write(b []byte, level slog.Level) error {
	if g, ok := h.w.(*gather); ok { // which several may write to
		_, err := g.Write(b)
		if level >= slog.LevelError {
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
	if ofTransfers(a.Key) {
		b = append(append(append(b, `,"`...), a.Key...), `":`...)
	} else {
		b = append(b, ',')
		b = appendString(b, a.Key, maxName)
		b = append(b, ':')
		if isSecret(a.Key) {
			return append(b, `"[redacted]"`...)
		}
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
