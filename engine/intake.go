package engine

import "sync"

// What an Intake's buffer is, in bytes, and how it grows.
const (
	wideSize  = 1 << 20
	wideAfter = 4 // reads in a row that filled half of the buffer
)

// Intakes lends buffers for what peers send in bulk. Each starts small; that of a peer whose bytes fill it again and
// again becomes wide, as long as there are any: to wake up for a chunk costs as much as to copy it. Safe for concurrent
// use.
type Intakes struct {
	wide sync.Pool
	free chan struct{} // one for each wide buffer that may be lent
}

// NewIntakes makes one that lends at most so many wide buffers of 1 MiB at once.
func NewIntakes(wide int) *Intakes {
	x := &Intakes{free: make(chan struct{}, wide)}
	x.wide.New = func() any { b := make([]byte, wideSize); return &b }
	for range wide {
		x.free <- struct{}{}
	}
	return x
}

// Begin borrows a buffer; End ends the loan.
func (x *Intakes) Begin() Intake {
	return Intake{of: x, small: chunks.Get().(*[]byte)}
}

// Intake is a buffer on loan. Owned by one goroutine.
type Intake struct {
	of    *Intakes
	small *[]byte
	wide  *[]byte // in place of it
	full  int
}

// Buffer is what the next bytes are read into.
func (i *Intake) Buffer() []byte {
	if i.wide != nil {
		return *i.wide
	}
	return *i.small
}

// Took says that so many bytes have been read, which are not in use any more.
func (i *Intake) Took(n int) {
	if i.wide != nil {
		return
	}
	if n < len(*i.small)/2 {
		i.full = 0
		return
	}
	if i.full++; i.full < wideAfter {
		return
	}
	select {
	case <-i.of.free:
		i.wide = i.of.wide.Get().(*[]byte)
		chunks.Put(i.small)
		i.small = nil
	default: // the others have them
		i.full = 0
	}
}

// End gives the buffer back.
func (i *Intake) End() {
	if i.small != nil {
		chunks.Put(i.small)
		i.small = nil
	}
	if i.wide != nil {
		i.of.wide.Put(i.wide)
		i.wide = nil
		i.of.free <- struct{}{}
	}
}
