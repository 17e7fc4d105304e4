package auth

import (
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	gossh "golang.org/x/crypto/ssh"
)

// krlMagic begins an OpenSSH key revocation list (OpenSSH PROTOCOL.krl).
const krlMagic = "SSHKRL\n\x00"

// krl is an OpenSSH key revocation list that was read. Immutable.
type krl struct {
	keys, sha1, sha256 map[string]bool // wire forms and digests
	cas                map[string]*revokedCerts
}

// revokedCerts are certificates of one authority, or of every one for the empty wire form.
type revokedCerts struct {
	ids     map[string]bool
	ranges  []serialRange // sorted and apart once read
	bitmaps []serialBitmap
}

type serialRange struct{ first, last uint64 }

// serialBitmap has the bit n of a big-endian number for the serial first+n.
type serialBitmap struct {
	first uint64
	bits  []byte
}

// The parts of a list, by PROTOCOL.krl.
const (
	krlCertificates = 1
	krlKeys         = 2
	krlSHA1         = 3
	krlSHA256       = 5
	krlExtension    = 255

	krlSerialList    = 0x20
	krlSerialRange   = 0x21
	krlSerialBitmap  = 0x22
	krlKeyID         = 0x23
	krlCertExtension = 0x39
)

var errKRL = errors.New("bad key revocation list")

// parseKRL reads a list. What it does not know is an error, unless the list says that it may be passed over:
// a revocation must not be lost because we do not understand it.
func parseKRL(data []byte) (*krl, error) {
	r := &krlReader{data}
	if magic := r.take(8); string(magic) != krlMagic {
		return nil, fmt.Errorf("%w: no SSHKRL in front", errKRL)
	}
	if v := r.uint32(); v != 1 {
		return nil, fmt.Errorf("%w: of format %d, 1 is known", errKRL, v)
	}
	r.take(3 * 8) // version, date, flags
	r.string()    // reserved
	r.string()    // comment
	out := &krl{keys: map[string]bool{}, sha1: map[string]bool{}, sha256: map[string]bool{}, cas: map[string]*revokedCerts{}}
	for len(r.left) > 0 {
		kind := r.byte()
		s := &krlReader{r.string()}
		if r.left == nil {
			break
		}
		var err error
		switch kind {
		case krlCertificates:
			err = out.certificates(s)
		case krlKeys:
			err = s.strings(0, out.keys)
		case krlSHA1:
			err = s.strings(sha1.Size, out.sha1)
		case krlSHA256:
			err = s.strings(sha256.Size, out.sha256)
		case krlExtension:
			err = s.extension()
		default:
			err = fmt.Errorf("%w: a section of type %d (signed lists are not taken)", errKRL, kind)
		}
		if err != nil {
			return nil, err
		}
	}
	if r.left == nil {
		return nil, fmt.Errorf("%w: it is cut off", errKRL)
	}
	for _, c := range out.cas {
		c.ranges = merged(c.ranges)
	}
	return out, nil
}

// certificates reads a section on the certificates of one authority.
func (k *krl) certificates(r *krlReader) error {
	ca := string(r.string())
	r.string() // reserved
	c := k.cas[ca]
	if c == nil {
		c = &revokedCerts{ids: map[string]bool{}}
		k.cas[ca] = c
	}
	for len(r.left) > 0 {
		kind := r.byte()
		s := &krlReader{r.string()}
		if r.left == nil {
			break
		}
		switch kind {
		case krlSerialList:
			for len(s.left) > 0 {
				n := s.uint64()
				c.ranges = append(c.ranges, serialRange{n, n})
			}
		case krlSerialRange:
			x := serialRange{s.uint64(), s.uint64()}
			if x.first > x.last || len(s.left) > 0 {
				return fmt.Errorf("%w: a range of serials", errKRL)
			}
			c.ranges = append(c.ranges, x)
		case krlSerialBitmap:
			b := serialBitmap{s.uint64(), s.string()}
			if len(s.left) > 0 || len(b.bits) > 0 && b.bits[0]&0x80 != 0 {
				return fmt.Errorf("%w: a bitmap of serials", errKRL)
			}
			c.bitmaps = append(c.bitmaps, b)
		case krlKeyID:
			if err := s.strings(0, c.ids); err != nil {
				return err
			}
		case krlCertExtension:
			if err := s.extension(); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: a certificate section of type %#x", errKRL, kind)
		}
		if s.left == nil {
			return fmt.Errorf("%w: a section is cut off", errKRL)
		}
	}
	if r.left == nil {
		return fmt.Errorf("%w: a section is cut off", errKRL)
	}
	return nil
}

// merged sorts ranges and joins those that touch.
func merged(list []serialRange) []serialRange {
	slices.SortFunc(list, func(a, b serialRange) int { return cmp.Compare(a.first, b.first) })
	out := list[:0]
	for _, x := range list {
		if n := len(out); n > 0 && (out[n-1].last == math.MaxUint64 || x.first <= out[n-1].last+1) {
			out[n-1].last = max(out[n-1].last, x.last)
		} else {
			out = append(out, x)
		}
	}
	return out
}

// revokes reports whether a key is on the list, or a certificate: by its key, its authority, its serial or its id.
func (k *krl) revokes(key gossh.PublicKey) bool {
	if k == nil {
		return false
	}
	cert, ok := key.(*gossh.Certificate)
	if !ok {
		return k.revokesKey(key.Marshal())
	}
	ca := cert.SignatureKey.Marshal()
	return k.revokesKey(cert.Key.Marshal()) || k.revokesKey(ca) ||
		k.cas[string(ca)].revokes(cert) || k.cas[""].revokes(cert)
}

func (k *krl) revokesKey(wire []byte) bool {
	one, two := sha1.Sum(wire), sha256.Sum256(wire)
	return k.keys[string(wire)] || k.sha1[string(one[:])] || k.sha256[string(two[:])]
}

func (c *revokedCerts) revokes(cert *gossh.Certificate) bool {
	if c == nil {
		return false
	}
	if c.ids[cert.KeyId] {
		return true
	}
	n := cert.Serial
	if n == 0 {
		return false // what an authority writes that counts none
	}
	i, found := slices.BinarySearchFunc(c.ranges, n, func(x serialRange, n uint64) int {
		switch {
		case x.last < n:
			return -1
		case x.first > n:
			return 1
		}
		return 0
	})
	if found && i < len(c.ranges) {
		return true
	}
	for _, b := range c.bitmaps {
		if n < b.first {
			continue
		}
		bit := n - b.first
		if bit/8 < uint64(len(b.bits)) && b.bits[uint64(len(b.bits))-1-bit/8]&(1<<(bit%8)) != 0 {
			return true
		}
	}
	return false
}

// krlReader takes a list apart. After what is too short left is nil, and every further part is empty.
type krlReader struct{ left []byte }

func (r *krlReader) take(n int) []byte {
	if n < 0 || n > len(r.left) || r.left == nil {
		r.left = nil
		return nil
	}
	out := r.left[:n]
	r.left = r.left[n:]
	return out
}

func (r *krlReader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *krlReader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *krlReader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// string is never nil unless the list is cut off.
func (r *krlReader) string() []byte {
	n := r.uint32()
	if n > math.MaxInt32 {
		r.left = nil
		return nil
	}
	return r.take(int(n))
}

// strings reads strings up to the end; size is what each must have, 0 for any.
func (r *krlReader) strings(size int, into map[string]bool) error {
	for len(r.left) > 0 {
		s := r.string()
		if r.left == nil || size > 0 && len(s) != size || len(s) == 0 {
			return fmt.Errorf("%w: an entry of %d bytes", errKRL, len(s))
		}
		into[string(s)] = true
	}
	return nil
}

// extension reads one that is not known: the list says whether that matters.
func (r *krlReader) extension() error {
	name := r.string()
	critical := r.byte()
	r.string()
	if r.left == nil || critical != 0 {
		return fmt.Errorf("%w: the extension %q is not known", errKRL, strings.ToValidUTF8(string(name), "?"))
	}
	return nil
}
