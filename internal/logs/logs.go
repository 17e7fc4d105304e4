// Package logs writes the server's log: JSON lines for files and collectors, a form for people on a
// terminal, rotation by size and age.
//
// Lines for files and collectors are gathered and written together, within a tenth of a second, or at once with a record
// of level error; a terminal gets each at once.
//
// A JSON line starts with level, time and sender, in this order, is compact, and keeps the order in which
// attributes were given: fail2ban filters and log collectors of SFTPGo read it as it is. What peers choose
// (user names, paths, client names) is escaped, so that no line break, terminal control or text direction
// mark gets through, and bounded; secrets are replaced (LOG-1).
package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
	"gopkg.in/natefinch/lumberjack.v2"
)

// Config says where the log goes. It comes from flags and their variables, not from the file.
type Config struct {
	Path       string // empty: standard output
	MaxSize    int    // MB, then the file is rotated
	MaxBackups int    // rotated files kept, 0 all
	MaxAge     int    // days that rotated files are kept, 0 for ever
	Compress   bool
	Level      string // debug, info, warn or error
	UTC        bool   // time stamps, else local
}

// DefaultConfig is a file beside the configuration.
func DefaultConfig() Config {
	return Config{Path: "gantry.log", MaxSize: 10, MaxBackups: 5, MaxAge: 28, Level: "info"}
}

// Validate checks the values.
func (c Config) Validate() error {
	var errs []error
	for _, n := range []struct {
		name  string
		value int
	}{{"log-max-size", c.MaxSize}, {"log-max-backups", c.MaxBackups}, {"log-max-age", c.MaxAge}} {
		if n.value < 0 {
			errs = append(errs, fmt.Errorf("%s must not be negative, it is %d", n.name, n.value))
		}
	}
	if _, err := ParseLevel(c.Level); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ParseLevel reads a level's name.
func ParseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "debug":
		return slog.LevelDebug, nil
	case "info", "":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log-level must be debug, info, warn or error, it is %q", s)
}

// Log is an open log. Safe for concurrent use.
type Log struct {
	*slog.Logger
	level  *slog.LevelVar
	file   *lumberjack.Logger // nil when the log goes to standard output
	gather *gather            // nil on a terminal
}

// Open opens the log. Standard output gets the form for people when it is a terminal. The parts of the
// file name that are missing are made.
func Open(cfg Config, stdout *os.File) (*Log, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	level, _ := ParseLevel(cfg.Level)
	l := &Log{level: new(slog.LevelVar)}
	l.level.Set(level)
	if cfg.Path == "" {
		if term.IsTerminal(int(stdout.Fd())) {
			l.Logger = slog.New(NewConsole(stdout, l.level, cfg.UTC, os.Getenv("NO_COLOR") == ""))
		} else {
			l.gather = newGather(stdout)
			l.Logger = slog.New(NewJSON(l.gather, l.level, cfg.UTC))
		}
		return l, nil
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Path), 0o700); err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	// A log that cannot be written must be known at the start, not at the first line.
	f, err := os.OpenFile(cfg.Path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	f.Close()
	l.file = &lumberjack.Logger{
		Filename: cfg.Path, MaxSize: cfg.MaxSize, MaxBackups: cfg.MaxBackups, MaxAge: cfg.MaxAge, Compress: cfg.Compress,
	}
	l.gather = newGather(&fallback{w: l.file, other: os.Stderr})
	l.Logger = slog.New(NewJSON(l.gather, l.level, cfg.UTC))
	return l, nil
}

// SetLevel changes the level of every logger made from l.
func (l *Log) SetLevel(level slog.Level) { l.level.Set(level) }

// Flush writes what has been logged so far. A record of level error does so by itself; others follow within a tenth of
// a second.
func (l *Log) Flush() error {
	if l.gather == nil {
		return nil
	}
	return l.gather.Flush()
}

// Rotate moves the file away, with what has been logged so far, and starts a new one.
func (l *Log) Rotate() error {
	if l.file == nil {
		return nil
	}
	return errors.Join(l.Flush(), l.file.Rotate())
}

// Close writes what has been logged and closes the file. Records that come later are written all the same.
func (l *Log) Close() error {
	var err error
	if l.gather != nil {
		err = l.gather.Close()
	}
	if l.file != nil {
		err = errors.Join(err, l.file.Close())
	}
	return err
}

// fallback writes to other what w does not take, so that a full disk does not hide what happens. It tells
// of the trouble once, until w works again.
type fallback struct {
	w, other io.Writer
	mu       sync.Mutex // guards failing
	failing  bool
}

func (f *fallback) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	f.mu.Lock()
	first := err != nil && !f.failing
	f.failing = err != nil
	f.mu.Unlock()
	if err == nil {
		return n, nil
	}
	if first {
		fmt.Fprintf(f.other, "the log cannot be written (%v), its lines go here\n", err)
	}
	return f.other.Write(p)
}

// Level names of records, as log readers know them.
func levelName(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "error"
	case l >= slog.LevelWarn:
		return "warn"
	case l >= slog.LevelInfo:
		return "info"
	}
	return "debug"
}

// defaultSender stands in records whose logger names none.
const defaultSender = "gantry"

// Keys that the handlers treat on their own.
const (
	senderKey = "sender"
	errorKey  = "error"
)

// common is what both handlers share: the level, the attributes of With, the group.
type common struct {
	level  slog.Leveler
	utc    bool
	mu     *sync.Mutex // guards w
	w      io.Writer
	sender string
	attrs  []slog.Attr // of With, names with their group in front
	group  string      // "" or "a.b."
}

func (c *common) Enabled(_ context.Context, level slog.Level) bool { return level >= c.level.Level() }

// with gives a copy of c with more attributes. The last sender wins.
func (c *common) with(attrs []slog.Attr) common {
	out := *c
	out.attrs = append(make([]slog.Attr, 0, len(c.attrs)+len(attrs)), c.attrs...)
	for _, a := range attrs {
		flatten(out.group, a, func(a slog.Attr) {
			if a.Key == senderKey {
				out.sender = a.Value.String()
				return
			}
			out.attrs = append(out.attrs, a)
		})
	}
	return out
}

func (c *common) withGroup(name string) common {
	out := *c
	if name != "" {
		out.group += name + "."
	}
	return out
}

// each calls f for every attribute of r in order, and gives the sender.
func (c *common) each(r slog.Record, f func(slog.Attr)) (sender string) {
	sender = c.sender
	for _, a := range c.attrs {
		f(a)
	}
	r.Attrs(func(a slog.Attr) bool {
		flatten(c.group, a, func(a slog.Attr) {
			if a.Key == senderKey {
				sender = a.Value.String()
				return
			}
			f(a)
		})
		return true
	})
	if sender == "" {
		sender = defaultSender
	}
	return sender
}

// flatten resolves a and gives its leaves, groups as name.name.
func flatten(group string, a slog.Attr, f func(slog.Attr)) {
	a.Value = a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return
	}
	if a.Value.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, g := range a.Value.Group() {
			flatten(group, g, f)
		}
		return
	}
	a.Key = group + a.Key
	f(a)
}

// stamp formats a time for a record.
func (c *common) stamp(b []byte, t time.Time, layout string) []byte {
	if t.IsZero() {
		t = time.Now()
	}
	if c.utc {
		t = t.UTC()
	} else {
		t = t.Local()
	}
	return t.AppendFormat(b, layout)
}
