package pprof

import (
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func newTestMetrics() *Metrics {
	return NewMetrics(Build{`1.2"3`, `a\b`, "go1"}, Names{Reasons: []string{"wrong password"}, Hooks: []string{"startup"}})
}

// scrape reads the text format: values by series. It checks what a scraper relies on.
func scrape(t *testing.T, m *Metrics) map[string]float64 {
	t.Helper()
	text := string(m.Text(context.Background()))
	out := map[string]float64{}
	kinds := map[string]string{}
	family := ""
	line := regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*",? ?)+\})? (\S+)$`)
	for l := range strings.Lines(text) {
		l = strings.TrimSuffix(l, "\n")
		if rest, ok := strings.CutPrefix(l, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			if _, twice := kinds[name]; twice {
				t.Errorf("the family %s is there twice", name)
			}
			kinds[name], family = kind, name
			continue
		}
		if strings.HasPrefix(l, "# HELP ") {
			continue
		}
		p := line.FindStringSubmatch(l)
		if p == nil {
			t.Errorf("not a sample: %q", l)
			continue
		}
		v, err := strconv.ParseFloat(p[3], 64)
		if err != nil {
			t.Errorf("%q: %v", l, err)
		}
		name := p[1]
		if k := kinds[family]; k == "histogram" || k == "summary" {
			for _, s := range []string{"_bucket", "_sum", "_count"} {
				if name == family+s {
					name = family
				}
			}
		}
		if name != family {
			t.Errorf("%q stands in the family %s", l, family)
		}
		if _, known := familyOf(family); !known && !strings.HasPrefix(family, "go_") && !strings.HasPrefix(family, "process_") {
			t.Errorf("nothing is said of the family %s", family)
		}
		if _, twice := out[p[1]+p[2]]; twice {
			t.Errorf("%s%s is there twice", p[1], p[2])
		}
		out[p[1]+p[2]] = v
	}
	return out
}

func wantValues(t *testing.T, got map[string]float64, want map[string]float64) {
	t.Helper()
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if v, ok := got[k]; !ok || v != want[k] {
			t.Errorf("%s: got %v (%v), want %v", k, v, ok, want[k])
		}
	}
}

func TestTransfersAreCounted(t *testing.T) {
	m := newTestMetrics()
	m.Transferred(Transfer{"SFTP", 0, true, 10, 2 * time.Second, OK})
	m.Transferred(Transfer{"SFTP", 0, true, 5, time.Second, Failed})
	m.Transferred(Transfer{"SFTP", 0, true, 1, time.Second, Quota})
	m.Transferred(Transfer{"DAV", 1, false, 100, time.Second, OK})
	m.Transferred(Transfer{"FTP", 99, false, 7, time.Second, OK})
	m.Operation("SFTP", "mkdir", OK)
	m.Operation("SSH", "ssh_cmd", OK)
	m.Operation("SSH", "ssh_cmd", Failed)
	got := scrape(t, m)
	wantValues(t, got, map[string]float64{
		`gantry_transfers_total{protocol="SFTP",backend="local",direction="upload",outcome="ok"}`:     1,
		`gantry_transfers_total{protocol="SFTP",backend="local",direction="upload",outcome="failed"}`: 1,
		`gantry_transfers_total{protocol="SFTP",backend="local",direction="upload",outcome="quota"}`:  1,
		`gantry_transfers_total{protocol="FTP",backend="other",direction="download",outcome="ok"}`:    1,
		`gantry_transfer_bytes_total{protocol="SFTP",backend="local",direction="upload"}`:             16,
		`gantry_transfer_bytes_total{protocol="DAV",backend="s3",direction="download"}`:               100,
		`gantry_transfer_duration_seconds_count{protocol="SFTP",direction="upload"}`:                  3,
		`gantry_transfer_duration_seconds_sum{protocol="SFTP",direction="upload"}`:                    4,
		`gantry_transfer_duration_seconds_bucket{protocol="SFTP",direction="upload",le="1"}`:          2,
		`gantry_operations_total{protocol="SFTP",action="mkdir",outcome="ok"}`:                        1,

		"sftpgo_uploads_total": 1, "sftpgo_upload_errors_total": 2, "sftpgo_upload_size": 16,
		"sftpgo_downloads_total": 2, "sftpgo_download_errors_total": 0, "sftpgo_download_size": 107,
		"sftpgo_s3_downloads_total": 1, "sftpgo_s3_download_size": 100, "sftpgo_gcs_downloads_total": 0,
		"sftpgo_ssh_commands_total": 1, "sftpgo_ssh_command_errors_total": 1,
	})
}

// guard.md 11: every name is there from the start.
func TestTheOldNamesAreThereAtOnce(t *testing.T) {
	got := scrape(t, newTestMetrics())
	for _, n := range oldNames() {
		if _, ok := got[n]; !ok && n != "sftpgo_active_connections" && n != "sftpgo_dataprovider_availability" { // of the readers
			t.Errorf("%s is missing", n)
		}
	}
	for _, n := range []string{
		"sftpgo_tls_cert_and_pwd_login_ok_total", "sftpgo_key_and_keyboard_int_login_ko_total", "sftpgo_idp_login_attempts_total",
		"sftpgo_az_head_object_errors", "sftpgo_s3_list_objects", "sftpgo_gcs_copy_object", "sftpgo_s3_delete_object_errors",
		"sftpgo_httpfs_download_errors_total", "sftpgo_sftpfs_upload_size", "sftpgo_http_server_errors_total", "sftpgo_no_auth_total",
		"process_cpu_seconds_total", "go_goroutines",
	} {
		if _, ok := got[n]; !ok {
			t.Errorf("%s is missing", n)
		}
	}
	if v := got[`gantry_build_info{version="1.2\"3",commit="a\\b",goversion="go1"}`]; v != 1 {
		t.Error("gantry_build_info is missing")
	}
}

func TestLoginsAreCounted(t *testing.T) {
	m := newTestMetrics()
	m.Login("SSH", "password", "", OK)
	m.Login("SSH", "password", "wrong password", Failed)
	m.Login("FTP", "TLSCertificate+password", "what else", Failed)
	m.Login("SSH", "no_auth_tried", "", Failed)
	m.Login("evil\n\"", "evil", "", Failed)
	wantValues(t, scrape(t, m), map[string]float64{
		`gantry_logins_total{protocol="SSH",method="password",outcome="ok"}`:     1,
		`gantry_logins_total{protocol="SSH",method="password",outcome="failed"}`: 1,
		`gantry_logins_total{protocol="other",method="other",outcome="failed"}`:  1,
		`gantry_login_failures_total{reason="wrong_password"}`:                   1,
		`gantry_login_failures_total{reason="other"}`:                            3,

		"sftpgo_login_attempts_total": 4, "sftpgo_login_ok_total": 1, "sftpgo_login_ko_total": 3, "sftpgo_no_auth_total": 1,
		"sftpgo_password_login_attempts_total": 2, "sftpgo_password_login_ok_total": 1, "sftpgo_password_login_ko_total": 1,
		"sftpgo_tls_cert_and_pwd_login_ko_total": 1,
	})
}

// What a peer says makes no series.
func TestLabelsHaveAClosedSetOfValues(t *testing.T) {
	m := newTestMetrics()
	count := func(i int) int {
		s := "x" + strconv.Itoa(i)
		m.Transferred(Transfer{s, i + 50, true, 1, 0, Outcome(s)})
		m.Operation(s, s, Outcome(s))
		m.Login(s, s, s, Outcome(s))
		m.Stored(s, 0, true)
		m.Hooked(s, 0, errors.New(s))
		m.Requested(i+50, s, 0, Outcome(s))
		return strings.Count(string(m.set2()), "\n")
	}
	first := count(0)
	for i := range 50 {
		if n := count(i); n != first {
			t.Fatalf("%d lines at first, %d later", first, n)
		}
	}
}

// set2 is what the counters alone tell.
func (m *Metrics) set2() []byte {
	var b strings.Builder
	m.set.WritePrometheus(&b)
	return []byte(b.String())
}

// A counter that falls looks like a restart, and its rate like a flood.
func TestBytesOfOpenTransfersNeverFall(t *testing.T) {
	m := newTestMetrics()
	var open []Transfer
	m.Live(func(yield func(Transfer)) {
		for _, x := range open {
			yield(x)
		}
	})
	const name = `gantry_transfer_bytes_total{protocol="FTP",backend="crypt",direction="upload"}`
	told := func() (float64, float64, float64) {
		got := scrape(t, m)
		return got[name], got["sftpgo_upload_size"], got[`gantry_transfers_active{protocol="FTP",direction="upload"}`]
	}
	open = []Transfer{{Protocol: "FTP", Provider: 4, Upload: true, Bytes: 100}, {Protocol: "FTP", Provider: 4, Upload: true, Bytes: 10}}
	if a, b, c := told(); a != 110 || b != 110 || c != 2 {
		t.Errorf("got %v %v %v", a, b, c)
	}
	open = nil // they have ended, and are not yet counted
	if a, b, c := told(); a != 110 || b != 110 || c != 0 {
		t.Errorf("between: got %v %v %v, want 110 110 0", a, b, c)
	}
	m.Transferred(Transfer{"FTP", 4, true, 120, 0, OK})
	if a, b, _ := told(); a != 120 || b != 120 {
		t.Errorf("after: got %v %v", a, b)
	}
}

// Large numbers are readable, small ones exact.
func TestValuesAreWrittenOut(t *testing.T) {
	m := newTestMetrics()
	m.Transferred(Transfer{"FTP", 0, true, 50_000_000_001, 0, OK})
	m.Read(func(_ context.Context, w *Writer) { w.Value("gantry_engine_loop_lag_seconds", 0.0000545, "loop", "0") })
	text := string(m.Text(context.Background()))
	for _, want := range []string{`direction="upload"} 50000000001` + "\n", "sftpgo_upload_size 50000000001\n", `gantry_engine_loop_lag_seconds{loop="0"} 0.0000545` + "\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q", want)
		}
	}
}

func TestRequestsAndWriters(t *testing.T) {
	m := newTestMetrics()
	m.Requested(1, "head", time.Second, OK)
	m.Requested(1, "head", time.Second, Failed)
	m.Requested(3, "list", time.Second, OK)
	m.Hooked("startup", time.Second, errors.New("x"))
	m.Stored("read", time.Millisecond, false)
	m.Read(func(_ context.Context, w *Writer) {
		w.Requests("httpd", [6]uint64{0, 0, 5, 1, 2, 3})
		w.Requests("webdavd", [6]uint64{0, 0, 1, 0, 1, 0})
		w.Sessions(map[string]int{"SFTP": 2, "odd": 1})
		w.Value("sftpgo_dataprovider_availability", 1)
	})
	wantValues(t, scrape(t, m), map[string]float64{
		"sftpgo_s3_head_object": 1, "sftpgo_s3_head_object_errors": 1, "sftpgo_az_list_objects": 1, "sftpgo_gcs_list_objects": 0,
		`gantry_storage_request_duration_seconds_count{backend="s3",operation="head"}`: 2,
		`gantry_hook_errors_total{hook="startup"}`:                                     1,
		`gantry_provider_duration_seconds_bucket{kind="read",le="0.001"}`:              1,
		`gantry_provider_errors_total{kind="write"}`:                                   0,
		`gantry_http_requests_total{service="httpd",code="4xx"}`:                       2,
		"sftpgo_http_req_total":                                                        13, "sftpgo_http_req_ok_total": 7, "sftpgo_http_client_errors_total": 3, "sftpgo_http_server_errors_total": 3,
		`gantry_sessions{protocol="SFTP"}`: 2, `gantry_sessions{protocol="FTP"}`: 0, `gantry_sessions{protocol="other"}`: 1, "sftpgo_active_connections": 3,
		"sftpgo_dataprovider_availability": 1,
	})
}

func TestCountersMayRaceWithScrapes(t *testing.T) {
	m := newTestMetrics()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 200 {
				m.Transferred(Transfer{"SFTP", i % 3, i%2 == 0, 1, 0, OK})
				m.Login("SSH", "password", "", OK)
			}
		})
	}
	for range 5 {
		m.Text(context.Background())
	}
	all.Wait()
	got := scrape(t, m)
	if a, b := got["sftpgo_uploads_total"]+got["sftpgo_downloads_total"], got["sftpgo_login_ok_total"]; a != 1600 || b != 1600 {
		t.Errorf("got %v transfers, %v logins", a, b)
	}
	if n := got["sftpgo_upload_size"] + got["sftpgo_download_size"]; n != 1600 {
		t.Errorf("got %v bytes", n)
	}
}

// Counting costs an index.
func TestCountingAllocatesNothing(t *testing.T) {
	m := newTestMetrics()
	x := Transfer{"SFTP", 0, true, 10, time.Second, OK}
	m.Transferred(x)
	m.Login("SSH", "password", "", OK)
	if n := testing.AllocsPerRun(100, func() {
		m.Transferred(x)
		m.Login("SSH", "password", "", OK)
		m.Stored("read", time.Second, false)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTransferred(b *testing.B) {
	m := newTestMetrics()
	for b.Loop() {
		m.Transferred(Transfer{"SFTP", 0, true, 10, time.Second, OK})
	}
}

func BenchmarkText(b *testing.B) {
	m := newTestMetrics()
	for b.Loop() {
		m.Text(context.Background())
	}
}
