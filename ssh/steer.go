package ssh

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/sys/cpu"
)

const (
	maxVersionLine = 255   // RFC 4253 4.2, with CR LF
	maxFirstPacket = 35000 // RFC 4253 6.1
	// kexInitPatience is how long we wait for the client's KEXINIT before we send ours. It must cover a
	// round trip; a client that waits for the server's first loses this time once.
	kexInitPatience = 2 * time.Second
)

// offer is what a client says in clear text before any key exchange (RFC 4253 4.2 and 7.1).
type offer struct {
	Version                string
	Kex, HostKey           []string
	CiphersC2S, CiphersS2C []string
	MACsC2S, MACsS2C       []string
}

// errMore says that the bytes so far are the beginning of an offer.
var errMore = errors.New("ssh: more bytes are needed")

// parseVersion reads the client's version line. It refuses a peer that speaks something else at its first
// wrong byte (SSH-3): unlike a server, a client may not send other lines before its version.
func parseVersion(b []byte) (version string, rest []byte, err error) {
	const v2, v199 = "SSH-2.0-", "SSH-1.99-"
	head := b[:min(len(b), len(v2))]
	head199 := b[:min(len(b), len(v199))]
	if !strings.HasPrefix(v2, string(head)) && !strings.HasPrefix(v199, string(head199)) {
		return "", nil, errors.New("ssh: the peer does not speak SSH 2.0")
	}
	end := bytes.IndexByte(b[:min(len(b), maxVersionLine)], '\n')
	line := b[:min(len(b), maxVersionLine)]
	if end >= 0 {
		line = bytes.TrimSuffix(b[:end], []byte{'\r'})
	}
	for i, c := range line {
		if c < ' ' || c > '~' {
			if end < 0 && c == '\r' && i == len(line)-1 {
				continue
			}
			return "", nil, errors.New("ssh: the peer's version line has characters other than printable ASCII")
		}
	}
	switch {
	case end >= 0 && len(line) <= len(v2):
		return "", nil, errors.New("ssh: the peer's version line ends too soon")
	case end >= 0:
		return string(line), b[end+1:], nil
	case len(b) >= maxVersionLine:
		return "", nil, fmt.Errorf("ssh: the peer's version line is longer than %d bytes", maxVersionLine)
	}
	return "", nil, errMore
}

// parseOffer reads a version line and a KEXINIT packet from the beginning of b, or says errMore.
func parseOffer(b []byte) (*offer, error) {
	version, b, err := parseVersion(b)
	if err != nil {
		return nil, err
	}
	if len(b) < 4 {
		return nil, errMore
	}
	n := binary.BigEndian.Uint32(b)
	if n < 18 || n > maxFirstPacket {
		return nil, fmt.Errorf("ssh: the peer's first packet has a length of %d", n)
	}
	if uint32(len(b)-4) < n {
		return nil, errMore
	}
	pad := uint32(b[4])
	if pad+2 > n {
		return nil, errors.New("ssh: the peer's first packet is all padding")
	}
	p := b[5 : 4+n-pad]
	if len(p) < 17 || p[0] != 20 {
		return nil, errors.New("ssh: the peer's first packet is not KEXINIT")
	}
	o := &offer{Version: version}
	p = p[17:] // the cookie
	for _, dst := range []*[]string{&o.Kex, &o.HostKey, &o.CiphersC2S, &o.CiphersS2C, &o.MACsC2S, &o.MACsS2C} {
		if len(p) < 4 {
			return nil, errors.New("ssh: the peer's KEXINIT is cut short")
		}
		n := binary.BigEndian.Uint32(p)
		if uint32(len(p)-4) < n {
			return nil, errors.New("ssh: the peer's KEXINIT is cut short")
		}
		if n > 0 {
			*dst = strings.Split(string(p[4:4+n]), ",")
		}
		p = p[4+n:]
	}
	return o, nil
}

// errNoWord is a peer that went without a word: gantry ping, a load balancer, a scan of ports. No login has failed.
var errNoWord = errors.New("ssh: the peer left before it said anything")

// lookAhead sends our version line and reads the client's and, with wantOffer, its KEXINIT, which x/crypto
// will then read again. The offer has only a Version if the client wants to see our KEXINIT first. rtt is
// what the answer took. The caller has set a deadline.
func (w *wire) lookAhead(version string, wantOffer bool, deadline time.Time, patience time.Duration) (o *offer, rtt time.Duration, err error) {
	line := []byte(version + "\r\n")
	if _, err := w.Write(line); err != nil {
		return nil, 0, err
	}
	sent := time.Now()
	buf := make([]byte, 0, 2<<10)
	defer func() {
		w.swallow, w.replay = line, buf
	}()
	var known string // the version, once it is there
	for {
		if known == "" {
			known, _, err = parseVersion(buf)
			if err != nil && err != errMore {
				return nil, 0, err
			}
			if known != "" {
				if !wantOffer || waitsForKexInit(known) {
					return &offer{Version: known}, 0, nil
				}
				if until := time.Now().Add(patience); until.Before(deadline) {
					w.SetReadDeadline(until)
					defer w.SetReadDeadline(deadline)
				}
			}
		}
		if known != "" {
			o, err := parseOffer(buf)
			if err != errMore {
				return o, time.Since(sent), err
			}
		}
		if len(buf) == cap(buf) {
			// Bounded: parseOffer refuses lengths above maxFirstPacket.
			buf = slices.Grow(buf, len(buf))
		}
		n, err := w.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if n > 0 {
			continue
		}
		if known != "" && errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(deadline) {
			return &offer{Version: known}, 0, nil
		}
		if len(buf) == 0 && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) {
			err = errNoWord
		}
		return nil, 0, err
	}
}

// waitsForKexInit: clients built on libssh before 0.10 send KEXINIT in answer to the server's.
func waitsForKexInit(version string) bool {
	return strings.HasPrefix(version, "SSH-2.0-libssh_") || strings.HasPrefix(version, "SSH-2.0-libssh-")
}

// steer chooses the ciphers to offer to this client. In SSH the client's first cipher that the server knows
// wins, and OpenSSH names ChaCha20 first, which costs us several times what AES-GCM does where AES is in
// hardware. Only ciphers that the configuration has before ChaCha20 are chosen, and only if the client knows
// them in both directions; else everything that is configured is offered.
func steer(o *offer, configured []string) []string {
	fast := configured
	if i := slices.Index(configured, gossh.CipherChaCha20Poly1305); i >= 0 {
		fast = configured[:i]
	}
	var out []string
	for _, c := range fast {
		gcm := c == gossh.CipherAES128GCM || c == gossh.CipherAES256GCM
		if gcm && slices.Contains(o.CiphersC2S, c) && slices.Contains(o.CiphersS2C, c) {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return configured
	}
	return out
}

// hardwareAES reports whether AES-GCM runs on the processor's own instructions.
func hardwareAES() bool {
	return cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ || cpu.ARM64.HasAES && cpu.ARM64.HasPMULL ||
		cpu.S390X.HasAES && cpu.S390X.HasAESGCM
}
