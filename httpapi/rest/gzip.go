package rest

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/valyala/fasthttp"
)

// minGzip is the size of a list, in bytes, that is worth it.
const minGzip = 1400

// gzips are idle writers.
var gzips = sync.Pool{New: func() any {
	w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is one
	return w
}}

// takesGzip reports whether a list may be sent compressed, and says that the answer depends on it.
func (q *Request) takesGzip() bool {
	q.HTTP.Response.Header.Add("Vary", "Accept-Encoding")
	return acceptsGzip(q.Header("Accept-Encoding"))
}

// acceptsGzip reads Accept-Encoding (RFC 9110 12.5.3).
func acceptsGzip(header string) bool {
	other := false
	for part := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(part, ";")
		weight := 1.0
		if v, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(params)), "q="); ok {
			var err error
			if weight, err = strconv.ParseFloat(strings.TrimSpace(v), 64); err != nil {
				weight = 0
			}
		}
		switch name = strings.ToLower(strings.TrimSpace(name)); name {
		case "gzip", "x-gzip":
			return weight > 0
		case "*":
			other = weight > 0
		}
	}
	return other
}

// compress replaces an answer that is whole by its compressed form.
func (q *Request) compress() {
	body := q.HTTP.Response.Body()
	if len(body) < minGzip || !q.takesGzip() {
		return
	}
	var b bytes.Buffer
	w := gzips.Get().(*gzip.Writer)
	w.Reset(&b)
	_, err := w.Write(body)
	if err = errors.Join(err, w.Close()); err != nil {
		return // as it is, then; a buffer fails never
	}
	gzips.Put(w)
	q.SetHeader(fasthttp.HeaderContentEncoding, "gzip")
	q.HTTP.SetBody(b.Bytes())
}

// zippedList compresses what it reads. It is closed with the answer.
type zippedList struct {
	from io.ReadCloser
	w    *gzip.Writer // nil when it is over
	out  bytes.Buffer
	in   [8 << 10]byte
	err  error // what the next Read without bytes gives
}

func newZippedList(from io.ReadCloser) *zippedList {
	z := &zippedList{from: from, w: gzips.Get().(*gzip.Writer)}
	z.w.Reset(&z.out)
	return z
}

// Read implements io.Reader.
func (z *zippedList) Read(p []byte) (int, error) {
	for z.out.Len() == 0 {
		if z.err != nil {
			return 0, z.err
		}
		n, err := z.from.Read(z.in[:])
		if _, werr := z.w.Write(z.in[:n]); werr != nil {
			err = werr
		}
		if err == io.EOF {
			if werr := z.w.Close(); werr != nil {
				err = werr
			}
		}
		z.err = err
	}
	return z.out.Read(p)
}

// Close implements io.Closer.
func (z *zippedList) Close() error {
	if z.w != nil {
		z.w.Reset(nil)
		gzips.Put(z.w)
		z.w = nil
	}
	return z.from.Close()
}
