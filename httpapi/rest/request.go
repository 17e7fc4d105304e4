package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"strconv"

	"github.com/valyala/fasthttp"

	"github.com/gantryhq/gantry/httpapi"
	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/admin"
	"github.com/gantryhq/gantry/internal/session"
)

// Request is one call. It is valid until its handler returns; see httpapi.Request.
type Request struct {
	*httpapi.Request
	API   *API
	Route *Route

	// Of administrators' calls.
	Actor *admin.Actor
	Admin *account.Admin // as stored; a copy of this request's own

	// Of users' calls. Session is there where the row has Files; it ends with the request.
	Login   *session.Login
	Session *session.Session

	claims *claims // nil with an API key

	// What the answer's body is made of, for who must know whether all of it was sent.
	download *downloading
	zipped   *zipper
}

// Param is a parameter of the path, percent-decoded once; what cannot be decoded is given as it came.
func (q *Request) Param(name string) string {
	raw, _ := q.HTTP.UserValue(name).(string)
	if s, err := url.PathUnescape(raw); err == nil {
		return s
	}
	return raw
}

// Query is a parameter of the query, "" if it is not there.
func (q *Request) Query(name string) string { return string(q.HTTP.QueryArgs().Peek(name)) }

// QueryBool is true for the text "true" alone.
func (q *Request) QueryBool(name string) bool { return q.Query(name) == "true" }

// QueryInt is a number of the query, or def. Its error is a 400.
func (q *Request) QueryInt(name string, def int) (int, error) {
	text := q.Query(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, badRequest("%s must be a whole number, it is %q", name, text)
	}
	return n, nil
}

// Header is a header of the request.
func (q *Request) Header(name string) string { return string(q.HTTP.Request.Header.Peek(name)) }

// SetHeader sets a header of the answer.
func (q *Request) SetHeader(name, value string) { q.HTTP.Response.Header.Set(name, value) }

// The bounds of a list.
const (
	defaultLimit = 100
	maxLimit     = 500
)

// Page reads limit, offset and order. An answer to it is WriteList.
func (q *Request) Page() (account.Page, error) {
	var p account.Page
	var err error
	if p.Limit, err = q.QueryInt("limit", defaultLimit); err != nil {
		return p, err
	}
	if p.Offset, err = q.QueryInt("offset", 0); err != nil {
		return p, err
	}
	if p.Limit < 0 || p.Offset < 0 {
		return p, badRequest("limit and offset must be 0 or more")
	}
	p.Limit = min(p.Limit, maxLimit)
	switch order := q.Query("order"); order {
	case "", "ASC":
	case "DESC":
		p.Desc = true
	default:
		return p, badRequest("order must be ASC or DESC, it is %q", order)
	}
	return p, nil
}

// ReadAll is the whole body, within the row's limit.
func (q *Request) ReadAll() ([]byte, error) {
	r, err := q.Body(q.Route.limit())
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	if err != nil {
		if errors.Is(err, httpapi.ErrBodyTooLarge) {
			return nil, err
		}
		return nil, badRequest("the body could not be read: %v", err)
	}
	return b, nil
}

// Decode reads one JSON value of the body into v. Unknown members are ignored, wrong types are a 400.
func (q *Request) Decode(v any) error {
	b, err := q.ReadAll()
	if err != nil {
		return err
	}
	return decode(b, v)
}

func decode(b []byte, v any) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return badRequest("the body is empty, a JSON value is needed")
	}
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(v); err != nil {
		if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return badRequest("the member %q cannot be a JSON %s", t.Field, t.Value)
		}
		return badRequest("the body is not valid JSON: %v", err)
	}
	return nil
}

// JSON answers with v.
func (q *Request) JSON(status int, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	q.HTTP.SetStatusCode(status)
	q.HTTP.SetContentType(jsonType)
	q.HTTP.SetBody(b.Bytes())
	return nil
}

// Message answers with the envelope.
func (q *Request) Message(status int, text string) error {
	return q.JSON(status, envelope{Message: text})
}

// Created sets Location: the path below Base of what was made, its parts not yet escaped.
func (q *Request) Created(parts ...string) {
	loc := q.API.cfg.WebRoot + Base
	for _, p := range parts {
		loc += "/" + url.PathEscape(p)
	}
	q.SetHeader("Location", loc)
}

// WriteList answers with a JSON array and the number of all that there are.
func WriteList[T any](q *Request, list []T, total int) error {
	if list == nil {
		list = []T{}
	}
	q.SetHeader("X-Total-Count", itoa(total))
	if err := q.JSON(fasthttp.StatusOK, list); err != nil {
		return err
	}
	q.compress()
	return nil
}
