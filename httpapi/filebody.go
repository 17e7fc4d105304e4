package httpapi

import (
	"errors"
	"io"
	"os"
	"time"
)

// File is a file whose bytes are an answer's body.
type File interface {
	io.ReaderAt
	// File is what the kernel may send from, of nobody else; nil where there is none.
	File() *os.File
	// Pass lets up to n bytes of File go, waits as long as a bandwidth wants, and says how many; a negative n takes back
	// what did not go.
	Pass(n int) (int, error)
}

// FileBody is a part of a file as a body: on a plain socket the kernel sends it, and every byte is counted.
type FileBody struct {
	f    File
	off  int64
	size int64
	left int64
}

// NewFileBody makes a body of size bytes at off. It closes nothing.
func NewFileBody(f File, off, size int64) *FileBody { return &FileBody{f, off, size, size} }

// Read implements io.Reader.
func (b *FileBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.EOF
	}
	n, err := b.f.ReadAt(p[:min(int64(len(p)), b.left)], b.off)
	b.off += int64(n)
	b.left -= int64(n)
	switch {
	case n > 0:
		return n, nil // an error comes again
	case err == io.EOF:
		return 0, io.ErrUnexpectedEOF // the file became shorter
	}
	return n, err
}

// sendTo sends up to limit bytes by the kernel, piece by piece under a deadline each.
func (b *FileBody) sendTo(c *conn, to io.ReaderFrom, file *os.File, limit int64) (int64, error) {
	if _, err := file.Seek(b.off, io.SeekStart); err != nil {
		return 0, err
	}
	var done int64
	for limit = min(limit, b.left); done < limit; {
		want, err := b.f.Pass(int(min(pieceSize, limit-done)))
		if err != nil {
			return done, c.failed(err)
		}
		if err := c.Conn.SetWriteDeadline(time.Now().Add(moveWait)); err != nil {
			return done, c.failed(err)
		}
		n, err := to.ReadFrom(&io.LimitedReader{R: file, N: int64(want)})
		done += n
		b.off += n
		b.left -= n
		if n < int64(want) {
			b.f.Pass(int(n) - want)
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && n >= minRate*int64(moveWait/time.Second): // slow, and alive
		case err != nil:
			return done, c.failed(err)
		case n == 0:
			return done, c.failed(io.ErrUnexpectedEOF) // the file became shorter
		}
	}
	return done, nil
}

// Sent is how many bytes have been given.
func (b *FileBody) Sent() int64 { return b.size - b.left }

// Left is how many bytes have not been given.
func (b *FileBody) Left() int64 { return b.left }
