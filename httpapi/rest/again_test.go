package rest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gantryhq/gantry/internal/account"
)

// aged is a caller with a token that was given some time ago.
func (s *server) aged(name string, admin bool, age time.Duration) caller {
	s.t.Helper()
	c := &claims{Username: name}
	audience := audienceUser
	if admin {
		a, err := account.Get[account.Admin](s.t.Context(), s.store, name)
		if err != nil {
			s.t.Fatal(err)
		}
		c.Epoch, audience = s.api.mac(adminEpoch(&a)), audienceAdmin
	} else {
		u, err := s.store.User(s.t.Context(), name)
		if err != nil {
			s.t.Fatal(err)
		}
		c.Epoch, c.Account = s.api.mac(userEpoch(&u)), u.ID
	}
	at := time.Now().Add(-age)
	c.RegisteredClaims = jwt.RegisteredClaims{ID: fmt.Sprint(name, age), Audience: jwt.ClaimStrings{audience, "127.0.0.1"},
		IssuedAt: jwt.NewNumericDate(at), ExpiresAt: jwt.NewNumericDate(at.Add(20 * time.Minute))}
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(s.api.key)
	if err != nil {
		s.t.Fatal(err)
	}
	return caller{s, map[string]string{"Authorization": "Bearer " + text}}
}

// TestSecondFactorAsksForThePasswordAgain: who holds a token that was given a while ago changes no second factor
// without the password (AUTH-7).
func TestSecondFactorAsksForThePasswordAgain(t *testing.T) {
	s := newServer(t)
	s.user("ann")
	for _, x := range []struct {
		name, password, at string
		admin              bool
	}{{"root", "rootpw", "/admin", true}, {"ann", "pw", "/user", false}} {
		old, fresh := s.aged(x.name, x.admin, 6*time.Minute), s.aged(x.name, x.admin, time.Minute)
		var gen struct{ Secret string }
		old.post(x.at+"/totp/generate", `{"config_name":"Default"}`).want(200).json(&gen)
		on := func(more string) string {
			return fmt.Sprintf(`{"enabled":true,"config_name":"Default","protocols":["HTTP"],"secret":{"status":"Plain","payload":%q}%s}`, gen.Secret, more)
		}
		old.post(x.at+"/totp/save", on("")).want(403).has("current_password")
		old.post(x.at+"/totp/save", on(`,"current_password":"wrong"`)).want(400)
		old.post(x.at+"/totp/save", on(`,"current_password":7`)).want(400)
		old.get(x.at + "/2fa/recoverycodes").want(403)
		old.post(x.at+"/totp/save", on(`,"current_password":"`+x.password+`"`)).want(200)
		old.post(x.at+"/2fa/recoverycodes", "").want(403).has("current_password")
		old.post(x.at+"/2fa/recoverycodes", `{"current_password":"wrong"}`).want(400)
		old.post(x.at+"/2fa/recoverycodes", `{"current_password":"`+x.password+`"}`).want(200)
		old.post(x.at+"/totp/save", `{"enabled":false}`).want(403)
		fresh.post(x.at+"/2fa/recoverycodes", "").want(200)
		fresh.post(x.at+"/totp/save", `{"enabled":false}`).want(200)
	}
}

// values is what nodes share.
type values struct {
	mu     sync.Mutex
	at     int64
	list   []account.SharedValue
	put    []int64 // when each of list was
	broken error
}

func (v *values) PutValue(_ context.Context, _, key string, value []byte, life time.Duration) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.broken != nil {
		return v.broken
	}
	if life <= 0 {
		return errors.New("no life")
	}
	v.at += overlap / 2
	v.list, v.put = append(v.list, account.SharedValue{Key: key, Value: value}), append(v.put, v.at)
	return nil
}

func (v *values) ValuesSince(_ context.Context, _ string, since int64) (list []account.SharedValue, now int64, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, x := range v.list {
		if v.put[i] >= since {
			list = append(list, x)
		}
	}
	return list, v.at, v.broken
}

// TestTokensEndOnAllNodes: what one node has ended the others refuse (AUTH-8).
func TestTokensEndOnAllNodes(t *testing.T) {
	shared := &values{}
	a := newServer(t)
	a.api.Shared = shared
	var since int64
	sync := func() {
		t.Helper()
		var err error
		// As another node would: it knows nothing by itself.
		a.api.mu.Lock()
		clear(a.api.revoked)
		a.api.mu.Unlock()
		if since, err = a.api.SyncTokens(t.Context(), since); err != nil {
			t.Fatal(err)
		}
	}
	root, other := a.root(), a.root()
	root.get("/users").want(200)
	root.get("/logout").want(200)
	root.get("/users").want(401)
	sync()
	root.get("/users").want(401)
	other.get("/users").want(200)
	other.post("/logout", "").want(200)
	sync() // a later look has both still: they were put shortly one after the other
	root.get("/users").want(401)
	other.get("/users").want(401)
	last := a.root()
	shared.broken = fmt.Errorf("gone: %w", account.ErrUnavailable)
	last.get("/logout").want(503)
	last.get("/users").want(401) // here it has ended all the same
	shared.broken = nil
	shared.list = append(shared.list, account.SharedValue{Key: "odd", Value: []byte("x")})
	shared.put = append(shared.put, shared.at)
	sync()
	if !a.api.isRevoked("odd") {
		t.Error("a value that cannot be read ended nothing")
	}
}
