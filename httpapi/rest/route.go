package rest

import (
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/gantryhq/gantry/internal/account"
)

// Auth says who may call a route.
type Auth int

// The kinds of callers. The zero value is none: such a row fails the test of the table and answers 500.
const (
	_           Auth = iota
	Public           // everybody
	BasicAuth        // a token call: the handler proves name and password
	Admin            // an administrator's token or API key
	AdminToken       // an administrator's token alone
	User             // a user's token or API key
	UserToken        // a user's token alone
	SharePublic      // the handler proves what the share asks for
)

// Any is the permission of routes that every administrator may call.
const Any = "any"

// Route is one row of the table: all that is known of a call beside what it does.
type Route struct {
	Method string
	Path   string // below Base, or in full if Root; {name} is a parameter
	Root   bool
	Auth   Auth
	Perm   string // of administrators: a permission, or one of several divided by "|"; "*", or Any
	Gate   bool   // refused while the account must change its password or set up a second factor
	// Denied names the web_client option that forbids the call to a user.
	Denied string
	// Files: a user's call that works on files. It gets a Session.
	Files bool
	// Body is the most that the request's body may have, in bytes: 0 is 1 MiB, -1 no limit.
	Body int64
	Run  func(q *Request) error

	ID string // operationId in the OpenAPI document
	Of string // tag there
}

// FullPath is the path from the root.
func (r *Route) FullPath() string {
	if r.Root {
		return r.Path
	}
	return Base + r.Path
}

// defaultBody bounds ordinary calls (rest-api.md 1).
const defaultBody = 1 << 20

func (r *Route) limit() int64 {
	switch {
	case r.Body < 0:
		return 0
	case r.Body == 0:
		return defaultBody
	}
	return r.Body
}

// Guarded says what is wrong with a row's guard, "" if nothing is (SHARE-1, ADM-1).
func (r *Route) Guarded() string {
	switch r.Auth {
	case Public, BasicAuth:
		if r.Perm != "" || r.Gate || r.Files || r.Denied != "" {
			return "a public route cannot ask for anything"
		}
	case Admin, AdminToken:
		if r.Perm == "" {
			return "it names no permission"
		}
		if r.Files || r.Denied != "" {
			return "administrators have no files and no web_client options"
		}
		if !strings.HasPrefix(r.Path, "/") || strings.HasPrefix(r.Path, "/user/") {
			return "its path is a user's"
		}
	case User, UserToken:
		if r.Perm != "" {
			return "a user has no administrator's permission"
		}
		if !strings.HasPrefix(r.Path, "/user/") {
			return "its path does not begin with /user/"
		}
	case SharePublic:
		if !strings.HasPrefix(r.Path, "/shares/") || r.Perm != "" {
			return "its path does not begin with /shares/"
		}
	default:
		return "it does not say who may call it"
	}
	if r.Run == nil {
		return "it does nothing"
	}
	return ""
}

// PermAny is every permission.
const PermAny = account.PermAny

// The methods of routes.
const (
	get    = fasthttp.MethodGet
	post   = fasthttp.MethodPost
	put    = fasthttp.MethodPut
	patch  = fasthttp.MethodPatch
	remove = fasthttp.MethodDelete
)
