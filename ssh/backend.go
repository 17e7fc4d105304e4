package ssh

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/ssh/command"
	"github.com/gantryhq/gantry/ssh/program"
	"github.com/gantryhq/gantry/ssh/scp"
	"github.com/gantryhq/gantry/ssh/sftp"
	"github.com/gantryhq/gantry/vfs"
)

// backend is what the transport needs of logins and sessions, so that its tests can do without storage.
type backend interface {
	authenticate(ctx context.Context, a *session.Attempt) (login, error)
	abandoned(c session.Conn, username string, tried []string, err error)
	// open makes a session of l for one channel.
	open(ctx context.Context, l login, c session.Conn) (subsystem, error)
	// busy reports whether the session with this id has a transfer under way.
	busy(id string) bool
}

// login is a proven credential: in production a *session.Login.
type login interface{ Username() string }

// subsystem is an open session. serve runs SFTP on it until the peer ends it.
type subsystem interface {
	serve(ctx context.Context, rw io.ReadWriteCloser, widen func()) error
	// exec runs an enabled command, of which words is the split line, and gives its exit status.
	exec(ctx context.Context, rw io.ReadWriteCloser, stderr io.Writer, words []string) uint32
	close() error
}

// sessions is the backend of a running Gantry.
type sessions struct {
	*session.Server
	srv *Server
}

func (b *sessions) authenticate(ctx context.Context, a *session.Attempt) (login, error) {
	l, err := b.Authenticate(ctx, a)
	if err != nil || l == nil {
		return nil, err
	}
	return l, nil
}

func (b *sessions) abandoned(c session.Conn, username string, tried []string, err error) {
	b.Abandoned(c, username, tried, err)
}

func (b *sessions) open(ctx context.Context, l login, c session.Conn) (subsystem, error) {
	sl, ok := l.(*session.Login)
	if !ok {
		return nil, errors.New("ssh: not a login of this server")
	}
	s, err := b.Open(ctx, sl, c)
	if err != nil {
		return nil, err
	}
	return &sftpSession{s, b.srv, b.srv.log.With("conn", c.ID, "user", s.Username())}, nil
}

func (b *sessions) busy(id string) bool {
	for _, s := range b.Sessions() {
		if s.ID == id {
			return len(s.Transfers) > 0
		}
	}
	return false
}

type sftpSession struct {
	*session.Session
	srv *Server
	log *slog.Logger
}

func (s *sftpSession) serve(ctx context.Context, rw io.ReadWriteCloser, widen func()) error {
	return sftp.Serve(ctx, rw, s.Session, sftp.Options{Log: s.log, Widen: widen, Buffers: &s.srv.buffers})
}

func (s *sftpSession) exec(ctx context.Context, rw io.ReadWriteCloser, stderr io.Writer, words []string) uint32 {
	log := s.srv.log.With("conn", s.ID(), "user", s.Username(), "command", words[0])
	// What waits for the peer's bytes must end with the session.
	defer context.AfterFunc(ctx, func() { rw.Close() })()
	if words[0] == "scp" {
		status, err := scp.Serve(ctx, rw, s.Session, words[1:])
		log.Debug("command ended", "status", status, "err", err)
		return uint32(status)
	}
	if slices.Contains(program.Names(), words[0]) {
		return uint32(s.srv.programs.Run(ctx, s.Session, words, command.Streams{In: rw, Out: rw, Err: stderr}))
	}
	status := command.Run(ctx, s.Session, words, command.Streams{In: rw, Out: rw, Err: stderr})
	if status == 0 {
		var paths []vfs.Path
		for _, w := range words[1:] {
			if p, err := vfs.ParsePath(w); err == nil {
				paths = append(paths, p)
			}
		}
		s.Ran(ctx, words[0], paths...)
	}
	log.Debug("command ended", "status", status)
	return uint32(status)
}

func (s *sftpSession) close() error { return s.Close() }
