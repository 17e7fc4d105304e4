package rest

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gantryhq/gantry/httpapi"
	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/admin"
	"github.com/gantryhq/gantry/internal/guard"
)

func TestTokenLetsInAndLogoutEndsIt(t *testing.T) { // AUTH-8
	s := newServer(t)
	a := s.basic("/token", "root", "rootpw")
	root := s.bearer(a)
	root.get("/version").want(200).has(`"version":"test"`)
	var tok tokenAnswer
	a.json(&tok)
	if at, err := time.Parse(time.RFC3339, tok.ExpiresAt); err != nil || time.Until(at) > 21*time.Minute || time.Until(at) < 15*time.Minute {
		t.Errorf("expires_at %q: %v", tok.ExpiresAt, err)
	}
	other := s.root()
	root.get("/logout").want(200)
	root.get("/version").want(401)
	other.get("/version").want(200)
	other.post("/logout", "").want(200)
	other.get("/version").want(401)
}

// TestTokenCallsSayAndCostTheSame: AUTH-4 for administrators, users and API keys.
func TestTokenCallsSayAndCostTheSame(t *testing.T) {
	s := newServer(t)
	s.user("u")
	for _, path := range []string{"/token", "/user/token"} {
		name := map[string]string{"/token": "root", "/user/token": "u"}[path]
		v0, f0 := s.hasher.counts()
		wrong := s.basic(path, name, "wrong").want(401)
		v1, f1 := s.hasher.counts()
		unknown := s.basic(path, "nobody", "wrong").want(401)
		v2, f2 := s.hasher.counts()
		if wrong.Body != unknown.Body || wrong.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %q for a wrong password, %q for an unknown name", path, wrong.Body, unknown.Body)
		}
		if (v1-v0)+(f1-f0) != 1 || (v2-v1)+(f2-f1) != 1 {
			t.Errorf("%s: a wrong password cost %d hashes, an unknown name %d", path, (v1-v0)+(f1-f0), (v2-v1)+(f2-f1))
		}
		s.basic(path, name, "").want(401)
		s.basic(path, "", "").want(401)
	}
	v0, f0 := s.hasher.counts()
	s.nobody().get("/users", keyHeader, "nosuchkey.secret").want(400)
	if v, f := s.hasher.counts(); v+f-v0-f0 != 1 {
		t.Errorf("an unknown key cost %d hashes", v+f-v0-f0)
	}
}

func TestForgedTokensAreRefused(t *testing.T) {
	s := newServer(t)
	u := s.user("u")
	now := time.Now()
	sign := func(key any, method jwt.SigningMethod, edit func(c *claims)) caller {
		c := &claims{Username: "root", Epoch: "x"}
		c.RegisteredClaims = jwt.RegisteredClaims{ID: "1", Audience: jwt.ClaimStrings{audienceAdmin, "127.0.0.1"}, ExpiresAt: jwt.NewNumericDate(now.Add(time.Hour))}
		root, err := account.Get[account.Admin](t.Context(), s.store, "root")
		if err != nil {
			t.Fatal(err)
		}
		c.Epoch = s.api.mac(adminEpoch(&root))
		edit(c)
		text, err := jwt.NewWithClaims(method, c).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return caller{s, map[string]string{"Authorization": "Bearer " + text}}
	}
	same := func(*claims) {}
	sign(s.api.key, jwt.SigningMethodHS256, same).get("/users").want(200) // the forger has all but the key
	for name, c := range map[string]caller{
		"none":            sign(jwt.UnsafeAllowNoneSignatureType, jwt.SigningMethodNone, same),
		"another key":     sign([]byte("another key of thirty-two bytes!"), jwt.SigningMethodHS256, same),
		"HS512":           sign(s.api.key, jwt.SigningMethodHS512, same),
		"expired":         sign(s.api.key, jwt.SigningMethodHS256, func(c *claims) { c.ExpiresAt = jwt.NewNumericDate(now.Add(-time.Minute)) }),
		"no end":          sign(s.api.key, jwt.SigningMethodHS256, func(c *claims) { c.ExpiresAt = nil }),
		"not yet":         sign(s.api.key, jwt.SigningMethodHS256, func(c *claims) { c.NotBefore = jwt.NewNumericDate(now.Add(time.Hour)) }),
		"a user's":        u,
		"another address": sign(s.api.key, jwt.SigningMethodHS256, func(c *claims) { c.Audience = jwt.ClaimStrings{audienceAdmin, "10.0.0.1"} }),
		"no audience":     sign(s.api.key, jwt.SigningMethodHS256, func(c *claims) { c.Audience = nil }),
		"an old password": sign(s.api.key, jwt.SigningMethodHS256, func(c *claims) { c.Epoch = "old" }),
		"nobody":          s.nobody(),
		"basic":           {s, map[string]string{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte("root:rootpw"))}},
		"an unknown name": sign(s.api.key, jwt.SigningMethodHS256, func(c *claims) { c.Username = "gone" }),
	} {
		if a := c.get("/users"); a.Status != 401 {
			t.Errorf("%s: got %d: %s", name, a.Status, a.Body)
		}
	}
	sign(s.api.key, jwt.SigningMethodHS256, func(c *claims) { c.Username = "" }).get("/users").want(400)
}

// TestChangesEndTokens: AUTH-8. What an administrator may do is what they may now.
func TestChangesEndTokens(t *testing.T) {
	s := newServer(t)
	root := s.root()
	a := s.as("a", "", "view_users", "add_users")
	a.get("/users").want(200)
	root.put("/admins/a", `{"status":1,"permissions":["view_users"]}`).want(200)
	a.post("/users", s.userJSON("x")).want(403)
	a.get("/users").want(200)
	root.put("/admins/a", `{"status":0,"permissions":["view_users"]}`).want(200)
	a.get("/users").want(401)
	root.put("/admins/a", `{"status":1,"permissions":["view_users"],"filters":{"allow_list":["10.0.0.0/8"]}}`).want(200)
	a.get("/users").want(401)
	root.put("/admins/a", `{"status":1,"permissions":["view_users"]}`).want(200)
	a.get("/users").want(200)
	root.put("/admins/a", `{"status":1,"permissions":["view_users"],"password":"new"}`).want(200)
	a.get("/users").want(401)
	s.basic("/token", "a", "pw").want(401)
	s.basic("/token", "a", "new").want(200)

	u := s.user("u")
	u.get("/user/logout").want(200)
	u.get("/user/logout").want(401)
	u = s.bearer(s.basic("/user/token", "u", "pw"))
	root.patch("/users/u", `{"password":"new"}`).want(200)
	u.get("/user/logout").want(401)
	u = s.bearer(s.basic("/user/token", "u", "new"))
	root.patch("/users/u", `{"status":0}`).want(200)
	u.get("/user/logout").want(401)
	root.patch("/users/u", `{"status":1,"filters":{"denied_protocols":["HTTP"]}}`).want(200)
	u.get("/user/logout").want(403)
	s.basic("/user/token", "u", "new").want(403)
	root.patch("/users/u", `{"filters":{"denied_protocols":null,"denied_ip":["127.0.0.0/8"]}}`).want(200)
	s.basic("/user/token", "u", "new").want(403)
	// Another account of the same name is another account.
	root.patch("/users/u", `{"filters":{"denied_ip":null}}`).want(200)
	u = s.bearer(s.basic("/user/token", "u", "new"))
	root.delete("/users/u").want(200)
	root.post("/users", s.userJSON("u")).want(201)
	u.get("/user/logout").want(401)
}

func TestTokenValidationBits(t *testing.T) {
	s := newServer(t, func(c *httpapi.Config, _ *guard.Config) { c.TokenValidation = 2 })
	a := s.as("a", "", "view_users")
	a.get("/users").want(200)
	s.root().put("/admins/a", `{"status":1,"permissions":["view_users"],"description":"changed"}`).want(200)
	a.get("/users").want(401)
}

func TestDisabledLoginMethods(t *testing.T) {
	s := newServer(t)
	s.user("u")
	k := newKey(t, s, `{"name":"k","scope":1,"admin":"root"}`)
	s.api.cfg.Bindings[0].DisabledLoginMethods = 0
	off := newServer(t, func(c *httpapi.Config, _ *guard.Config) {
		c.Bindings[0].DisabledLoginMethods = httpapi.NoAdminToken | httpapi.NoUserToken | httpapi.NoAdminAPIKey
	})
	off.basic("/token", "root", "rootpw").want(404)
	off.basic("/user/token", "u", "pw").want(404)
	off.nobody().get("/users", keyHeader, k).want(401)
}

// newKey makes an API key and gives its text.
func newKey(t *testing.T, s *server, doc string) string {
	t.Helper()
	root := s.root()
	var k struct{ Key string }
	root.put("/admin/profile", `{"allow_api_key_auth":true}`).want(200)
	root.post("/apikeys", doc).want(201).json(&k)
	return k.Key
}

func TestAPIKeys(t *testing.T) { // KEY-1
	s := newServer(t)
	root := s.root()
	s.user("u", `,"filters":{"allow_api_key_auth":true}`)
	root.post("/users", s.userJSON("closed")).want(201)
	key := newKey(t, s, `{"name":"k","scope":1,"admin":"root","id":"mine","key":"mine"}`)
	id, secret, _ := strings.Cut(key, ".")
	if id == "mine" || len(secret) < 43 {
		t.Errorf("id %q, a secret of %d characters", id, len(secret))
	}
	use := func(key string) caller { return caller{s, map[string]string{keyHeader: key}} }
	use(key).get("/users").want(200)
	use(key).get("/version").want(200)
	use(key).get("/apikeys").want(403)
	use(key).get("/admin/profile").want(403)
	use(key).put("/admins/root", `{"status":1,"permissions":["*"]}`).want(400)
	use(key + ".nobody").get("/users").want(200) // it stands for root alone
	use(id + ".wrong").get("/users").want(401)
	use("nokey.x").get("/users").want(400)
	use("nodot").get("/users").want(400)
	use(key).get("/user/logout").want(403)

	list := root.get("/apikeys").want(200).lacks(secret).lacks("$2a$").has(`"name":"k"`)
	var keys []account.APIKey
	list.json(&keys)
	if len(keys) != 1 || keys[0].LastUseAt == 0 {
		t.Errorf("%+v", keys)
	}
	created := root.post("/apikeys", `{"name":"of users","scope":2}`).want(201)
	if created.Header.Get("X-Object-ID") == "" || created.Header.Get("Location") != "/api/v2/apikeys/"+created.Header.Get("X-Object-ID") {
		t.Errorf("headers %v", created.Header)
	}
	var k struct{ Key string }
	created.json(&k)
	use(k.Key).get("/user/logout").want(401) // whose?
	use(k.Key + ".u").get("/user/logout").want(403)
	use(k.Key + ".closed").get("/user/logout").want(403)
	use(k.Key + ".nobody").get("/user/logout").want(403)
	use(k.Key + ".u").get("/users").want(403)

	root.put("/apikeys/"+id, `{"name":"k2","scope":1,"admin":"root","expires_at":1}`).want(200)
	use(key).get("/users").want(401)
	root.get("/apikeys/" + id).want(200).has("k2").lacks("$2a$")
	root.put("/apikeys/"+id, `{"name":"k2","scope":1,"admin":"nobody"}`).want(400)
	root.delete("/apikeys/" + id).want(200)
	use(key).get("/users").want(400)
	root.post("/apikeys", `{"name":"x","scope":3}`).want(400)
	root.post("/apikeys", `{"name":"x","scope":1,"admin":"root","user":"u"}`).want(400)
	root.post("/apikeys", `{"name":"x","scope":2,"expires_at":5}`).want(400)
	if log := s.log.String(); strings.Contains(log, secret) || strings.Contains(log, "rootpw") { // KEY-1, LOG-1
		t.Error("a secret is in the log")
	}
}

// code is a code of a secret, step steps from now (RFC 6238).
func code(t *testing.T, secret string, step int64) string {
	t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	m := hmac.New(sha1.New, key)
	binary.Write(m, binary.BigEndian, time.Now().Unix()/30+step)
	sum := m.Sum(nil)
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[sum[19]&15:])&0x7fffffff%1_000_000)
}

func TestSecondFactorOfAdministrators(t *testing.T) { // AUTH-7
	s := newServer(t)
	root := s.root()
	root.get("/admin/totp/configs").want(200).has(`"name":"Default"`)
	root.get("/admin/2fa/recoverycodes").want(403)
	root.post("/admin/2fa/recoverycodes", "").want(403)
	root.post("/admin/totp/generate", `{"config_name":"none"}`).want(400)
	var gen struct{ Secret, URL, QRCode string }
	root.post("/admin/totp/generate", `{"config_name":"Default"}`).want(200).json(&gen)
	if !strings.HasPrefix(gen.URL, "otpauth://totp/Gantry:root?") {
		t.Errorf("url %q", gen.URL)
	}
	c := code(t, gen.Secret, -1)
	body := fmt.Sprintf(`{"config_name":"Default","passcode":%q,"secret":%q}`, c, gen.Secret)
	root.post("/admin/totp/validate", body).want(200)
	root.post("/admin/totp/validate", body).want(400) // burnt
	root.post("/admin/totp/validate", strings.Replace(body, c, "000000", 1)).want(400)
	short := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(make([]byte, 10))
	root.post("/admin/totp/save", `{"enabled":true,"config_name":"Default","secret":{"status":"Plain","payload":"`+short+`"}}`).want(400)
	root.post("/admin/totp/save", `{"enabled":true,"config_name":"none","secret":{"status":"Plain","payload":"`+gen.Secret+`"}}`).want(400)
	root.post("/admin/totp/save", `{"enabled":true,"config_name":"Default","secret":{"status":"Redacted"}}`).want(400)
	var saved savedTOTP
	root.post("/admin/totp/save", `{"enabled":true,"config_name":"Default","secret":{"status":"Plain","payload":"`+gen.Secret+`"}}`).want(200).json(&saved)
	if len(saved.RecoveryCodes) != 12 {
		t.Errorf("%d recovery codes", len(saved.RecoveryCodes))
	}
	root.get("/admins/root").want(200).lacks(gen.Secret).has(`"enabled":true`)
	root.get("/admin/2fa/recoverycodes").want(200).lacks(saved.RecoveryCodes[0]).has(`"used":false`)
	s.basic("/token", "root", "rootpw").want(401)
	s.basic("/token", "root", "rootpw", otpHeader, "000000").want(401)
	s.basic("/token", "root", "rootpw", otpHeader, saved.RecoveryCodes[0]).want(401)
	now := code(t, gen.Secret, 0)
	s.basic("/token", "root", "rootpw", otpHeader, now).want(200)
	s.basic("/token", "root", "rootpw", otpHeader, now).want(401) // replayed
	// A PUT does not touch it.
	root.put("/admins/root", `{"status":1,"permissions":["*"]}`).want(200)
	root.get("/admins/root").want(200).has(`"enabled":true`)
	var fresh []string
	root.post("/admin/2fa/recoverycodes", "").want(200).json(&fresh)
	if len(fresh) != 12 || fresh[0] == saved.RecoveryCodes[0] {
		t.Errorf("%d new codes", len(fresh))
	}
	root.post("/admin/totp/save", `{"enabled":false}`).want(200)
	s.basic("/token", "root", "rootpw").want(200)
	root.put("/admins/root/2fa/disable", "").want(400)
}

func TestGateHoldsWhoMustDoSomethingFirst(t *testing.T) { // AUTH-3
	s := newServer(t)
	s.root().post("/admins", `{"username":"a","password":"pw","status":1,"permissions":["view_users"],"filters":{"require_password_change":true}}`).want(201)
	a := s.bearer(s.basic("/token", "a", "pw"))
	a.get("/users").want(403)
	a.get("/admin/profile").want(200)
	a.put("/admin/profile", `{}`).want(403)
	a.put("/admin/changepwd", `{"current_password":"pw","new_password":"pw"}`).want(400)
	a.put("/admin/changepwd", `{"current_password":"no","new_password":"new"}`).want(400)
	a.put("/admin/changepwd", `{"current_password":"pw","new_password":"weak"}`).want(400)
	a.put("/admin/changepwd", `{"current_password":"pw","new_password":"$2a$04$abcdefghijklmnopqrstuuKzRjZxH0yVq6x3lqTqT7Cz9eUu2Jm6S"}`).want(400)
	a.put("/admin/changepwd", `{"current_password":"pw","new_password":"new"}`).want(200)
	a.get("/version").want(401)
	a = s.bearer(s.basic("/token", "a", "new"))
	a.get("/users").want(200)
	s.root().put("/admins/a", `{"status":1,"permissions":["view_users"],"filters":{"require_two_factor":true}}`).want(200)
	a.get("/users").want(403)
	a.get("/admin/totp/configs").want(200)
	a.post("/admin/totp/save", `{"enabled":false}`).want(400)
}

func TestSetupTokenMakesTheFirstAdministratorOnce(t *testing.T) { // ADM-1
	s := newServer(t)
	body := func(token string) string {
		b, _ := json.Marshal(setupRequest{Token: token, Username: "first", Password: "pw"})
		return string(b)
	}
	s.nobody().post("/setup", body("")).want(401)
	token := s.admin.SetupToken()
	s.nobody().post("/setup", body(token+"x")).want(401)
	s.nobody().post("/setup", body(token)).want(403) // there is one
	if err := s.store.DeleteRecord(t.Context(), account.KindAdmin, "root"); err != nil {
		t.Fatal(err)
	}
	s.nobody().post("/setup", strings.Replace(body(token), `"pw"`, `"weak"`, 1)).want(400)
	s.nobody().post("/setup", body(token)).want(201)
	s.nobody().post("/setup", body(token)).want(401)
	s.basic("/token", "first", "pw").want(200)
}

// TestFailuresFeedTheDefender: wrong credentials of every kind count, and a ban is answered with 403.
func TestFailuresFeedTheDefender(t *testing.T) { // AUTH-9
	for name, fail := range map[string]func(s *server) *answer{
		"administrator": func(s *server) *answer { return s.basic("/token", "root", "x"+rand.Text()) },
		"user":          func(s *server) *answer { return s.basic("/user/token", "nobody", "x") },
		"key":           func(s *server) *answer { return s.nobody().get("/users", keyHeader, "no.key") },
		"setup":         func(s *server) *answer { return s.nobody().post("/setup", `{}`) },
	} {
		s := newServer(t, func(_ *httpapi.Config, g *guard.Config) {
			g.Defender.Enabled, g.Defender.Threshold, g.Defender.LoginDelay.PasswordFailed = true, 5, 0
		})
		n := 0
		for ; n < 10; n++ {
			if fail(s).Status == 403 {
				break
			}
		}
		if n < 2 || n > 5 {
			t.Errorf("%s: banned after %d failures", name, n)
		}
		s.nobody().get("//healthz").want(403)
		hosts, err := s.admin.Hosts(admin.System())
		if err != nil || len(hosts) != 1 || hosts[0].Addr != netip.MustParseAddr("127.0.0.1") || hosts[0].Ban.IsZero() {
			t.Errorf("%s: %+v %v", name, hosts, err)
		}
	}
}
