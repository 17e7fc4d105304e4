package session_test

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/vfs"
)

func TestScanOfAMissingStorageIsAnError(t *testing.T) {
	e := sessiontest.New(t, sessiontest.Options{
		NewFS: func(context.Context, session.Storage) (vfs.FS, error) { return nil, fs.ErrNotExist },
	}, sessiontest.User("joe"))
	for _, key := range []account.CounterKey{{Kind: account.KindUser, Name: "joe"}, {Kind: account.KindUser, Name: "nobody"}} {
		if _, _, err := e.Server.Scan(t.Context(), key); err == nil || key.Name == "joe" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v", key.Name, err)
		}
	}
}
