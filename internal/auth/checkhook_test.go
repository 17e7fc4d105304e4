package auth

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/event/hook"
)

func TestCheckPasswordHook(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "hook")
	os.WriteFile(program, []byte(`#!/bin/sh
case "$SFTPGO_AUTHD_USERNAME:$SFTPGO_AUTHD_PROTOCOL:$SFTPGO_AUTHD_PASSWORD" in
ann:SSH:yes) echo '{"status":1}';;
ann:SSH:secret123) echo '{"status":2,"to_verify":"secret"}';;
ann:SSH:wrong123) echo '{"status":2,"to_verify":"wrong"}';;
ann:SSH:blank) echo '{"status":2}';;
ann:SSH:odd) echo '{"status":7}';;
ann:SSH:nothing) echo '{}';;
ann:SSH:fail) echo '{"status":1}'; exit 1;;
ann:SSH:slow) exec /bin/sleep 60;;
ann:SSH:flood) exec /usr/bin/head -c 2000000 /dev/zero;;
*) echo '{"status":0}';;
esac
`), 0o700)
	r, err := hook.New(quick(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, user("ann"), user("out", func(u *account.User) { u.Filters.Hooks.CheckPasswordDisabled = true }),
		user("nothing", func(u *account.User) { u.Password = "" }))
	w.hooks = Hooks{CheckPassword: program, Asker: r}
	for plain, reason := range map[string]string{"yes": "", "secret123": "", "wrong123": ReasonPassword, "secret": ReasonSource, "blank": ReasonBlank,
		"odd": ReasonSource, "nothing": ReasonSource, "fail": ReasonSource, "slow": ReasonSource, "flood": ReasonSource} {
		v0, d0 := w.pw.counts()
		id, err := w.Authenticate(t.Context(), password("ann", plain))
		wantReason(t, id, err, reason)
		if v1, d1 := w.pw.counts(); reason != "" && v1-v0+d1-d0 != 1 { // AUTH-4
			t.Errorf("%s: %d hashes", plain, v1-v0+d1-d0)
		}
		if err != nil && strings.Contains(err.Error(), plain) && len(plain) > 6 {
			t.Errorf("the error shows the password: %v", err) // LOG-1
		}
	}
	id, err := w.Authenticate(t.Context(), password("out", "secret"))
	wantReason(t, id, err, "")
	id, err = w.Authenticate(t.Context(), password("nothing", "yes"))
	wantReason(t, id, err, ReasonNoPassword)
	w.hooks.CheckPasswordScope = 2
	id, err = w.Authenticate(t.Context(), password("ann", "secret"))
	wantReason(t, id, err, "")

	// Over HTTP; what is down refuses (AUTH-5), and a redirect is not followed.
	answer := func(rw http.ResponseWriter, req *http.Request) { rw.Write([]byte(`{"status":1}`)) }
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) { answer(rw, req) }))
	defer srv.Close()
	w.hooks = Hooks{CheckPassword: srv.URL, Asker: r}
	id, err = w.Authenticate(t.Context(), password("ann", "any"))
	wantReason(t, id, err, "")
	for _, status := range []int{201, 204, 302, 403, 500} {
		answer = func(rw http.ResponseWriter, req *http.Request) {
			rw.Header().Set("Location", "/")
			rw.WriteHeader(status)
		}
		id, err = w.Authenticate(t.Context(), password("ann", "any"))
		wantReason(t, id, err, ReasonSource)
	}
	w.hooks.CheckPassword = "http://127.0.0.1:1/"
	id, err = w.Authenticate(t.Context(), password("ann", "any"))
	wantReason(t, id, err, ReasonSource)
	http.DefaultClient.CloseIdleConnections()
	r.Close()
}

// quick is a configuration whose hooks have a second.
func quick() hook.Config {
	c := hook.DefaultConfig()
	c.Command.Timeout, c.HTTP.Timeout, c.HTTP.RetryMax = 1, 1, 0
	return c
}
