package dav

import (
	"log/slog"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// Server serves WebDAV. Safe for concurrent use.
type Server struct {
	sessions *session.Server
	log      *slog.Logger
	methods  map[string]method // read-only
	allow    string            // of the Allow field

	finds *findCache
	// walkLimit is how many resources a PROPFIND of depth infinity may tell of; 0 refuses it.
	walkLimit int
}

// contentType is the content type of a file.
func (s *Server) contentType(info vfs.FileInfo) string {
	if info.ContentType != "" {
		return info.ContentType
	}
	return "application/octet-stream"
}
