package rest

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/valyala/fasthttp"

	"github.com/gantryhq/gantry/httpapi"
	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/session"
)

// Audiences of tokens.
const (
	audienceAdmin = "API"
	audienceUser  = "APIUser"
)

// claims are what a token says. Nothing but the name decides what its bearer may do: the account is read anew.
type claims struct {
	jwt.RegisteredClaims
	Username    string   `json:"username"`
	Permissions []string `json:"permissions"` // for clients' display
	Role        string   `json:"role,omitempty"`
	Account     int64    `json:"acc,omitempty"` // the record's number: another account of the same name is another account
	Epoch       string   `json:"epoch"`         // ends with the password (AUTH-8)
}

// tokenAnswer is the answer of the token calls.
type tokenAnswer struct {
	AccessToken string `json:"access_token"`
	ExpiresAt   string `json:"expires_at"`
}

// adminEpoch and userEpoch are digests of what a token must not outlive.
func adminEpoch(a *account.Admin) string { return digest("admin", a.Username, a.Password) }

func userEpoch(u *account.User) string {
	// Not the hash: a login may give an old password a new one.
	return digest("user", u.Username, strconv.FormatInt(u.LastPasswordChange, 10), strconv.FormatBool(u.Password != ""))
}

func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}

// mac keys a digest, so that a token's bearer learns nothing of a hash.
func (a *API) mac(epoch string) string { return digest(string(a.key), "epoch", epoch) }

// holds reports whether a token is still one of its account.
func (a *API) holds(c *claims, epoch string, updatedAt int64) bool {
	if a.cfg.TokenValidation&2 != 0 && c.Subject != strconv.FormatInt(updatedAt, 10) {
		return false
	}
	return subtle.ConstantTimeCompare([]byte(c.Epoch), []byte(a.mac(epoch))) == 1
}

// issue signs a token.
func (a *API) issue(q *Request, audience string, c *claims, updatedAt int64) error {
	now := a.Now()
	end := now.Add(time.Duration(a.cfg.JWTLifetime) * time.Minute)
	c.RegisteredClaims = jwt.RegisteredClaims{
		ID: rand.Text(), Subject: strconv.FormatInt(updatedAt, 10), Audience: jwt.ClaimStrings{audience, q.Remote.Addr().String()},
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now.Add(-10 * time.Second)), ExpiresAt: jwt.NewNumericDate(end),
	}
	c.Epoch = a.mac(c.Epoch)
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(a.key)
	if err != nil {
		return err
	}
	return q.JSON(fasthttp.StatusOK, tokenAnswer{AccessToken: text, ExpiresAt: end.UTC().Format(time.RFC3339)})
}

// token checks the bearer's token.
func (a *API) token(q *Request, audience string) (*claims, error) {
	scheme, text, _ := strings.Cut(q.Header("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || text == "" {
		return nil, refuse(fasthttp.StatusUnauthorized, "a token is needed")
	}
	var c claims
	_, err := jwt.ParseWithClaims(text, &c, func(*jwt.Token) (any, error) { return a.key, nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithAudience(audience), jwt.WithExpirationRequired(), jwt.WithLeeway(30*time.Second),
		jwt.WithTimeFunc(a.Now))
	switch {
	case err != nil:
		return nil, &Error{Status: fasthttp.StatusUnauthorized, Text: "the token is not valid", Err: err}
	case c.Username == "" || c.ID == "":
		return nil, badRequest("the token is not usable")
	case a.cfg.TokenValidation&1 == 0 && !slices.Contains(c.Audience, q.Remote.Addr().String()):
		return nil, refuse(fasthttp.StatusUnauthorized, "the token was given to another address")
	case a.isRevoked(c.ID):
		return nil, refuse(fasthttp.StatusUnauthorized, "the token is not valid any more")
	}
	return &c, nil
}

// Revoke ends the token of the call, if it came by one. An error says that other nodes may still take it.
func (q *Request) Revoke() error {
	if q.claims == nil {
		return nil
	}
	return q.API.revoke(q.Context(), q.claims)
}

// otpHeader carries the code of a second factor.
const otpHeader = "X-SFTPGO-OTP"

// basic reads the credentials of a token call. A recovery code is none here: it reads as a wrong code.
func basic(q *Request) (name, password, code string, err error) {
	scheme, text, _ := strings.Cut(q.Header("Authorization"), " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", "", errUnauthorized
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", "", "", errUnauthorized
	}
	name, password, ok := strings.Cut(string(raw), ":")
	if !ok {
		return "", "", "", errUnauthorized
	}
	if code = q.Header(otpHeader); code != "" && len(code) != 6 {
		code = "------"
	}
	return name, password, code, nil
}

// adminToken is GET /token.
func adminToken(q *Request) error {
	a := q.API
	if q.Config().DisabledLoginMethods&httpapi.NoAdminToken != 0 {
		return refuse(fasthttp.StatusNotFound, "")
	}
	name, password, code, err := basic(q)
	if err != nil {
		return err
	}
	if err := a.postConnect(q); err != nil {
		return err
	}
	who, err := a.Admin.Login(q.Context(), name, password, code, q.Remote.Addr())
	if err != nil {
		return err
	}
	return a.issue(q, audienceAdmin, &claims{Username: who.Username, Permissions: who.Permissions, Role: who.Role, Epoch: adminEpoch(who)}, who.UpdatedAt)
}

func (a *API) postConnect(q *Request) error {
	if a.PostConnect == nil {
		return nil
	}
	if err := a.PostConnect(q.Context(), q.Remote.Addr()); err != nil {
		return &Error{Status: fasthttp.StatusForbidden, Text: "not allowed from your address", Err: err}
	}
	return nil
}

// userToken is GET /user/token.
func userToken(q *Request) error {
	a := q.API
	if q.Config().DisabledLoginMethods&httpapi.NoUserToken != 0 {
		return refuse(fasthttp.StatusNotFound, "")
	}
	name, password, code, err := basic(q)
	if err != nil {
		return err
	}
	if err := a.postConnect(q); err != nil {
		return err
	}
	l, err := a.Sessions.Authenticate(q.Context(), &session.Attempt{
		Protocol: account.ProtocolHTTP, Method: account.MethodPassword, Username: name, Password: password, Code: code,
		Remote: q.Remote.Addr(), Local: q.Local, ConnID: q.ID, Client: clientOf(q), Secure: q.Secure,
	})
	if err != nil {
		return loginError(err)
	}
	// The session checks max_sessions and the storage, and is the login in the records.
	s, err := a.open(q, l, "HTTP")
	if err != nil {
		return err
	}
	s.Close()
	u := l.User()
	return a.issue(q, audienceUser, &claims{Username: u.Username, Permissions: u.Filters.WebClient, Role: u.Role, Account: u.ID, Epoch: userEpoch(u)}, u.UpdatedAt)
}

// loginError is the answer to a login that was denied: by a rule of the account, or for a reason that the peer does not
// hear (AUTH-4).
func loginError(err error) error {
	switch session.DenialOf(err) {
	case session.DeniedByRule:
		return &Error{Status: fasthttp.StatusForbidden, Text: "the account may not be used here", Err: err}
	case session.DeniedForNow:
		return &Error{Status: fasthttp.StatusServiceUnavailable, Text: "nobody can log in at the moment", Err: err}
	case session.DeniedCredentials:
		return &Error{Status: fasthttp.StatusUnauthorized, Text: errUnauthorized.Text, Err: err}
	}
	return err
}

// logout is GET and POST /logout and /user/logout.
func logout(q *Request) error {
	if err := q.Revoke(); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "Your token has been invalidated")
}
