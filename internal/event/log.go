package event

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// LogSink writes one info record for each transfer and each change, with the fields of the transfer and
// command records (reference guard.md 8.1 and 8.2): sender first, error only on failures. It never refuses.
func LogSink(log *slog.Logger) Sink { return &logSink{log} }

type logSink struct{ log *slog.Logger }

// senders are the records' sender by action. Actions that are not here are not logged. Read-only.
var senders = map[string]string{
	Upload:     "Upload",
	Download:   "Download",
	Delete:     "Remove",
	Rename:     "Rename",
	Mkdir:      "Mkdir",
	Rmdir:      "Rmdir",
	Copy:       "Copy",
	SSHCommand: "SSHCommand",
	Symlink:    "Symlink",
	Link:       "Link",
	Chmod:      "Chmod",
	Chown:      "Chown",
	Chtimes:    "Chtimes",
	Truncate:   "Truncate",
}

// Asks implements Selective.
func (l *logSink) Asks(string) bool { return false }

// Prompt implements Prompt. The handler knows whether a record has to wait for the disk.
func (l *logSink) Prompt(string) bool {
	h, ok := l.log.Handler().(interface{ Waits() bool })
	return ok && !h.Waits()
}

func (l *logSink) Before(context.Context, *Event) error { return nil }

func (l *logSink) After(ctx context.Context, e *Event) {
	sender, ok := senders[e.Action]
	if !ok || !l.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	room := attrRooms.Get().(*[20]slog.Attr)
	defer attrRooms.Put(room)
	attrs := append(room[:0],
		slog.String("local_addr", e.LocalAddr),
		slog.String("remote_addr", e.RemoteAddr),
	)
	if e.Action == Upload || e.Action == Download {
		attrs = append(attrs,
			slog.Int64("elapsed_ms", e.Elapsed.Milliseconds()),
			slog.Int64("size_bytes", e.Bytes),
			slog.String("username", Text(e.Username)),
			slog.String("file_path", Text(e.Path)),
			slog.String("virtual_path", Text(e.VirtualPath)),
			slog.String("connection_id", e.SessionID),
			slog.String("protocol", e.Protocol),
		)
		if e.FTPMode != "" {
			attrs = append(attrs, slog.String("ftp_mode", e.FTPMode))
		}
	} else {
		attrs = append(attrs, commandAttrs(e)...)
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("error", Text(e.Err.Error())))
	}
	// Past the logger, which would look for our caller's line: no record has it, and every transfer would pay for it.
	now := time.Now()
	if h, ok := l.log.Handler().(liner); ok {
		h.Line(slog.LevelInfo, now, sender, attrs)
	} else {
		r := slog.NewRecord(now, slog.LevelInfo, "", 0)
		r.AddAttrs(slog.String("sender", sender))
		r.AddAttrs(attrs...)
		l.log.Handler().Handle(ctx, r)
	}
	clear(room[:len(attrs)])
}

// liner is a handler that writes a record without having it made.
type liner interface {
	Line(level slog.Level, now time.Time, sender string, attrs []slog.Attr) error
}

// attrRooms keeps room for the attributes of a record.
var attrRooms = sync.Pool{New: func() any { return new([20]slog.Attr) }}

func commandAttrs(e *Event) []slog.Attr {
	uid, gid, size := -1, -1, int64(-1)
	switch e.Action {
	case Chown:
		uid, gid = e.UID, e.GID
	case Truncate:
		size = e.Size
	}
	return []slog.Attr{
		slog.String("username", Text(e.Username)),
		slog.String("file_path", Text(e.Path)),
		slog.String("target_path", Text(e.Target)),
		slog.String("filemode", e.Mode),
		slog.Int("uid", uid),
		slog.Int("gid", gid),
		slog.String("access_time", stamp(e.Atime)),
		slog.String("modification_time", stamp(e.Mtime)),
		slog.Int64("size", size),
		slog.Int64("elapsed", e.Elapsed.Milliseconds()),
		slog.String("ssh_command", Text(e.SSHCmd)),
		slog.String("connection_id", e.SessionID),
		slog.String("protocol", e.Protocol),
		slog.String("virtual_path", Text(e.VirtualPath)),
		slog.String("virtual_target_path", Text(e.VirtualTarget)),
	}
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000")
}

// maxText is the longest text of a peer that a record holds, in bytes (LOG-1).
const maxText = 8192

// Text is a peer's bytes as a record may hold them: bounded, and what is not UTF-8 as \xNN, so that it can
// be told apart. Control characters are escaped by the log's encoder.
func Text(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, `\x%02x`, s[0])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}
