package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/nacl/secretbox"
)

// Errors of a Box. Test with errors.Is.
var (
	// ErrNoMasterKey means that the secret was sealed with a master key and the Box has none.
	ErrNoMasterKey = errors.New("secret: sealed with a master key; set kms.secrets.master_key or master_key_path")
	// ErrOpen means that the payload, the key or the master key is not the one it was sealed with.
	ErrOpen = errors.New("secret: cannot be opened: the payload is damaged or the master key is another one")
	// ErrExternal means that the secret was sealed by a key service that Gantry does not reach.
	ErrExternal = errors.New("secret: sealed by an external key service")
	// ErrRedacted means that only the mark of a secret is here, not the secret.
	ErrRedacted = errors.New("secret: redacted, the value is not here")
)

const (
	keySize   = 32
	nonceSize = 24 // of XSalsa20
)

// Box seals and opens secrets. The zero Box has no master key and seals with Secretbox. Safe for
// concurrent use.
type Box struct {
	master []byte
	cipher Status
	rand   io.Reader // crypto/rand unless a test says otherwise
}

// NewBox gives a Box that seals with cipher (Secretbox, also for Empty, or AES256GCM) under the master key
// text, which may be empty. Blanks around the key are the caller's to trim.
func NewBox(master string, cipher Status) (*Box, error) {
	b := &Box{cipher: cipher}
	if master != "" {
		b.master = []byte(master)
	}
	switch cipher {
	case Empty, Secretbox:
		b.cipher = Secretbox
	case AES256GCM:
	default:
		return nil, fmt.Errorf("secret: %s cannot seal here: %w", cipher, ErrExternal)
	}
	return b, nil
}

// String hides the master key from formatted text.
func (b *Box) String() string { return "[redacted]" }

// GoString hides the master key from %#v.
func (b *Box) GoString() string { return "[redacted]" }

// Seal encrypts a Plain secret, bound to context (the account's name, "folder_<name>", …), which is kept
// beside it as additional data. Any other secret is given back as it is.
func (b *Box) Seal(s Secret, context string) (Secret, error) {
	if s.Status != Plain {
		return s, nil
	}
	if s.Payload == "" {
		return Secret{}, nil
	}
	if b == nil {
		b = &Box{}
	}
	key := make([]byte, keySize)
	if _, err := io.ReadFull(b.random(), key); err != nil {
		return Secret{}, fmt.Errorf("secret: make a key: %w", err)
	}
	out := Secret{Status: Secretbox, Key: hex.EncodeToString(key), AdditionalData: context}
	if b.cipher == AES256GCM {
		aead, err := gcm(key, context)
		if err != nil {
			return Secret{}, err
		}
		nonce := make([]byte, aead.NonceSize())
		if _, err := io.ReadFull(b.random(), nonce); err != nil {
			return Secret{}, fmt.Errorf("secret: make a nonce: %w", err)
		}
		out.Status = AES256GCM
		out.Payload = hex.EncodeToString(aead.Seal(nonce, nonce, []byte(s.Payload), []byte(context)))
		return out, nil
	}
	if b.master != nil {
		out.Mode = 1
	}
	boxKey, err := b.boxKey(key, context, out.Mode)
	if err != nil {
		return Secret{}, err
	}
	var nonce [nonceSize]byte
	if _, err := io.ReadFull(b.random(), nonce[:]); err != nil {
		return Secret{}, fmt.Errorf("secret: make a nonce: %w", err)
	}
	out.Payload = base64.StdEncoding.EncodeToString(secretbox.Seal(nonce[:], []byte(s.Payload), &nonce, boxKey))
	return out, nil
}

// Open gives the clear text of s: "" of the empty secret, the payload of a Plain one. Errors are
// ErrNoMasterKey, ErrOpen, ErrExternal and ErrRedacted.
func (b *Box) Open(s Secret) (string, error) {
	if s.Status == Redacted {
		return "", ErrRedacted
	}
	if s.IsEmpty() {
		return "", nil
	}
	switch s.Status {
	case Plain:
		return s.Payload, nil
	case Secretbox:
		return b.openSecretbox(s)
	case AES256GCM:
		return openGCM(s)
	case Empty:
		return "", ErrOpen
	}
	return "", fmt.Errorf("%w: %s", ErrExternal, s.Status)
}

func (b *Box) openSecretbox(s Secret) (string, error) {
	key, err := decodeKey(s.Key)
	if err != nil {
		return "", err
	}
	boxKey, err := b.boxKey(key, s.AdditionalData, s.Mode)
	if err != nil {
		return "", err
	}
	sealed, err := base64.StdEncoding.DecodeString(s.Payload)
	if err != nil || len(sealed) < nonceSize+secretbox.Overhead {
		return "", ErrOpen
	}
	clear, ok := secretbox.Open(nil, sealed[nonceSize:], (*[nonceSize]byte)(sealed), boxKey)
	if !ok {
		return "", ErrOpen
	}
	return string(clear), nil
}

// boxKey derives the key of one secretbox (reference guard.md 6): the secret is the master key in mode 1
// and comes from what is stored beside the payload in mode 0.
func (b *Box) boxKey(key []byte, context string, mode int) (*[keySize]byte, error) {
	secret := derive(key, context)
	if mode == 1 {
		if b == nil || b.master == nil {
			return nil, ErrNoMasterKey
		}
		secret = b.master
	}
	out, err := hkdf.Key(sha256.New, secret, key, context, keySize)
	if err != nil {
		return nil, fmt.Errorf("secret: derive a key: %w", err)
	}
	return (*[keySize]byte)(out), nil
}

func openGCM(s Secret) (string, error) {
	key, err := decodeKey(s.Key)
	if err != nil {
		return "", err
	}
	aead, err := gcm(key, s.AdditionalData)
	if err != nil {
		return "", err
	}
	sealed, err := hex.DecodeString(s.Payload)
	if err != nil || len(sealed) < aead.NonceSize() {
		return "", ErrOpen
	}
	clear, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], []byte(s.AdditionalData))
	if err != nil {
		return "", ErrOpen
	}
	return string(clear), nil
}

func gcm(key []byte, context string) (cipher.AEAD, error) {
	block, err := aes.NewCipher(derive(key, context))
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	return cipher.NewGCM(block)
}

// derive is SHA-256(key ‖ context ‖ key).
func derive(key []byte, context string) []byte {
	h := sha256.New()
	h.Write(key)
	io.WriteString(h, context)
	h.Write(key)
	return h.Sum(nil)
}

func decodeKey(s string) ([]byte, error) {
	key, err := hex.DecodeString(s)
	if err != nil || len(key) != keySize {
		return nil, ErrOpen
	}
	return key, nil
}

func (b *Box) random() io.Reader {
	if b.rand != nil {
		return b.rand
	}
	return rand.Reader
}
