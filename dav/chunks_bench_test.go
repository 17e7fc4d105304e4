package dav

import "testing"

// chunkedBody is n bytes as curl sends them: in chunks of 64 KiB.
func chunkedBody(chunksOf64K int) []byte {
	var b []byte
	for range chunksOf64K {
		b = append(append(append(b, "10000\r\n"...), make([]byte, 64<<10)...), "\r\n"...)
	}
	return append(b, "0\r\n\r\n"...)
}

func decodeAll(t testing.TB, dst, body []byte, want int) {
	var d chunks
	total := 0
	for len(body) > 0 {
		n, used, err := d.decode(dst, body)
		if err != nil || n+used == 0 {
			t.Fatal(n, used, err)
		}
		total, body = total+n, body[used:]
	}
	if total != want || d.state != chunksEnd {
		t.Fatalf("got %d bytes, want %d; state %d", total, want, d.state)
	}
}

func TestChunksAllocateNothing(t *testing.T) {
	dst, body := make([]byte, 256<<10), chunkedBody(4)
	if n := testing.AllocsPerRun(20, func() { decodeAll(t, dst, body, 256<<10) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkChunks(b *testing.B) {
	dst, body := make([]byte, 256<<10), chunkedBody(4)
	b.SetBytes(256 << 10)
	b.ReportAllocs()
	for b.Loop() {
		decodeAll(b, dst, body, 256<<10)
	}
}
