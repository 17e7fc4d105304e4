package dav

import (
	"log/slog"

	"github.com/gantryhq/gantry/internal/session"
)

// Server serves WebDAV. Safe for concurrent use.
type Server struct {
	sessions *session.Server
	log      *slog.Logger
	methods  map[string]method // read-only
	allow    string            // of the Allow field
}
