package engine

import "testing"

func TestAnIntakeWidensForAFastPeer(t *testing.T) { // RES-1
	x := NewIntakes(2)
	fill := func(i *Intake, n int) {
		for range n {
			i.Took(len(i.Buffer()))
		}
	}
	a, b, c := x.Begin(), x.Begin(), x.Begin()
	a.Took(copySize / 2)
	fill(&a, wideAfter-2)
	a.Took(100) // it waits for its peer after all
	fill(&a, wideAfter-1)
	if len(a.Buffer()) != copySize {
		t.Errorf("after a short read the buffer has %d bytes", len(a.Buffer()))
	}
	fill(&a, 1)
	fill(&b, wideAfter)
	fill(&c, 10*wideAfter)
	if len(a.Buffer()) != wideSize || len(b.Buffer()) != wideSize || len(c.Buffer()) != copySize {
		t.Errorf("buffers of %d, %d and %d bytes, two may be wide", len(a.Buffer()), len(b.Buffer()), len(c.Buffer()))
	}
	a.Took(1) // it stays
	if len(a.Buffer()) != wideSize {
		t.Errorf("a wide buffer became one of %d bytes", len(a.Buffer()))
	}
	a.End()
	a.End()
	fill(&c, wideAfter)
	if len(c.Buffer()) != wideSize {
		t.Errorf("a wide buffer was given back, and the next one has %d bytes", len(c.Buffer()))
	}
	b.End()
	c.End()
	if len(x.free) != 2 {
		t.Errorf("%d of 2 are free at the end", len(x.free))
	}
}
