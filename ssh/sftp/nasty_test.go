package sftp_test

import (
	"context"
	"errors"
	"testing"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/ssh/sftp"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/nastytest"
)

func TestNastyNames(t *testing.T) { // PATH-1, PATH-2
	nastytest.Run(t, nastytest.Options{}, func(t *testing.T, f vfs.FS) nastytest.Client {
		s := sessiontest.NewSession(t, sessiontest.Options{NewFS: func(context.Context, session.Storage) (vfs.FS, error) {
			return kept{f}, nil
		}}, sessiontest.User("u"))
		return nasty{newRaw(t, s)}
	})
}

// kept is a tree that outlives the session.
type kept struct{ vfs.FS }

func (k kept) Unwrap() vfs.FS { return k.FS }
func (k kept) Close() error   { return nil }

// nasty speaks packets, so that no client of a library cleans a name on its way.
type nasty struct{ c *raw }

func (n nasty) Put(raw, content string) error {
	r := n.c.ask(&sftp.Packet{Type: sftp.TypeOpen, Path: []byte(raw), Flags: sftp.FlagWrite | sftp.FlagCreate | sftp.FlagTruncate})
	if r.Type != sftp.TypeHandle {
		return errors.New(string(r.Message))
	}
	n.c.ok(writeTo(r.Handle, 0, content))
	n.c.close(r.Handle)
	return nil
}

func (n nasty) Get(raw string) (string, error) {
	r := n.c.ask(&sftp.Packet{Type: sftp.TypeOpen, Path: []byte(raw), Flags: sftp.FlagRead})
	if r.Type != sftp.TypeHandle {
		return "", errors.New(string(r.Message))
	}
	defer n.c.close(r.Handle)
	d := n.c.ask(&sftp.Packet{Type: sftp.TypeRead, Handle: r.Handle, Length: 1000})
	return string(d.Data), nil
}

func (n nasty) Remove(raw string) error {
	if r := n.c.ask(&sftp.Packet{Type: sftp.TypeRemove, Path: []byte(raw)}); r.Code != 0 {
		return errors.New(string(r.Message))
	}
	return nil
}

func (n nasty) Resolve(raw string) (string, error) {
	r := n.c.ask(&sftp.Packet{Type: sftp.TypeRealpath, Path: []byte(raw)})
	if r.Type != sftp.TypeName {
		return "", errors.New(string(r.Message))
	}
	return string(r.Names[0].Name), nil
}
