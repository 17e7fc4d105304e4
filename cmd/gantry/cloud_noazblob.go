//go:build noazblob

package main

import (
	"context"
	"errors"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

const withAzBlob = false

func (x *cloud) openAzBlob(context.Context, session.Storage) (vfs.FS, error) {
	return nil, errors.New("this program was built without Azure Blob Storage (build tag noazblob)")
}
