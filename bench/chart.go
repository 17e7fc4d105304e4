package bench

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"
)

// Chart draws every row's server CPU as a ratio to the best other server: an SVG of its own, which needs nothing. Left
// of 1 is cheaper than the best of them; the small mark is the budget.
func Chart(w io.Writer, title string, tables []*Table) error {
	type bar struct {
		name, text    string
		ratio, budget float64
		bound         string
	}
	var bars []bar
	for _, t := range tables {
		if t == nil || len(t.Peers) == 0 {
			continue
		}
		for _, row := range t.Rows {
			ratio := t.ratio(row, cpuOf)
			if ratio == 0 {
				continue
			}
			own, unit := row.Runs[t.Peers[0]], "s/GB"
			format := "%.2f"
			if own[0].Ops > 0 {
				unit, format = "µs", "%.0f"
			}
			best, peer := t.best(row, cpuOf)
			b, _ := budgetOf(row.Case)
			bars = append(bars, bar{row.Case, fmt.Sprintf(format+" : "+format+" %s, %s", column(own, cpuOf).median, best, unit, peer), ratio, b.ratio, mostly(own)})
		}
	}
	const (
		left, right, width = 330, 270, 1000
		line, top          = 24, 70
		low, high          = 0.25, 4.0
	)
	plot := float64(width - left - right)
	x := func(ratio float64) float64 {
		return left + plot*math.Log(min(max(ratio, low), high)/low)/math.Log(high/low)
	}
	height := top + line*len(bars) + 40
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="DejaVu Sans, Verdana, sans-serif" font-size="12">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#fff"/>`+"\n"+`<text x="12" y="22" font-size="15" font-weight="bold">Server CPU of Gantry : the best other server</text>`+"\n")
	fmt.Fprintf(&b, `<text x="12" y="40" fill="#555">%s</text>`+"\n", html.EscapeString(title))
	for _, v := range []float64{0.25, 0.5, 1, 2, 4} {
		colour, name := "#ddd", fmt.Sprintf("%g", v)
		if v == 1 {
			colour = "#444"
		}
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/><text x="%.1f" y="%d" text-anchor="middle" fill="#555">%s×</text>`+"\n",
			x(v), top-8, x(v), height-30, colour, x(v), top-12, name)
	}
	for i, r := range bars {
		y := top + line*i
		colour := "#8a8f98" // no budget
		switch {
		case r.budget > 0 && keeps(r.ratio, r.budget):
			colour = "#2e8b57"
		case r.budget > 0:
			colour = "#c0392b"
		}
		from, to := min(x(1), x(r.ratio)), max(x(1), x(r.ratio))
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, left-10, y+15, html.EscapeString(r.name))
		fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`, from, y+4, max(1.5, to-from), line-9, colour)
		if r.budget > 0 {
			fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="2" height="%d" fill="#000"/>`, x(r.budget)-1, y+1, line-3)
		}
		note := ""
		if r.bound == "client" || r.bound == "machine" {
			note = " †"
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d"><tspan font-weight="bold">%.2f×</tspan>%s <tspan fill="#555">%s</tspan></text>`+"\n", width-right+12, y+15, r.ratio, note, html.EscapeString(r.text))
	}
	fmt.Fprintf(&b, `<text x="12" y="%d" fill="#555">Green keeps its budget (black mark), red misses it, grey has none. † the client or the machine was the limit of the speed, not of this ratio.</text>`+"\n</svg>\n", height-10)
	_, err := io.WriteString(w, b.String())
	return err
}
