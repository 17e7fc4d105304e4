package bench

import (
	"bytes"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers every connection with what it sends.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	return l.Addr().String()
}

func TestRelayDelaysAndKeepsEveryByte(t *testing.T) {
	const delay = 30 * time.Millisecond
	r, err := NewRelay(echo(t), delay, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	begin := time.Now()
	want := bytes.Repeat([]byte("0123456789abcdef"), 256<<10) // four times what the link holds
	go func() {
		c.Write(want)
		c.(*net.TCPConn).CloseWrite()
	}()
	var first [1]byte
	if _, err := io.ReadFull(c, first[:]); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d < 2*delay {
		t.Errorf("the first byte was back after %v, want at least %v", d, 2*delay)
	}
	rest, err := io.ReadAll(c)
	if got := append(first[:], rest...); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes back, %v; want the %d that were sent", len(got), err, len(want))
	}
}

func TestRelayHoldsNoMoreThanItsLink(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts by its backlog and never reads
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const link = 1 << 20
	r, err := NewRelay(l.Addr().String(), time.Millisecond, link)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// Sockets on both sides take some too: Linux lets a send buffer grow to 4 MiB and a receive buffer to 6,
	// or to 32 on newer kernels.
	sent, block := 0, make([]byte, 1<<20)
	for sent < 512<<20 {
		c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		n, err := c.Write(block)
		sent += n
		if err != nil {
			return
		}
	}
	t.Errorf("the relay took %d bytes for a peer that does not read", sent)
}

func TestSummaryIsMedianAndSpread(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want summary
	}{
		{nil, summary{}},
		{[]float64{3}, summary{3, 3, 3}},
		{[]float64{9, 1, 5}, summary{5, 1, 9}},
		{[]float64{4, 1, 2, 9}, summary{3, 1, 9}},
	} {
		if got := summarize(c.in); got != c.want {
			t.Errorf("%v: got %v, want %v", c.in, got, c.want)
		}
	}
}

func TestTableNamesTheRatioToTheBestPeer(t *testing.T) {
	tab := newTable([]*Server{{Peer: "gantry"}, {Peer: "a"}, {Peer: "b"}})
	for peer, cpu := range map[string]float64{"gantry": 1, "a": 4, "b": 2} {
		tab.add("get", peer, Run{CPUPerGB: cpu})
	}
	var b strings.Builder
	tab.Write(&b)
	if !strings.Contains(b.String(), "**0.50**") {
		t.Errorf("want a ratio of 0.50 to b:\n%s", &b)
	}
}

// The verdict on two samples must tell a small difference from none, machine noise or not. (AUTH-4)
func TestTimingTellsADifference(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	sample := func(mean float64) []float64 {
		v := make([]float64, 1000)
		for i := range v {
			v[i] = mean + rnd.NormFloat64()
			if rnd.IntN(50) == 0 {
				v[i] += 40 // another process had the processor
			}
		}
		return v
	}
	if j := judge(sample(57), sample(57)); math.Abs(j.Yuen) > 3 || math.Abs(j.Welch) > 3 {
		t.Errorf("the same: got %+v, want t near 0", j)
	}
	if j := judge(sample(57.3), sample(57)); j.Yuen < 4 {
		t.Errorf("0.3 ms apart: got %+v, want t above 4", j)
	}
}
