package pprof

// family is what the text format says of a metric beside its values.
type family struct{ kind, help string }

// families are all metrics of ours; the runtime's and the process's (go_…, process_…) come beside them. A series whose
// family is not here is a mistake that a test finds. Read-only.
var families = map[string]family{
	"gantry_build_info": {"gauge", "1, with the version, the commit and Go's version as labels."},

	"gantry_sessions":                  {"gauge", "Live sessions by protocol."},
	"gantry_transfers_active":          {"gauge", "Open transfers by protocol and direction."},
	"gantry_transfers_total":           {"counter", "Transfers that have ended: ok, failed, or quota (stopped by a limit)."},
	"gantry_transfer_bytes_total":      {"counter", "File bytes that moved, those of open transfers included."},
	"gantry_transfer_duration_seconds": {"histogram", "Time from the opening of a file to its end."},
	"gantry_operations_total":          {"counter", "Changes of the tree and commands, by protocol, action and outcome."},

	"gantry_logins_total":         {"counter", "Logins by protocol, method and outcome."},
	"gantry_login_failures_total": {"counter", "Failed logins by their reason."},
	"gantry_password_hashing":     {"gauge", "Passwords that are being hashed (running) or wait for that (waiting)."},

	"gantry_guard_decisions_total": {"counter", "What the guard said of connections and requests, by protocol: allowed, or the reason of the refusal."},
	"gantry_guard_connections":     {"gauge", "Connections and requests that are counted in now."},
	"gantry_guard_rate_waiting":    {"gauge", "Connections that wait for a rate limiter."},
	"gantry_defender_hosts":        {"gauge", "Hosts with a score, and those that are banned."},

	"gantry_cache_hits_total":   {"counter", "Lookups that found what they asked for, by cache."},
	"gantry_cache_misses_total": {"counter", "Lookups that did not."},

	"gantry_engine_connections":      {"gauge", "Connections of FTP, WebDAV: parked on an event loop, lifted to a goroutine of their own, or on the way."},
	"gantry_engine_lifts_total":      {"counter", "Connections that left an event loop for a goroutine."},
	"gantry_engine_loop_lag_seconds": {"gauge", "How long an event loop took to run a function, by loop, measured by the scrape."},
	"gantry_engine_pool_workers":     {"gauge", "Goroutines of the pool that work, and that are kept for what comes."},
	"gantry_engine_lane":             {"gauge", "Functions that run in the engine's lanes, and that wait for their turn."},
	"gantry_engine_handshakes":       {"gauge", "TLS handshakes under way on the engine."},

	"gantry_provider_duration_seconds": {"histogram", "Time of the account store's transactions, by kind."},
	"gantry_provider_errors_total":     {"counter", "Transactions of the account store that failed for its own reasons."},
	"gantry_hook_duration_seconds":     {"histogram", "Time of hooks, retries included, by hook."},
	"gantry_hook_errors_total":         {"counter", "Hooks that failed or refused, by hook."},
	"gantry_hook_queue":                {"gauge", "Calls of hooks after the fact that wait, by queue."},

	"gantry_storage_requests_total":           {"counter", "Requests to object storages, by backend, operation and outcome."},
	"gantry_storage_request_duration_seconds": {"histogram", "Time of requests to object storages, by backend and operation."},
	"gantry_cloud_memory_bytes":               {"gauge", "Memory that transfers with object storages hold (used), and may hold (limit)."},

	"gantry_http_requests_total": {"counter", "Answered requests by service (httpd, webdavd) and class of status."},

	"sftpgo_dataprovider_availability": {"gauge", "1 if the account store answers, else 0."},
	"sftpgo_active_connections":        {"gauge", "Live sessions."},
	"sftpgo_uploads_total":             {"counter", "Uploads that succeeded."},
	"sftpgo_downloads_total":           {"counter", "Downloads that succeeded."},
	"sftpgo_upload_errors_total":       {"counter", "Uploads that failed."},
	"sftpgo_download_errors_total":     {"counter", "Downloads that failed."},
	"sftpgo_upload_size":               {"counter", "Bytes uploaded."},
	"sftpgo_download_size":             {"counter", "Bytes downloaded."},
	"sftpgo_ssh_commands_total":        {"counter", "SSH commands that succeeded."},
	"sftpgo_ssh_command_errors_total":  {"counter", "SSH commands that failed."},
	"sftpgo_login_attempts_total":      {"counter", "Logins that were tried."},
	"sftpgo_login_ok_total":            {"counter", "Logins that succeeded."},
	"sftpgo_login_ko_total":            {"counter", "Logins that failed."},
	"sftpgo_no_auth_total":             {"counter", "Clients that left without trying to log in."},
	"sftpgo_http_req_total":            {"counter", "HTTP requests answered."},
	"sftpgo_http_req_ok_total":         {"counter", "HTTP requests answered with a status below 400."},
	"sftpgo_http_client_errors_total":  {"counter", "HTTP requests answered with 4xx."},
	"sftpgo_http_server_errors_total":  {"counter", "HTTP requests answered with 5xx."},
}

// oldMethods are the names of login methods in SFTPGo's metrics, by ours. Read-only.
var oldMethods = []struct{ old, method string }{
	{"password", "password"},
	{"public_key", "publickey"},
	{"tls_cert", "TLSCertificate"},
	{"tls_cert_and_pwd", "TLSCertificate+password"},
	{"keyboard_interactive", "keyboard-interactive"},
	{"key_and_password", "publickey+password"},
	{"key_and_keyboard_int", "publickey+keyboard-interactive"},
	{"idp", "IDP"},
}

// oldBackends are the names of storages in SFTPGo's metrics, by ours. Object storages have counters of their requests,
// too. Read-only.
var oldBackends = []struct {
	old, backend string
	object       bool
}{
	{"s3", "s3", true}, {"gcs", "gcs", true}, {"az", "azblob", true}, {"sftpfs", "sftp", false}, {"httpfs", "http", false},
}

// oldRequests are the names of object storages' requests in SFTPGo's metrics, by ours. Read-only.
var oldRequests = []struct{ old, operation string }{
	{"list_objects", "list"}, {"copy_object", "copy"}, {"delete_object", "delete"}, {"head_object", "head"},
}

// familyOf finds what is said of a family, also of those whose names are made of parts.
func familyOf(name string) (family, bool) {
	if f, ok := families[name]; ok {
		return f, true
	}
	for _, m := range oldMethods {
		for suffix, help := range map[string]string{"attempts": "that were tried", "ok": "that succeeded", "ko": "that failed"} {
			if name == "sftpgo_"+m.old+"_login_"+suffix+"_total" {
				return family{"counter", "Logins by " + m.method + " " + help + "."}, true
			}
		}
	}
	for _, b := range oldBackends {
		for _, suffix := range []string{"uploads_total", "downloads_total", "upload_errors_total", "download_errors_total", "upload_size", "download_size"} {
			if name == "sftpgo_"+b.old+"_"+suffix {
				return family{"counter", families["sftpgo_"+suffix].help[:len(families["sftpgo_"+suffix].help)-1] + " with " + b.backend + " storages."}, true
			}
		}
		for _, r := range oldRequests {
			if b.object && name == "sftpgo_"+b.old+"_"+r.old {
				return family{"counter", "Requests " + r.operation + " to " + b.backend + " storages that succeeded."}, true
			}
			if b.object && name == "sftpgo_"+b.old+"_"+r.old+"_errors" {
				return family{"counter", "Requests " + r.operation + " to " + b.backend + " storages that failed."}, true
			}
		}
	}
	return family{}, false
}
