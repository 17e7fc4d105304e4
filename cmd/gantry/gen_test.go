package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file that gen config writes must load and mean the defaults, in every format.
func TestGeneratedConfigurationIsTheDefault(t *testing.T) {
	_, want, _ := run(t, nil, "check", "-c", t.TempDir())
	for _, format := range []string{"json", "yaml", "toml"} {
		code, out, msg := run(t, nil, "gen", "config", "-f", format)
		if code != 0 {
			t.Fatalf("%s: %s", format, msg)
		}
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "gantry."+format), out)
		code, got, msg := run(t, nil, "check", "-c", dir)
		if code != 0 || msg != "" {
			t.Errorf("%s: check: %d %s", format, code, msg)
		}
		if a, b := keysAndTexts(want), keysAndTexts(got); a != b {
			t.Errorf("%s: the values differ:\n%s\nwant\n%s", format, b, a)
		}
	}
	if code, _, msg := run(t, nil, "gen", "config", "-f", "ini"); code != 1 || !strings.Contains(msg, "--format must be one of json, yaml, toml") {
		t.Errorf("ini: %d %s", code, msg)
	}
}

// keysAndTexts gives the lines of check without the source.
func keysAndTexts(out string) string {
	var b strings.Builder
	for _, line := range strings.Split(out, "\n") {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.Contains(f[0], ".") || strings.HasSuffix(f[0], ":") {
			continue
		}
		b.WriteString(f[0] + " " + strings.Join(f[2:], " ") + "\n")
	}
	return b.String()
}

func TestCompletionsAndManualPages(t *testing.T) {
	for shell, want := range map[string]string{"bash": "__start_gantry", "zsh": "#compdef gantry", "fish": "complete -c gantry", "powershell": "Register-ArgumentCompleter"} {
		if code, out, msg := run(t, nil, "gen", "completion", shell); code != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: %d %s without %q", shell, code, msg, want)
		}
	}
	if code, _, msg := run(t, nil, "gen", "completion", "tcsh"); code != 1 || !strings.Contains(msg, "tcsh") {
		t.Errorf("tcsh: %d %s", code, msg)
	}
	dir := filepath.Join(t.TempDir(), "man")
	if code, _, msg := run(t, nil, "gen", "man", "-d", dir); code != 0 {
		t.Fatal(msg)
	}
	page, err := os.ReadFile(filepath.Join(dir, "gantry-serve.1"))
	if err != nil || !strings.Contains(string(page), `\fB\-\-grace\-time\fR \fIint\fR`) {
		t.Errorf("gantry-serve.1: %v", err)
	}
}

func TestConvertedUsersLoad(t *testing.T) {
	dir := t.TempDir()
	passwd, shadow, dump := filepath.Join(dir, "passwd"), filepath.Join(dir, "shadow"), filepath.Join(dir, "dump.json")
	home := filepath.Join(dir, "home")
	if err := os.MkdirAll(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(home, ".ssh", "authorized_keys"), "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA joe\n")
	writeFile(t, passwd, "root:x:0:0::/root:/bin/sh\njoe:x:1000:1000:Joe:"+home+":/bin/sh\nann:x:1001:1000::/home/ann:/bin/sh\n")
	writeFile(t, shadow, "joe:!:1:0:9:7:::\nann:$1$5ZxNf6YP$mTiyfY5CwNsF3jUSRJfUd1:1:0:9:7:::\n")
	code, _, msg := run(t, nil, "convert-users", "passwd", passwd, dump, "--shadow", shadow, "--keys")
	if code != 0 || !strings.Contains(msg, "2 users are in") {
		t.Fatalf("convert-users: %d %s", code, msg)
	}
	if st, err := os.Stat(dump); err != nil || st.Mode().Perm()&0o077 != 0 {
		t.Errorf("the dump's mode: %v, %v", st, err)
	}
	if code, out, msg := run(t, nil, "load", "-c", dir, dump); code != 0 || !strings.Contains(out, "2 users") {
		t.Errorf("load: %d %s %s", code, out, msg)
	}
	for _, args := range [][]string{
		{"passwd", passwd, "--min-uid", "2000"}, {"passwd", filepath.Join(dir, "none")}, {"csv", passwd}, {"passwd", passwd, "--groups", "no-such-group"},
		{"passwd", passwd, "--users", "["},
	} {
		if code, out, msg := run(t, nil, append([]string{"convert-users"}, args...)...); code != 1 || out != "" || msg == "" {
			t.Errorf("%v: %d %q %q", args, code, out, msg)
		}
	}
}
