package pprof

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// Passwords checks passwords at a bounded cost.
type Passwords interface {
	// Verify reports whether plain is the password of the stored hash. With an error nothing is known.
	Verify(ctx context.Context, stored, plain string) (bool, error)
	// Dummy does the work of a Verify, for nothing (AUTH-4).
	Dummy(ctx context.Context, plain string) error
}

// maxUserFile bounds auth_user_file, in bytes.
const maxUserFile = 1 << 20

// Errors of a login. Their text is for the log.
var (
	errNoUser   = errors.New("unknown user")
	errPassword = errors.New("wrong password")
)

// users are those of a htpasswd file, which is read again when its time or size has changed. Safe for concurrent use.
type users struct {
	file      string
	passwords Passwords
	key       [32]byte // of known, this process's own

	mu     sync.Mutex // guards what follows; held for a stat, and for a read when the file has changed
	hashes map[string]string
	time   time.Time
	size   int64
	known  map[[sha256.Size]byte]struct{} // proven passwords, so that a scrape costs no hash; at most one for a user
}

// newUsers reads the file.
func newUsers(file string, p Passwords) (*users, error) {
	u := &users{file: file, passwords: p}
	rand.Read(u.key[:])
	u.mu.Lock()
	defer u.mu.Unlock()
	return u, u.refresh()
}

// refresh reads the file if it is another one. Without a readable file nobody is known (AUTH-5). The caller holds mu.
func (u *users) refresh() error {
	i, err := os.Stat(u.file)
	if err == nil && u.hashes != nil && i.ModTime().Equal(u.time) && i.Size() == u.size {
		return nil
	}
	u.hashes, u.known = nil, map[[sha256.Size]byte]struct{}{}
	if err != nil {
		return err
	}
	f, err := os.Open(u.file)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxUserFile+1))
	if err != nil {
		return err
	}
	if len(data) > maxUserFile {
		return fmt.Errorf("%s: it is larger than %d bytes", u.file, maxUserFile)
	}
	hashes, err := parseUsers(data)
	if err != nil {
		return fmt.Errorf("%s: %w", u.file, err)
	}
	u.hashes, u.time, u.size = hashes, i.ModTime(), i.Size()
	return nil
}

// parseUsers reads lines of name:hash. Empty lines and those that begin with # are passed over. The first line of a name
// counts. Errors show no hash.
func parseUsers(data []byte) (map[string]string, error) {
	out := map[string]string{}
	s := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		if hash, _, _ = strings.Cut(hash, ":"); !ok || name == "" || !isHash(hash) {
			return nil, fmt.Errorf("line %d is not name:hash, with a hash of $2…, $apr1$ or $1$; make one with htpasswd -B", n)
		}
		if _, twice := out[name]; !twice {
			out[name] = hash
		}
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, errors.New("there is no user in it")
	}
	return out, nil
}

// isHash reports whether a hash has one of the forms that the file may hold; the checker judges the rest.
func isHash(s string) bool {
	return strings.HasPrefix(s, "$2") || strings.HasPrefix(s, "$apr1$") || strings.HasPrefix(s, "$1$")
}

// check proves a login. A name that is not there costs what a wrong password does (AUTH-4).
func (u *users) check(ctx context.Context, name, plain string) error {
	u.mu.Lock()
	err := u.refresh()
	hash, ok := u.hashes[name]
	sum := u.sum(name, hash, plain)
	_, known := u.known[sum]
	u.mu.Unlock()
	switch {
	case err != nil:
		return fmt.Errorf("telemetry.auth_user_file: %w", err)
	case !ok || strings.TrimSpace(plain) == "":
		return errors.Join(errNoUser, u.passwords.Dummy(ctx, plain))
	case known:
		return nil
	}
	switch ok, err := u.passwords.Verify(ctx, hash, plain); {
	case err != nil:
		return err
	case !ok:
		return errPassword
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.hashes[name] == hash { // else the file has changed meanwhile
		u.known[sum] = struct{}{}
	}
	return nil
}

// sum names a proven password. What is kept of it is of no use without this process's key.
func (u *users) sum(name, hash, plain string) (out [sha256.Size]byte) {
	h := hmac.New(sha256.New, u.key[:])
	for _, s := range []string{name, hash, plain} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		io.WriteString(h, s)
	}
	h.Sum(out[:0])
	return out
}
