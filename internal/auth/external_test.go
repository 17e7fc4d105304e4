package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/event/hook"
	"github.com/gantryhq/gantry/internal/secret"
)

// writeStore lets hooks write into fakeStore; a stored password has the form of a hash.
type writeStore struct {
	*fakeStore
	writes  *int
	folders map[string]account.Folder
}

func (s writeStore) write(u *account.User, add bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.users[u.Username]
	switch {
	case add && ok:
		return account.ErrExists
	case !add && !ok:
		return account.ErrNotFound
	case !filepath.IsAbs(u.HomeDir):
		return &account.ValidationError{Kind: "user", Name: u.Username, Field: "home_dir", Code: "absolute"}
	}
	n := *u
	if n.Password != "" && !strings.HasPrefix(n.Password, "h:") {
		n.Password = "h:" + n.Password
	}
	account.KeepSecrets(&n, &old)
	n.Version = old.Version + 1
	s.users[u.Username] = n
	*s.writes++
	s.change(account.KindUser, u.Username)
	return nil
}

func (s writeStore) AddUser(_ context.Context, u *account.User) error    { return s.write(u, true) }
func (s writeStore) UpdateUser(_ context.Context, u *account.User) error { return s.write(u, false) }
func (s writeStore) Folder(_ context.Context, name string) (account.Folder, error) {
	f, ok := s.folders[name]
	if !ok {
		return f, account.ErrNotFound
	}
	return f, nil
}
func (s writeStore) AddFolder(_ context.Context, f *account.Folder) error {
	s.folders[f.Name] = *f
	return nil
}

// service is a hook over HTTP whose answer a test sets.
type service struct {
	*httptest.Server
	mu     sync.Mutex
	asked  []string // method, URI and body
	answer func(path string, body map[string]any) (int, string)
}

func newService(t *testing.T) *service {
	s := &service{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		var body map[string]any
		json.Unmarshal(data, &body)
		s.mu.Lock()
		s.asked = append(s.asked, r.Method+" "+r.RequestURI+" "+string(data))
		answer := s.answer
		s.mu.Unlock()
		status, text := answer(r.URL.Path, body)
		w.WriteHeader(status)
		io.WriteString(w, text)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) say(status int, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = nil
	s.answer = func(string, map[string]any) (int, string) { return status, text }
}

func (s *service) took() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func newRunner(t *testing.T) *hook.Runner {
	r, err := hook.New(quick(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// hookWorld has external_auth_hook or pre_login_hook set by the caller.
func hookWorld(t *testing.T, h Hooks, users ...account.User) (*world, writeStore) {
	w := factorWorld(t, users...)
	st := writeStore{w.store, new(int), map[string]account.Folder{}}
	h.Users, h.Folders = st, st
	if h.Asker == nil {
		h.Asker = newRunner(t)
	}
	w.hooks = h
	w.sources = append([]Source{&loginHooks{a: w.Authenticator, saved: map[string]savedAnswer{}}}, w.sources...)
	return w, st
}

func script(t *testing.T, text string) string {
	file := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestExternalAuthMakesAndMapsUsers(t *testing.T) {
	s := newService(t)
	w, st := hookWorld(t, Hooks{External: s.URL + "/a?k=v"})
	ctx := t.Context()
	s.say(200, `{"username":"new","home_dir":"/srv/new","permissions":{"/":["*"]},"status":1,"virtual_folders":[{"name":"f","mapped_path":"/srv/f","virtual_path":"/f"}]}`)
	id, err := w.Authenticate(ctx, password("typed", "pass word"))
	wantReason(t, id, err, "")
	if id.User.Username != "new" || w.store.users["new"].Password != "h:pass word" || st.folders["f"].MappedPath != "/srv/f" {
		t.Errorf("logged in as %q, stored %+v", id.User.Username, w.store.users["new"])
	}
	if got := s.took(); len(got) != 1 || !strings.HasPrefix(got[0], "POST /a?k=v {") || strings.Contains(got[0], `"user":`) ||
		!strings.Contains(got[0], `"password":"pass word"`) || !strings.Contains(got[0], `"ip":"192.0.2.7"`) {
		t.Errorf("asked %q", got)
	}
	// The same answer writes nothing.
	id, err = w.Authenticate(ctx, password("typed", "pass word"))
	wantReason(t, id, err, "")
	if *st.writes > 2 { // once more, as the first one did not know the user's id
		t.Errorf("%d writes", *st.writes)
	}
	before := *st.writes
	id, err = w.Authenticate(ctx, password("typed", "pass word"))
	wantReason(t, id, err, "")
	if *st.writes != before {
		t.Error("the same answer was stored again")
	}
	// The account's own restrictions hold still (AUTH-3).
	s.say(200, `{"username":"new","home_dir":"/srv/new","permissions":{"/":["*"]},"status":0}`)
	id, err = w.Authenticate(ctx, password("typed", "pass word"))
	wantReason(t, id, err, ReasonDisabled)
	// A typed key is added, and stands.
	_, wire := testKey(t, 3)
	s.say(200, `{"username":"new","home_dir":"/srv/new","permissions":{"/":["*"]},"status":1}`)
	id, err = w.Authenticate(ctx, key("typed", wire))
	wantReason(t, id, err, "")
	if got := s.took(); !strings.Contains(got[0], `"public_key":"ssh-ed25519 `) || !strings.Contains(got[0], `"password":""`) {
		t.Errorf("asked %q", got)
	}
	id, err = w.Authenticate(ctx, password("typed", "pass word"))
	wantReason(t, id, err, "")
	if len(w.store.users["new"].PublicKeys) != 1 {
		t.Error("a password login took the key away from under another session")
	}
}

// AUTH-5: whatever is not a clear yes is a no, and the log shows no secret (LOG-1).
func TestExternalAuthFailsClosed(t *testing.T) {
	s := newService(t)
	w, _ := hookWorld(t, Hooks{External: s.URL}, user("ann"))
	for _, c := range []struct {
		status int
		body   string
		reason string
	}{
		{200, `{"username":""}`, ReasonHook}, {200, `{}`, ReasonHook}, {200, `{"username":`, ReasonHook}, {200, `[]`, ReasonHook}, {200, `null`, ReasonHook},
		{201, `{"username":"ann"}`, ReasonHook}, {204, ``, ReasonHook}, {403, ``, ReasonHook}, {500, ``, ReasonHook}, {302, ``, ReasonHook},
		{200, `{"username":"ann","status":1}`, ReasonHook}, {200, `{"username":"a\u0000b","home_dir":"/x","status":1}`, ReasonHook},
		{200, strings.Repeat(" ", 1<<20+1), ReasonHook}, {200, "", ""},
	} {
		s.say(c.status, c.body)
		v0, d0 := w.pw.counts()
		id, err := w.Authenticate(t.Context(), password("ann", "secret"))
		wantReason(t, id, err, c.reason)
		if v1, d1 := w.pw.counts(); c.reason != "" && v1+d1 == v0+d0 { // AUTH-4
			t.Errorf("%q: no hash was computed", c.body)
		}
	}
	s.say(200, "")
	id, err := w.Authenticate(t.Context(), password("nobody", "secret-of-nobody"))
	wantReason(t, id, err, ReasonUnknownUser)
	for _, text := range []string{"exit 1", "exec /bin/sleep 60", "echo nonsense", "/usr/bin/head -c 2000000 /dev/zero"} {
		w.hooks.External = script(t, text)
		id, err = w.Authenticate(t.Context(), password("ann", "secret-of-ann"))
		wantReason(t, id, err, ReasonHook)
	}
	w.hooks.External = "http://user:url-secret@127.0.0.1:1/?token=url-secret"
	id, err = w.Authenticate(t.Context(), password("ann", "secret-of-ann"))
	wantReason(t, id, err, ReasonHook)
	if l := w.log.String(); strings.Contains(l, "secret-of") || strings.Contains(l, "url-secret") || strings.Contains(l, "h:secret") || !strings.Contains(l, "login hook") {
		t.Errorf("the log: %s", l)
	}
}

func TestExternalAuthScopeAndSwitches(t *testing.T) {
	line, wire := testKey(t, 1)
	s := newService(t)
	w, _ := hookWorld(t, Hooks{External: s.URL, ExternalScope: 2, PreLogin: s.URL + "/pre"},
		user("ann", func(u *account.User) { u.PublicKeys = []string{line} }),
		user("off", func(u *account.User) {
			u.Filters.Hooks.ExternalAuthDisabled, u.Filters.Hooks.PreLoginDisabled = true, true
			u.PublicKeys = []string{line}
		}),
		user("fresh", func(u *account.User) {
			u.Filters.ExternalAuthCacheTime, u.LastLogin = 60, monday.UnixMilli()-30_000
			u.PublicKeys = []string{line}
		}))
	s.say(403, "")
	id, err := w.Authenticate(t.Context(), key("ann", wire))
	wantReason(t, id, err, ReasonHook)
	id, err = w.Authenticate(t.Context(), password("ann", "secret")) // not in the scope: pre-login is asked
	wantReason(t, id, err, ReasonHook)
	if got := s.took(); len(got) != 2 || !strings.HasPrefix(got[0], "POST / ") || !strings.HasPrefix(got[1], "POST /pre?") {
		t.Errorf("asked %q", got)
	}
	id, err = w.Authenticate(t.Context(), key("off", wire))
	wantReason(t, id, err, "")
	id, err = w.Authenticate(t.Context(), password("off", "secret"))
	wantReason(t, id, err, "")
	id, err = w.Authenticate(t.Context(), key("fresh", wire))
	wantReason(t, id, err, "")
}

func TestPreLoginIsLaidOverTheUser(t *testing.T) {
	s := newService(t)
	w, st := hookWorld(t, Hooks{PreLogin: s.URL}, user("ann", func(u *account.User) {
		u.Permissions = map[string][]string{"/": {"*"}, "/sub": {"*"}}
		u.Description = "kept"
		u.Filters.DeniedProtocols = []string{account.ProtocolFTP}
		u.Filters.TOTPConfig = account.UserTOTPConfig{Enabled: true, ConfigName: "Default", Secret: secret.New(totpSecret), Protocols: []string{account.ProtocolHTTP}}
		u.Filters.RecoveryCodes = []account.RecoveryCode{{Secret: secret.New("recovery-code")}}
	}))
	ctx := t.Context()
	for _, none := range []int{200, 204} { // nothing to change
		s.say(none, "")
		id, err := w.Authenticate(ctx, password("ann", "secret"))
		wantReason(t, id, err, "")
	}
	if got := s.took(); !strings.HasPrefix(got[0], "POST /?ip=192.0.2.7&login_method=password&protocol=SSH {") || !strings.Contains(got[0], `"h:secret"`) ||
		strings.Contains(got[0], totpSecret) || strings.Contains(got[0], "recovery-code") || *st.writes != 0 {
		t.Errorf("asked %q, %d writes", got, *st.writes)
	}
	s.say(200, `{"home_dir":"/srv/other","permissions":{"/":["list"]},"filters":{"max_upload_file_size":7,"totp_config":{}},"used_quota_size":99}`)
	id, err := w.Authenticate(ctx, password("ann", "secret"))
	wantReason(t, id, err, "")
	u := id.User
	if u.HomeDir != "/srv/other" || len(u.Permissions) != 1 || u.Description != "kept" || len(u.Filters.DeniedProtocols) != 1 || u.Filters.MaxUploadFileSize != 7 ||
		!u.Filters.TOTPConfig.Enabled || len(u.Filters.RecoveryCodes) != 1 || u.UsedQuotaSize != 0 {
		t.Errorf("the user is %+v", u)
	}
	// A new password counts at once, the old one no more.
	s.say(200, `{"password":"changed"}`)
	id, err = w.Authenticate(ctx, password("ann", "changed"))
	wantReason(t, id, err, "")
	id, err = w.Authenticate(ctx, password("ann", "secret"))
	wantReason(t, id, err, ReasonPassword)
	// Unknown users are made, others' names refused, and failures refuse (AUTH-5).
	s.say(200, `{"home_dir":"/srv/new","password":"fresh","permissions":{"/":["*"]},"status":1}`)
	id, err = w.Authenticate(ctx, password("new", "fresh"))
	wantReason(t, id, err, "")
	for status, text := range map[int]string{200: `{"username":"bob"}`, 500: "", 201: "{}", 302: ""} {
		s.say(status, text)
		id, err = w.Authenticate(ctx, password("ann", "changed"))
		wantReason(t, id, err, ReasonHook)
	}
	s.say(204, "")
	id, err = w.Authenticate(ctx, password("nobody", "x"))
	wantReason(t, id, err, ReasonUnknownUser)
}

func TestInteractiveHookOfAProgram(t *testing.T) {
	w, _ := hookWorld(t, Hooks{}, user("ann", enrolled(account.ProtocolSSH)), user("bob"))
	w.hooks.Interactive = script(t, `
echo '{"instruction":"hello","questions":["Password: "],"echos":[false],"check_password":1}'
read ok; [ "$ok" = OK ] || exit 1
echo '{"questions":["Code: "],"echos":[true],"check_password":2}'
read ok; [ "$ok" = OK ] || exit 1
echo '{"questions":["Pet: ","Town: "],"echos":[true,true]}'
read pet; read town
[ "$pet $town $SFTPGO_AUTHD_USERNAME $SFTPGO_AUTHD_IP $SFTPGO_AUTHD_PASSWORD" = "cat Rome ann 192.0.2.7 h:secret" ] && echo '{"auth_result":1}'
exec /bin/sleep 60
`)
	var asked []string
	dialogue := func(name string, answers ...string) *Attempt {
		a := interactive(name, nil)
		asked = nil
		a.Ask = func(_ context.Context, _ string, qs []Question) ([]string, error) {
			var out []string
			for _, q := range qs {
				asked = append(asked, q.Text)
				if len(answers) == 0 {
					return nil, errors.New("gone")
				}
				out, answers = append(out, answers[0]), answers[1:]
			}
			return out, nil
		}
		return a
	}
	id, err := w.Authenticate(t.Context(), dialogue("ann", "secret", codeAt(w.now), "cat", "Rome"))
	wantReason(t, id, err, "")
	if strings.Join(asked, "|") != "Password: |Code: |Pet: |Town: " {
		t.Errorf("asked %q", asked)
	}
	id, err = w.Authenticate(t.Context(), dialogue("ann", "secret", codeAt(w.now), "cat", "Rome")) // AUTH-7: a code serves once
	wantReason(t, id, err, ReasonSecondFactor)
	id, err = w.Authenticate(t.Context(), dialogue("ann", "wrong"))
	wantReason(t, id, err, ReasonPassword)
	id, err = w.Authenticate(t.Context(), dialogue("ann", ""))
	wantReason(t, id, err, ReasonBlank)
	id, err = w.Authenticate(t.Context(), dialogue("bob", "secret", "123456"))
	wantReason(t, id, err, ReasonSecondFactor)

	// AUTH-5, HOOK-2: no word, a bad word, an answer that would be two lines.
	for text, want := range map[string]string{
		``: ReasonHook, `echo '{"auth_result":-1}'`: ReasonHook, `echo '{"auth_result":2}'`: ReasonHook, `echo '{}'`: ReasonHook, `echo nonsense`: ReasonHook,
		`exec /bin/sleep 60`: ReasonHook, `echo '{"auth_result":1}'`: "", `/usr/bin/head -c 2000000 /dev/zero; exec /bin/sleep 60`: ReasonHook,
		`echo '{"questions":["a"],"echos":[]}'`:                                                   ReasonHook,
		`echo '{"questions":["a","b"],"echos":[false,false],"check_password":1}'`:                 ReasonHook,
		`echo '{"questions":["a"],"echos":[true]}'; read a; read b && echo '{"auth_result":1}'`:   ReasonHook,
		`while :; do echo '{"questions":["a"],"echos":[true]}'; read a || exit; done`:             ReasonHook,
		`echo '{"questions":["a"],"echos":[false],"check_password":1}'; echo '{"auth_result":1}'`: ReasonPassword,
	} {
		w.hooks.Interactive = script(t, text)
		id, err := w.Authenticate(t.Context(), dialogue("bob", append([]string{"a\nb"}, make([]string, 40)...)...))
		if d, ok := errors.AsType[*Denied](err); want != "" && (!ok || d.Reason != want) || want == "" && (err != nil || id == nil) {
			t.Errorf("%s: %v, %v", text, id, err)
		}
	}
}

func TestInteractiveHookOfAService(t *testing.T) {
	s := newService(t)
	w, _ := hookWorld(t, Hooks{Interactive: s.URL}, user("ann"))
	s.answer = func(_ string, body map[string]any) (int, string) {
		switch fmt.Sprintf("%v %v %v %v %v %v", body["step"], body["username"], body["password"], body["ip"], body["answers"], body["questions"]) {
		case "1 ann h:secret 192.0.2.7 <nil> <nil>":
			return 200, `{"questions":["Password: "],"echos":[false],"check_password":1}`
		case "2 ann h:secret <nil> [OK] [Password: ]":
			return 200, `{"auth_result":1}`
		}
		return 500, ""
	}
	id, err := w.Authenticate(t.Context(), interactive("ann", nil, "secret"))
	wantReason(t, id, err, "")
	id, err = w.Authenticate(t.Context(), interactive("ann", nil, "wrong"))
	wantReason(t, id, err, ReasonPassword)
	s.say(204, "")
	id, err = w.Authenticate(t.Context(), interactive("ann", nil, "secret"))
	wantReason(t, id, err, ReasonHook)
}
