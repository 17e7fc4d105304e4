package ftp

import (
	"bufio"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/zlib"

	"github.com/gantryhq/gantry/engine"
)

// deflateLevel is that of MODE Z until OPTS MODE Z LEVEL says another.
const deflateLevel = 6

// errDeflate is an upload that is no zlib stream to its end.
var errDeflate = errors.New("the compressed data is broken or cut")

// deflater compresses what goes into a data connection (MODE Z, draft-preston-ftpext-deflate).
type deflater struct {
	out *bufio.Writer
	z   *zlib.Writer
}

// writers keep the tables of deflaters, by level: they are large.
type writers struct{ pools [10]sync.Pool }

func (w *writers) deflater(l *engine.Stream, level int) *deflater {
	d, _ := w.pools[level].Get().(*deflater)
	if d == nil {
		d = &deflater{out: bufio.NewWriterSize(nil, 64<<10)}
		d.z, _ = zlib.NewWriterLevel(d.out, level) // the level has been checked
	}
	d.out.Reset(l)
	d.z.Reset(d.out)
	return d
}

func (d *deflater) Write(p []byte) (int, error) { return d.z.Write(p) }

// finish writes what is left and gives d back.
func (w *writers) finish(d *deflater, level int) error {
	err := d.z.Close()
	if err == nil {
		err = d.out.Flush()
	}
	d.out.Reset(nil)
	w.pools[level].Put(d)
	return err
}

// inflater reads a compressed upload. Its end is that of the zlib stream and of the connection, both.
type inflater struct {
	l  *engine.Stream
	in *bufio.Reader
	z  io.ReadCloser
}

func newInflater(l *engine.Stream) *inflater {
	return &inflater{l: l, in: bufio.NewReaderSize(l, 64<<10)}
}

// Fill reads until p is full or the end. An empty connection is an empty file.
func (f *inflater) Fill(p []byte) (n int, err error) {
	if f.z == nil {
		if _, err := f.in.Peek(1); err != nil {
			return 0, err
		}
		if f.z, err = zlib.NewReader(f.in); err != nil {
			return 0, broken(err)
		}
	}
	for n < len(p) && err == nil {
		var m int
		m, err = f.z.Read(p[n:])
		n += m
	}
	if err == nil {
		return n, nil
	}
	if err != io.EOF {
		return n, broken(err)
	}
	if _, err = f.in.ReadByte(); err == nil {
		err = errDeflate // there is more behind it
	}
	return n, err
}

// broken tells what is wrong with the data from what is wrong with the connection.
func broken(err error) error {
	if errors.Is(err, zlib.ErrHeader) || errors.Is(err, zlib.ErrChecksum) || errors.Is(err, zlib.ErrDictionary) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errDeflate
	}
	if lost(err) != err || errors.Is(err, engine.ErrTruncated) {
		return err
	}
	return errDeflate
}
