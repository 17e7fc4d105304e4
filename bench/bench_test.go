package bench

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"slices"
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
	r, err := NewRelay(echo(t), Link{Delay: delay, InFlight: 1 << 20})
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
	r, err := NewRelay(l.Addr().String(), Link{Delay: time.Millisecond, InFlight: link})
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

func TestRelayKeepsItsRate(t *testing.T) {
	const rate = 4 << 20
	r, err := NewRelay(echo(t), Link{InFlight: 1 << 20, Rate: rate})
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
	go func() { // ends with the connection
		c.Write(make([]byte, rate/2))
		c.(*net.TCPConn).CloseWrite()
	}()
	n, err := io.Copy(io.Discard, c)
	if took := time.Since(begin); err != nil || n != rate/2 || took < 450*time.Millisecond {
		t.Errorf("%d bytes at %d a second took %v, %v; want half a second", n, rate, took, err)
	}
}

func TestRelayStallsAndCuts(t *testing.T) {
	r, err := NewRelay(echo(t), Link{InFlight: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	to, err := r.Forward(r.to)
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{r.Addr(), to} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(30 * time.Second))
		one := make([]byte, 1)
		ping := func() error {
			if _, err := c.Write(one); err != nil {
				return err
			}
			_, err := io.ReadFull(c, one)
			return err
		}
		if err := ping(); err != nil {
			t.Fatal(err)
		}
		const stall = 200 * time.Millisecond
		begin := time.Now()
		r.Stall(stall)
		if err := ping(); err != nil || time.Since(begin) < stall {
			t.Errorf("an answer after %v, %v; want it after the stall of %v", time.Since(begin), err, stall)
		}
		r.When(2, r.Cut) // there and back
		ping()
		if err := ping(); err == nil {
			t.Error("the connection lives after the cut")
		}
	}
}

// What a server answers, in every split of its bytes.
func TestHTTPClientReadsWhatServersSend(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		want         int64
		body         string
	}{
		{"a length", "HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 5\r\n\r\nhello", 5, "hello"},
		{"nothing", "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", 0, ""},
		{"chunks", "HTTP/1.1 207 Multi-Status\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: x\r\n\r\n", 5, "hello"},
		{"100 before", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 1, "x"},
	} {
		for _, piece := range []int{1, 2, 7, 1000} {
			client, server := net.Pipe()
			go func() { // ends with the pipe
				for b := []byte(c.answer + c.answer); len(b) > 0; { // two in a row
					n, err := server.Write(b[:min(len(b), piece)])
					if err != nil {
						return
					}
					b = b[n:]
				}
			}()
			h := &httpClient{nc: client, buf: make([]byte, 256)}
			for range 2 {
				var body bytes.Buffer
				_, length, err := h.response()
				if err == nil {
					length, err = h.body(length, func(b []byte) { body.Write(b) })
				}
				if err != nil || length != c.want || body.String() != c.body {
					t.Errorf("%s in pieces of %d: got %d bytes %q, %v; want %d, %q", c.name, piece, length, &body, err, c.want, c.body)
				}
			}
			client.Close()
			server.Close()
		}
	}
}

func TestResponsesAreCountedInAnyPieces(t *testing.T) {
	for _, one := range []string{
		"<D:response><D:href>/a response</D:href></D:response>\n",
		`<D:response xmlns:lp1="DAV:"><D:href>/b</D:href></D:response>`,
		"<response><href>/c</href></response>",
	} {
		text := []byte("<multistatus>" + strings.Repeat(one, 50) + "</multistatus>")
		for piece := 1; piece < 70; piece++ {
			var r responses
			for b := text; len(b) > 0; b = b[min(len(b), piece):] {
				r.see(b[:min(len(b), piece)])
			}
			if r.n != 50 {
				t.Errorf("%q in pieces of %d: got %d responses, want 50", one, piece, r.n)
			}
		}
	}
}

func TestPercentiles(t *testing.T) {
	took := make([][]time.Duration, 2)
	for i := range 1000 {
		took[i%2] = append(took[i%2], time.Duration(i)*time.Microsecond)
	}
	if p50, p99 := percentiles(took); p50 != 500 || p99 != 990 {
		t.Errorf("got %v and %v, want 500 and 990", p50, p99)
	}
}

func TestBudgetsAreHeldAgainstRows(t *testing.T) {
	tab := newTable([]*Server{{Peer: "gantry"}, {Peer: "nginx"}})
	row := func(name string, own, other Run) {
		tab.add(name, "gantry", own)
		tab.add(name, "nginx", other)
	}
	row("WebDAV GET of 4 KiB, 8 clients", Run{Ops: 10, CPU: 0.9, P99: 50}, Run{Ops: 10, CPU: 1, P99: 20})
	row("FTP get, 1 at a time", Run{CPUPerGB: 1.2}, Run{CPUPerGB: 1})
	row("no budget", Run{CPUPerGB: 1.2}, Run{CPUPerGB: 1})
	var got []string
	for _, v := range tab.Verdicts() {
		got = append(got, fmt.Sprintf("%s, %s: %.1f %v", v.Case, v.What, v.Got, v.Kept))
	}
	want := []string{"WebDAV GET of 4 KiB, 8 clients, server CPU, ratio: 0.9 true", "WebDAV GET of 4 KiB, 8 clients, p99, ratio: 2.5 false", "FTP get, 1 at a time, server CPU, ratio: 1.2 false"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestIdleConnectionsHaveABudget(t *testing.T) {
	for kib, kept := range map[int64]map[bool]bool{1: {false: true, true: true}, 5: {false: false, true: true}, 13: {false: false, true: false}} {
		for secure, want := range kept {
			v := ConnIdle{TLS: secure, Connections: 100, Before: Usage{RSS: 1 << 20}, At: Usage{RSS: 1<<20 + 100*kib<<10}}.Verdict("FTP")
			if v.Got != float64(kib) || v.Kept != want {
				t.Errorf("%d KiB each, TLS %v: got %+v, want kept %v", kib, secure, v, want)
			}
		}
	}
}

func TestChartIsXMLWithEveryRow(t *testing.T) {
	tab := newTable([]*Server{{Peer: "gantry"}, {Peer: "a <b> & c"}})
	for _, name := range []string{"get & put", "other <case>"} {
		tab.add(name, "gantry", Run{CPUPerGB: 100})
		tab.add(name, "a <b> & c", Run{CPUPerGB: 1})
	}
	tab.add("alone", "gantry", Run{CPUPerGB: 1})
	var b bytes.Buffer
	if err := Chart(&b, "1 < 2", []*Table{nil, tab}); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for d := xml.NewDecoder(&b); ; {
		tok, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if c, ok := tok.(xml.CharData); ok {
			text.Write(c)
		}
	}
	for want, there := range map[string]bool{"get & put": true, "other <case>": true, "a <b> & c": true, "1 < 2": true, "alone": false} {
		if strings.Contains(text.String(), want) != there {
			t.Errorf("%q is there: %v, want %v", want, !there, there)
		}
	}
}

// A process's clock is that of all its threads, and finer than /proc/PID/stat.
func TestProcessClock(t *testing.T) {
	before, ok := processClock(os.Getpid())
	if !ok {
		t.Skip("there is no such clock here")
	}
	x := 0
	for begin := time.Now(); time.Since(begin) < 30*time.Millisecond; x++ {
	}
	after, _ := processClock(os.Getpid())
	if d := after - before; d < time.Millisecond || d > 10*time.Second {
		t.Errorf("30 ms of work (%d) took %v of processor time", x, d)
	}
	if _, ok := processClock(1 << 22); ok {
		t.Error("a process that cannot be has a clock")
	}
}

func TestStartsAreHeldAgainstTheirBudget(t *testing.T) {
	for ms, kept := range map[float64]bool{99.5: true, 100.5: false} {
		if v := (Start{What: "10 accounts", Ms: ms}).Verdict(); v.Kept != kept || v.Case != "start with 10 accounts" {
			t.Errorf("%v ms: %+v", ms, v)
		}
	}
}
