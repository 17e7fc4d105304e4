package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The vectors were computed outside Go from the constructions of guard.md 6 (SHA-256 and HKDF of a general
// library, Salsa20 by its paper, Poly1305 and AES-GCM of a general library): K is 00…1f.
const vectorKey = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

func TestOpenReadsWhatOthersSealed(t *testing.T) {
	for name, c := range map[string]struct {
		master string
		in     Secret
		want   string
	}{
		"secretbox, no master key": {"", Secret{Status: Secretbox, Key: vectorKey, AdditionalData: "alice",
			Payload: "ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7RdWLizcGWzy7t9Wm/keHMakkB4f5Cu9FWt0W"}, "pass phrase"},
		"secretbox, mode 0 with a master key added later": {"my master key", Secret{Status: Secretbox, Key: vectorKey, AdditionalData: "alice",
			Payload: "ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7RdWLizcGWzy7t9Wm/keHMakkB4f5Cu9FWt0W"}, "pass phrase"},
		"secretbox, master key": {"my master key", Secret{Status: Secretbox, Key: vectorKey, AdditionalData: "folder_f1", Mode: 1,
			Payload: "ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7UZIUHqz2mzG1TuYqdxuL75U0iZCT1epmu9Gx"}, "pass phrase"},
		"aes-256-gcm": {"", Secret{Status: AES256GCM, Key: vectorKey, AdditionalData: "alice",
			Payload: "c8c9cacbcccdcecfd0d1d2d3a97134b66b3788d3f41275645eed5429f4eee36d365d37433670e7"}, "pass phrase"},
		"aes-256-gcm, no context": {"", Secret{Status: AES256GCM, Key: vectorKey,
			Payload: "c8c9cacbcccdcecfd0d1d2d3ccab3ed0347a4ff320f0061826962fb234"}, "x"},
		"plain": {"", Secret{Status: Plain, Payload: "as it is"}, "as it is"},
		"empty": {"", Secret{}, ""},
	} {
		b, err := NewBox(c.master, Secretbox)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := b.Open(c.in); err != nil || got != c.want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, c.want)
		}
	}
}

func TestSealMakesTheSameBytes(t *testing.T) {
	var in bytes.Buffer
	for i := range 32 {
		in.WriteByte(byte(i))
	}
	for i := range 24 {
		in.WriteByte(byte(100 + i))
	}
	b := &Box{master: []byte("my master key"), cipher: Secretbox, rand: &in}
	got, err := b.Seal(New("pass phrase"), "folder_f1")
	if err != nil {
		t.Fatal(err)
	}
	want := Secret{Status: Secretbox, Key: vectorKey, AdditionalData: "folder_f1", Mode: 1,
		Payload: "ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7UZIUHqz2mzG1TuYqdxuL75U0iZCT1epmu9Gx"}
	if got != want {
		t.Errorf("got %#v %s, want %s", got, got.Payload, want.Payload)
	}
}

func TestOpenUndoesSeal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		master := rapid.SampledFrom([]string{"", "m", "a longer master key"}).Draw(t, "master")
		b, err := NewBox(master, rapid.SampledFrom([]Status{Empty, Secretbox, AES256GCM}).Draw(t, "cipher"))
		if err != nil {
			t.Fatal(err)
		}
		clear := rapid.StringN(1, 100, -1).Draw(t, "clear")
		s, err := b.Seal(New(clear), rapid.String().Draw(t, "context"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(s.Payload, clear) && len(clear) > 3 || !s.IsSealed() || !s.IsOpenable() {
			t.Fatalf("not sealed: %s", s.Payload)
		}
		if got, err := b.Open(s); err != nil || got != clear {
			t.Fatalf("got %q, %v, want %q", got, err, clear)
		}
		again, err := b.Seal(s, "other")
		if err != nil || again != s {
			t.Fatal("a sealed secret was sealed again")
		}
		// Whatever is changed, it does not open (CRY-2).
		bad := s
		switch rapid.IntRange(0, 3).Draw(t, "damage") {
		case 0:
			bad.AdditionalData += "x"
			if bad.Mode == 0 { // mode 1 binds it by the key derivation, mode 0 by both
				break
			}
		case 1:
			bad.Payload = bad.Payload[:len(bad.Payload)/2]
		case 2:
			bad.Key = strings.Repeat("00", 32)
		case 3:
			bad.Key = bad.Key[2:]
		}
		if _, err := b.Open(bad); !errors.Is(err, ErrOpen) {
			t.Fatalf("a changed secret: got %v, want ErrOpen", err)
		}
	})
}

func TestOpenFailsClosed(t *testing.T) {
	none, other := &Box{}, &Box{master: []byte("other")}
	sealed, err := (&Box{master: []byte("right")}).Seal(New("x"), "c")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		box  *Box
		in   Secret
		want error
	}{
		{none, sealed, ErrNoMasterKey},
		{nil, sealed, ErrNoMasterKey},
		{other, sealed, ErrOpen},
		{none, Secret{Status: Redacted}, ErrRedacted},
		{none, Secret{Status: Redacted, Payload: "x"}, ErrRedacted},
		{none, Secret{Payload: "no status"}, ErrOpen},
		{none, Secret{Status: Vault, Payload: "x", Key: vectorKey}, ErrExternal},
		{none, Secret{Status: Secretbox, Payload: "!!", Key: vectorKey}, ErrOpen},
		{none, Secret{Status: Secretbox, Payload: "AAAA", Key: vectorKey}, ErrOpen},
		{none, Secret{Status: AES256GCM, Payload: "00", Key: vectorKey}, ErrOpen},
		{none, Secret{Status: Secretbox, Payload: "AAAA"}, ErrOpen},
	} {
		if got, err := c.box.Open(c.in); !errors.Is(err, c.want) || got != "" {
			t.Errorf("%s %q: got %q, %v, want %v", c.in.Status, c.in.Payload, got, err, c.want)
		}
	}
	if _, err := NewBox("", AWS); !errors.Is(err, ErrExternal) {
		t.Errorf("a box that seals with AWS: got %v", err)
	}
}

func TestUnknownStatusIsADecodeError(t *testing.T) {
	for text, ok := range map[string]bool{
		`{}`: true, `{"status":"Plain","payload":"x"}`: true, `{"status":"Redacted"}`: true, `{"status":"OracleKeyVault","payload":"x"}`: true,
		`{"status":"plain","payload":"x"}`: false, `{"status":"ROT13","payload":"x"}`: false, `{"status":7}`: false,
		`{"status":"Secretbox","mode":2}`: false, `"x"`: false,
	} {
		var s Secret
		if err := json.Unmarshal([]byte(text), &s); (err == nil) != ok {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

func TestKeepTakesTheStoredOneWhereAsked(t *testing.T) {
	stored := Secret{Status: Secretbox, Payload: "p", Key: vectorKey}
	for _, c := range []struct{ next, want Secret }{
		{Secret{Status: Redacted}, stored},
		{Secret{Status: Redacted, Payload: "anything"}, stored},
		{Secret{Status: Secretbox, Payload: "p"}, stored}, // echoed from redacted output
		{New("new"), New("new")},
		{Secret{}, Secret{}},
		{Secret{Status: Secretbox, Payload: "q", Key: vectorKey}, Secret{Status: Secretbox, Payload: "q", Key: vectorKey}},
	} {
		if got := c.next.Keep(stored); got != c.want {
			t.Errorf("%s %q: got %s %q", c.next.Status, c.next.Payload, got.Status, got.Payload)
		}
	}
}

// LOG-1
func TestNothingPrintsASecret(t *testing.T) {
	const canary = "canary-value"
	box, _ := NewBox(canary, Empty)
	s := New(canary)
	var b bytes.Buffer
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "secret", s, "box", box)
	fmt.Fprintf(&b, "%v %+v %#v %s %v %#v", s, s, s, s, box, box)
	if strings.Contains(b.String(), canary) {
		t.Errorf("printed: %s", b.String())
	}
	if h := s.Hide(); h != (Secret{Status: Redacted}) || !(Secret{}).Hide().IsEmpty() {
		t.Errorf("Hide: got %s %q", h.Status, h.Payload)
	}
}
