package dav

import (
	"context"
	"log/slog"

	"github.com/gantryhq/gantry/engine"
)

// maxInstant is the largest file that is sent from the loop, in bytes. What is larger is worth a goroutine.
const maxInstant = 16 << 10

// instant answers a GET in the connection's turn, where everything that it takes is in memory: the login, the account's
// rules, the file. To hand it to another goroutine and be woken costs a third of such a request. ok is false for
// everything else, and nothing has happened then.
func (c *conn) instant(r *request) (v engine.Verdict, ok bool) {
	if r.method != "GET" || r.length != 0 || r.slash || r.path.IsRoot() || !c.stands(r) || r.selective() {
		return v, false
	}
	w := newResponse(c.srv, c, r)
	w.hold()
	b, info, ok := c.s.ReadInstant(c.lives(), r.path, w.buf.B, maxInstant)
	if !ok {
		w.drop()
		w.free()
		return v, false
	}
	w.buf.B = b
	if x := c.srv.cors; x != nil {
		x.apply(r, w)
	}
	c.srv.describe(r, w, info)
	w.status(200)
	return c.put(r, w), true
}

// instantFind is instant for a PROPFIND of one resource whose body the server has read before.
func (c *conn) instantFind(r *request, body []byte) (v engine.Verdict, ok bool) {
	if r.method != "PROPFIND" || r.header("Depth") != "0" || !c.stands(r) || r.conditional() || r.header("If") != "" {
		return v, false
	}
	f, _ := c.srv.finds.known(body)
	if f == nil || f.kind != findProps || f.quota {
		return v, false
	}
	info, ok := c.s.StatInstant(r.path)
	if !ok {
		return v, false
	}
	r.ctx, r.s = c.lives(), c.s
	w := newResponse(c.srv, c, r)
	if x := c.srv.cors; x != nil {
		x.apply(r, w)
	}
	if err := c.srv.tell(r, w, f, &entry{own: true, path: r.path, info: info}, depthZero); err != nil {
		w.fail(err)
	}
	r.length = 0 // it has been taken
	return c.put(r, w), true
}

// stands reports whether the request is that of the connection's session, whose login nothing has to be asked about.
func (c *conn) stands(r *request) bool {
	return c.s != nil && c.srv.gate.Unlimited() && equalSecret(r.auth, c.auth) && c.same(r.remote.Addr()) &&
		(c.behind == nil || r.remote.Addr() == c.ec.Remote().Addr() || r.remote.Addr() == c.behind.admitted) &&
		c.srv.sessions.StandsNow(c.login) && !c.srv.log.Enabled(context.Background(), slog.LevelDebug) // else it is traced
}

// selective reports whether the request is for a part of a resource, or for one in a certain state.
func (r *request) selective() bool {
	return r.conditional() || r.header("Range") != "" || r.header("If") != ""
}
