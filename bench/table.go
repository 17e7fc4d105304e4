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

// Write prints the table as Markdown: medians, in parentheses the lowest and the highest, and the first
// peer's processor time as a ratio to that of the cheapest other.
func (t *Table) Write(w io.Writer) {
	fmt.Fprintln(w, "| case | server | MB/s, or op/s | server CPU s/GB, or µs/op | CPU ratio | peak MiB | others' CPUs |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|")
	for _, row := range t.Rows {
		best := 0.0
		for _, p := range t.Peers[1:] {
			if m := column(row.Runs[p], cpuOf).median; m > 0 && (best == 0 || m < best) {
				best = m
			}
		}
		for i, p := range t.Peers {
			runs := row.Runs[p]
			ratio := ""
			cpu := column(runs, cpuOf)
			if i == 0 && best > 0 {
				ratio = fmt.Sprintf("**%.2f**", cpu.median/best)
			}
			speed := column(runs, func(r Run) float64 { return r.MBps })
			if len(runs) > 0 && runs[0].Ops > 0 {
				speed = column(runs, Run.rate)
			}
			mem := column(runs, func(r Run) float64 { return float64(r.PeakBytes >> 20) })
			other := column(runs, func(r Run) float64 { return r.Other })
			fmt.Fprintf(w, "| %s | %s | %.0f (%.0f–%.0f) | %.2f (%.2f–%.2f) | %s | %.0f (%.0f–%.0f) | %.2f |\n", row.Case, p,
				speed.median, speed.low, speed.high, cpu.median, cpu.low, cpu.high, ratio, mem.median, mem.low, mem.high, other.median)
		}
	}
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
