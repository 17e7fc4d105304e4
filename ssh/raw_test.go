package ssh

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

// rawClient is a client that does what no library would: it sends any packet at any time. It speaks
// curve25519-sha256, ssh-ed25519 and aes128-gcm.
type rawClient struct {
	net.Conn
	br           *bufio.Reader
	serverKex    []byte
	session      []byte
	enc, dec     cipher.AEAD
	encIV, decIV [12]byte
}

type rawKex struct {
	kex      string // comma-separated
	ciphers  string
	follows  bool
	guess    []byte // sent right behind KEXINIT when follows
	guessOK  bool   // guess is the real first packet
	hostKeys string
}

func str(s string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)
}

func cat(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func u32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func kexInitPayload(k rawKex) []byte {
	if k.kex == "" {
		k.kex = "curve25519-sha256,ext-info-c,kex-strict-c-v00@openssh.com"
	}
	if k.ciphers == "" {
		k.ciphers = "aes128-gcm@openssh.com"
	}
	if k.hostKeys == "" {
		k.hostKeys = "ssh-ed25519"
	}
	p := append([]byte{20}, make([]byte, 16)...)
	rand.Read(p[1:])
	for _, l := range []string{k.kex, k.hostKeys, k.ciphers, k.ciphers, "hmac-sha2-256", "hmac-sha2-256", "none", "none", "", ""} {
		p = append(p, str(l)...)
	}
	follows := byte(0)
	if k.follows {
		follows = 1
	}
	return append(p, follows, 0, 0, 0, 0)
}

// plainPacket frames payload before any keys (RFC 4253 6).
func plainPacket(payload []byte) []byte {
	pad := 8 - (5+len(payload))%8
	if pad < 4 {
		pad += 8
	}
	return cat(u32(uint32(1+len(payload)+pad)), []byte{byte(pad)}, payload, make([]byte, pad))
}

func mpint(b []byte) []byte {
	b = new(big.Int).SetBytes(b).Bytes()
	if len(b) > 0 && b[0]&0x80 != 0 {
		b = append([]byte{0}, b...)
	}
	return str(string(b))
}

const rawVersion = "SSH-2.0-raw"

// rawDial exchanges keys. write lets a test split what is sent before the keys; nil writes at once.
func rawDial(addr string, k rawKex, write func(net.Conn, []byte) error) (*rawClient, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	c := &rawClient{Conn: nc, br: bufio.NewReader(nc)}
	if write == nil {
		write = func(nc net.Conn, b []byte) error { _, err := nc.Write(b); return err }
	}
	if err := c.exchange(k, write); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

func (c *rawClient) exchange(k rawKex, write func(net.Conn, []byte) error) error {
	priv, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	mine := kexInitPayload(k)
	qc := priv.PublicKey().Bytes()
	first := cat([]byte(rawVersion+"\r\n"), plainPacket(mine))
	switch {
	case k.follows && k.guessOK:
		first = append(first, plainPacket(cat([]byte{30}, str(string(qc))))...)
	case k.follows:
		first = append(first, plainPacket(k.guess)...)
	}
	if err := write(c.Conn, first); err != nil {
		return err
	}
	version, err := c.br.ReadString('\n')
	if err != nil {
		return err
	}
	version = strings.TrimRight(version, "\r\n")
	if c.serverKex, err = c.recv(); err != nil {
		return err
	}
	if !k.guessOK {
		if err := c.send(cat([]byte{30}, str(string(qc)))); err != nil {
			return err
		}
	}
	reply, err := c.recv()
	if err != nil {
		return err
	}
	var mm struct {
		HostKey []byte `sshtype:"31"`
		Q       []byte
		Sig     []byte
	}
	if err := gossh.Unmarshal(reply, &mm); err != nil {
		return err
	}
	pub, err := ecdh.X25519().NewPublicKey(mm.Q)
	if err != nil {
		return err
	}
	secret, err := priv.ECDH(pub)
	if err != nil {
		return err
	}
	kk := mpint(secret)
	h := sha256.Sum256(cat(str(rawVersion), str(version), str(string(mine)), str(string(c.serverKex)),
		str(string(mm.HostKey)), str(string(qc)), str(string(mm.Q)), kk))
	c.session = h[:]
	if p, err := c.recv(); err != nil || p[0] != 21 {
		return fmt.Errorf("want NEWKEYS, got %v %v", p, err)
	}
	if err := c.send([]byte{21}); err != nil {
		return err
	}
	derive := func(tag byte, n int) []byte {
		d := sha256.Sum256(cat(kk, h[:], []byte{tag}, h[:]))
		return d[:n]
	}
	copy(c.encIV[:], derive('A', 12))
	copy(c.decIV[:], derive('B', 12))
	for tag, dst := range map[byte]*cipher.AEAD{'C': &c.enc, 'D': &c.dec} {
		b, err := aes.NewCipher(derive(tag, 16))
		if err != nil {
			return err
		}
		if *dst, err = cipher.NewGCM(b); err != nil {
			return err
		}
	}
	return nil
}

func bump(iv *[12]byte) {
	binary.BigEndian.PutUint64(iv[4:], binary.BigEndian.Uint64(iv[4:])+1)
}

// seal frames a packet for the wire.
func (c *rawClient) seal(payload []byte) []byte {
	if c.enc == nil {
		return plainPacket(payload)
	}
	return c.appendSealed(nil, payload)
}

// appendSealed allocates nothing if out has room.
func (c *rawClient) appendSealed(out, payload []byte) []byte {
	pad := 16 - (1+len(payload))%16
	if pad < 4 {
		pad += 16
	}
	head := len(out)
	out = binary.BigEndian.AppendUint32(out, uint32(1+len(payload)+pad))
	body := len(out)
	out = append(append(append(out, byte(pad)), payload...), make([]byte, pad)...)
	out = c.enc.Seal(out[:body], c.encIV[:], out[body:], out[head:body])
	bump(&c.encIV)
	return out
}

func (c *rawClient) send(payload []byte) error {
	_, err := c.Write(c.seal(payload))
	return err
}

func (c *rawClient) recv() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(c.br, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > 300<<10 {
		return nil, errors.New("a packet too long")
	}
	if c.dec == nil {
		b := make([]byte, n)
		if _, err := io.ReadFull(c.br, b); err != nil {
			return nil, err
		}
		return b[1 : int(n)-int(b[0])], nil
	}
	b := make([]byte, n+16)
	if _, err := io.ReadFull(c.br, b); err != nil {
		return nil, err
	}
	b, err := c.dec.Open(b[:0], c.decIV[:], b, head[:])
	if err != nil {
		return nil, err
	}
	bump(&c.decIV)
	return b[1 : len(b)-int(b[0])], nil
}

// recvType skips packets until one of the wanted types.
func (c *rawClient) recvType(types ...byte) ([]byte, error) {
	for {
		p, err := c.recv()
		if err != nil {
			return nil, err
		}
		for _, t := range types {
			if p[0] == t {
				return p, nil
			}
		}
	}
}

func passwordRequest(user, password string) []byte {
	return cat([]byte{50}, str(user), str("ssh-connection"), str("password"), []byte{0}, str(password))
}

func (c *rawClient) service() error {
	if err := c.send(cat([]byte{5}, str("ssh-userauth"))); err != nil {
		return err
	}
	_, err := c.recvType(6)
	return err
}

func (c *rawClient) login() error {
	if err := c.service(); err != nil {
		return err
	}
	if err := c.send(passwordRequest("alice", "secret")); err != nil {
		return err
	}
	_, err := c.recvType(52)
	return err
}

// keyRequest asks for key (RFC 4252 7), signed if sign.
func (c *rawClient) keyRequest(user string, key ed25519.PrivateKey, sign bool) []byte {
	blob := cat(str("ssh-ed25519"), str(string(key.Public().(ed25519.PublicKey))))
	flag := []byte{0}
	if sign {
		flag = []byte{1}
	}
	p := cat([]byte{50}, str(user), str("ssh-connection"), str("publickey"), flag, str("ssh-ed25519"), str(string(blob)))
	if sign {
		sig := ed25519.Sign(key, cat(str(string(c.session)), p))
		p = append(p, str(string(cat(str("ssh-ed25519"), str(string(sig)))))...)
	}
	return p
}

// openSFTP opens a session channel with the subsystem and returns the server's number of it.
func (c *rawClient) openSFTP() (uint32, error) {
	if err := c.send(cat([]byte{90}, str("session"), u32(0), u32(2<<20), u32(32<<10))); err != nil {
		return 0, err
	}
	p, err := c.recvType(91)
	if err != nil {
		return 0, err
	}
	id := binary.BigEndian.Uint32(p[5:])
	if err := c.send(cat([]byte{98}, u32(id), str("subsystem"), []byte{1}, str("sftp"))); err != nil {
		return 0, err
	}
	_, err = c.recvType(99)
	return id, err
}

func mustRaw(t testing.TB, s *testServer) *rawClient {
	t.Helper()
	c, err := rawDial(s.addr, rawKex{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
