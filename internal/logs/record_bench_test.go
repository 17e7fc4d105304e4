package logs

import (
	"io"
	"log/slog"
	"testing"
	"time"
)

// BenchmarkRecord is the record of a transfer, in size and kinds: as a logger writes it, and as event.LogSink does.
func BenchmarkRecord(b *testing.B) {
	attrs := []slog.Attr{
		slog.String("local_addr", "192.0.2.1:2022"), slog.String("remote_addr", "192.0.2.7:50123"), slog.Int64("elapsed_ms", 1234), slog.Int64("size_bytes", 1<<30),
		slog.String("username", "joe"), slog.String("file_path", "/srv/gantry/joe/some folder/file name.bin"), slog.String("virtual_path", "/some folder/file name.bin"),
		slog.String("connection_id", "SFTP_c0ffee_1"), slog.String("protocol", "SFTP"),
	}
	sent := append([]slog.Attr{slog.String("sender", "Upload")}, attrs...)
	for name, h := range map[string]slog.Handler{
		"json":    NewJSON(io.Discard, slog.LevelInfo, false),
		"console": NewConsole(io.Discard, slog.LevelInfo, false, false),
	} {
		b.Run(name, func(b *testing.B) {
			log := slog.New(h)
			b.ReportAllocs()
			for b.Loop() {
				log.LogAttrs(b.Context(), slog.LevelInfo, "", sent...)
			}
		})
	}
	b.Run("line", func(b *testing.B) {
		h := NewJSON(newGather(io.Discard), slog.LevelInfo, false)
		b.ReportAllocs()
		for b.Loop() {
			h.Line(slog.LevelInfo, time.Now(), "Upload", attrs)
		}
	})
}
