package ssh

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

func discardLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Go refuses to make weak keys unless asked.
func rsaKey(bits int) (*rsa.PrivateKey, error) {
	os.Setenv("GODEBUG", "rsa1024min=0")
	defer os.Unsetenv("GODEBUG")
	return rsa.GenerateKey(rand.Reader, bits)
}

func TestSteer(t *testing.T) {
	const aes128, aes256, chacha, ctr = gossh.CipherAES128GCM, gossh.CipherAES256GCM, gossh.CipherChaCha20Poly1305, gossh.CipherAES256CTR
	all := defaultCiphers()
	for _, c := range []struct {
		name       string
		c2s, s2c   []string
		configured []string
		want       []string
	}{
		{"OpenSSH", []string{chacha, ctr, aes128, aes256}, []string{chacha, ctr, aes128, aes256}, all, []string{aes128, aes256}},
		{"only one of them", []string{chacha, aes256}, []string{chacha, aes256}, all, []string{aes256}},
		{"only ChaCha20", []string{chacha}, []string{chacha}, all, all},
		{"one direction", []string{aes128, chacha}, []string{chacha}, all, all},
		{"no offer", nil, nil, all, all},
		{"not configured", []string{chacha, aes128}, []string{chacha, aes128}, []string{chacha, ctr}, []string{chacha, ctr}},
		{"the configuration prefers ChaCha20", []string{chacha, aes128}, []string{chacha, aes128}, []string{chacha, aes128}, []string{chacha, aes128}},
		{"only AES-256 before it", []string{chacha, aes128, aes256}, []string{chacha, aes128, aes256}, []string{aes256, chacha, aes128}, []string{aes256}},
	} {
		got := steer(&offer{CiphersC2S: c.c2s, CiphersS2C: c.s2c}, c.configured)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// Whatever way the client's first bytes are cut, and with a guessed packet behind them, the exchange ends well.
func TestFirstBytesInAnySplit(t *testing.T) {
	s := startServer(t, nil)
	if !s.steers {
		t.Log("no AES in hardware: nothing is steered")
	}
	oneByOne := func(nc net.Conn, b []byte) error {
		for i := range b {
			if _, err := nc.Write(b[i : i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	versionAlone := func(nc net.Conn, b []byte) error {
		i := bytes.IndexByte(b, '\n') + 1
		nc.Write(b[:i])
		time.Sleep(20 * time.Millisecond)
		_, err := nc.Write(b[i:])
		return err
	}
	for name, write := range map[string]func(net.Conn, []byte) error{"at once": nil, "byte by byte": oneByOne, "version alone": versionAlone} {
		for guess, k := range map[string]rawKex{
			"no guess":    {ciphers: "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com"},
			"wrong guess": {kex: "guessed@example.com,curve25519-sha256,kex-strict-c-v00@openssh.com", follows: true, guess: []byte{30, 1, 2, 3}},
			"wrong guess of the cipher list": {
				ciphers: "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com",
				kex:     "guessed@example.com,curve25519-sha256", follows: true, guess: []byte{30, 0, 0, 0, 0},
			},
		} {
			t.Run(name+"/"+guess, func(t *testing.T) {
				if !s.steers && strings.HasPrefix(k.ciphers, "chacha") {
					t.Skip("the raw client has no ChaCha20")
				}
				c, err := rawDial(s.addr, k, write)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if err := c.login(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// A right guess is used: the client's first algorithms are our first ones.
func TestRightGuessIsUsed(t *testing.T) {
	s := startServer(t, func(c *Config, _ *fakeBackend) { c.KexAlgorithms = []string{"curve25519-sha256"} })
	c, err := rawDial(s.addr, rawKex{follows: true, guessOK: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.login(); err != nil {
		t.Fatal(err)
	}
}

// A client that waits for our KEXINIT gets it, unsteered.
func TestClientThatWaitsForKexInit(t *testing.T) {
	s := startServer(t, func(_ *Config, b *fakeBackend) { b.patience = 50 * time.Millisecond })
	for _, version := range []string{"SSH-2.0-Slow\r\n", "SSH-2.0-libssh_0.9.6\r\n"} {
		nc, err := sayTo(s.addr, version)
		if err != nil {
			t.Fatal(err)
		}
		nc.SetDeadline(time.Now().Add(5 * time.Second))
		c := &rawClient{Conn: nc}
		c.br = bufio.NewReader(nc)
		if _, err := c.br.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		p, err := c.recv()
		if err != nil || p[0] != 20 {
			t.Fatalf("%q: got %v %v, want KEXINIT", version, p, err)
		}
		o, err := parseOffer(append([]byte("SSH-2.0-x\r\n"), plainPacket(p)...))
		if err != nil || !slices.Equal(o.CiphersS2C, defaultCiphers()) {
			t.Errorf("%q: offered %v, %v", version, o, err)
		}
		nc.Close()
	}
}

// OpenSSH's client at its defaults gets AES-GCM, and what it asks for if it insists.
func TestOpenSSHClient(t *testing.T) {
	bin, err := exec.LookPath("sftp")
	if err != nil {
		t.Skip("no OpenSSH client")
	}
	s := startServer(t, nil)
	dir := t.TempDir()
	key := newKeyFile(t, filepath.Join(dir, "key"))
	s.b.mu.Lock()
	s.b.keys[string(key.Marshal())] = "alice"
	s.b.mu.Unlock()
	_, port, _ := net.SplitHostPort(s.addr)
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"defaults":  {nil, gossh.CipherAES128GCM},
		"chacha20":  {[]string{"-c", gossh.CipherChaCha20Poly1305}, gossh.CipherChaCha20Poly1305},
		"aes256ctr": {[]string{"-c", gossh.CipherAES256CTR}, gossh.CipherAES256CTR},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "defaults" && !s.steers {
				t.Skip("no AES in hardware")
			}
			args := append(c.args, "-F", "none", "-b", "-", "-P", port, "-i", filepath.Join(dir, "key"), "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
				"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=/dev/null", "alice@127.0.0.1")
			cmd := exec.CommandContext(t.Context(), bin, args...)
			cmd.Stdin = strings.NewReader("pwd\nls\n")
			cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK=")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if !strings.Contains(s.log.String(), "cipher_out="+c.want) {
				t.Errorf("want %s in the log:\n%s", c.want, s.log)
			}
		})
	}
}

func newKeyFile(t testing.TB, path string) gossh.PublicKey {
	t.Helper()
	if err := makeHostKey(filepath.Join(filepath.Dir(path), "id_ed25519")); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(filepath.Dir(path), "id_ed25519"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := gossh.ParsePrivateKey(b)
	if err != nil {
		t.Fatal(err)
	}
	return s.PublicKey()
}

// FuzzKexInit: a client's first bytes never panic, and every split of them gives the same result.
func FuzzKexInit(f *testing.F) {
	f.Add([]byte("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u6\r\n"))
	f.Add(append([]byte("SSH-2.0-x\r\n"), plainPacket(kexInitPayload(rawKex{}))...))
	f.Add(append([]byte("SSH-2.0-x\n"), plainPacket(kexInitPayload(rawKex{follows: true}))...))
	f.Add([]byte("SSH-1.99-x y\r\n\x00\x00\x00\x14\x04\x14"))
	f.Add([]byte("GET / HTTP/1.0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 {
			b = b[:4096]
		}
		want, wantErr := parseOffer(b)
		for n := 0; n < len(b); n++ {
			got, err := parseOffer(b[:n])
			if err == errMore {
				continue
			}
			if !reflect.DeepEqual(got, want) || (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
				t.Fatalf("%q: got %v %v after %d bytes, %v %v after all", b, got, err, n, want, wantErr)
			}
			break
		}
		if want != nil && len(want.Version) > maxVersionLine {
			t.Errorf("a version of %d bytes", len(want.Version))
		}
	})
}
