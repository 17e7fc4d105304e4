//go:build !linux

package local

import (
	"context"
	"os"
)

// clone gives the empty file dst the content of src.
func clone(ctx context.Context, dst, src *os.File) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	i, err := src.Stat()
	if err != nil {
		return err
	}
	for off := int64(0); off < i.Size(); off += cloneStep {
		if err := copyRange(ctx, dst, src, off, min(cloneStep, i.Size()-off)); err != nil {
			return err
		}
	}
	return nil
}
