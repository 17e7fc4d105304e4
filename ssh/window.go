package ssh

import (
	"sync/atomic"
	"time"
)

const (
	// widenBy raises a window of 2 MiB to 16 MiB: 160 MB/s at a round trip of 100 ms.
	widenBy = 14 << 20
	// widenFrom is the round trip from which 2 MiB is too little. On a short link a wide window only lets
	// more packets pile up in memory.
	widenFrom = 5 * time.Millisecond
)

// windowBudget is the memory by which all windows of a server may be widened: a peer may fill its window
// while our storage stalls.
type windowBudget struct{ left atomic.Int64 }

// take takes n bytes if they are there.
func (b *windowBudget) take(n int64) bool {
	for {
		left := b.left.Load()
		if left < n {
			return false
		}
		if b.left.CompareAndSwap(left, left-n) {
			return true
		}
	}
}

func (b *windowBudget) give(n int64) { b.left.Add(n) }
