package pprof

import (
	"bytes"
	"context"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// The closed sets of the labels' values. Protocols and methods have their names of the log's records. Read-only.
var (
	protocolLabel  = label{"protocol", []string{"SFTP", "SCP", "SSH", "FTP", "DAV", "HTTP", "HTTPShare"}}
	doorLabel      = label{"protocol", []string{"SSH", "FTP", "DAV", "HTTP"}}
	backendLabel   = label{"backend", []string{"local", "s3", "gcs", "azblob", "crypt", "sftp", "http"}} // by fs_provider
	directionLabel = label{"direction", []string{"upload", "download"}}
	outcomeLabel   = label{"outcome", []string{"ok", "failed", "quota"}}
	methodLabel    = label{"method", []string{"password", "publickey", "keyboard-interactive", "publickey+password",
		"publickey+keyboard-interactive", "TLSCertificate", "TLSCertificate+password", "IDP", "api-key", "token", "share", "no_auth_tried"}}
	actionLabel = label{"action", []string{"delete", "rename", "mkdir", "rmdir", "copy", "ssh_cmd", "symlink", "link", "chmod",
		"chown", "chtimes", "truncate"}}
	storeLabel     = label{"kind", []string{"read", "write", "count"}}
	operationLabel = label{"operation", []string{"head", "list", "get", "put", "begin", "part", "complete", "abort", "copy", "delete", "sweep"}}
)

// The bounds of the histograms' buckets, in seconds. Read-only.
var (
	longBounds  = []float64{.005, .025, .1, .5, 1, 5, 15, 60, 300, 1800, 7200}
	shortBounds = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	netBounds   = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
)

// Build names the running program.
type Build struct{ Version, Commit, Go string }

// Metrics is what a server counts. Safe for concurrent use. What other parts count themselves is read at the scrape, by
// Read.
type Metrics struct {
	set *metrics.Set

	transfers *table[metrics.Counter]
	moved     *table[atomic.Int64] // bytes of transfers that have ended
	durations *table[metrics.PrometheusHistogram]
	actions   *table[metrics.Counter]
	logins    *table[metrics.Counter]
	reasons   *table[metrics.Counter]
	store     *table[metrics.PrometheusHistogram]
	storeErrs *table[metrics.Counter]
	hooks     *table[metrics.PrometheusHistogram]
	hookErrs  *table[metrics.Counter]
	requests  *table[metrics.Counter]
	waits     *table[metrics.PrometheusHistogram]

	build string

	mu      sync.Mutex // guards what follows; held through a scrape
	readers []func(ctx context.Context, w *Writer)
	live    func(yield func(Transfer))
	shown   map[flow]int64 // bytes that the last scrape told: a counter must not fall
}

// Names are the values of labels that the caller knows.
type Names struct {
	Reasons []string // of failed logins
	Hooks   []string
}

// NewMetrics makes a set of its own: nothing of it is global.
func NewMetrics(b Build, n Names) *Metrics {
	set := metrics.NewSet()
	m := &Metrics{set: set, shown: map[flow]int64{}, build: series("gantry_build_info", "version", b.Version, "commit", b.Commit, "goversion", b.Go)}
	histogram := func(bounds []float64) func(string) *metrics.PrometheusHistogram {
		return func(name string) *metrics.PrometheusHistogram {
			return set.GetOrCreatePrometheusHistogramExt(name, bounds)
		}
	}
	var reasons []string
	for _, r := range n.Reasons {
		reasons = append(reasons, reason(r))
	}
	hookLabel := label{"hook", n.Hooks}
	m.transfers = newTable("gantry_transfers_total", set.GetOrCreateCounter, protocolLabel, backendLabel, directionLabel, outcomeLabel)
	m.moved = newTable("gantry_transfer_bytes_total", func(string) *atomic.Int64 { return new(atomic.Int64) }, protocolLabel, backendLabel, directionLabel)
	m.durations = newTable("gantry_transfer_duration_seconds", histogram(longBounds), protocolLabel, directionLabel)
	m.actions = newTable("gantry_operations_total", set.GetOrCreateCounter, protocolLabel, actionLabel, outcomeLabel)
	m.logins = newTable("gantry_logins_total", set.GetOrCreateCounter, doorLabel, methodLabel, outcomeLabel)
	m.reasons = newTable("gantry_login_failures_total", set.GetOrCreateCounter, label{"reason", reasons})
	m.store = newTable("gantry_provider_duration_seconds", histogram(shortBounds), storeLabel)
	m.storeErrs = newTable("gantry_provider_errors_total", set.GetOrCreateCounter, storeLabel)
	m.hooks = newTable("gantry_hook_duration_seconds", histogram(netBounds), hookLabel)
	m.hookErrs = newTable("gantry_hook_errors_total", set.GetOrCreateCounter, hookLabel)
	m.requests = newTable("gantry_storage_requests_total", set.GetOrCreateCounter, backendLabel, operationLabel, outcomeLabel)
	m.waits = newTable("gantry_storage_request_duration_seconds", histogram(netBounds), backendLabel, operationLabel)
	for _, k := range storeLabel.values { // a rate needs a first value
		m.storeErrs.at(k)
	}
	return m
}

// reason is a reason as the value of a label.
func reason(s string) string { return strings.ReplaceAll(s, " ", "_") }

// Outcome is how something ended.
type Outcome string

// The outcomes.
const (
	OK     Outcome = "ok"
	Failed Outcome = "failed"
	Quota  Outcome = "quota" // stopped by a limit of the account
)

// OutcomeOf is Failed if there is an error.
func OutcomeOf(err error) Outcome {
	if err != nil {
		return Failed
	}
	return OK
}

// Transfer is a file that moves or has moved.
type Transfer struct {
	Protocol string // of the records: SFTP, FTP, …
	Provider int    // fs_provider
	Upload   bool
	Bytes    int64
	Elapsed  time.Duration // of one that has ended
	Outcome  Outcome       // of one that has ended
}

func (t *Transfer) labels() (protocol, backend, direction string) {
	backend, direction = Other, "download"
	if t.Provider >= 0 && t.Provider < len(backendLabel.values) {
		backend = backendLabel.values[t.Provider]
	}
	if t.Upload {
		direction = "upload"
	}
	return t.Protocol, backend, direction
}

// Transferred counts a transfer that has ended.
func (m *Metrics) Transferred(t Transfer) {
	protocol, backend, direction := t.labels()
	m.transfers.at(protocol, backend, direction, string(t.Outcome)).Inc()
	m.durations.at(protocol, direction).Update(t.Elapsed.Seconds())
	m.moved.at(protocol, backend, direction).Add(t.Bytes)
}

// Operation counts a change of the tree, or a command.
func (m *Metrics) Operation(protocol, action string, o Outcome) {
	m.actions.at(protocol, action, string(o)).Inc()
}

// Login counts a login that was tried, with the reason of a failed one.
func (m *Metrics) Login(protocol, method, why string, o Outcome) {
	m.logins.at(protocol, method, string(o)).Inc()
	if o != OK {
		m.reasons.at(reason(why)).Inc()
	}
}

// Stored counts a transaction of the account store. failed says that the store is to blame.
func (m *Metrics) Stored(kind string, d time.Duration, failed bool) {
	m.store.at(kind).Update(d.Seconds())
	if failed {
		m.storeErrs.at(kind).Inc()
	}
}

// Hooked counts a hook.
func (m *Metrics) Hooked(hook string, d time.Duration, err error) {
	m.hooks.at(hook).Update(d.Seconds())
	if err != nil {
		m.hookErrs.at(hook).Inc()
	}
}

// Requested counts a request to an object storage.
func (m *Metrics) Requested(provider int, operation string, d time.Duration, o Outcome) {
	backend := Other
	if provider >= 0 && provider < len(backendLabel.values) {
		backend = backendLabel.values[provider]
	}
	m.requests.at(backend, operation, string(o)).Inc()
	m.waits.at(backend, operation).Update(d.Seconds())
}

// Read has f called at each scrape, to write what its part counts.
func (m *Metrics) Read(f func(ctx context.Context, w *Writer)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.readers = append(m.readers, f)
}

// Live names what lists the open transfers at each scrape.
func (m *Metrics) Live(f func(yield func(Transfer))) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.live = f
}

// Writer takes the values of a scrape. Labels are names and values by turns; the values must come from a closed set.
type Writer struct {
	m     *Metrics
	lines map[string][]string // by family
	total map[string]float64  // of the sftpgo_ metrics, which are sums
}

// Value writes one value.
func (w *Writer) Value(name string, v float64, labels ...string) {
	w.lines[name] = append(w.lines[name], series(name, labels...)+" "+strconv.FormatFloat(v, 'f', -1, 64))
}

// Requests writes how many requests an HTTP service has answered, by the class of the status: 1xx at index 1, and so on.
func (w *Writer) Requests(service string, byClass [6]uint64) {
	for class := 1; class < len(byClass); class++ {
		n := float64(byClass[class])
		w.Value("gantry_http_requests_total", n, "service", service, "code", strconv.Itoa(class)+"xx")
		w.total["sftpgo_http_req_total"] += n
		switch class {
		case 4:
			w.total["sftpgo_http_client_errors_total"] += n
		case 5:
			w.total["sftpgo_http_server_errors_total"] += n
		default:
			w.total["sftpgo_http_req_ok_total"] += n
		}
	}
}

// Sessions writes the number of live sessions by protocol.
func (w *Writer) Sessions(byProtocol map[string]int) {
	n, others := 0, 0
	for p, k := range byProtocol {
		n += k
		if protocolLabel.index(p) == len(protocolLabel.values) {
			others += k
		}
	}
	for _, p := range protocolLabel.values {
		w.Value("gantry_sessions", float64(byProtocol[p]), "protocol", p)
	}
	if others > 0 {
		w.Value("gantry_sessions", float64(others), "protocol", Other)
	}
	w.Value("sftpgo_active_connections", float64(n))
}

// Text is everything in Prometheus's text format 0.0.4, each family once, with its type.
func (m *Metrics) Text(ctx context.Context) []byte {
	m.mu.Lock()
	w := &Writer{m: m, lines: map[string][]string{}, total: map[string]float64{}}
	w.lines["gantry_build_info"] = []string{m.build + " 1"}
	for _, f := range m.readers {
		f(ctx, w)
	}
	w.bytes()
	w.old()
	m.mu.Unlock()

	var b bytes.Buffer
	m.set.WritePrometheus(&b)
	metrics.WriteProcessMetrics(&b)
	metrics.WriteFDMetrics(&b)
	for line := range strings.Lines(b.String()) {
		line = strings.TrimSuffix(line, "\n")
		f := familyOfLine(line)
		w.lines[f] = append(w.lines[f], line)
	}
	return w.text()
}

// familyOfLine is the family of a sample.
func familyOfLine(line string) string {
	name := line[:strings.IndexAny(line+" ", "{ ")]
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(name, suffix); ok {
			if f, ok := families[base]; ok && f.kind == "histogram" || !ok && (suffix == "_bucket" || strings.HasPrefix(base, "go_") && strings.HasSuffix(base, "_seconds")) {
				return base
			}
		}
	}
	return name
}

// text orders what was written. A family of ours without a series yet has its type all the same, so that one sees what
// there is.
func (w *Writer) text() []byte {
	for n := range families {
		if _, ok := w.lines[n]; !ok {
			w.lines[n] = nil
		}
	}
	names := make([]string, 0, len(w.lines))
	for n := range w.lines {
		names = append(names, n)
	}
	sort.Strings(names)
	var b bytes.Buffer
	for _, n := range names {
		if f, ok := familyOf(n); ok {
			fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", n, f.help, n, f.kind)
		} else {
			fmt.Fprintf(&b, "# TYPE %s %s\n", n, kindOf(n, w.lines[n]))
		}
		if f, ok := families[n]; ok && f.kind != "histogram" { // whose buckets have an order
			sort.Strings(w.lines[n])
		}
		for _, l := range w.lines[n] {
			b.WriteString(l)
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// kindOf tells the type of one of the runtime's or the process's families by its lines.
func kindOf(name string, lines []string) string {
	for _, l := range lines {
		switch {
		case strings.HasPrefix(l, name+"_bucket{"):
			return "histogram"
		case strings.HasPrefix(l, name+"{quantile="):
			return "summary"
		}
	}
	if strings.HasSuffix(name, "_total") {
		return "counter"
	}
	return "gauge"
}

// flow is where bytes move: the labels' values.
type flow struct{ protocol, backend, direction string }

// bytes writes what has moved, with what moves now.
func (w *Writer) bytes() {
	m := w.m
	now, active := map[flow]int64{}, map[flow]int{}
	m.moved.all(func(v []string, n *atomic.Int64) { now[flow{v[0], v[1], v[2]}] = n.Load() })
	if m.live != nil {
		m.live(func(t Transfer) {
			protocol, backend, direction := t.labels()
			protocol = protocolLabel.value(protocolLabel.index(protocol))
			active[flow{protocol, "", direction}]++
			now[flow{protocol, backend, direction}] += t.Bytes
		})
	}
	for f, n := range active {
		w.Value("gantry_transfers_active", float64(n), "protocol", f.protocol, "direction", f.direction)
	}
	for f, n := range now {
		// A transfer that ended while it was looked at is in neither sum: what was told before stands.
		m.shown[f] = max(m.shown[f], n)
	}
	for f, n := range m.shown {
		w.Value("gantry_transfer_bytes_total", float64(n), "protocol", f.protocol, "backend", f.backend, "direction", f.direction)
		w.add(f.backend, f.direction+"_size", float64(n))
	}
}

// add adds to one of SFTPGo's sums, and to that of the backend where it has one.
func (w *Writer) add(backend, name string, n float64) {
	w.total["sftpgo_"+name] += n
	for _, b := range oldBackends {
		if b.backend == backend {
			w.total["sftpgo_"+b.old+"_"+name] += n
		}
	}
}

// old writes the metrics of SFTPGo's names, all of them, as sums of ours.
func (w *Writer) old() {
	m, sum := w.m, w.total
	m.transfers.all(func(v []string, c *metrics.Counter) {
		name := v[2] + "s_total"
		if v[3] != string(OK) {
			name = v[2] + "_errors_total"
		}
		w.add(v[1], name, float64(c.Get()))
	})
	m.actions.all(func(v []string, c *metrics.Counter) {
		switch {
		case v[1] != "ssh_cmd":
		case v[2] == string(OK):
			sum["sftpgo_ssh_commands_total"] += float64(c.Get())
		default:
			sum["sftpgo_ssh_command_errors_total"] += float64(c.Get())
		}
	})
	m.logins.all(func(v []string, c *metrics.Counter) {
		n, end := float64(c.Get()), "ko"
		if v[1] == "no_auth_tried" {
			sum["sftpgo_no_auth_total"] += n
			return
		}
		if v[2] == string(OK) {
			end = "ok"
		}
		sum["sftpgo_login_attempts_total"] += n
		sum["sftpgo_login_"+end+"_total"] += n
		for _, x := range oldMethods {
			if x.method == v[1] {
				sum["sftpgo_"+x.old+"_login_attempts_total"] += n
				sum["sftpgo_"+x.old+"_login_"+end+"_total"] += n
			}
		}
	})
	m.requests.all(func(v []string, c *metrics.Counter) {
		for _, b := range oldBackends {
			for _, r := range oldRequests {
				if b.backend != v[0] || r.operation != v[1] {
					continue
				}
				name := "sftpgo_" + b.old + "_" + r.old
				if v[2] != string(OK) {
					name += "_errors"
				}
				sum[name] += float64(c.Get())
			}
		}
	})
	for _, name := range oldNames() {
		if _, told := w.lines[name]; !told {
			w.Value(name, sum[name])
		}
	}
}

// oldNames are all metrics of SFTPGo's: they are there before anything has happened, as dashboards expect.
func oldNames() []string {
	var out []string
	for n := range families {
		if strings.HasPrefix(n, "sftpgo_") {
			out = append(out, n)
		}
	}
	for _, m := range oldMethods {
		for _, s := range []string{"attempts", "ok", "ko"} {
			out = append(out, "sftpgo_"+m.old+"_login_"+s+"_total")
		}
	}
	for _, b := range oldBackends {
		for _, s := range []string{"uploads_total", "downloads_total", "upload_errors_total", "download_errors_total", "upload_size", "download_size"} {
			out = append(out, "sftpgo_"+b.old+"_"+s)
		}
		for _, r := range oldRequests {
			if b.object {
				out = append(out, "sftpgo_"+b.old+"_"+r.old, "sftpgo_"+b.old+"_"+r.old+"_errors")
			}
		}
	}
	sort.Strings(out)
	return out
}
