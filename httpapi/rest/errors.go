package rest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/valyala/fasthttp"

	"github.com/gantryhq/gantry/httpapi"
	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/admin"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// Error is an answer that a handler has decided on. Text is for the client.
type Error struct {
	Status int
	Text   string
	Err    error // for the log; may be nil
}

func (e *Error) Error() string { return e.Text }

func (e *Error) Unwrap() error { return e.Err }

func refuse(status int, format string, args ...any) error {
	return &Error{Status: status, Text: fmt.Sprintf(format, args...)}
}

func badRequest(format string, args ...any) error {
	return refuse(fasthttp.StatusBadRequest, format, args...)
}

// errUnauthorized says nothing of why (AUTH-4).
var errUnauthorized = &Error{Status: fasthttp.StatusUnauthorized, Text: "invalid credentials"}

// statusOf turns an error into a status and what the client may read (rest-api.md 1). files: the call was one of files,
// whose errors are the storage's.
func statusOf(err error, files bool) (status int, text string) {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status, e.Text
	}
	if e, ok := errors.AsType[*account.ValidationError](err); ok {
		return fasthttp.StatusBadRequest, "validation error: " + e.Error()
	}
	if e, ok := errors.AsType[*admin.InputError](err); ok {
		return fasthttp.StatusBadRequest, e.Text
	}
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case is(httpapi.ErrBodyTooLarge):
		return fasthttp.StatusRequestEntityTooLarge, err.Error()
	case is(admin.ErrCredentials):
		return fasthttp.StatusUnauthorized, errUnauthorized.Text
	case is(admin.ErrNoSuchKey):
		return fasthttp.StatusBadRequest, admin.ErrNoSuchKey.Error()
	case is(admin.ErrForbidden), is(admin.ErrDisabled):
		return fasthttp.StatusForbidden, err.Error()
	case is(admin.ErrRunning), is(account.ErrExists):
		return fasthttp.StatusConflict, err.Error()
	case is(account.ErrChanged):
		return fasthttp.StatusPreconditionFailed, err.Error()
	case is(account.ErrNotFound):
		return fasthttp.StatusNotFound, ""
	case is(account.ErrUnavailable), session.DenialOf(err) == session.DeniedForNow:
		return fasthttp.StatusServiceUnavailable, "the accounts cannot be read at the moment"
	case is(session.ErrTooManySessions):
		return fasthttp.StatusTooManyRequests, "too many open sessions"
	case is(session.ErrClosed):
		return fasthttp.StatusForbidden, "the session has ended"
	}
	if files {
		switch {
		case is(session.ErrReadQuota), is(fs.ErrPermission):
			return fasthttp.StatusForbidden, "permission denied"
		case is(vfs.ErrQuota):
			return fasthttp.StatusRequestEntityTooLarge, "the quota or a size limit is exceeded"
		case is(session.ErrLocked):
			return fasthttp.StatusLocked, "it is locked by another client"
		case is(session.ErrBusy):
			return fasthttp.StatusConflict, "it is in use by an upload"
		case is(vfs.ErrIsDir):
			return fasthttp.StatusBadRequest, "it is a directory"
		case is(vfs.ErrNotDir):
			return fasthttp.StatusBadRequest, "it is not a directory"
		case is(vfs.ErrInvalidPath), is(fs.ErrInvalid):
			return fasthttp.StatusBadRequest, "the path cannot be used"
		case is(fs.ErrNotExist):
			return fasthttp.StatusNotFound, ""
		case is(vfs.ErrUnsupported):
			return fasthttp.StatusBadRequest, "the operation is not supported"
		case is(fs.ErrExist):
			return fasthttp.StatusBadRequest, "it exists already"
		}
	} else if is(fs.ErrNotExist) { // a path of a backend that is not there
		return fasthttp.StatusBadRequest, err.Error()
	}
	if is(context.DeadlineExceeded) {
		return fasthttp.StatusServiceUnavailable, "it took too long"
	}
	return fasthttp.StatusInternalServerError, "internal error"
}

// fail answers with an error. What the client does not read is logged here, once.
func (q *Request) fail(err error) {
	status, text := statusOf(err, q.Session != nil || q.Route.Auth == SharePublic)
	if status >= 500 {
		q.Log.Error("request failed", "method", q.Route.Method, "route", q.Route.Path, "error", err)
	} else {
		q.Log.Debug("request refused", "method", q.Route.Method, "route", q.Route.Path, "status", status, "error", err)
	}
	e := envelope{Message: fasthttp.StatusMessage(status), Error: text}
	if status == fasthttp.StatusNotFound { // ids are not echoed
		e.Error = fasthttp.StatusMessage(status)
	}
	if status == fasthttp.StatusServiceUnavailable {
		q.SetHeader("Retry-After", "5")
	}
	if status == fasthttp.StatusUnauthorized && q.Route.Auth == BasicAuth {
		q.SetHeader("WWW-Authenticate", `Basic realm="Gantry"`)
	}
	if e := q.JSON(status, e); e != nil {
		q.API.Refuse(q.HTTP, fasthttp.StatusInternalServerError, nil)
	}
}
