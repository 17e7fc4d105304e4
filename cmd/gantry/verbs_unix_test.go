//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

func TestDumpOfALoadedDumpHoldsTheSame(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	in := filepath.Join(dir, "in.json")
	writeFile(t, in, `{"version":10,"folders":[{"name":"shared","mapped_path":"/srv/shared"}],
		"users":[{"username":"ann","password":"$2a$10$0Gh70NaQJIm7QQvOoUytzuE00GRPRYwA9a.jLHTA6ioB5qcVCq20m","home_dir":"/srv/ann","status":1,
		"permissions":{"/":["*"]},"virtual_folders":[{"name":"shared","virtual_path":"/s","quota_size":-1,"quota_files":-1}]}],
		"admins":[{"username":"root","password":"$2a$04$abcdefghijklmnopqrstuuKzRjZxH0yVq6x3lqTqT7Cz9eUu2Jm6S","status":1,"permissions":["*"]}]}`)
	code, out, msg := run(t, nil, "load", "-c", dir, in)
	if code != 0 || !strings.Contains(out, "1 users, 1 folders, 0 groups, 1 other") {
		t.Fatalf("load: %d %s %s", code, out, msg)
	}
	file := filepath.Join(dir, "out.json")
	if code, _, msg := run(t, nil, "dump", "-c", dir, file); code != 0 {
		t.Fatalf("dump: %d %s", code, msg)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode of the dump: %v, %v", st.Mode(), err)
	}
	if code, _, msg := run(t, nil, "load", "-c", other, file); code != 0 {
		t.Fatalf("load of our own dump: %d %s", code, msg)
	}
	code, second, msg := run(t, nil, "dump", "-c", other)
	if code != 0 {
		t.Fatalf("dump: %d %s", code, msg)
	}
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !sameJSON(t, first, []byte(second)) {
		t.Errorf("first  %s\nsecond %s", first, second)
	}
	if code, out, _ := run(t, nil, "dump", "-c", dir, "--scopes", "folders"); code != 0 || !strings.Contains(out, `"users":null`) || !strings.Contains(out, "shared") {
		t.Errorf("dump --scopes folders: %d %s", code, out)
	}
}

// sameJSON compares two dumps without the times and ids that a store gives.
func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	norm := func(data []byte) string {
		d, err := account.DecodeDump(bytes.NewReader(data), 0)
		if err != nil {
			t.Fatal(err)
		}
		for i := range d.Users {
			u := &d.Users[i]
			u.ID, u.CreatedAt, u.UpdatedAt, u.LastPasswordChange = 0, 0, 0, 0
			for j := range u.VirtualFolders {
				u.VirtualFolders[j].ID = 0
			}
		}
		for i := range d.Folders {
			d.Folders[i].ID = 0
		}
		out, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	return norm(a) == norm(b)
}

func TestBadDumpChangesNothingAndNamesTheObject(t *testing.T) {
	dir := t.TempDir()
	for name, tt := range map[string]struct{ dump, want string }{
		"permission": {strings.Replace(dumpOf("bob", "x", "/x"), `"*"`, `"fly"`, 1), `user "bob"`},
		"syntax":     {`{"users":[`, "line 1"},
		"reference":  {strings.Replace(dumpOf("bob", "x", "/x"), `"status":1`, `"status":1,"virtual_folders":[{"name":"none","virtual_path":"/n"}]`, 1), "none"},
		"version":    {`{"version":99}`, "version 99"},
	} {
		file := filepath.Join(dir, "dump.json")
		writeFile(t, file, tt.dump)
		code, _, msg := run(t, nil, "load", "-c", dir, file)
		if code != 1 || !strings.Contains(msg, tt.want) {
			t.Errorf("%s: exit code %d, message %q, want %q", name, code, msg, tt.want)
		}
		if got := usersIn(t, dir); got != "" {
			t.Errorf("%s: users %s", name, got)
		}
	}
	for _, file := range []string{dir, filepath.Join(dir, "missing")} {
		if code, _, msg := run(t, nil, "load", "-c", dir, file); code != 1 || msg == "" {
			t.Errorf("load %s: %d %q", file, code, msg)
		}
	}
}

func TestInitProviderFailsOnEveryConfigError(t *testing.T) { // protocols.md 7: 0 was given for some
	good, bad, foreign := t.TempDir(), t.TempDir(), t.TempDir()
	for range 2 { // and again: it is current
		if code, _, msg := run(t, nil, "initprovider", "-c", good); code != 0 {
			t.Errorf("exit code %d: %s", code, msg)
		}
	}
	if got := usersIn(t, good); got != "" {
		t.Errorf("users %s", got)
	}
	writeFile(t, filepath.Join(bad, "gantry.json"), "{")
	writeFile(t, filepath.Join(foreign, "gantry.db"), "not a database, but as long as a page header would be: "+strings.Repeat("x", 4096))
	for _, args := range [][]string{{"-c", bad}, {"-c", foreign}, {"-c", good, "--config-file", "none.json"}, {"-c", good, "--loaddata-mode", "7"}, {"--no-such-flag"}} {
		if code, _, msg := run(t, nil, append([]string{"initprovider"}, args...)...); code != 1 || msg == "" {
			t.Errorf("%v: exit code %d, message %q", args, code, msg)
		}
	}
}

func TestCheckShowsSourcesAndHidesSecrets(t *testing.T) { // LOG-1
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "sftpgo.json"), `{"common":{"idle_timeout":3},"data_provider":{"password":"canary-1","drivr":"x"},"httpd":{"signing_passphrase":"canary-2"}}`)
	env := []string{"GANTRY_SFTPD__BINDINGS__0__PORT=" + gantrytest.FreePort(t), "SFTPGO_SMTP__PASSWORD=canary-3"}
	code, out, msg := run(t, env, "check", "-c", dir)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, msg)
	}
	for _, want := range []string{"common.idle_timeout", "file:" + dir, "env:GANTRY_SFTPD__BINDINGS__0__PORT", "default", "host key: " + dir, "database: " + dir, "is valid"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q: %s", want, out)
		}
	}
	for _, want := range []string{"data_provider.drivr", "did you mean data_provider.driver?", "smtp.password"} {
		if !strings.Contains(msg, want) {
			t.Errorf("the warnings lack %q: %s", want, msg)
		}
	}
	if strings.Contains(out+msg, "canary") {
		t.Errorf("a secret is shown: %s%s", out, msg)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) != 1 {
		t.Errorf("check left %v", files)
	}
	if code, _, msg := run(t, []string{"GANTRY_SFTPD__CIPHERS=rot13"}, "check", "-c", dir); code != 1 || !strings.Contains(msg, "rot13") {
		t.Errorf("a bad cipher: %d %s", code, msg)
	}
	if code, _, msg := run(t, append(env, "GANTRY_SFTPD__HOST_KEYS=mykey"), "check", "-c", dir); code != 1 || !strings.Contains(msg, "mykey") {
		t.Errorf("a missing host key: %d %s", code, msg)
	}
}

func TestCheckAndStoreWorkBesideARunningServer(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, nil)
	code, out, msg := run(t, s.environ, "check", "-c", dir)
	if code != 0 || !strings.Contains(out, "is in use now") || !strings.Contains(out, "readable and current") {
		t.Errorf("check: %d %s %s", code, out, msg)
	}
	if code, out, msg := run(t, s.environ, "ping", "-c", dir); code != 0 || !strings.HasPrefix(out, "SSH-2.0-") {
		t.Errorf("ping: %d %s %s", code, out, msg)
	}
	dump := filepath.Join(dir, "dump.json")
	writeFile(t, dump, dumpOf("ann", "secret-1", filepath.Join(dir, "ann")))
	if code, _, msg := run(t, s.environ, "load", "-c", dir, dump); code != 0 {
		t.Fatalf("load: %d %s", code, msg)
	}
	c, err := s.dial(t, "ann", "secret-1")
	if err != nil {
		t.Fatalf("an account loaded while the server runs: %v", err)
	}
	c.Close()
	s.end()
	if code, _, msg := run(t, s.environ, "ping", "-c", dir); code != 1 || !strings.Contains(msg, "ping") {
		t.Errorf("ping without a server: %d %s", code, msg)
	}
}

func TestReloadKeepsTheOldConfigurationWhenTheFileIsBad(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "gantry.json")
	writeFile(t, file, `{"common":{"max_per_host_connections":1}}`)
	s := startServer(t, dir, nil, "--first-user", "joe")
	m := shownPassword.FindStringSubmatch(text(t, s.stdout))
	c, err := s.dial(t, "joe", m[1])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	refused := func() bool {
		c, err := s.dial(t, "joe", m[1])
		if err == nil {
			c.Close()
		}
		return err != nil
	}
	log := func() string {
		b, err := os.ReadFile(filepath.Join(dir, "gantry.log"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	hup := func(config, wait string) {
		t.Helper()
		writeFile(t, file, config)
		had := strings.Count(log(), wait)
		s.sig <- syscall.SIGHUP
		for deadline := time.Now().Add(10 * time.Second); strings.Count(log(), wait) == had; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the log never says %q: %s", wait, log())
			}
		}
	}
	if !refused() {
		t.Fatal("a second connection of one host is let in")
	}
	hup(`{"common":{"max_per_host_connections":9`, "the old one stays")
	if !refused() {
		t.Error("a bad file changed the limit")
	}
	hup(`{"common":{"max_per_host_connections":9,"upload_mode":7}}`, "upload_mode")
	if !refused() {
		t.Error("a file with a bad value changed the limit")
	}
	writeFile(t, filepath.Join(dir, "banner"), "mind the gap\n")
	hup(`{"common":{"max_per_host_connections":9,"upload_mode":1},"sftpd":{"login_banner_file":"banner"}}`, `"message":"reloaded"`)
	var banner string
	if c, err := gossh.Dial("tcp", s.addr, &gossh.ClientConfig{
		User: "x", HostKeyCallback: gossh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second,
		BannerCallback: func(m string) error { banner = m; return nil },
	}); err == nil {
		c.Close()
		t.Error("a login without a credential")
	}
	if banner != "mind the gap\n" {
		t.Errorf("the new banner: got %q", banner)
	}
	if refused() {
		t.Error("the new limit does not hold")
	}
	if !strings.Contains(log(), `"key":"common.upload_mode"`) {
		t.Errorf("no word that upload_mode needs a restart: %s", log())
	}
	writeFile(t, filepath.Join(dir, "env.d", "log"), "GANTRY_LOG_LEVEL=debug\n")
	hup(`{}`, `"message":"reloaded"`)
	if !s.node.log.Enabled(t.Context(), -4) {
		t.Error("the log level did not change")
	}
}

func TestUSR1RotatesTheLog(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, nil)
	s.sig <- syscall.SIGUSR1
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if files, _ := filepath.Glob(filepath.Join(dir, "gantry-*.log")); len(files) == 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no rotated log")
		}
	}
}

func TestVersionAndHelp(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--version"}, {"-v"}} {
		if code, out, _ := run(t, nil, args...); code != 0 || !strings.HasPrefix(out, "Gantry ") || !strings.Contains(out, " +sftp +ftp +webdav +rest ") {
			t.Errorf("%v: %d %s", args, code, out)
		}
	}
	if code, out, _ := run(t, nil); code != 0 || !strings.Contains(out, "initprovider") {
		t.Errorf("no verb: %d %s", code, out)
	}
	for _, args := range [][]string{{"fly"}, {"serve", "--fly"}, {"load"}, {"serve", "extra"}} {
		if code, _, msg := run(t, nil, args...); code != 1 || msg == "" {
			t.Errorf("%v: %d %q", args, code, msg)
		}
	}
}
