package ssh

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	gossh "golang.org/x/crypto/ssh"
)

func TestHostKeysAreMadeOnceAndKept(t *testing.T) {
	cfg := DefaultConfig()
	cfg.ConfigDir = filepath.Join(t.TempDir(), "new", "dir")
	first, err := LoadHostKeys(&cfg, discardLog())
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadHostKeys(&cfg, discardLog())
	if err != nil {
		t.Fatal(err)
	}
	if len(first) != 2 {
		t.Fatalf("got %+v, want two keys", first)
	}
	for i, k := range first {
		if !k.Created || again[i].Created || again[i].Fingerprint != k.Fingerprint || !strings.HasPrefix(k.Fingerprint, "SHA256:") {
			t.Errorf("first %+v, again %+v", k, again[i])
		}
		st, err := os.Stat(k.Path)
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", k.Path, st.Mode())
		}
		pub, err := os.ReadFile(k.Path + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		key, _, _, _, err := gossh.ParseAuthorizedKey(pub)
		if err != nil || gossh.FingerprintSHA256(key) != k.Fingerprint {
			t.Errorf("%s.pub: %v, another key", k.Path, err)
		}
	}
	// An ECDSA key that is brought along is used, between the two.
	if err := makeHostKey(filepath.Join(cfg.ConfigDir, "id_ecdsa")); err != nil {
		t.Fatal(err)
	}
	if three, err := LoadHostKeys(&cfg, discardLog()); err != nil || len(three) != 3 || three[1].Type != gossh.KeyAlgoECDSA256 {
		t.Errorf("with an ECDSA key: %+v, %v", three, err)
	}
	left, _ := filepath.Glob(filepath.Join(cfg.ConfigDir, ".*"))
	if len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestBadHostKeysAreRefused(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		os.Chmod(p, mode)
		return p
	}
	if err := makeHostKey(filepath.Join(dir, "id_ed25519")); err != nil {
		t.Fatal(err)
	}
	good, _ := os.ReadFile(filepath.Join(dir, "id_ed25519"))
	weak, err := rsaKey(1024)
	if err != nil {
		t.Fatal(err)
	}
	weakBlock, err := gossh.MarshalPrivateKey(weak, "")
	if err != nil {
		t.Fatal(err)
	}
	strong, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	locked, err := gossh.MarshalPrivateKeyWithPassphrase(strong, "", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{ // file: part of the error
		"missing": "no such file",
		write("weak", string(pem.EncodeToMemory(weakBlock)), 0o600): "1024 bits",
		write("locked", string(pem.EncodeToMemory(locked)), 0o600):  "passphrase",
		write("garbage", "not a key", 0o600):                        "no key found",
		write("huge", strings.Repeat("x", maxKeyFile+1), 0o600):     "regular file",
		dir: "regular file",
	}
	if runtime.GOOS != "windows" {
		cases[write("writable", string(good), 0o622)] = "written by others"
	}
	for file, want := range cases {
		cfg := DefaultConfig()
		cfg.ConfigDir, cfg.HostKeys = dir, []string{file}
		_, err := LoadHostKeys(&cfg, discardLog())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", file, err, want)
		}
	}
	// Readable for others is warned about only: containers mount secrets that way.
	log := &syncBuffer{}
	cfg := DefaultConfig()
	cfg.HostKeys = []string{write("readable", string(good), 0o644)}
	if _, err := LoadHostKeys(&cfg, slog.New(slog.NewTextHandler(log, nil))); err != nil {
		t.Error(err)
	}
	if runtime.GOOS != "windows" && !strings.Contains(log.String(), "can be read by others") {
		t.Errorf("log: %s", log)
	}
}

func TestReloadKeepsOldKeysOnError(t *testing.T) {
	s := startServer(t, nil)
	old := s.HostKeys()[0]
	pub := func() string {
		var seen string
		cl, err := s.dial(t, func(c *gossh.ClientConfig) {
			c.HostKeyCallback = func(_ string, _ net.Addr, k gossh.PublicKey) error {
				seen = gossh.FingerprintSHA256(k)
				return nil
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		cl.Close()
		return seen
	}
	if pub() != old.Fingerprint {
		t.Fatal("another key was shown")
	}
	if err := os.WriteFile(old.Path, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err == nil {
		t.Error("a broken key was loaded")
	}
	if pub() != old.Fingerprint {
		t.Error("the old key is gone")
	}
	os.Remove(old.Path)
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if n := s.HostKeys()[0]; n.Fingerprint == old.Fingerprint || pub() != n.Fingerprint {
		t.Error("the new key is not shown")
	}
}

func TestHostCertificate(t *testing.T) {
	ca := newKey(t)
	var certPath string
	s := startServer(t, func(c *Config, _ *fakeBackend) {
		if _, err := LoadHostKeys(c, discardLog()); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(c.ConfigDir, "id_ed25519"))
		if err != nil {
			t.Fatal(err)
		}
		host, err := gossh.ParsePrivateKey(b)
		if err != nil {
			t.Fatal(err)
		}
		cert := &gossh.Certificate{Key: host.PublicKey(), CertType: gossh.HostCert, ValidPrincipals: []string{"127.0.0.1"}, ValidBefore: gossh.CertTimeInfinity}
		if err := cert.SignCert(rand.Reader, ca); err != nil {
			t.Fatal(err)
		}
		certPath = filepath.Join(c.ConfigDir, "host-cert.pub")
		if err := os.WriteFile(certPath, gossh.MarshalAuthorizedKey(cert), 0o644); err != nil {
			t.Fatal(err)
		}
		c.HostCertificates = []string{"host-cert.pub"}
	})
	if k := s.HostKeys()[0]; k.Certificate != certPath {
		t.Errorf("got %+v", k)
	}
	checker := &gossh.CertChecker{IsHostAuthority: func(k gossh.PublicKey, _ string) bool {
		return string(k.Marshal()) == string(ca.PublicKey().Marshal())
	}}
	cl, err := s.dial(t, func(c *gossh.ClientConfig) {
		c.HostKeyCallback = checker.CheckHostKey
		c.HostKeyAlgorithms = []string{gossh.CertAlgoED25519v01}
	})
	if err != nil {
		t.Fatal(err)
	}
	cl.Close()
	cl, err = s.dial(t, func(c *gossh.ClientConfig) { c.HostKeyAlgorithms = []string{gossh.KeyAlgoED25519} })
	if err != nil {
		t.Fatal(err)
	}
	cl.Close()
}

func TestConfigNamesTheKey(t *testing.T) {
	for key, change := range map[string]func(*Config){
		"sftpd.ciphers":               func(c *Config) { c.Ciphers = []string{"rot13"} },
		"sftpd.kex_algorithms":        func(c *Config) { c.KexAlgorithms = []string{""} },
		"sftpd.macs":                  func(c *Config) { c.MACs = []string{"crc32"} },
		"sftpd.host_key_algorithms":   func(c *Config) { c.HostKeyAlgorithms = []string{"ssh-dss"} },
		"sftpd.public_key_algorithms": func(c *Config) { c.PublicKeyAlgorithms = []string{"ssh-dss"} },
		"sftpd.bindings[0].port":      func(c *Config) { c.Bindings[0].Port = 70000 },
		"sftpd.max_startups":          func(c *Config) { c.MaxStartups = "10:30" },
		"sftpd.login_grace_time":      func(c *Config) { c.LoginGraceTime = 0 },
		"sftpd.max_channels":          func(c *Config) { c.MaxChannels = 0 },
		"sftpd.window_budget_mb":      func(c *Config) { c.WindowBudgetMB = -1 },
		"version":                     func(c *Config) { c.Version = "1\r\n2" },
	} {
		c := DefaultConfig()
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: got %v", key, err)
		}
	}
	for in, want := range map[string]startups{"10:30:100": {10, 30, 100}, "5": {5, 100, 5}, " 1 : 1 : 1 ": {1, 1, 1}} {
		if got, err := parseMaxStartups(in); err != nil || got != want {
			t.Errorf("%q: got %v %v", in, got, err)
		}
	}
	for _, in := range []string{"", "a", "0", "1:0:2", "1:101:2", "3:50:2", "1:2:3:4", "-1:50:2"} {
		if _, err := parseMaxStartups(in); err == nil {
			t.Errorf("%q was accepted", in)
		}
	}
	c := DefaultConfig()
	if l := c.LegacyAlgorithms(); len(l) != 0 {
		t.Errorf("legacy by default: %q", l)
	}
	c.Ciphers = append(c.Ciphers, "aes128-cbc")
	if l := c.LegacyAlgorithms(); len(l) != 1 || l[0] != "sftpd.ciphers: aes128-cbc" {
		t.Errorf("got %q", l)
	}
	c.Version, c.Banner = "1.2", ""
	if v := c.identification(); v != "SSH-2.0-Gantry_1.2" {
		t.Error(v)
	}
	c.ShortVersion = true
	if v := c.identification(); v != "SSH-2.0-Gantry" {
		t.Error(v)
	}
}

func TestLoginBanner(t *testing.T) {
	s := startServer(t, func(c *Config, _ *fakeBackend) {
		c.LoginBannerFile = "banner"
		os.WriteFile(filepath.Join(c.ConfigDir, "banner"), []byte("Authorised use only.\n"), 0o644)
	})
	var got string
	cl, err := s.dial(t, func(c *gossh.ClientConfig) { c.BannerCallback = func(m string) error { got = m; return nil } })
	if err != nil {
		t.Fatal(err)
	}
	cl.Close()
	if got != "Authorised use only.\n" {
		t.Errorf("got %q", got)
	}
}
