package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func writeFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFileOfAnotherServerLoadsWithWarningsOnly(t *testing.T) {
	sample, err := os.ReadFile("testdata/every-key.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sftpgo.json", "gantry.json"} { // no key may be unknown, so strict works too
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, name), string(sample))
		s, err := loadConfig(dir)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, w := range s.report.Warnings {
			if strings.Contains(w, "unknown") {
				t.Errorf("%s: %s", name, w)
			}
		}
		for _, section := range []string{"httpd", "smtp", "plugins"} {
			if !slices.ContainsFunc(s.report.Warnings, func(w string) bool { return strings.Contains(w, ": "+section) }) {
				t.Errorf("%s: no warning names %s", name, section)
			}
		}
		if s.Common.Guard.MaxPerHost != 7 || s.SFTPD.Bindings[0].Port != 2100 {
			t.Errorf("%s: got %+v", name, s.Config)
		}
	}
}

func TestEveryDefaultIsValidAndHasASource(t *testing.T) {
	s, err := loadConfig(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.report.Warnings) != 0 {
		t.Errorf("warnings: %q", s.report.Warnings)
	}
	for _, v := range s.report.Values {
		if v.Source != "default" {
			t.Errorf("%s comes from %s", v.Key, v.Source)
		}
	}
}

func TestVariablesSetFlagsUnlessTheCommandLineDid(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "env.d", "log"), "SFTPGO_LOG_MAX_SIZE=33\nGANTRY_LOG_LEVEL=warn\nSFTPGO_CONFIG_DIR=/nowhere\n")
	a := &app{environ: []string{"SFTPGO_LOG_LEVEL=debug", "SFTPGO_LOG_MAX_AGE=3", "GANTRY_LOG_MAX_AGE=4", "SFTPGO_LOG_UTC_TIME=1", "SFTPGO_GRACE_TIME=9"}}
	f := &flags{}
	cmd := a.serveCmd()
	cmd.ResetFlags()
	f.add(cmd.Flags())
	f.addLog(cmd.Flags())
	if err := cmd.ParseFlags([]string{"-c", dir, "--log-max-backups", "2"}); err != nil {
		t.Fatal(err)
	}
	s, err := a.load(f, cmd.Flags())
	if err != nil {
		t.Fatal(err)
	}
	if f.log.MaxSize != 33 || f.log.MaxBackups != 2 || f.log.MaxAge != 4 || !f.log.UTC || f.log.Level != "warn" {
		t.Errorf("got %+v", f.log)
	}
	if s.dir != dir {
		t.Errorf("the directory came from a file inside it: %s", s.dir)
	}
	a.environ = []string{"GANTRY_LOG_MAX_AGE=old"}
	if _, err := a.load(f, cmd.Flags()); err == nil || !strings.Contains(err.Error(), "GANTRY_LOG_MAX_AGE") {
		t.Errorf("a bad number: got %v", err)
	}
}

func TestOutOfRangeValuesNameTheirKey(t *testing.T) {
	for file, want := range map[string]string{
		`{"common":{"umask":"99"}}`:                                    "common.umask",
		`{"common":{"tz":"Mars"}}`:                                     "common.tz",
		`{"common":{"upload_mode":3}}`:                                 "common: upload_mode",
		`{"common":{"track_quota":1}}`:                                 "unknown key common.track_quota",
		`{"data_provider":{"track_quota":9}}`:                          "data_provider.track_quota",
		`{"data_provider":{"naming_rules":9}}`:                         "data_provider.naming_rules",
		`{"data_provider":{"password_hashing":{"algo":"md5"}}}`:        "data_provider.password_hashing: algo",
		`{"common":{"max_per_host_connections":-1}}`:                   "max_per_host_connections",
		`{"sftpd":{"bindings":[{"port":70000}]}}`:                      "sftpd.bindings[0].port",
		`{"sftpd":{"ciphers":["rot13"]}}`:                              "sftpd.ciphers",
		`{"data_provider":{"driver":"mysql"}}`:                         "data_provider.host",
		`{"common":{"defender":{"enabled":true,"driver":"provider"}}}`: "common.defender.driver: provider needs data_provider.is_shared",
		`{"data_provider":{"is_shared":2}}`:                            "data_provider.is_shared",
		`{"data_provider":{"delayed_quota_update":-1}}`:                "data_provider.delayed_quota_update",
		`{"data_provider":{"auto_backup":{"hour":"25"}}}`:              "data_provider.auto_backup.hour",
		`{"data_provider":{"update_mode":2}}`:                          "data_provider.update_mode",
		`{"data_provider":{"node":{"proto":"ftp"}}}`:                   "data_provider.node.proto",
		`{"data_provider":{"driver":"paper"}}`:                         "data_provider.driver",
		`{"common":{"server_version":"long"}}`:                         "common.server_version",
		`{"common":{"idle_timeout":"soon"}}`:                           "common.idle_timeout",
		`{"sftpd":{"password_authentication":"yup"}}`:                  "sftpd.password_authentication",
	} {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "gantry.json"), file)
		_, err := loadConfig(dir)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", file, err, want)
		}
	}
}

// loadConfig loads the configuration of dir alone.
func loadConfig(dir string) (*settings, error) {
	a := &app{environ: []string{"GANTRY_CONFIG_DIR=" + dir}}
	f := &flags{}
	cmd := a.checkCmd()
	cmd.ResetFlags()
	f.add(cmd.Flags())
	return a.load(f, cmd.Flags())
}
