//go:build amd64 || arm64

package session

import (
	"testing"
	"unsafe"
)

// TestRecordIsSmall: an idle connection has one; the next size of the allocator is 320. RES-1
func TestRecordIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Session{}); n > 288 {
		t.Errorf("%d bytes", n)
	}
}
