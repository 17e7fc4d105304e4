//go:build !race

package engine

import "testing"

// The chunks of a transfer, which are what there are many of: nothing is allocated for one.
func TestChunksAllocateNothing(t *testing.T) {
	for _, secure := range []bool{false, true} {
		s, peer := streamPair(t, secure)
		go drain(peer) // ends with the socket
		chunk, give := Buffer()
		if n := testing.AllocsPerRun(50, func() {
			if _, err := s.Write(chunk); err != nil {
				t.Fatal(err)
			}
		}); n > 0 {
			t.Errorf("TLS %v: %v allocations to send a chunk", secure, n)
		}
		s.Rest()
		give()
	}
	s, peer := streamPair(t, false)
	go func() { // ends with the socket
		for buf := make([]byte, 256<<10); ; {
			if _, err := peer.Write(buf); err != nil {
				return
			}
		}
	}()
	chunk, give := Buffer()
	defer give()
	if n := testing.AllocsPerRun(50, func() {
		if _, err := s.Fill(chunk); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations to receive a chunk", n)
	}
}
