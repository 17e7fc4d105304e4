package vfs

import (
	"crypto/rand"
	"encoding/base32"
	"strings"
)

// Prefixes of the hidden temporary files of atomic uploads: ours, and the one that a storage which
// another server used before may still hold.
const (
	TempPrefix      = ".gantry-upload."
	tempPrefixOther = ".sftpgo-upload."
)

// NewTempName is a name for the temporary file of an atomic upload, not guessable (20 random characters).
func NewTempName() string {
	var b [13]byte
	rand.Read(b[:]) // never fails
	return TempPrefix + strings.ToLower(base32.StdEncoding.EncodeToString(b[:])[:20])
}

// IsTempName reports whether name, one component, is that of a temporary file, which no client sees.
func IsTempName(name string) bool {
	return len(name) > 0 && name[0] == '.' &&
		(strings.HasPrefix(name, TempPrefix) || strings.HasPrefix(name, tempPrefixOther))
}

// HasTempName reports whether a component of p is the name of a temporary file. A storage with atomic
// uploads answers fs.ErrNotExist to such a path, or fs.ErrPermission where it would be created.
func (p Path) HasTempName() bool {
	return strings.Contains(p.s, "-upload.") &&
		(strings.Contains(p.s, "/"+TempPrefix) || strings.Contains(p.s, "/"+tempPrefixOther))
}
