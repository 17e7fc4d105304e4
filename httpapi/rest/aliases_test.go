package rest

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/gantryhq/gantry/httpapi"
	"github.com/gantryhq/gantry/internal/guard"
)

// TestCallsOf22 go on under their old names.
func TestCallsOf22(t *testing.T) {
	s := newServer(t, func(_ *httpapi.Config, g *guard.Config) {
		g.Defender.Enabled, g.Defender.Threshold, g.Defender.LoginDelay.PasswordFailed = true, 100, 0
	})
	root := s.root()
	u := s.user("ann")

	root.get("/defender/bantime?ip=192.0.2.1").want(200).has(`{"date_time":null}`)
	root.get("/defender/score?ip=192.0.2.1").want(200).has(`{"score":0}`)
	root.get("/defender/score?ip=x").want(400)
	root.post("/defender/unban", `{"ip":"192.0.2.1"}`).want(404)
	s.guard.Event(netip.MustParseAddr("192.0.2.1"), guard.ProtocolOf("SSH"), guard.LoginFailed)
	root.get("/defender/score?ip=192.0.2.1").want(200).lacks(`{"score":0}`)
	for range 100 {
		s.guard.Event(netip.MustParseAddr("192.0.2.1"), guard.ProtocolOf("SSH"), guard.LoginFailed)
	}
	root.get("/defender/bantime?ip=192.0.2.1").want(200).has(`"date_time":"2`)
	root.post("/defender/unban", `{"ip":"192.0.2.1"}`).want(200)
	root.get("/defender/bantime?ip=192.0.2.1").want(200).has(`{"date_time":null}`)
	root.get("/defender/hosts/" + hex.EncodeToString([]byte("192.0.2.1"))).want(404)

	u.post("/user/files/upload?path=/f", "12345").want(201)
	root.put("/quota-update", `{"username":"ann","used_quota_size":7,"used_quota_files":2}`).want(200)
	root.put("/quota-update?mode=add", `{"username":"ann","used_quota_size":1,"used_quota_files":1}`).want(400) // ann has no limit
	root.get("/users/ann").want(200).has(`"used_quota_size":7,"used_quota_files":2`)
	root.put("/quota-update", `{"used_quota_size":7}`).want(400).has("name the user")
	root.post("/quota-scans", `{"username":"none"}`).want(404)
	root.post("/quota-scans", `{"username":"ann"}`).want(202)
	until(t, "the scan is over", func() bool { return root.get("/quota-scans").want(200).Body == "[]\n" })
	root.get("/users/ann").want(200).has(`"used_quota_size":5,"used_quota_files":1`)
	root.post("/folders", `{"name":"f","mapped_path":"`+t.TempDir()+`"}`).want(201)
	root.put("/folder-quota-update", `{"name":"f","used_quota_size":9,"used_quota_files":3}`).want(200)
	root.get("/folders/f").want(200).has(`"used_quota_size":9,"used_quota_files":3`)
	root.post("/folder-quota-scans", `{"name":"f"}`).want(202)
	until(t, "the scan is over", func() bool { return root.get("/folder-quota-scans").want(200).Body == "[]\n" })
	root.get("/folders/f").want(200).has(`"used_quota_size":0,"used_quota_files":0`)

	if got := u.get("/user/folder?path=/").names(); got != "f:5" {
		t.Errorf("listing: %q", got)
	}
	if a := u.get("/user/file?path=/f").want(200); a.Body != "12345" {
		t.Errorf("file: %q", a.Body)
	}
	u.get("/user/publickeys").want(200).has("[]")
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh"
	u.put("/user/publickeys", `["`+key+`"]`).want(200)
	u.get("/user/publickeys").want(200).has(key)
	u.put("/user/publickeys", `["no key"]`).want(400)
	root.patch("/users/ann", `{"filters":{"web_client":["publickey-change-disabled"]}}`).want(200)
	u.put("/user/publickeys", `[]`).want(403)
	u.get("/user/publickeys").want(403)

	root.put("/changepwd/admin", `{"current_password":"rootpw","new_password":"second"}`).want(200)
	root.get("/version").want(401)
	s.basic("/token", "root", "second").want(200)

	view := s.bearer(s.basic("/token", "root", "second"))
	view.get("/nodes").want(200).has("[]")
}

// TestOldCallsAskForPermissions: an old name is no way around (ADM-1).
func TestOldCallsAskForPermissions(t *testing.T) {
	s := newServer(t)
	nobody := s.as("a", "", "view_users")
	for _, r := range adminAliases() {
		if r.Perm == Any {
			continue
		}
		nobody.do(r.Method, r.Path, "{}").want(403)
		s.nobody().do(r.Method, r.Path, "{}").want(401)
	}
	for _, r := range userAliases() {
		s.nobody().do(r.Method, r.Path, "{}").want(401)
	}
	if n := len(adminAliases()) + len(userAliases()); n < 14 || strings.Contains(nobody.get("/nodes").want(403).Body, "[") {
		t.Errorf("%d old names", n)
	}
}
