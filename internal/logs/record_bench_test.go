package logs

import (
	"io"
	"log/slog"
	"testing"
)

// BenchmarkRecord is the line of a transfer: what event.LogSink writes for one, in size and kinds.
func BenchmarkRecord(b *testing.B) {
	for name, h := range map[string]slog.Handler{
		"json":    NewJSON(io.Discard, slog.LevelInfo, false),
		"console": NewConsole(io.Discard, slog.LevelInfo, false, false),
	} {
		b.Run(name, func(b *testing.B) {
			log := slog.New(h)
			b.ReportAllocs()
			for b.Loop() {
				log.LogAttrs(b.Context(), slog.LevelInfo, "", slog.String("sender", "Upload"), slog.Int64("elapsed_ms", 1234), slog.Int64("size_bytes", 1<<30),
					slog.String("username", "joe"), slog.String("file_path", "/srv/gantry/joe/some folder/file name.bin"), slog.String("connection_id", "SFTP_c0ffee_1"),
					slog.String("protocol", "SFTP"), slog.String("local_address", "192.0.2.1:2022"), slog.String("remote_address", "192.0.2.7:50123"))
			}
		})
	}
}
