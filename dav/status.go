package dav

import (
	"context"
	"errors"
	"io/fs"
	"strconv"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// failure is an error that is its own answer.
type failure struct {
	code int
	text string
	// element is the XML of a precondition (RFC 4918 16), inside of D:error, with D bound to "DAV:"; "" for none.
	element string
}

func (f *failure) Error() string { return strconv.Itoa(f.code) + " " + f.text }

// fail is an error with its answer. The text is for people.
func fail(code int, text string) error { return &failure{code: code, text: text} }

// failElement is fail with the XML of a precondition, such as "<D:lock-token-submitted/>".
func failElement(code int, text, element string) error {
	return &failure{code: code, text: text, element: element}
}

// Failures that several methods give.
var (
	errPrecondition = fail(412, "A precondition of the request is not met")
	errNotModified  = fail(304, "Not modified")
	errNoParent     = fail(409, "The parent does not exist or is not a directory")
	errTooLong      = fail(413, "The body of the request is too long")
	errRate         = fail(408, "The body of the request came too slowly")
	errBody         = fail(400, "The body of the request is not valid")
)

// statusFor is the answer to an error: one table for all methods. An error without one is 500.
func statusFor(err error) int {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.code
	}
	switch {
	case errors.Is(err, vfs.ErrInvalidPath):
		return 400
	case errors.Is(err, session.ErrLocked):
		return 423
	case errors.Is(err, session.ErrReadQuota):
		return 403
	case errors.Is(err, vfs.ErrQuota):
		return 507 // RFC 4918 11.5
	case errors.Is(err, session.ErrClosed), errors.Is(err, context.Canceled):
		return 503
	case errors.Is(err, context.DeadlineExceeded):
		return 504
	case errors.Is(err, fs.ErrNotExist):
		return 404
	case errors.Is(err, fs.ErrExist):
		return 405
	case errors.Is(err, vfs.ErrIsDir):
		return 405
	case errors.Is(err, vfs.ErrNotDir), errors.Is(err, vfs.ErrNotEmpty):
		return 409
	case errors.Is(err, vfs.ErrReadOnly), errors.Is(err, fs.ErrPermission):
		return 403
	case errors.Is(err, fs.ErrInvalid):
		return 403
	case errors.Is(err, vfs.ErrLoop):
		return 508
	case errors.Is(err, vfs.ErrUnsupported), errors.Is(err, vfs.ErrOutOfOrder), errors.Is(err, vfs.ErrCrossDevice):
		return 501
	}
	return 500
}

// statusText is what stands behind a code, for people.
func statusText(code int) string {
	if s, ok := statusTexts[code]; ok {
		return s
	}
	return "Status"
}

// statusTexts are RFC 9110's and RFC 4918's. Read-only.
var statusTexts = map[int]string{
	100: "Continue", 200: "OK", 201: "Created", 204: "No Content", 206: "Partial Content", 207: "Multi-Status",
	301: "Moved Permanently", 304: "Not Modified", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
	405: "Method Not Allowed", 408: "Request Timeout", 409: "Conflict", 411: "Length Required", 412: "Precondition Failed",
	413: "Content Too Large", 414: "URI Too Long", 415: "Unsupported Media Type", 416: "Range Not Satisfiable", 417: "Expectation Failed",
	421: "Misdirected Request", 422: "Unprocessable Content", 423: "Locked", 424: "Failed Dependency", 429: "Too Many Requests",
	431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
	503: "Service Unavailable", 504: "Gateway Timeout", 505: "HTTP Version Not Supported", 507: "Insufficient Storage", 508: "Loop Detected",
}
