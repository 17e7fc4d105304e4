//go:build amd64 || arm64

package dav

import (
	"testing"
	"unsafe"
)

// TestRecordIsSmall: an idle connection has one; the next size of the allocator is 176. RES-1
func TestRecordIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(conn{}); n > 160 {
		t.Errorf("%d bytes", n)
	}
}
