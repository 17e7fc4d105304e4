package ftp

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// feed gives all lines of data that comes in pieces of n bytes.
func feed(data []byte, n int) (out []string) {
	var held []byte
	for len(data) > 0 {
		k := min(len(data), n)
		held, data = append(held, data[:k]...), data[k:]
		for {
			line, m, err := nextLine(held)
			if errors.Is(err, errBadLine) {
				out = append(out, "!bad")
			} else if err != nil {
				return append(out, "!"+err.Error())
			} else if m == 0 {
				break
			} else {
				out = append(out, string(line))
			}
			held = held[m:]
		}
	}
	return out
}

func TestLines(t *testing.T) { // FTP-5
	for in, want := range map[string]string{
		"NOOP\r\n":                          "NOOP",
		"NOOP\n":                            "NOOP",
		"STOR a b \r\nQUIT\r\n":             "STOR a b |QUIT",
		"\xff\xf4\xff\xf2ABOR\r\n":          "ABOR",
		"RETR \xff\xff\r\n":                 "RETR \xff",
		"\xff\xfd\x06NOOP\r\n":              "NOOP",
		"RETR a\x00b\r\n":                   "!bad",
		"RETR a\rb\r\nNOOP\r\n":             "!bad|NOOP",
		"RETR " + strings.Repeat("x", 5000): "!command line too long",
		"RETR a\r\x00b\r\n":                 "!bad",
	} {
		for _, n := range []int{1, 7, 10000} {
			if got := strings.Join(feed([]byte(in), n), "|"); got != want {
				t.Errorf("%q by %d: %q, want %q", in, n, got, want)
			}
		}
	}
}

func FuzzLines(f *testing.F) {
	for _, s := range []string{"USER a\r\nPASS b\r\n", "\xff\xf4\xffABOR\r\n", "RETR a\x00\r\n", "\n\n\r\n", strings.Repeat("a", 4100)} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		n = max(1, min(n, 5000))
		whole, split := feed(data, 1<<20), feed(data, n)
		if strings.Join(whole, "\x00") != strings.Join(split, "\x00") {
			t.Fatalf("%q: whole %q, by %d %q", data, whole, n, split)
		}
		for _, l := range whole {
			if strings.ContainsAny(l, "\x00\r\n") {
				t.Fatalf("line %q", l)
			}
			parseCommand([]byte(l))
		}
	})
}

func TestReplyHasNoForeignLine(t *testing.T) { // FTP-5
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		b := appendReply(nil, 250, "first "+text+"\nlast")
		if !bytes.HasSuffix(b, []byte("\r\n250 last\r\n")) {
			t.Fatalf("%q", b)
		}
		for i, line := range bytes.Split(bytes.TrimSuffix(b, []byte("\r\n")), []byte("\r\n")) {
			if i > 0 && line[0] != ' ' && !bytes.HasPrefix(line, []byte("250 last")) || bytes.ContainsAny(line, "\r\n\x00") {
				t.Fatalf("line %q of %q", line, b)
			}
		}
	})
}

func TestAddresses(t *testing.T) { // FTP-1
	for in, want := range map[string]string{
		"127,0,0,1,4,1": "127.0.0.1:1025", "10,0,0,1,255,255": "10.0.0.1:65535", "1,2,3,4,5": "", "256,0,0,1,1,1": "", "1,2,3,4,5,-1": "", "": "",
	} {
		got, err := parsePort(in)
		if (err != nil) != (want == "") || err == nil && got.String() != want {
			t.Errorf("PORT %q: %v %v, want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"|1|132.235.1.2|6275|": "132.235.1.2:6275", "|2|1080::8:800:200C:417A|5282|": "[1080::8:800:200c:417a]:5282", "!1!1.2.3.4!80!": "1.2.3.4:80",
		"|2|1.2.3.4|80|": "", "|1|::1|80|": "", "|3|1.2.3.4|80|": "", "|1|1.2.3.4|0|": "", "|1|1.2.3.4|65536|": "", "": "", "|": "", "|2|fe80::1%lo|80|": "",
	} {
		got, err := parseEPRT(in)
		if (err != nil) != (want == "") || err == nil && got.String() != want {
			t.Errorf("EPRT %q: %v %v, want %q", in, got, err, want)
		}
	}
}

func FuzzAddresses(f *testing.F) {
	f.Add("127,0,0,1,4,1")
	f.Add("|1|132.235.1.2|6275|")
	f.Add("|2|1080::8:800:200C:417A|5282|")
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := parsePort(s); err == nil && !a.Addr().Is4() {
			t.Fatal(a)
		}
		if a, err := parseEPRT(s); err == nil && (!a.IsValid() || a.Port() == 0) {
			t.Fatal(a)
		}
		parseEPSV(s)
		listArg(s)
		if tm, err := parseTime(s); err == nil && tm.UTC().Format(timeVal) != s[:14] {
			t.Fatal(s, tm)
		}
		if fs := parseFacts(s); parseFacts(fs.list(false)) != fs {
			t.Fatal(s, fs)
		}
		words(s)
	})
}

func TestListArg(t *testing.T) {
	for in, want := range map[string]string{"-la": "", "-a -l /x y": "/x y", "-la x": "x", "x": "x", "-": "-", "-name": "-name", "": "", "-1": ""} {
		if got := listArg(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestTimes(t *testing.T) {
	got, err := parseTime("20240229123456.5")
	if want := time.Date(2024, 2, 29, 12, 34, 56, 5e8, time.UTC); err != nil || !got.Equal(want) {
		t.Errorf("%v %v, want %v", got, err, want)
	}
	for _, bad := range []string{"", "2024", "20240230120000", "20240229123456.", "20240229123456.x", "20240229123456.1234567890"} {
		if got, err := parseTime(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

// ASCII there and back gives the same bytes, however they are split, where there was no CR.
func TestASCII(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOf(rapid.SampledFrom([]byte("ab\n"))).Draw(t, "in")
		cut := rapid.IntRange(0, len(in)).Draw(t, "cut")
		net, last := toNetwork(nil, in[:cut], 0)
		net, _ = toNetwork(net, in[cut:], last)
		if bytes.Count(net, []byte("\n")) != bytes.Count(net, []byte("\r\n")) {
			t.Fatalf("%q", net)
		}
		at := rapid.IntRange(0, len(net)).Draw(t, "at")
		var f fromNetwork
		out := f.convert(nil, net[:at])
		out = f.end(f.convert(out, net[at:]))
		if !bytes.Equal(out, in) {
			t.Fatalf("%q, want %q", out, in)
		}
	})
}

// Both times are what the time package writes.
func TestTimesInListings(t *testing.T) {
	now := time.Date(2026, 11, 27, 6, 30, 0, 0, time.UTC)
	for _, at := range []time.Time{
		now, now.Add(-time.Minute), now.Add(23 * time.Hour), now.Add(25 * time.Hour), now.AddDate(0, 0, -20), now.AddDate(0, -7, 0),
		time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1969, 12, 31, 23, 59, 59, 1, time.UTC), time.Date(2024, 2, 29, 3, 4, 5, 6, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(12345, 6, 7, 8, 9, 10, 0, time.UTC), time.Date(-4, 6, 7, 8, 9, 10, 0, time.UTC),
		now.In(time.FixedZone("east", 5*3600+1800)),
	} {
		if got, want := string(appendTimeVal(nil, at)), at.UTC().Format(timeVal); got != want {
			t.Errorf("modify %s, want %s", got, want)
		}
		layout := "Jan _2  2006"
		if d := now.Sub(at); d > -24*time.Hour && d < 180*24*time.Hour {
			layout = "Jan _2 15:04"
		}
		want := at.UTC().Format(layout)
		if got := string(appendLongTime(nil, at, now)); got != want {
			t.Errorf("listed as %q, want %q", got, want)
		}
	}
}
