package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Row is all runs of one case.
type Row struct {
	Case string           `json:"case"`
	Runs map[string][]Run `json:"runs"` // by peer
}

// Table is the rows of one series.
type Table struct {
	Peers []string `json:"peers"`
	Rows  []*Row   `json:"rows"`
}

func newTable(servers []*Server) *Table {
	t := &Table{}
	for _, s := range servers {
		t.Peers = append(t.Peers, s.Peer)
	}
	return t
}

func (t *Table) add(name, peer string, r Run) {
	i := slices.IndexFunc(t.Rows, func(x *Row) bool { return x.Case == name })
	if i < 0 {
		i = len(t.Rows)
		t.Rows = append(t.Rows, &Row{Case: name, Runs: map[string][]Run{}})
	}
	t.Rows[i].Runs[peer] = append(t.Rows[i].Runs[peer], r)
}

// merge adds the rows and servers of another series.
func (t *Table) merge(o *Table) {
	for _, p := range o.Peers {
		if !slices.Contains(t.Peers, p) {
			t.Peers = append(t.Peers, p)
		}
	}
	t.Rows = append(t.Rows, o.Rows...)
}

// summary is the middle of some figures and how far they lie apart.
type summary struct{ median, low, high float64 }

func summarize(v []float64) summary {
	if len(v) == 0 {
		return summary{}
	}
	v = slices.Sorted(slices.Values(v))
	m := v[len(v)/2]
	if len(v)%2 == 0 {
		m = (m + v[len(v)/2-1]) / 2
	}
	return summary{m, v[0], v[len(v)-1]}
}

func column(runs []Run, f func(Run) float64) summary {
	var v []float64
	for _, r := range runs {
		v = append(v, f(r))
	}
	return summarize(v)
}

// best is the lowest figure of the peers but the first, and whose it is; 0 without one.
func (t *Table) best(row *Row, f func(Run) float64) (best float64, peer string) {
	for _, p := range t.Peers[1:] {
		if m := column(row.Runs[p], f).median; p != floorName && m > 0 && (best == 0 || m < best) {
			best, peer = m, p
		}
	}
	return best, peer
}

// ratio is the first peer's figure to the best of the others; 0 without one.
func (t *Table) ratio(row *Row, f func(Run) float64) float64 {
	best, _ := t.best(row, f)
	if best == 0 {
		return 0
	}
	return column(row.Runs[t.Peers[0]], f).median / best
}

// Write prints the table as Markdown: medians, in parentheses the lowest and the highest, and the first peer's
// processor time as a ratio to that of the cheapest other.
func (t *Table) Write(w io.Writer) {
	timed, listed, shared := false, false, false
	for _, row := range t.Rows {
		for _, runs := range row.Runs {
			for _, r := range runs {
				timed, listed, shared = timed || r.P99 > 0, listed || r.First > 0, shared || r.Share > 0
			}
		}
	}
	head := "| case | server | MB/s, or op/s | server CPU s/GB, or µs/op | CPU ratio (budget) | peak MiB |"
	if timed {
		head += " p50 µs | p99 µs |"
	}
	if listed {
		head += " first entry ms | whole ms | growth MiB |"
	}
	if shared {
		head += " share of the link |"
	}
	head += " client's CPUs | others' CPUs | bound by |"
	fmt.Fprintf(w, "%s\n|%s\n", head, strings.Repeat("---|", strings.Count(head, "|")-1))
	spread := func(runs []Run, format string, f func(Run) float64) string {
		s := column(runs, f)
		if s.high == 0 { // the case has no such figure
			return ""
		}
		return fmt.Sprintf(format+" ("+format+"–"+format+")", s.median, s.low, s.high)
	}
	for _, row := range t.Rows {
		for i, p := range t.Peers {
			runs := row.Runs[p]
			if len(runs) == 0 {
				continue
			}
			ratio := ""
			if x := t.ratio(row, cpuOf); i == 0 && x > 0 {
				ratio = fmt.Sprintf("**%.2f**", x)
				if b, ok := budgetOf(row.Case); ok && b.ratio > 0 {
					ratio += fmt.Sprintf(" (≤ %.2f)", b.ratio)
				}
			}
			speed, cost := func(r Run) float64 { return r.MBps }, "%.2f"
			if runs[0].Ops > 0 {
				speed, cost = Run.rate, "%.0f"
			}
			fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s |", row.Case, p, spread(runs, "%.0f", speed), spread(runs, cost, cpuOf), ratio,
				spread(runs, "%.0f", func(r Run) float64 { return float64(r.PeakBytes >> 20) }))
			if timed {
				fmt.Fprintf(w, " %s | %s |", spread(runs, "%.0f", func(r Run) float64 { return r.P50 }), spread(runs, "%.0f", func(r Run) float64 { return r.P99 }))
			}
			if listed {
				fmt.Fprintf(w, " %s | %s | %s |", spread(runs, "%.1f", func(r Run) float64 { return r.First }),
					spread(runs, "%.0f", func(r Run) float64 { return r.Seconds * 1e3 }), spread(runs, "%.1f", func(r Run) float64 { return float64(r.Growth) / (1 << 20) }))
			}
			if shared {
				fmt.Fprintf(w, " %.0f %% |", 100*column(runs, func(r Run) float64 { return r.Share }).median)
			}
			fmt.Fprintf(w, " %.2f | %.2f | %s |\n", column(runs, func(r Run) float64 { return r.Client }).median,
				column(runs, func(r Run) float64 { return r.Other }).median, mostly(runs))
		}
	}
}

// mostly is what bounds most of the runs.
func mostly(runs []Run) string {
	n := map[string]int{}
	best := ""
	for _, r := range runs {
		if n[r.Bound]++; n[r.Bound] > n[best] {
			best = r.Bound
		}
	}
	return best
}

func cpuOf(r Run) float64 {
	if r.Ops > 0 {
		return r.perOp()
	}
	return r.CPUPerGB
}

// Machine describes where the figures were taken.
func Machine(w io.Writer) {
	cpu, kernel := "unknown", "unknown"
	if b := readLine("/proc/cpuinfo", "model name"); b != "" {
		cpu = b
	}
	if b := readWhole("/proc/sys/kernel/osrelease"); b != "" {
		kernel = b
	}
	fmt.Fprintf(w, "%d CPUs (%s), Linux %s, %s; %d MiB of memory; load %s\n", numCPU(), cpu, kernel, goVersion(),
		kib("/proc/meminfo", "MemTotal")>>10, strings.TrimSpace(readWhole("/proc/loadavg")))
}
