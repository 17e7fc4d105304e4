package dav

import (
	"bytes"
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/bytebufferpool"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// Failures of locks.
var (
	errNoLockToken  = fail(400, "A Lock-Token is needed")
	errNotItsLock   = failElement(409, "The lock token is not one of this resource", "<D:lock-token-matches-request-uri/>")
	errRefreshToken = fail(400, "A LOCK without a body refreshes the lock that an If header names")
	errRefreshGone  = failElement(412, "The lock token is not one of this resource", "<D:lock-token-matches-request-uri/>")
)

// lock takes a lock, or refreshes one (RFC 4918 9.10).
func (s *Server) lock(r *request, w *response) error {
	d, err := r.depth()
	if err != nil || d == depthOne {
		return errDepthHeader
	}
	timeout := parseTimeout(r.header("Timeout"))
	body, err := readBody(r)
	if err != nil {
		return err
	}
	defer bytebufferpool.Put(body)
	if len(bytes.TrimLeft(body.B, " \t\r\n")) == 0 {
		return s.refresh(r, w, timeout)
	}
	ask, err := parseLock(body.B)
	if err != nil {
		return xmlFailure(err)
	}
	ask.Infinite, ask.Timeout = d == depthInfinity, timeout
	if r.conditional() {
		if err := r.conditionsOn(r.path); err != nil {
			return err
		}
	}
	l, created, err := r.s.Lock(r.ctx, r.path, ask)
	if locked, ok := errors.AsType[*session.LockedError](err); ok {
		return lockConflict(r, w, locked)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return errNoParent // RFC 4918 9.10.4
	}
	if err != nil {
		return err
	}
	w.set("Lock-Token", "<"+l.Token+">")
	code := 200
	if created {
		code = 201
	}
	return writeLock(r, w, code, &l)
}

// lockConflict tells which lock stands against a new one (RFC 4918 9.10.5, 9.10.6).
func lockConflict(r *request, w *response, e *session.LockedError) error {
	if e.Path == r.path || !e.Path.Within(r.path) {
		b := append([]byte(nil), "<D:no-conflicting-lock><D:href>"...)
		b = append(appendHref(b, r.prefix, e.Root, false), "</D:href></D:no-conflicting-lock>"...)
		return failElement(423, "Another lock stands against it", string(b))
	}
	w.set("Content-Type", xmlType)
	w.status(207)
	b := append([]byte(nil), multistatusHead...)
	b = appendFailed(b, appendHref(nil, r.prefix, e.Path, false), 423, "no-conflicting-lock")
	b = appendFailed(b, appendHref(nil, r.prefix, r.path, r.slash), 424, "")
	_, err := w.Write(append(b, multistatusEnd...))
	return err
}

// writeLock answers with the lockdiscovery of one lock.
func writeLock(r *request, w *response, code int, l *session.Lock) error {
	w.set("Content-Type", xmlType)
	w.status(code)
	b := append([]byte(nil), xmlHead+`<D:prop xmlns:D="DAV:"><D:lockdiscovery>`...)
	b = appendLock(b, r.prefix, l)
	_, err := w.Write(append(b, "</D:lockdiscovery></D:prop>\n"...))
	return err
}

// refresh gives a lock a new end (RFC 4918 9.10.2).
func (s *Server) refresh(r *request, w *response, timeout time.Duration) error {
	h, err := parseIf(r.header("If"))
	if err != nil {
		return errRefreshToken
	}
	tokens := h.tokens()
	if len(tokens) == 0 {
		return errRefreshToken
	}
	for _, token := range tokens {
		l, err := r.s.RefreshLock(r.ctx, r.path, token, timeout)
		if errors.Is(err, session.ErrNoLock) {
			continue
		}
		if err != nil {
			return err
		}
		return writeLock(r, w, 200, &l)
	}
	return errRefreshGone
}

// unlock gives a lock up (RFC 4918 9.11).
func (s *Server) unlock(r *request, w *response) error {
	token := strings.TrimSpace(r.header("Lock-Token"))
	if len(token) > 2 && token[0] == '<' && token[len(token)-1] == '>' {
		token = token[1 : len(token)-1]
	} // else it is bare, as the webdav package of npm sends it
	if token == "" || strings.ContainsAny(token, "<> ") {
		return errNoLockToken
	}
	err := r.s.Unlock(r.ctx, r.path, token)
	if errors.Is(err, session.ErrNoLock) {
		return errNotItsLock
	}
	if err != nil {
		return err
	}
	w.status(204)
	return nil
}

// parseTimeout reads a Timeout header (RFC 4918 10.7): the first value that is understood, 0 for none. The session
// grants no more than its bound.
func parseTimeout(h string) time.Duration {
	for v := range strings.SplitSeq(h, ",") {
		v = strings.TrimSpace(v)
		if strings.EqualFold(v, "Infinite") {
			return session.MaxLockTimeout
		}
		if len(v) > 7 && strings.EqualFold(v[:7], "Second-") {
			if n, err := strconv.ParseUint(v[7:], 10, 64); err == nil && n > 0 {
				return time.Duration(min(n, 1<<32)) * time.Second
			}
		}
	}
	return 0
}

// parseLock reads a DAV:lockinfo (RFC 4918 14.11).
func parseLock(body []byte) (session.LockRequest, error) {
	var l session.LockRequest
	x, err := newXMLReader(body)
	if err != nil {
		return l, err
	}
	if err := x.root(); err != nil {
		return l, err
	}
	if !x.is("lockinfo") {
		return l, xmlError("DAV:lockinfo was expected")
	}
	scope, kind := "", ""
	for {
		more, err := x.child()
		if err != nil {
			return l, err
		}
		if !more {
			break
		}
		switch {
		case x.is("lockscope"):
			scope, err = onlyChild(x)
		case x.is("locktype"):
			kind, err = onlyChild(x)
		case x.is("owner"):
			var b []byte
			b, err = x.content(nil)
			l.Owner = string(b)
		default:
			err = x.skip()
		}
		if err != nil {
			return l, err
		}
	}
	if err := x.finish(); err != nil {
		return l, err
	}
	l.Exclusive = scope == "exclusive"
	if scope != "exclusive" && scope != "shared" || kind != "write" {
		return l, xmlError("an exclusive or a shared write lock was expected")
	}
	return l, nil
}

// onlyChild reads the element that has just been started and gives the name of the DAV: element in it.
func onlyChild(x *xmlReader) (string, error) {
	name := ""
	for {
		more, err := x.child()
		if err != nil || !more {
			return name, err
		}
		if string(x.space) == "DAV:" {
			name = string(x.local)
		}
		if err := x.skip(); err != nil {
			return "", err
		}
	}
}

// appendLock writes DAV:activelock (RFC 4918 14.1).
func appendLock(b []byte, prefix string, l *session.Lock) []byte {
	b = append(b, "<D:activelock><D:locktype><D:write/></D:locktype><D:lockscope>"...)
	if l.Exclusive {
		b = append(b, "<D:exclusive/></D:lockscope><D:depth>"...)
	} else {
		b = append(b, "<D:shared/></D:lockscope><D:depth>"...)
	}
	if l.Infinite {
		b = append(b, "infinity</D:depth>"...)
	} else {
		b = append(b, "0</D:depth>"...)
	}
	if l.Owner != "" {
		b = append(append(append(b, "<D:owner>"...), l.Owner...), "</D:owner>"...)
	}
	b = append(b, "<D:timeout>Second-"...)
	b = strconv.AppendInt(b, int64(max(1, time.Until(l.Expires).Round(time.Second)/time.Second)), 10)
	b = append(b, "</D:timeout><D:locktoken><D:href>"...)
	b = append(appendXMLText(b, l.Token), "</D:href></D:locktoken><D:lockroot><D:href>"...)
	b = appendHref(b, prefix, l.Root, false)
	return append(b, "</D:href></D:lockroot></D:activelock>"...)
}

// lockedFailure is the answer to a change that a lock stands against (RFC 4918 16).
func lockedFailure(prefix string, e *session.LockedError) error {
	b := append([]byte(nil), "<D:lock-token-submitted><D:href>"...)
	b = append(appendHref(b, prefix, e.Root, false), "</D:href></D:lock-token-submitted>"...)
	return failElement(423, "It is locked, and the lock's token was not submitted", string(b))
}

// lockedAnswer makes of a change that a lock stands against its answer; other errors stay what they are.
func lockedAnswer(r *request, err error) error {
	if e, ok := errors.AsType[*session.LockedError](err); ok {
		return lockedFailure(r.prefix, e)
	}
	return err
}

// submit evaluates the If header (RFC 4918 10.4) and gives the request's context the tokens that it submits. A header
// that does not hold is 412.
func (r *request) submit() error {
	raw := r.header("If")
	if raw == "" {
		return nil
	}
	h, err := parseIf(raw)
	if err != nil {
		return fail(400, err.Error())
	}
	r.ctx = session.WithLockTokens(r.ctx, h.tokens())
	ok, err := h.holds(r.stateOf)
	if err != nil {
		return err
	}
	if !ok {
		return errPrecondition
	}
	return nil
}

// stateOf is what the conditions of an If header on a resource are about. One of another server, or one that this user
// may not look at, is as if it were not there.
func (r *request) stateOf(tag string) (ifState, error) {
	var st ifState
	p := r.path
	if tag != "" {
		var err error
		if p, err = parseReference(tag, r.host, r.prefix); err != nil {
			return st, nil
		}
	}
	if info, err := r.s.Stat(r.ctx, p); err == nil {
		st.etag = r.etag(info)
	} else if !absent(err) {
		return st, err
	}
	locks, err := r.s.Locks(r.ctx, p)
	if err != nil && !absent(err) {
		return st, err
	}
	for _, l := range locks {
		st.tokens = append(st.tokens, l.Token)
	}
	return st, nil
}

func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, vfs.ErrNotDir)
}

// conditionsOn evaluates the conditions of RFC 9110 on what stands at p.
func (r *request) conditionsOn(p vfs.Path) error {
	info, err := r.s.Stat(r.ctx, p)
	switch {
	case err == nil:
		return r.preconditions(&info)
	case absent(err):
		return r.preconditions(nil)
	}
	return err
}
