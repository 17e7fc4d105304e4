package bench

import (
	"math"
	"strings"
)

// budget is what a case may cost.
type budget struct {
	ratio  float64 // of server CPU to the best other server's; 0 is none
	perOp  float64 // microseconds of server CPU for each; 0 is none
	p99    float64 // ratio of the 99th percentile; 0 is none
	first  float64 // milliseconds to the first entry; 0 is none
	MBps   float64 // at least; 0 is none
	prefix string  // of the cases' names
}

// budgets are what the design wants. Read-only; the first that fits a case is its.
var budgets = []budget{
	{prefix: "SFTP get, client default", ratio: 0.6},
	{prefix: "SFTP get, aes128-gcm", ratio: 0.75},
	{prefix: "SFTP put, aes128-gcm", ratio: 0.9},
	{prefix: "SFTP put, round trip 100ms", MBps: 100},
	{prefix: "FTP get, 1 at a time", ratio: 1.1},
	{prefix: "FTP put, 1 at a time", ratio: 1.1},
	{prefix: "FTPS get, 1 at a time", ratio: 0.85},
	{prefix: "FTPS put, 1 at a time", ratio: 1.0},
	{prefix: "FTP get of 4 KiB", ratio: 1.0},
	{prefix: "WebDAV get, 1 at a time", ratio: 1.1},
	{prefix: "WebDAV put, 1 at a time", ratio: 1.1},
	{prefix: "WebDAV get TLS, 1 at a time", ratio: 0.6},
	{prefix: "WebDAV put TLS, 1 at a time", ratio: 0.8},
	{prefix: "WebDAV GET of 4 KiB", ratio: 1.0, p99: 2},
	{prefix: "WebDAV PROPFIND depth 0", ratio: 1.5, p99: 2},
	{prefix: "FTP login, 8 clients", perOp: 150},
	{prefix: "SFTP login, 8 clients", perOp: 400},
	{prefix: "SFTP, 10000 entries", ratio: 1.0},
	{prefix: "FTP MLSD, 10000 entries", ratio: 1.0},
	{prefix: "FTP LIST, 10000 entries", ratio: 1.0},
	{prefix: "PROPFIND depth 1, 10000 entries", ratio: 1.0},
	{prefix: "SFTP, 100000 entries", first: 50},
	{prefix: "FTP MLSD, 100000 entries", first: 50},
	{prefix: "FTP LIST, 100000 entries", first: 50},
	{prefix: "PROPFIND depth 1, 100000 entries", first: 50},
}

func budgetOf(name string) (budget, bool) {
	for _, b := range budgets {
		if strings.HasPrefix(name, b.prefix) {
			return b, true
		}
	}
	return budget{}, false
}

// keeps holds a figure against its budget as it is printed.
func keeps(got, limit float64) bool { return math.Round(got*100)/100 <= limit }

// Verdict is a row held against its budget.
type Verdict struct {
	Case   string  `json:"case"`
	What   string  `json:"what"`
	Got    float64 `json:"got"`
	Budget float64 `json:"budget"`
	Kept   bool    `json:"kept"`
}

// Verdicts holds the first server's rows against their budgets.
func (t *Table) Verdicts() []Verdict {
	var out []Verdict
	for _, row := range t.Rows {
		b, ok := budgetOf(row.Case)
		own := row.Runs[t.Peers[0]]
		if !ok || len(own) == 0 {
			continue
		}
		most := func(what string, got, limit float64) {
			if got > 0 && limit > 0 {
				out = append(out, Verdict{row.Case, what, got, limit, keeps(got, limit)})
			}
		}
		most("server CPU, ratio", t.ratio(row, cpuOf), b.ratio)
		most("p99, ratio", t.ratio(row, func(r Run) float64 { return r.P99 }), b.p99)
		most("server CPU, µs", column(own, Run.perOp).median, b.perOp)
		most("first entry, ms", column(own, func(r Run) float64 { return r.First }).median, b.first)
		if got := column(own, func(r Run) float64 { return r.MBps }).median; b.MBps > 0 {
			out = append(out, Verdict{row.Case, "MB/s", got, b.MBps, got >= b.MBps})
		}
	}
	return out
}
