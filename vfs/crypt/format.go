package crypt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/sys/cpu"
)

// The format, in bytes.
const (
	version    = 0x10
	saltSize   = 32
	prefixSize = 1 + saltSize // of a file

	headSize    = 16 // of a package
	tagSize     = 16
	contentSize = 64 << 10
	packageSize = headSize + contentSize + tagSize
	overhead    = headSize + tagSize

	dareVersion = 0x20
	aesGCM      = 0
	chaCha      = 1
	lastFlag    = 0x80 // in the first byte of the nonce

	// maxSize is what packages can be numbered for.
	maxSize = int64(contentSize) << 32
)

// plainSize is the content's size of a file that takes stored bytes. What is no encrypted file has its own.
func plainSize(stored int64) int64 {
	body := stored - prefixSize
	if stored <= prefixSize {
		if stored == prefixSize {
			return 0
		}
		return stored
	}
	n, rest := body/packageSize, body%packageSize
	switch {
	case rest == 0:
		return n * contentSize
	case rest <= overhead:
		return stored
	}
	return n*contentSize + rest - overhead
}

// layout counts the packages of a file that takes stored bytes, and the content of the last one.
func layout(stored int64) (packages, last int64, err error) {
	body := stored - prefixSize
	if body < 0 {
		return 0, 0, ErrDamaged
	}
	n, rest := body/packageSize, body%packageSize
	switch {
	case n > 1<<32:
		return 0, 0, ErrDamaged
	case rest == 0 && n > 0:
		return n, contentSize, nil
	case rest == 0:
		return 0, 0, nil
	case rest <= overhead:
		return 0, 0, ErrDamaged
	}
	return n + 1, rest - overhead, nil
}

// storedAt is where package i begins.
func storedAt(i int64) int64 { return prefixSize + i*packageSize }

// fileKey derives a file's key.
func fileKey(passphrase, salt []byte) ([]byte, error) {
	return hkdf.Key(sha256.New, passphrase, salt, "", 32)
}

// newAEAD makes the cipher that a header names.
func newAEAD(id byte, key []byte) (cipher.AEAD, error) {
	switch id {
	case aesGCM:
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		return cipher.NewGCM(block)
	case chaCha:
		return chacha20poly1305.New(key)
	}
	return nil, fmt.Errorf("%w: unknown cipher %d", ErrDamaged, id)
}

// bestCipher is the one that this machine does in hardware.
func bestCipher() byte {
	if cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ || cpu.ARM64.HasAES && cpu.ARM64.HasPMULL || cpu.S390X.HasAES && cpu.S390X.HasGHASH {
		return aesGCM
	}
	return chaCha
}

// sealer encrypts the packages of one file. Immutable; every package number must be sealed once only.
type sealer struct {
	aead  cipher.AEAD
	id    byte
	nonce [12]byte // without the flag
}

// buffer is the stored form of a batch of packages, and what the cipher is handed beside it.
type buffer struct {
	b     [batch * packageSize]byte
	nonce [12]byte
}

// buffers are borrowed while bytes move.
var buffers = sync.Pool{New: func() any { return new(buffer) }}

// seal puts the stored form of package i at place k of buf, and gives its length. content is not empty.
func (s *sealer) seal(buf *buffer, k int, content []byte, i int64, last bool) int {
	head := buf.b[k*packageSize:][:headSize]
	head[0], head[1] = dareVersion, s.id
	binary.LittleEndian.PutUint16(head[2:], uint16(len(content)-1))
	copy(head[4:], s.nonce[:])
	if last {
		head[4] |= lastFlag
	}
	packageNonce(&buf.nonce, head[4:], i)
	s.aead.Seal(buf.b[k*packageSize+headSize:][:0], buf.nonce[:], content, head[:4])
	return headSize + len(content) + tagSize
}

// packageNonce is the header's nonce with the package's number in it.
func packageNonce(n *[12]byte, nonce []byte, i int64) {
	copy(n[:], nonce)
	binary.LittleEndian.PutUint32(n[8:], binary.LittleEndian.Uint32(n[8:])^uint32(i))
}
