package rest

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/valyala/fasthttp"
)

// freshFor is how long after a token was given for a password its bearer need not give it again.
const freshFor = 5 * time.Minute

// again is what a change of the second factor may carry beside what it changes.
type again struct {
	Current string `json:"current_password"`
}

// proveAgain asks who changes their second factor for their password once more (AUTH-7): as current_password in the
// body doc, unless the token is fresh. Who has found a token that lies about cannot lock its owner out.
func (q *Request) proveAgain(doc []byte) error {
	var in again
	if len(bytes.TrimSpace(doc)) > 0 {
		if err := json.Unmarshal(doc, &in); err != nil {
			return badRequest("the body is not a JSON object")
		}
	}
	if in.Current == "" {
		if q.claims != nil && q.claims.IssuedAt != nil && q.API.Now().Sub(q.claims.IssuedAt.Time) < freshFor {
			return nil
		}
		return refuse(fasthttp.StatusForbidden, "your password is needed for this: give it as current_password, or get a new token first")
	}
	if q.Admin != nil {
		return q.API.Deps.Admin.ProveAdmin(q.Context(), q.Actor, in.Current)
	}
	return q.API.Deps.Admin.ProveUser(q.Context(), q.userActor(), q.Login.User(), in.Current)
}
