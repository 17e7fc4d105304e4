package local

import (
	"context"
	"io"
	"os"
)

// cloneStep is how much is copied between two looks at the context, in bytes.
const cloneStep = 8 << 20

// copyRange copies n bytes at off by reading and writing, up to the end of the source.
func copyRange(ctx context.Context, dst, src *os.File, off, n int64) error {
	buf := make([]byte, min(n, 256<<10))
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		got, err := src.ReadAt(buf[:min(n, int64(len(buf)))], off)
		if got > 0 {
			if _, err := dst.WriteAt(buf[:got], off); err != nil {
				return err
			}
		}
		off, n = off+int64(got), n-int64(got)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
