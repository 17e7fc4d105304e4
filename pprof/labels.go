package pprof

import (
	"strings"
	"sync/atomic"
)

// Other is the value of a label for what is none of its values.
const Other = "other"

// label is a label with the closed set of its values; what is none of them is Other.
type label struct {
	name   string
	values []string
}

func (l label) index(v string) int {
	for i, x := range l.values {
		if x == v {
			return i
		}
	}
	return len(l.values)
}

func (l label) value(i int) string {
	if i == len(l.values) {
		return Other
	}
	return l.values[i]
}

// table has one T for each combination of labels, made at its first use: what never happens makes no series, and what
// happens costs an index and no text. Safe for concurrent use.
type table[T any] struct {
	name   string
	labels []label
	fresh  func(series string) *T
	slots  []atomic.Pointer[T]
}

func newTable[T any](name string, fresh func(series string) *T, labels ...label) *table[T] {
	n := 1
	for _, l := range labels {
		n *= len(l.values) + 1
	}
	return &table[T]{name: name, labels: labels, fresh: fresh, slots: make([]atomic.Pointer[T], n)}
}

// at gives the one of these values, in the order of the labels.
func (t *table[T]) at(values ...string) *T {
	i := 0
	for n, l := range t.labels {
		i = i*(len(l.values)+1) + l.index(values[n])
	}
	if x := t.slots[i].Load(); x != nil {
		return x
	}
	t.slots[i].CompareAndSwap(nil, t.fresh(t.series(t.values(i))))
	return t.slots[i].Load()
}

// values are those of a slot.
func (t *table[T]) values(slot int) []string {
	out := make([]string, len(t.labels))
	for n := len(t.labels) - 1; n >= 0; n-- {
		size := len(t.labels[n].values) + 1
		out[n] = t.labels[n].value(slot % size)
		slot /= size
	}
	return out
}

// series is the name of a combination, with its labels.
func (t *table[T]) series(values []string) string {
	var pairs []string
	for n, l := range t.labels {
		pairs = append(pairs, l.name, values[n])
	}
	return series(t.name, pairs...)
}

// all calls f for each combination that has been used.
func (t *table[T]) all(f func(values []string, x *T)) {
	for i := range t.slots {
		if x := t.slots[i].Load(); x != nil {
			f(t.values(i), x)
		}
	}
}

// series is a metric's name with labels, given as names and values by turns.
func series(name string, pairs ...string) string {
	if len(pairs) == 0 {
		return name
	}
	var b strings.Builder
	b.WriteString(name)
	for i := 0; i+1 < len(pairs); i += 2 {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(pairs[i])
		b.WriteString(`="`)
		b.WriteString(escaper.Replace(pairs[i+1]))
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}

// escaper makes a label's value fit for the text format.
var escaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
