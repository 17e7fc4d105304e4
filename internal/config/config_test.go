package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

type binding struct {
	Port    int    `json:"port"`
	Address string `json:"address"`
	Proxy   bool   `json:"apply_proxy_config"`
}

type limits struct {
	Idle  int     `json:"idle_timeout"`
	Mode  int     `json:"upload_mode"`
	Ratio float64 `json:"ratio"`
	Umask string  `json:"umask"`
	Other string  `json:"driver"` // of another section
}

func (l limits) Validate() error {
	if l.Mode < 0 || l.Mode > 2 {
		return errors.New("upload_mode must be 0, 1 or 2")
	}
	return nil
}

type hooks struct {
	Idle    int      `json:"idle_timeout"` // also wanted here
	Hook    string   `json:"post_connect_hook"`
	Execute []string `json:"execute_on"`
}

type provider struct {
	Driver   string `json:"driver"`
	Password string `json:"password"`
}

type root struct {
	Common struct {
		Limits limits `json:",inline" omit:"driver"`
		Hooks  hooks  `json:",inline"`
	} `json:"common"`
	SFTP struct {
		Bindings []binding `json:"bindings"`
		Ciphers  []string  `json:"ciphers"`
	} `json:"sftpd"`
	Data provider `json:"data_provider"`
}

func defaults() *root {
	r := &root{}
	r.Common.Limits = limits{Idle: 15, Ratio: 0.5}
	r.Common.Hooks = hooks{Idle: 15, Execute: []string{"a", "b"}}
	r.SFTP.Bindings = []binding{{Port: 2022, Proxy: true}}
	r.Data = provider{Driver: "sqlite"}
	return r
}

var known = []Known{
	{Key: "ftpd.bindings[].port"},
	{Key: "ftpd.banner_file"},
	{Key: "plugins[].*"},
	{Key: "common.temp_path", State: Gone, Note: "temporary files stand beside their target"},
}

func options(dir string, environ ...string) Options {
	return Options{
		Dir: dir, Names: []string{"gantry", "sftpgo"}, Prefixes: []string{"GANTRY", "SFTPGO"},
		Environ: environ, Plain: []string{"CONFIG_DIR", "LOG_LEVEL"}, Known: known,
	}
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestEveryFormatGivesTheSameValues(t *testing.T) {
	files := map[string]string{
		"gantry.json": `{"common":{"idle_timeout":7,"upload_mode":2,"ratio":1.5,"umask":"022","execute_on":["upload","copy"]},
			"sftpd":{"bindings":[{"port":2222,"address":"127.0.0.1"},{"PORT":2223,"apply_proxy_config":false}]}}`,
		"gantry.toml": "[common]\nidle_timeout=7\nupload_mode=2\nratio=1.5\numask='022'\nexecute_on=['upload','copy']\n" +
			"[[sftpd.bindings]]\nport=2222\naddress='127.0.0.1'\n[[sftpd.bindings]]\nport=2223\napply_proxy_config=false\n",
		"gantry.yaml": "common: &c\n  idle_timeout: 7\n  upload_mode: 2\n  ratio: 1.5\n  umask: 022\n  execute_on: [upload, copy]\n" +
			"sftpd:\n  bindings:\n    - port: 2222\n      address: 127.0.0.1\n    - port: 2223\n      apply_proxy_config: False\n",
		"gantry.yml": "base: &b {idle_timeout: 7, upload_mode: 1}\ncommon:\n  <<: *b\n  upload_mode: 2\n  ratio: 1.5\n  umask: '022'\n  execute_on: 'upload, copy'\n" +
			"sftpd:\n  bindings:\n    - {port: 2222, address: 127.0.0.1}\n    - {port: 2223, apply_proxy_config: false}\n",
		"gantry.hcl": "common {\n idle_timeout = 7\n upload_mode = 2\n ratio = 1.5\n umask = \"022\"\n execute_on = [\"upload\", \"copy\"]\n}\n" +
			"sftpd {\n bindings {\n port = 2222\n address = \"127.0.0.1\"\n }\n bindings {\n port = 2223\n apply_proxy_config = false\n }\n}\n",
		"gantry.properties": "# comment\ncommon.idle_timeout=7\ncommon.upload_mode = 2\ncommon.ratio: 1.5\ncommon.umask=022\ncommon.execute_on=upload,\\\ncopy\n" +
			"sftpd.bindings.0.port=2222\nsftpd.bindings.0.address=127.0.0.1\nsftpd.bindings[1].port=2223\nsftpd.bindings[1].apply_proxy_config=false\n",
		"gantry.ini": "; comment\n[common]\nidle_timeout=7\nupload_mode=2\nratio=1.5\numask=022\nexecute_on=upload,copy\n" +
			"[sftpd.bindings.0]\nport=2222\naddress=127.0.0.1\n[sftpd.bindings.1]\nport=2223\napply_proxy_config=false\n",
		"gantry.env": "COMMON__IDLE_TIMEOUT=7\nGANTRY_COMMON__UPLOAD_MODE=2\nSFTPGO_COMMON__UPLOAD_MODE=1\nexport common.ratio=1.5\nCOMMON__UMASK='022'\nCOMMON__EXECUTE_ON=\"upload, copy\"\n" +
			"SFTPGO_SFTPD__BINDINGS__0__PORT=2222 # first\nSFTPD__BINDINGS__0__ADDRESS=127.0.0.1\nSFTPD__BINDINGS__1__PORT=2223\nSFTPD__BINDINGS__1__APPLY_PROXY_CONFIG=0\n",
	}
	want := defaults()
	want.Common.Limits = limits{Idle: 7, Mode: 2, Ratio: 1.5, Umask: "022"}
	want.Common.Hooks = hooks{Idle: 7, Execute: []string{"upload", "copy"}}
	want.SFTP.Bindings = []binding{{2222, "127.0.0.1", true}, {2223, "", false}}
	for name, text := range files {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, name, text)
			if name == "gantry.yml" { // an anchor needs a home that is a known key
				text = strings.Replace(text, "base: &b", "common: &b", 1)
			}
			got := defaults()
			opt := options(dir)
			opt.Known = append(opt.Known, Known{Key: "base.*"})
			rep, err := Load(got, opt)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			if src := rep.Source("sftpd.bindings[1].port"); !strings.Contains(src, name) {
				t.Errorf("source of sftpd.bindings[1].port: got %q", src)
			}
			if src := rep.Source("data_provider.driver"); src != "default" {
				t.Errorf("source of data_provider.driver: got %q", src)
			}
		})
	}
}

func TestEnvironmentWinsOverEnvDirOverFileOverDefault(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "gantry.json", `{"common":{"idle_timeout":1,"upload_mode":1,"ratio":1},"data_provider":{"driver":"bolt"}}`)
	write(t, dir, "env.d/10-site", "SFTPGO_COMMON__UPLOAD_MODE=2\nGANTRY_COMMON__RATIO=2\nGANTRY_COMMON__POST_CONNECT_HOOK=\"http://$HOST/x\"\nOTHER=1\n")
	got := defaults()
	rep, err := Load(got, options(dir, "GANTRY_COMMON__RATIO=3", "SFTPGO_COMMON__RATIO=4", "HOST=h", "SFTPGO_SFTPD__BINDINGS__7__PORT=9", "GANTRY_SFTPD__BINDINGS__0__ADDRESS=::1"))
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Common.Limits = limits{Idle: 1, Mode: 2, Ratio: 3}
	want.Common.Hooks = hooks{Idle: 1, Hook: "http://h/x", Execute: []string{"a", "b"}}
	want.Data.Driver = "bolt"
	want.SFTP.Bindings = []binding{{2022, "::1", true}, {9, "", true}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for key, src := range map[string]string{
		"common.ratio": "env:GANTRY_COMMON__RATIO", "common.upload_mode": "env.d/10-site:SFTPGO_COMMON__UPLOAD_MODE",
		"common.umask": "default", "sftpd.bindings[1].port": "env:SFTPGO_SFTPD__BINDINGS__7__PORT",
	} {
		if rep.Source(key) != src {
			t.Errorf("source of %s: got %q want %q", key, rep.Source(key), src)
		}
	}
}

func TestSearchOrder(t *testing.T) {
	conf, etc := t.TempDir(), t.TempDir()
	opt := options(conf)
	opt.SearchDirs = []string{etc}
	steps := []struct{ dir, name string }{ // each one wins over those before
		{etc, "sftpgo.ini"}, {etc, "sftpgo.json"}, {etc, "gantry.yaml"}, {conf, "sftpgo.yaml"}, {conf, "sftpgo.toml"}, {conf, "gantry.env"}, {conf, "gantry.json"},
	}
	for _, s := range steps {
		text := ""
		if strings.HasSuffix(s.name, ".json") {
			text = "{}"
		}
		want := write(t, s.dir, s.name, text)
		rep, err := Load(defaults(), opt)
		if err != nil || rep.File != want {
			t.Errorf("got %q, %v; want %q", rep.File, err, want)
		}
	}
	if rep, _ := Load(defaults(), opt); len(rep.Warnings) != 3 || !strings.Contains(rep.Warnings[0], "gantry.env is not read, because gantry.json") {
		t.Errorf("files that give way: %q", rep.Warnings)
	}
	opt.File = "sftpgo.toml"
	if rep, err := Load(defaults(), opt); err != nil || rep.File != filepath.Join(conf, "sftpgo.toml") {
		t.Errorf("named file: got %q, %v", rep.File, err)
	}
	opt.File = "missing.toml"
	if _, err := Load(defaults(), opt); err == nil {
		t.Error("a named file that is missing must be an error")
	}
	opt.File = "gantry.doc"
	if _, err := Load(defaults(), opt); err == nil || !strings.Contains(err.Error(), "extension") {
		t.Errorf("unknown extension: got %v", err)
	}
}

func TestMistakesNameKeyAndSource(t *testing.T) {
	tests := []struct {
		name, file, text string
		env              []string
		want             []string // parts of the error; none: no error
		warn             []string // parts of the warnings
	}{
		{name: "unknown key", file: "gantry.json", text: `{"common":{"idle_timout":1}}`, want: []string{"gantry.json", "common.idle_timout", "did you mean common.idle_timeout?"}},
		{name: "unknown key in a list", file: "gantry.json", text: `{"sftpd":{"bindings":[{"prot":1}]}}`, want: []string{"sftpd.bindings[0].prot", "did you mean sftpd.bindings[].port?"}},
		{name: "unknown section", file: "gantry.yaml", text: "sftd:\n  ciphers: []\n", want: []string{"gantry.yaml:2", "sftd", "did you mean sftpd"}},
		{name: "key in the wrong section", file: "gantry.json", text: `{"sftpd":{"post_connect_hook":"x"}}`, want: []string{"did you mean common.post_connect_hook?"}},
		{name: "omitted key", file: "gantry.json", text: `{"common":{"driver":"x"}}`, want: []string{"unknown key common.driver", "data_provider.driver"}},
		{name: "lenient file", file: "sftpgo.json", text: `{"common":{"idle_timout":1},"x":{"y":[{"z":1}]}}`, warn: []string{"common.idle_timout", "did you mean common.idle_timeout?", "unknown key x"}},
		{name: "strict variable", env: []string{"GANTRY_COMMON__IDLE_TIMOUT=1"}, want: []string{"env:GANTRY_COMMON__IDLE_TIMOUT", "did you mean common.idle_timeout?"}},
		{name: "lenient variable", env: []string{"SFTPGO_COMMON__IDLE_TIMOUT=1"}, warn: []string{"SFTPGO_COMMON__IDLE_TIMOUT"}},
		{name: "injected variable", env: []string{"GANTRY_PORT=tcp://10.0.0.1", "GANTRY_LOG_LEVEL=debug"}, warn: []string{"GANTRY_PORT"}},
		{name: "bad bool", env: []string{"SFTPGO_SFTPD__BINDINGS__0__APPLY_PROXY_CONFIG=maybe"}, want: []string{"env:SFTPGO_SFTPD__BINDINGS__0__APPLY_PROXY_CONFIG", "sftpd.bindings[0].apply_proxy_config", `"maybe"`}},
		{name: "bad int", file: "sftpgo.toml", text: "[common]\nidle_timeout='x'", want: []string{"sftpgo.toml", "common.idle_timeout"}},
		{name: "fraction", file: "gantry.json", text: `{"common":{"idle_timeout":1.5}}`, want: []string{"common.idle_timeout", "whole number"}},
		{name: "overflow", file: "gantry.json", text: `{"common":{"idle_timeout":1e300}}`, want: []string{"common.idle_timeout"}},
		{name: "section for a value", file: "gantry.json", text: `{"common":{"idle_timeout":{}}}`, want: []string{"common.idle_timeout must be one value"}},
		{name: "value for a section", file: "gantry.json", text: `{"common":3}`, want: []string{"common must be a section"}},
		{name: "list of sections by value", env: []string{"GANTRY_SFTPD__BINDINGS=2022"}, want: []string{"sftpd.bindings", "index"}},
		{name: "out of range", file: "gantry.json", text: `{"common":{"upload_mode":7}}`, want: []string{"common: upload_mode must be 0, 1 or 2"}},
		{name: "not built yet", file: "gantry.json", text: `{"ftpd":{"bindings":[{"port":21}],"banner_file":"x"},"plugins":[{"a":{"b":1}}]}`, warn: []string{"not built yet", "ftpd.banner_file, ftpd.bindings[0].port", "plugins"}},
		{name: "unknown in not built", file: "gantry.json", text: `{"ftpd":{"bindings":[{"prt":21}]}}`, want: []string{"ftpd.bindings[0].prt", "did you mean ftpd.bindings[].port?"}},
		{name: "not built, by env", env: []string{"SFTPGO_FTPD__BINDINGS__0__PORT=21"}, warn: []string{"ftpd.bindings[0].port"}},
		{name: "gone", file: "gantry.json", text: `{"common":{"temp_path":"/x"}}`, warn: []string{"common.temp_path has no effect any more: temporary files"}},
		{name: "syntax JSON", file: "gantry.json", text: "{\n  \"common\": {,}\n}", want: []string{"gantry.json:2:"}},
		{name: "syntax JSON end", file: "gantry.json", text: "{\"common\": {", want: []string{"gantry.json:1:", "ends too early"}},
		{name: "syntax JSON tail", file: "gantry.json", text: "{}\n{}", want: []string{"gantry.json:2:", "follows"}},
		{name: "JSON of another kind", file: "gantry.json", text: "[]", want: []string{"gantry.json:1:"}},
		{name: "syntax TOML", file: "gantry.toml", text: "[common]\nidle_timeout=\n", want: []string{"gantry.toml:2:"}},
		{name: "syntax YAML", file: "gantry.yaml", text: "common:\n\t- x", want: []string{"gantry.yaml", "line 2"}},
		{name: "syntax HCL", file: "gantry.hcl", text: "common {\n x = \n}", want: []string{"gantry.hcl", "At 3:"}},
		{name: "syntax env", file: "gantry.env", text: "A__B=1\nnonsense here\n", want: []string{"gantry.env:2"}},
		{name: "twice", file: "gantry.json", text: `{"common":{"Umask":"1","umask":"2"}}`, want: []string{"umask", "twice"}},
		{name: "secret in an error", env: []string{"GANTRY_DATA_PROVIDER__PASSWORD__X=hunter2"}, want: []string{"data_provider.password"}},
		{name: "null keeps the default", file: "gantry.json", text: `{"common":{"idle_timeout":null},"sftpd":null}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.file != "" {
				write(t, dir, tt.file, tt.text)
			}
			rep, err := Load(defaults(), options(dir, tt.env...))
			if len(tt.want) == 0 && err != nil {
				t.Fatalf("got error %v", err)
			}
			if len(tt.want) > 0 && err == nil {
				t.Fatal("no error")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q does not hold %q", err, w)
				}
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is in %q", err)
			}
			all := strings.Join(rep.Warnings, "\n")
			for _, w := range tt.warn {
				if !strings.Contains(all, w) {
					t.Errorf("warnings %q do not hold %q", all, w)
				}
			}
			if len(tt.warn) == 0 && all != "" {
				t.Errorf("unexpected warnings %q", all)
			}
		})
	}
}

func TestListsReplaceTheDefault(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "gantry.json", `{"common":{"execute_on":[]},"sftpd":{"bindings":[]}}`)
	got := defaults()
	if _, err := Load(got, options(dir, "GANTRY_SFTPD__CIPHERS= a ,, b,")); err != nil {
		t.Fatal(err)
	}
	if len(got.Common.Hooks.Execute) != 0 || len(got.SFTP.Bindings) != 0 {
		t.Errorf("got %+v", got)
	}
	if !reflect.DeepEqual(got.SFTP.Ciphers, []string{"a", "b"}) {
		t.Errorf("ciphers: got %q", got.SFTP.Ciphers)
	}
}

func TestEmptyVariableEmptiesAString(t *testing.T) {
	got := defaults()
	if _, err := Load(got, options(t.TempDir(), "SFTPGO_DATA_PROVIDER__DRIVER=")); err != nil || got.Data.Driver != "" {
		t.Errorf("got %q, %v", got.Data.Driver, err)
	}
}

func TestSecretsAreHiddenInValues(t *testing.T) { // LOG-1
	dir := t.TempDir()
	write(t, dir, "gantry.json", `{"data_provider":{"password":"canary-1"},"common":{"post_connect_hook":"https://u:canary-2@h/x"}}`)
	rep, err := Load(defaults(), options(dir))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, v := range rep.Values {
		if strings.Contains(v.Text, "canary") {
			t.Errorf("%s shows %s", v.Key, v.Text)
		}
		if strings.Contains(v.Text, hidden) {
			seen++
		}
	}
	if seen != 2 {
		t.Errorf("got %d hidden values, want 2: %+v", seen, rep.Values)
	}
}

func TestEnvFileQuotes(t *testing.T) {
	text := "A=plain # comment\nB='lit $A \\n'\nC=\"x\\n$A-${A}\\$A\\\"\" # c\nexport D=$2a$10$abc\nE=\nF=#no\nG='two\nlines'\nH=\"$NOPE$\"\n"
	got, err := parseEnv([]byte(text), func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	want := []assignment{
		{"A", "plain", 1}, {"B", `lit $A \n`, 2}, {"C", "x\nplain-plain$A\"", 3}, {"D", "$2a$10", 4}, {"E", "", 5}, {"F", "", 6},
		{"G", "two\nlines", 7}, {"H", "$", 9},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, bad := range []string{"A", "=x", "A='x", "A=\"x\" y", "A B=1"} {
		if got, err := parseEnv([]byte(bad), func(string) string { return "" }); err == nil {
			t.Errorf("%q: got %+v, want an error", bad, got)
		}
	}
}

func TestFilesAreBounded(t *testing.T) { // RES-1
	dir := t.TempDir()
	write(t, dir, "gantry.json", "{"+strings.Repeat(" ", maxFileSize)+"}")
	if _, err := Load(defaults(), options(dir)); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("file: got %v", err)
	}
	dir = t.TempDir()
	write(t, dir, "env.d/a", "A="+strings.Repeat("x", maxEnvSize))
	if _, err := Load(defaults(), options(dir)); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("env.d: got %v", err)
	}
	for name, text := range map[string]string{
		"deep.json": strings.Repeat(`{"a":`, 3000), "deep.hcl": "a = " + strings.Repeat("[", 1<<20),
		"bomb.yaml": "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n" +
			"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n",
	} {
		if _, err := parse(formatOf(name), []byte(text), name); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	bomb := "A=" + strings.Repeat("x", 1000) + "\n" + strings.Repeat("A=$A$A\n", 30)
	if _, err := parseEnv([]byte(bomb), func(string) string { return "" }); err == nil {
		t.Error("a bomb of variables: no error")
	}
}

func TestNamedFileThatIsADirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "x.json"), 0o755); err != nil {
		t.Fatal(err)
	}
	opt := options(dir)
	opt.File = "x.json"
	if _, err := Load(defaults(), opt); err == nil {
		t.Error("no error")
	}
}

func FuzzConfigFile(f *testing.F) {
	exts := extensions()
	for i := range exts {
		f.Add(uint8(i), []byte("{\"common\":{\"idle_timeout\":1}}"))
		f.Add(uint8(i), []byte("common.idle_timeout=7\nsftpd.bindings.0.port=1\n"))
		f.Add(uint8(i), []byte("[common]\nidle_timeout=7\n[[sftpd.bindings]]\nport=1\n"))
		f.Add(uint8(i), []byte("common {\n idle_timeout = 1 }\nsftpd { bindings { port = 1 } bindings { port = 2 } }\n"))
		f.Add(uint8(i), []byte("common: &a\n  <<: {umask: 022}\nsftpd: {bindings: [{port: 1}, *a]}\n"))
		f.Add(uint8(i), []byte("GANTRY_A__B='x'\nSFTPGO_SFTPD__BINDINGS__3__PORT=\"$GANTRY_A__B\"\n"))
	}
	f.Fuzz(func(t *testing.T, n uint8, data []byte) {
		ext := exts[int(n)%len(exts)]
		tab, err := parse(formatOf("x."+ext), data, "x."+ext)
		if err != nil {
			return
		}
		for _, lenient := range []bool{false, true} {
			dst := defaults()
			v := reflect.ValueOf(dst)
			l := newLoader(v.Elem(), Options{Known: known}, &Report{})
			l.lenient = lenient
			l.fillStruct("", []reflect.Value{v.Elem()}, tab, "file:")
			l.validate("", v.Elem())
			l.values("", v.Elem())
			if len(dst.SFTP.Bindings) > len(data)+1 {
				t.Errorf("%d bindings out of %d bytes", len(dst.SFTP.Bindings), len(data))
			}
		}
	})
}

func FuzzEnvFile(f *testing.F) {
	f.Add([]byte("A=1\nexport B='x y'\nC=\"$A ${B}\\n\" # c\n"))
	f.Add([]byte("A=\"\nB\"\nA=$A$A$A\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		vars, err := parseEnv(data, func(string) string { return "" })
		if err != nil {
			return
		}
		total := 0
		for _, v := range vars {
			if v.name == "" {
				t.Error("a variable without a name")
			}
			total += len(v.value)
		}
		if total > 3*maxEnvSize+len(data) {
			t.Errorf("%d bytes out of %d", total, len(data))
		}
	})
}
