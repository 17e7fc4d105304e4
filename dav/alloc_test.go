//go:build !race

package dav

import "testing"

// TestHeadAllocations: a head is parsed for every request.
func TestHeadAllocations(t *testing.T) {
	b := []byte("GET /some/file.txt HTTP/1.1\r\nHost: example.org\r\nUser-Agent: rclone/v1.60\r\nAuthorization: Basic dTpzZWNyZXQ=\r\nAccept-Encoding: gzip\r\n\r\n")
	n := testing.AllocsPerRun(1000, func() {
		h, err := parseHead(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.read(); err != nil {
			t.Fatal(err)
		}
		h.free()
	})
	if n > 3 {
		t.Errorf("%v allocations for a head", n)
	}
}
