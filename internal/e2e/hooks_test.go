//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// login runs the command pwd by OpenSSH's client, which asks for nothing but what answers has: for each prompt the first
// answer whose key is a part of it.
func login(t *testing.T, s *gantrytest.Server, user string, answers [][2]string, options ...string) (string, error) {
	t.Helper()
	ssh := need(t, "ssh", "openssh-client")
	var text strings.Builder
	text.WriteString("#!/bin/sh\ncase \"$1\" in\n")
	for _, a := range answers {
		fmt.Fprintf(&text, "*'%s'*) echo '%s';;\n", a[0], a[1])
	}
	text.WriteString("*) exit 1;;\nesac\n")
	askpass := hookProgram(t, text.String())
	args := []string{"-F", "/dev/null", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "NumberOfPasswordPrompts=1", "-p", s.Port()}
	args = append(append(args, options...), user+"@127.0.0.1", "pwd")
	ctx, cancel := context.WithTimeout(t.Context(), gantrytest.Wait)
	defer cancel()
	cmd := exec.CommandContext(ctx, ssh, args...)
	cmd.Env = append(os.Environ(), "SSH_ASKPASS="+askpass, "SSH_ASKPASS_REQUIRE=force", "DISPLAY=:0")
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// Ways to log in, as options of ssh.
var (
	byPassword = []string{"-o", "PreferredAuthentications=password"}
	byDialogue = []string{"-o", "PreferredAuthentications=keyboard-interactive"}
)

func byKey(file string) []string {
	return []string{"-o", "PreferredAuthentications=publickey", "-i", file}
}

func wantLogin(t *testing.T, what string, ok bool, out string, err error) {
	t.Helper()
	if in := err == nil && out == "/"; in != ok {
		t.Errorf("%s: logged in %v, want %v: %v %s", what, in, ok, err, out)
	}
}

// hookProgram is a program with that text.
func hookProgram(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	if !strings.HasPrefix(text, "#!") {
		text = "#!/bin/sh\n" + text
	}
	if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

// config is gantry.json of sections.
func config(t *testing.T, sections map[string]any) string {
	t.Helper()
	b, err := json.Marshal(sections)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// heard is a service that keeps what it was told.
type heard struct {
	*httptest.Server
	mu   sync.Mutex
	got  []map[string]any // each body, with "_" for method and URI
	deny map[string]bool  // actions
	body string           // of each answer
}

func newHeard(t *testing.T) *heard {
	h := &heard{deny: map[string]bool{}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		m := map[string]any{}
		json.Unmarshal(data, &m)
		m["_"] = r.Method + " " + r.RequestURI
		h.mu.Lock()
		defer h.mu.Unlock()
		h.got = append(h.got, m)
		if h.deny[fmt.Sprint(m["action"])] {
			w.WriteHeader(403)
			return
		}
		io.WriteString(w, h.body)
	}))
	t.Cleanup(h.Close)
	return h
}

// find gives what was told with these members.
func (h *heard) find(want map[string]any) map[string]any {
	h.mu.Lock()
	defer h.mu.Unlock()
got:
	for _, m := range h.got {
		for k, v := range want {
			if fmt.Sprint(m[k]) != fmt.Sprint(v) {
				continue got
			}
		}
		return m
	}
	return nil
}

// TestExternalAuth: users that only a program, or a service, knows. AUTH-5: a refusal and a hook that is down let nobody in.
func TestExternalAuth(t *testing.T) {
	home := t.TempDir()
	answer := fmt.Sprintf(`{"username":"ext","home_dir":%q,"permissions":{"/":["*"]},"status":1}`, home)
	program := hookProgram(t, `[ "$SFTPGO_AUTHD_USERNAME:$SFTPGO_AUTHD_PASSWORD:$SFTPGO_AUTHD_IP:$SFTPGO_AUTHD_PROTOCOL" = "ext:external-word:127.0.0.1:SSH" ] || exit 1
echo '`+answer+`'`)
	for name, h := range map[string]*heard{"program": nil, "service": newHeard(t)} {
		t.Run(name, func(t *testing.T) {
			target := program
			if h != nil {
				h.body, target = answer, h.URL+"/auth"
			}
			s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Secrets: []string{"external-word", "not-the-word"},
				Config: config(t, map[string]any{"data_provider": map[string]any{"external_auth_hook": target, "external_auth_scope": 1}})})
			out, err := login(t, s, "ext", [][2]string{{"assword", "external-word"}}, byPassword...)
			wantLogin(t, "the right password", true, out, err)
			if h != nil {
				h.Close()
			}
			out, err = login(t, s, "ext", [][2]string{{"assword", "not-the-word"}}, byPassword...)
			wantLogin(t, "a wrong password", false, out, err)
			if d := s.Dump(); len(d.Users) != 1 || d.Users[0].Username != "ext" || d.Users[0].HomeDir != home || strings.Contains(d.Users[0].Password, "external-word") {
				t.Errorf("stored: %+v", d.Users)
			}
		})
	}
}

// TestPreLoginChangesTheUser: what the hook takes away is gone for this very login.
func TestPreLoginChangesTheUser(t *testing.T) {
	home := t.TempDir()
	os.WriteFile(filepath.Join(home, "file"), []byte("x"), 0o644)
	program := hookProgram(t, `[ "$SFTPGO_LOGIND_METHOD" = publickey ] && echo '{"permissions":{"/":["list"]}}'; exit 0`)
	s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Dump: oneUser(newUser("c", home)),
		Config: config(t, map[string]any{"data_provider": map[string]any{"pre_login_hook": program}})})
	out := sftpBatch(t, s, nil, "ls", "-get file "+filepath.Join(t.TempDir(), "x"), "-rm file")
	if !strings.Contains(out, "ermission denied") {
		t.Error(out)
	}
	if _, err := os.Stat(filepath.Join(home, "file")); err != nil {
		t.Error(err)
	}
}

// TestInteractiveHook: the program's own questions, and the account's password among them.
func TestInteractiveHook(t *testing.T) {
	program := hookProgram(t, `echo '{"instruction":"","questions":["Password: "],"echos":[false],"check_password":1}'
read ok
echo '{"questions":["Pet: "],"echos":[true]}'
read pet
[ "$ok $pet" = "OK cat" ] && echo '{"auth_result":1}' || echo '{"auth_result":-1}'
`)
	s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Dump: oneUser(newUser("c", t.TempDir())), Secrets: []string{"pw-c"},
		Config: config(t, map[string]any{"sftpd": map[string]any{"keyboard_interactive_auth_hook": program}})})
	for _, c := range []struct {
		word, pet string
		ok        bool
	}{{"pw-c", "cat", true}, {"pw-c", "dog", false}, {"wrong", "cat", false}} {
		out, err := login(t, s, "c", [][2]string{{"assword", c.word}, {"Pet", c.pet}}, byDialogue...)
		wantLogin(t, c.word+" "+c.pet, c.ok, out, err)
	}
}

// TestPostConnectRefuses: nobody gets as far as a login. AUTH-5.
func TestPostConnectRefuses(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "open")
	program := hookProgram(t, `[ "$SFTPGO_CONNECTION_IP $SFTPGO_CONNECTION_PROTOCOL" = "127.0.0.1 SSH" ] && [ -e '`+flag+`' ]`)
	s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Dump: oneUser(newUser("c", t.TempDir())),
		Config: config(t, map[string]any{"common": map[string]any{"post_connect_hook": program}})})
	out, err := login(t, s, "c", nil, byKey(key.File)...)
	wantLogin(t, "closed", false, out, err)
	gantrytest.WriteFile(t, flag, "")
	out, err = login(t, s, "c", nil, byKey(key.File)...)
	wantLogin(t, "open", true, out, err)
}

// TestActionHooks: an upload is told with every field, pre-hooks refuse, and an upload that its hook does not want is gone.
func TestActionHooks(t *testing.T) {
	h, home, local := newHeard(t), t.TempDir(), t.TempDir()
	h.deny["pre-delete"] = true
	u := newUser("c", home)
	u.QuotaFiles = 100 // counted
	s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Dump: oneUser(u), Config: config(t, map[string]any{
		"common": map[string]any{
			"actions":      map[string]any{"hook": h.URL + "/fs", "execute_on": []string{"pre-upload", "upload", "pre-delete", "mkdir", "rename", "download", "ssh_cmd"}, "execute_sync": []string{"upload"}},
			"startup_hook": h.URL + "/startup", "post_disconnect_hook": h.URL + "/left",
		},
		"data_provider": map[string]any{"post_login_hook": h.URL + "/login"},
	})})
	file := filepath.Join(local, "file")
	gantrytest.WriteFile(t, file, "0123456789")
	sftpBatch(t, s, nil, "put "+file+" file", "mkdir d", "rename file d/moved", "get d/moved "+filepath.Join(local, "back"), "-rm d/moved")
	out, err := login(t, s, "c", nil, byKey(key.File)...)
	wantLogin(t, "the command", true, out, err)
	for _, want := range []map[string]any{
		{"action": "ssh_cmd", "ssh_cmd": "pwd", "protocol": "SSH", "virtual_path": "/"},
		{"_": "POST /fs", "action": "upload", "username": "c", "path": filepath.Join(home, "file"), "virtual_path": "/file", "file_size": 10, "fs_provider": 0,
			"status": 1, "protocol": "SFTP", "ip": "127.0.0.1"},
		{"action": "pre-upload", "virtual_path": "/file"},
		{"action": "mkdir", "virtual_path": "/d"},
		{"action": "rename", "virtual_path": "/file", "virtual_target_path": "/d/moved", "target_path": filepath.Join(home, "d/moved")},
		{"action": "download", "virtual_path": "/d/moved", "file_size": 10},
		{"_": "GET /startup"},
		{"_": "POST /login?ip=127.0.0.1&login_method=publickey&protocol=SSH&status=1", "username": "c"},
	} {
		s.Until(fmt.Sprintf("told of %v", want), func() bool { return h.find(want) != nil })
	}
	if m := h.find(map[string]any{"action": "upload"}); m["timestamp"] == nil || !strings.HasPrefix(fmt.Sprint(m["session_id"]), "SFTP_") {
		t.Errorf("the upload was told as %v", m)
	}
	s.Until("told of the session's end", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, m := range h.got {
			if u := fmt.Sprint(m["_"]); strings.HasPrefix(u, "GET /left?connection_duration=") && strings.HasSuffix(u, "&ip=127.0.0.1&protocol=SFTP&username=c") {
				return true
			}
		}
		return false
	})
	if _, err := os.Stat(filepath.Join(home, "d/moved")); err != nil {
		t.Error("a refused removal was done")
	}
	set := func(action string, deny bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.deny[action] = deny
	}
	set("upload", true)
	out = sftpBatch(t, s, nil, "-put "+file+" unwanted")
	if _, err := os.Stat(filepath.Join(home, "unwanted")); !os.IsNotExist(err) || !strings.Contains(out, "ermission") {
		t.Errorf("an upload that its hook refused stays: %v %s", err, out)
	}
	set("upload", false)
	set("pre-upload", true)
	sftpBatch(t, s, nil, "-put "+file+" never")
	if _, err := os.Stat(filepath.Join(home, "never")); !os.IsNotExist(err) {
		t.Errorf("an upload that was refused before it began is there: %v", err)
	}
	s.Until("the counters are written", func() bool {
		files, size := used(t, s.Dump(), "c")
		return files == 1 && size == 10
	})
}
