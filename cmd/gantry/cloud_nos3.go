//go:build nos3

package main

import (
	"context"
	"errors"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

const withS3 = false

func (x *cloud) openS3(context.Context, session.Storage) (vfs.FS, error) {
	return nil, errors.New("this program was built without S3 (build tag nos3)")
}
