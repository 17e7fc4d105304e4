//go:build unix

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// watched is a server with every protocol and a telemetry listener: HTTPS, with the login prometheus / pw-scrape.
type watched struct {
	*gantrytest.Server
	t                    *testing.T
	curl, url            string
	ftp, dav, rest, home string
}

func watch(t *testing.T) *watched {
	t.Helper()
	w := &watched{t: t, curl: need(t, "curl", "curl"), home: t.TempDir()}
	dir := t.TempDir()
	davPair(t, dir)
	hash, err := bcrypt.GenerateFromPassword([]byte("pw-scrape"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	gantrytest.WriteFile(t, filepath.Join(dir, "scrapers"), "prometheus:"+string(hash)+"\n")
	port := gantrytest.FreePort(t)
	w.ftp, w.dav, w.rest = gantrytest.FreePort(t), gantrytest.FreePort(t), gantrytest.FreePort(t)
	w.url = "https://127.0.0.1:" + port
	w.Server = gantrytest.Start(t, gantrytest.Options{Bin: bin, Dir: dir, Dump: oneUser(newUser("c", w.home)), Secrets: []string{password, "pw-scrape", "pw-wrong"},
		Env: []string{"GANTRY_HTTPD__BINDINGS__0__PORT=" + w.rest}, Args: []string{"--grace-time", "60"},
		Config: fmt.Sprintf(`{"common":{"defender":{"enabled":true,"login_delay":{"password_failed":1}}},
			"ftpd":{"bindings":[{"address":"127.0.0.1","port":%s}]},"webdavd":{"bindings":[{"address":"127.0.0.1","port":%s}]},
			"telemetry":{"bind_port":%s,"enable_profiler":true,"auth_user_file":"scrapers","certificate_file":"dav.crt","certificate_key_file":"dav.key"}}`, w.ftp, w.dav, port)})
	return w
}

// ask calls the listener with curl and gives the status and the body.
func (w *watched) ask(path string, args ...string) (string, string) {
	w.t.Helper()
	out := program{}.run(w.t, w.curl, append([]string{"-sS", "-k", "--max-time", "60", "-w", "\n%{http_code}", w.url + path}, args...)...)
	i := strings.LastIndex(out, "\n")
	return out[i+1:], out[:i]
}

var scraper = []string{"-u", "prometheus:pw-scrape"}

// metrics scrapes: values by series.
func (w *watched) metrics() (text string, values map[string]float64) {
	w.t.Helper()
	code, text := w.ask("/metrics", scraper...)
	if code != "200" {
		w.t.Fatalf("/metrics: %s\n%s", code, text)
	}
	values = map[string]float64{}
	for l := range strings.Lines(text) {
		if i := strings.LastIndex(l, " "); i > 0 && l[0] != '#' {
			v, err := strconv.ParseFloat(strings.TrimSpace(l[i:]), 64)
			if err != nil {
				w.t.Errorf("%q: %v", l, err)
			}
			values[l[:i]] = v
		}
	}
	return text, values
}

// TestMetricsCountWhatHappened: after transfers and failed logins over every protocol the numbers are right; what the
// dashboard and the alerts name is there, and Prometheus's own tool finds nothing to say.
func TestMetricsCountWhatHappened(t *testing.T) {
	t.Parallel()
	w := watch(t)
	up := filepath.Join(t.TempDir(), "up")
	if err := os.WriteFile(up, bytes.Repeat([]byte("x"), 3000), 0o600); err != nil {
		t.Fatal(err)
	}
	curl := func(args ...string) string {
		t.Helper()
		return program{}.run(t, w.curl, append([]string{"-sS", "--max-time", "60"}, args...)...)
	}
	// SFTP: two uploads, of which one is a download too; one that has no place.
	c := client(t, w.Server, "c")
	for _, name := range []string{"/a", "/b"} {
		if err := put(c, name, make([]byte, 1000), os.O_CREATE); err != nil {
			t.Fatal(err)
		}
	}
	f, err := c.Open("/a")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := f.WriteTo(&bytes.Buffer{}); n != 1000 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Mkdir("/dir"); err != nil {
		t.Fatal(err)
	}
	curl("-u", "c:"+password, "-T", up, "ftp://127.0.0.1:"+w.ftp+"/ftp")
	curl("-u", "c:"+password, "-o", os.DevNull, "ftp://127.0.0.1:"+w.ftp+"/ftp")
	curl("-u", "c:"+password, "-T", up, "http://127.0.0.1:"+w.dav+"/dav")
	for range 2 {
		curl("-u", "c:"+password, "-o", os.DevNull, "http://127.0.0.1:"+w.dav+"/dav")
	}
	curl("-u", "c:"+password, "-o", os.DevNull, "http://127.0.0.1:"+w.dav+"/missing")
	api := "http://127.0.0.1:" + w.rest + "/api/v2"
	var token struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(curl("-u", "c:"+password, api+"/user/token")), &token); err != nil {
		t.Fatal(err)
	}
	bearer := "Authorization: Bearer " + token.Token
	curl("-f", "-H", bearer, "--data-binary", "@"+up, api+"/user/files/upload?path=/rest")
	curl("-f", "-H", bearer, "-o", os.DevNull, api+"/user/files?path=/rest")
	// Failed logins: one over each protocol.
	if conn, err := w.Dial("c", "pw-wrong"); err == nil {
		conn.Close()
		t.Error("a wrong password was taken")
	}
	for _, url := range []string{"ftp://127.0.0.1:" + w.ftp + "/", "http://127.0.0.1:" + w.dav + "/", api + "/user/token"} {
		program{}.run(t, "/bin/sh", "-c", `"$0" -s --max-time 60 -u nobody:pw-wrong -o /dev/null "$1"; true`, w.curl, url)
	}

	want := map[string]float64{
		`gantry_transfers_total{protocol="SFTP",backend="local",direction="upload",outcome="ok"}`:   2,
		`gantry_transfers_total{protocol="SFTP",backend="local",direction="download",outcome="ok"}`: 1,
		`gantry_transfers_total{protocol="FTP",backend="local",direction="upload",outcome="ok"}`:    1,
		`gantry_transfers_total{protocol="FTP",backend="local",direction="download",outcome="ok"}`:  1,
		`gantry_transfers_total{protocol="DAV",backend="local",direction="upload",outcome="ok"}`:    1,
		`gantry_transfers_total{protocol="DAV",backend="local",direction="download",outcome="ok"}`:  2,
		`gantry_transfers_total{protocol="HTTP",backend="local",direction="upload",outcome="ok"}`:   1,
		`gantry_transfers_total{protocol="HTTP",backend="local",direction="download",outcome="ok"}`: 1,

		`gantry_transfer_bytes_total{protocol="SFTP",backend="local",direction="upload"}`:   2000,
		`gantry_transfer_bytes_total{protocol="SFTP",backend="local",direction="download"}`: 1000,
		`gantry_transfer_bytes_total{protocol="FTP",backend="local",direction="upload"}`:    3000,
		`gantry_transfer_bytes_total{protocol="FTP",backend="local",direction="download"}`:  3000,
		`gantry_transfer_bytes_total{protocol="DAV",backend="local",direction="download"}`:  6000,
		`gantry_transfer_bytes_total{protocol="HTTP",backend="local",direction="upload"}`:   3000,

		`gantry_operations_total{protocol="SFTP",action="mkdir",outcome="ok"}`: 1,
		`gantry_sessions{protocol="SFTP"}`:                                     1,

		"sftpgo_uploads_total": 5, "sftpgo_downloads_total": 5, "sftpgo_upload_errors_total": 0, "sftpgo_upload_size": 11000, "sftpgo_download_size": 13000,

		`gantry_logins_total{protocol="SSH",method="password",outcome="ok"}`:      1,
		`gantry_logins_total{protocol="SSH",method="password",outcome="failed"}`:  1,
		`gantry_logins_total{protocol="FTP",method="password",outcome="ok"}`:      2,
		`gantry_logins_total{protocol="FTP",method="password",outcome="failed"}`:  1,
		`gantry_logins_total{protocol="DAV",method="password",outcome="failed"}`:  1,
		`gantry_logins_total{protocol="HTTP",method="password",outcome="failed"}`: 1,
		`gantry_login_failures_total{reason="wrong_password"}`:                    1,
		`gantry_login_failures_total{reason="unknown_user"}`:                      3,

		"sftpgo_login_ko_total": 4, "sftpgo_password_login_ko_total": 4, "sftpgo_dataprovider_availability": 1,
		`gantry_http_requests_total{service="webdavd",code="4xx"}`:             2,
		`gantry_guard_decisions_total{protocol="FTP",decision="allowed"}`:      3,
		`gantry_guard_decisions_total{protocol="SSH",decision="rate_limited"}`: 0,
		`gantry_defender_hosts{state="scored"}`:                                1,
	}
	var text string
	var got map[string]float64
	w.Until("the numbers are right", func() bool {
		text, got = w.metrics()
		for k, v := range want {
			if got[k] != v {
				return w.Ended()
			}
		}
		return true
	})
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: got %v, want %v", k, got[k], v)
		}
	}
	for _, k := range []string{"process_resident_memory_bytes", "go_goroutines", `gantry_provider_duration_seconds_count{kind="read"}`, `gantry_cache_hits_total{cache="accounts"}`,
		`gantry_guard_connections`, `gantry_engine_lifts_total`, `gantry_http_requests_total{service="httpd",code="2xx"}`, "sftpgo_http_req_ok_total"} {
		if got[k] <= 0 {
			t.Errorf("%s: got %v", k, got[k])
		}
	}
	for _, secret := range []string{"nobody", "/dav", w.home, `="c"`} { // no peer makes a series
		if strings.Contains(text, secret) {
			t.Errorf("the metrics tell of %q", secret)
		}
	}

	// Whatever the dashboard and the alerts name is a family of the scrape.
	families := map[string]bool{"up": true}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(text, -1) {
		families[m[1]] = true
		if m[2] == "histogram" {
			families[m[1]+"_bucket"], families[m[1]+"_sum"], families[m[1]+"_count"] = true, true, true
		}
	}
	named := regexp.MustCompile(`\b(?:gantry|sftpgo|process|go)_[a-z0-9_]+`)
	for _, file := range []string{"../../docs/grafana/gantry.json", "../../docs/prometheus/gantry-alerts.yml", "../../docs/telemetry.md"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, ".json") && !json.Valid(data) {
			t.Errorf("%s is no JSON", file)
		}
		names := named.FindAllString(string(data), -1)
		if len(names) < 15 {
			t.Errorf("%s names %d metrics", file, len(names))
		}
		for _, n := range names {
			if !families[n] && !strings.HasSuffix(n, "_") { // a prefix, in prose
				t.Errorf("%s names %s, which is not scraped", file, n)
			}
		}
	}
	promtool := need(t, "promtool", "prometheus")
	program{}.run(t, promtool, "check", "rules", "../../docs/prometheus/gantry-alerts.yml")
	// Of the names it has opinions, of which those of the drop-in and of Go's and the system's are not ours to change.
	ours := regexp.MustCompile(`(?m)^(# (HELP|TYPE) )?gantry_.*\n`).FindAllString(text, -1)
	if out := (program{stdin: strings.Join(ours, "")}).run(t, promtool, "check", "metrics"); strings.TrimSpace(out) != "" {
		t.Errorf("promtool: %s", out)
	}
}

// TestTelemetryLogins: what needs a login has none without; a failed one is recorded; the certificate changes with HUP; the
// health answers until the end.
func TestTelemetryLogins(t *testing.T) {
	t.Parallel()
	w := watch(t)
	for _, c := range []struct {
		path, code string
		args       []string
	}{
		{"/metrics", "401", nil},
		{"/debug/pprof/heap", "401", nil},
		{"/metrics", "401", []string{"-u", "prometheus:pw-wrong"}},
		{"/metrics", "401", []string{"-u", "c:" + password}},
		{"/metrics", "401", []string{"-H", "Authorization: Bearer x"}},
		{"/metrics", "200", scraper},
		{"/healthz", "200", nil},
	} {
		if code, body := w.ask(c.path, c.args...); code != c.code {
			t.Errorf("%s %q: %s, want %s\n%s", c.path, c.args, code, c.code, body)
		}
	}
	w.WaitLog(map[string]any{"sender": "connection_failed", "username": "prometheus", "protocol": "HTTP", "client_ip": "127.0.0.1", "error": "wrong password"})
	if code, body := w.ask("/healthz?format=json", scraper...); code != "200" || !strings.Contains(body, `"provider":{"status":"ok"}`) || !strings.Contains(body, `"disk":{"status":"ok"}`) {
		t.Errorf("health: %s %s", code, body)
	}
	plain := program{}.run(t, w.curl, "-sS", "--max-time", "60", "-o", os.DevNull, "-w", "%{http_code}", strings.Replace(w.url, "https", "http", 1)+"/metrics")
	if plain != "400" {
		t.Errorf("without TLS: %s", plain)
	}
	if code, out := w.Verb("ping"); code != 0 || out != "ok\n" {
		t.Errorf("gantry ping: %d %q", code, out)
	}

	serial := func() string {
		return program{dir: w.Dir}.run(t, "/bin/sh", "-c", `openssl s_client -connect "$0" </dev/null 2>/dev/null | openssl x509 -noout -serial`, strings.TrimPrefix(w.url, "https://"))
	}
	before := serial()
	davPair(t, w.Dir)
	if code, out := w.Verb("ping"); code == 0 || !strings.Contains(out, "certificate is not that of") {
		t.Errorf("ping of a server with another certificate: %d %q", code, out)
	}
	w.Signal(syscall.SIGHUP)
	w.Until("another certificate", func() bool { return serial() != before })
	if code, out := w.Verb("ping"); code != 0 {
		t.Errorf("gantry ping after HUP: %d %q", code, out)
	}

	token := filepath.Join(w.Dir, "telemetry.token")
	if i, err := os.Stat(token); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("the token: %v %v", i, err)
	}
	// A stop waits for an upload; the health says so meanwhile.
	c, conn := clientOf(t, w.Server, "c")
	f, err := c.Create("/slow")
	if err != nil {
		t.Fatal(err)
	}
	w.Signal(syscall.SIGTERM)
	w.Until("503", func() bool {
		code, body := w.ask("/healthz")
		return code == "503" && strings.Contains(body, "running: failed") || w.Ended()
	})
	if _, err := f.Write([]byte("slow")); err != nil {
		t.Errorf("the upload was cut: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("the upload was cut: %v", err)
	}
	conn.Close()
	if code := w.WaitEnd(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(token); !os.IsNotExist(err) {
		t.Errorf("the token is left: %v", err)
	}
}

// TestProfilesOfTheBuiltServer: gantry profile fetches what go's tools read.
func TestProfilesOfTheBuiltServer(t *testing.T) {
	t.Parallel()
	w := watch(t)
	dir := t.TempDir()
	for _, p := range []struct {
		file, tool, want string
		args             []string
	}{
		{"cpu", "pprof", "Type: cpu", []string{"--cpu", "1s"}},
		{"heap", "pprof", "Type: inuse_space", []string{"--heap"}},
		{"goroutines", "pprof", "Type: goroutine", []string{"--goroutines"}},
		{"mutex", "pprof", "Type: delay", []string{"--mutex", "1s"}},
		{"trace", "trace", "", []string{"--trace", "1s"}},
	} {
		file := filepath.Join(dir, p.file)
		code, out := w.Verb("profile", append(p.args, "-o", file)...)
		if code != 0 || !strings.Contains(out, "go tool "+p.tool) || !strings.Contains(out, file) {
			t.Errorf("gantry profile %q: %d %s", p.args, code, out)
			continue
		}
		if i, err := os.Stat(file); err != nil || i.Mode().Perm() != 0o600 || i.Size() == 0 {
			t.Errorf("%s: %v %v", p.file, i, err)
		}
		args := []string{"tool", "pprof", "-top", file}
		if p.tool == "trace" {
			args = []string{"tool", "trace", "-d=footprint", file}
		}
		if out := (program{}).run(t, "go", args...); !strings.Contains(out, p.want) {
			t.Errorf("go %q: %s", args, out)
		}
	}
	for _, args := range [][]string{{}, {"--cpu", "1h"}, {"--cpu", "100ms"}, {"--heap", "--allocs"}, {"--heap=false"}} {
		if code, out := w.Verb("profile", args...); code == 0 {
			t.Errorf("gantry profile %q is taken: %s", args, out)
		}
	}
	// Without the token the verb has no login.
	if err := os.Remove(filepath.Join(w.Dir, "telemetry.token")); err != nil {
		t.Fatal(err)
	}
	if code, out := w.Verb("profile", "--heap"); code == 0 || !strings.Contains(out, "telemetry.token") {
		t.Errorf("without the token: %d %s", code, out)
	}
}
