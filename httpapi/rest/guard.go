package rest

import (
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/gantryhq/gantry/httpapi"
	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/admin"
	"github.com/gantryhq/gantry/internal/session"
)

// keyHeader carries an API key.
const keyHeader = "X-SFTPGO-API-KEY"

// guard lets a call through that its row allows, and fills in who calls. There is no other way to a handler.
func (a *API) guard(q *Request) error {
	if why := q.Route.Guarded(); why != "" {
		return refuse(fasthttp.StatusInternalServerError, "the route is not guarded")
	}
	switch q.Route.Auth {
	case Admin, AdminToken:
		return a.guardAdmin(q)
	case User, UserToken:
		return a.guardUser(q)
	}
	return nil // Public, BasicAuth and SharePublic: Guarded knows no others
}

func (a *API) guardAdmin(q *Request) error {
	if text := q.Header(keyHeader); text != "" && q.Config().DisabledLoginMethods&httpapi.NoAdminAPIKey == 0 {
		key, who, err := a.Admin.AdminKey(q.Context(), text, q.Remote.Addr())
		if err != nil {
			return err
		}
		if q.Route.Auth == AdminToken {
			return refuse(fasthttp.StatusForbidden, "an API key cannot be used here")
		}
		q.Admin, q.Actor = who, admin.ActorOf(who, q.Remote.Addr(), key.ID)
	} else {
		c, err := a.token(q, audienceAdmin)
		if err != nil {
			return err
		}
		who, err := a.Admin.Current(q.Context(), c.Username, q.Remote.Addr())
		if err != nil {
			return err
		}
		if !a.holds(c, adminEpoch(who), who.UpdatedAt) {
			return errUnauthorized
		}
		q.claims, q.Admin, q.Actor = c, who, admin.ActorOf(who, q.Remote.Addr(), "")
		f := &who.Filters
		if q.Route.Gate && (f.RequirePasswordChange || f.RequireTwoFactor && !f.TOTPConfig.Enabled) {
			return refuse(fasthttp.StatusForbidden, "change your password or set up the second factor first")
		}
	}
	if p := q.Route.Perm; p != Any && !slices.ContainsFunc(strings.Split(p, "|"), q.Actor.May) {
		return refuse(fasthttp.StatusForbidden, "permission denied: %s is needed", strings.ReplaceAll(p, "|", " or "))
	}
	return nil
}

func (a *API) guardUser(q *Request) error {
	attempt := &session.Attempt{
		Protocol: account.ProtocolHTTP, Method: account.MethodPassword, Remote: q.Remote.Addr(), Local: q.Local, ConnID: q.ID,
		Client: clientOf(q), Secure: q.Secure,
	}
	if text := q.Header(keyHeader); text != "" && q.Config().DisabledLoginMethods&httpapi.NoUserAPIKey == 0 {
		_, name, err := a.Admin.UserKey(q.Context(), text, q.Remote.Addr())
		if err != nil {
			return err
		}
		if q.Route.Auth == UserToken {
			return refuse(fasthttp.StatusForbidden, "an API key cannot be used here")
		}
		attempt.Username = name
		if q.Login, err = a.Sessions.Vouch(q.Context(), session.Vouched{Username: name, Method: account.MethodPassword, Factor: true}, attempt); err != nil {
			a.Sessions.Refused(q.Context(), q.Remote.Addr(), account.ProtocolHTTP, name, "api-key", err)
			return loginError(err)
		}
		if !q.Login.User().Filters.AllowAPIKeyAuth {
			return refuse(fasthttp.StatusForbidden, "the account takes no API keys")
		}
	} else {
		c, err := a.token(q, audienceUser)
		if err != nil {
			return err
		}
		attempt.Username = c.Username
		// The code was asked for when the token was given.
		q.Login, err = a.Sessions.Vouch(q.Context(), session.Vouched{Username: c.Username, ID: c.Account, Method: account.MethodPassword, Factor: true}, attempt)
		if err != nil {
			return loginError(err)
		}
		u := q.Login.User()
		if !a.holds(c, userEpoch(u), u.UpdatedAt) {
			return errUnauthorized
		}
		q.claims = c
		if password, factor := q.Login.Owes(a.Now()); q.Route.Gate && (password || factor) {
			return refuse(fasthttp.StatusForbidden, "change your password or set up the second factor first")
		}
	}
	if d := q.Route.Denied; d != "" && slices.Contains(q.Login.User().Filters.WebClient, d) {
		return refuse(fasthttp.StatusForbidden, "the account is not allowed to do this (%s)", d)
	}
	if !q.Route.Files {
		return nil
	}
	s, err := a.open(q, q.Login, "HTTP")
	q.Session = s
	return err
}

// open makes a session that ends with the request. protocol is its name in logs and events.
func (a *API) open(q *Request, l *session.Login, protocol string) (*session.Session, error) {
	s, err := a.Sessions.Open(q.Context(), l, session.Conn{
		ID: q.ID, Protocol: protocol, Remote: q.Remote, Local: q.Local, Client: clientOf(q), Kill: q.Kill,
	})
	if err != nil {
		return nil, err
	}
	q.OnDone(func() { s.Close() })
	return s, nil
}

// clientOf is the client's software, bounded.
func clientOf(q *Request) string {
	s := string(q.HTTP.UserAgent())
	return strings.ToValidUTF8(s[:min(len(s), 255)], "")
}
