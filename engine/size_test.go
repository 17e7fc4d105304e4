//go:build amd64 || arm64

package engine

import (
	"testing"
	"unsafe"
)

// TestRecordIsSmall: an idle connection has one; the next size of the allocator is 384. RES-1
func TestRecordIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Conn{}); n > 352 {
		t.Errorf("%d bytes", n)
	}
}
