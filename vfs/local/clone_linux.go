package local

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// clone gives the empty file dst the content of src: by sharing its blocks where the file system can, else
// extent by extent in the kernel, else by hand. Holes stay holes, so that a sparse file does not fill the disk.
func clone(ctx context.Context, dst, src *os.File) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// dst was opened without O_APPEND by callers that clone; its descriptor lives as long as this call.
	if err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())); err == nil {
		return nil
	}
	i, err := src.Stat()
	if err != nil {
		return err
	}
	size := i.Size()
	if err := dst.Truncate(size); err != nil {
		return err
	}
	for off := int64(0); off < size; {
		start, end := extent(src, off, size)
		if err := copyExtent(ctx, dst, src, start, end); err != nil {
			return err
		}
		off = end
	}
	return nil
}

// extent is the first range at or after off that holds data. Where the file system knows no holes it is all
// that is left; start is end where nothing is.
func extent(f *os.File, off, size int64) (start, end int64) {
	start, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	if err == unix.ENXIO {
		return size, size
	}
	if err != nil {
		return off, size
	}
	end, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
	if err != nil || end > size {
		end = size
	}
	return min(start, end), end
}

func copyExtent(ctx context.Context, dst, src *os.File, off, end int64) error {
	for off < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		from, to := off, off
		n, err := unix.CopyFileRange(int(src.Fd()), &from, int(dst.Fd()), &to, int(min(end-off, cloneStep)), 0)
		if err == unix.EINTR {
			continue
		}
		if err == unix.ENOSPC || err == unix.EDQUOT || err == unix.EFBIG || err == unix.EIO {
			return err
		}
		if err != nil || n == 0 { // not between these file systems, or the source became shorter
			return copyRange(ctx, dst, src, off, end-off)
		}
		off += int64(n)
	}
	return nil
}
