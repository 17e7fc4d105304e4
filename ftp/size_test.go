//go:build amd64 || arm64

package ftp

import (
	"testing"
	"unsafe"
)

// TestRecordIsSmall: an idle connection has one; the next size of the allocator is 240. RES-1
func TestRecordIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(conn{}); n > 224 {
		t.Errorf("%d bytes", n)
	}
}
