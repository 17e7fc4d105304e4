package account

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestPublicKeysAreChecked(t *testing.T) {
	line := func(pub any) string {
		k, err := ssh.NewPublicKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GODEBUG", "rsa1024min=0")
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	strong, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := line(ed)
	for key, want := range map[string]string{
		good: "", good + " joe@example.com": "", line(&strong.PublicKey): "",
		line(&weak.PublicKey): "fewer than 2048 bits", "ssh-ed25519 AAAA": "authorized_keys", "hello": "authorized_keys",
		good + "\n" + good: "more than one key",
	} {
		why := badPublicKey(key)
		if (want == "") != (why == "") || !strings.Contains(why, want) {
			t.Errorf("%.40q: got %q, want %q", key, why, want)
		}
	}
	u := &User{Username: "a", Status: 1, HomeDir: "/srv/a", Permissions: map[string][]string{"/": {"*"}}, PublicKeys: []string{good, " ", "rubbish"}}
	if err := u.Normalize(t.Context(), DefaultRules()); err == nil || !strings.Contains(err.Error(), "public_keys[2]") {
		t.Errorf("got %v, want an error that names public_keys[2]", err)
	}
}

func TestUnknownMembersOfADumpAreNamed(t *testing.T) {
	d, err := DecodeDump(strings.NewReader(`{"version":17,"users":[{"username":"a","nickname":"x","filters":{"colour":1}},{"username":"b","nickname":"y"}],
		"folders":[{"name":"f","shape":2}],"roles":[{"name":"r","kept":true}]}`), 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(d.Unknown, " "); got != "users[].filters.colour users[].nickname folders[].shape" {
		t.Errorf("got %q", got)
	}
}
