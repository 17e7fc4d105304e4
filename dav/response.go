package dav

import (
	"errors"
	"strconv"

	"github.com/valyala/bytebufferpool"
)

// maxWhole is how much of an answer is kept to be sent whole, in bytes. What is longer is streamed.
const maxWhole = 64 << 10

// response is the answer to a request.
type response struct {
	r       *request
	code    int // 0 before status
	names   []headerField
	body    bytebufferpool.ByteBuffer // not sent yet
	started bool                      // the head has been sent
	zip     bool                      // may be compressed
	bare    bool                      // no body is sent: HEAD
}

type headerField struct{ name, value string }

// set gives a header field its only value. Nothing that could end a line goes out.
func (w *response) set(name, value string) {
	for i := range w.names {
		if w.names[i].name == name {
			w.names[i].value = value
			return
		}
	}
	w.names = append(w.names, headerField{name, value})
}

// status says what the answer is: once, before the first Write.
func (w *response) status(code int) { w.code = code }

// compressible says that the body may be compressed where the client asks for it.
func (w *response) compressible() { w.zip = true }

// Write adds to the body. A short one goes out whole, with its length; a longer one in chunks, as it comes.
func (w *response) Write(p []byte) (int, error) {
	if w.code == 0 {
		return 0, errors.New("dav: a body before the status")
	}
	return w.body.Write(p)
}

// appendHead formats the status line and the fields, without the empty line.
func (w *response) appendHead(b []byte) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(w.code), 10)
	b = append(b, ' ')
	b = append(append(b, statusText(w.code)...), "\r\n"...)
	for _, f := range w.names {
		b = append(append(b, f.name...), ": "...)
		for i := 0; i < len(f.value); i++ {
			if c := f.value[i]; c >= ' ' && c != 0x7f || c == '\t' {
				b = append(b, c)
			}
		}
		b = append(b, "\r\n"...)
	}
	return b
}
