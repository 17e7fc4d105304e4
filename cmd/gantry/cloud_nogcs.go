//go:build nogcs

package main

import (
	"context"
	"errors"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

const withGCS = false

func (x *cloud) openGCS(context.Context, session.Storage) (vfs.FS, error) {
	return nil, errors.New("this program was built without Google Cloud Storage (build tag nogcs)")
}
