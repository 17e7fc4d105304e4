// Package convert makes accounts of the user files of other servers: passwd and shadow of a Unix system,
// ProFTPD's AuthUserFile and Pure-FTPd's user file.
//
// Nothing is guessed: what cannot be taken over is named in a Note, and an account whose password has a form
// that Gantry cannot check is kept without password, never with the text of the hash as its password.
package convert

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/account"
)

// Bounds of what is read.
const (
	maxLine  = 64 << 10 // bytes
	maxUsers = 1_000_000
)

// Options choose the users and change what is taken over.
type Options struct {
	MinUID, MaxUID int      // both inclusive
	Users          []string // globs; empty: all
	GIDs           []int    // primary groups; empty: all
	UID, GID       int      // given to every user; -1 keeps those of the file, 0 none
	Rules          account.Rules

	// Keys reads the public keys of a user with this home, as lines of an authorized_keys file. May be nil.
	Keys func(home string) ([]string, error)
}

// Result is what a conversion made.
type Result struct {
	Users []account.User // in the order of the file
	Notes []Note
}

// Note is something of a user that a person should know of.
type Note struct {
	Line int    // of the file of users, from 1
	User string // as in the file; may hold any byte
	Text string
}

// String gives the note as one line.
func (n Note) String() string { return fmt.Sprintf("line %d, user %q: %s", n.Line, n.User, n.Text) }

// Formats are the forms that File reads.
func Formats() []string { return []string{"passwd", "proftpd", "pureftpd"} }

// File reads users in one of Formats. shadow is the shadow file of a passwd file, nil without one.
// An error means that nothing was converted.
func File(format string, users, shadow io.Reader, opt Options) (Result, error) {
	c := &conversion{opt: opt, seen: map[string]int{}}
	parse := c.passwd
	switch format {
	case "passwd", "proftpd":
	case "pureftpd":
		parse = c.pureFTPd
	default:
		return Result{}, fmt.Errorf("the format %q is unknown; use one of: %s", format, strings.Join(Formats(), ", "))
	}
	if shadow != nil {
		if format != "passwd" {
			return Result{}, fmt.Errorf("only the format passwd has a shadow file")
		}
		if err := c.readShadow(shadow); err != nil {
			return Result{}, err
		}
	}
	err := eachLine(users, func(n int, line string) error {
		c.line = n
		u, ok, err := parse(strings.Split(line, ":"))
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if ok {
			return c.add(u)
		}
		return nil
	})
	if err != nil {
		return Result{}, fmt.Errorf("%s file: %w", format, err)
	}
	return c.out, nil
}

// conversion is the work on one file. Owned by File.
type conversion struct {
	opt    Options
	line   int
	shadow map[string]shadowEntry // nil without a file
	seen   map[string]int         // names and their lines
	out    Result
}

// found is a user as its file has it.
type found struct {
	name, hash string
	locked     bool
	user       account.User
}

// passwd reads name:password:uid:gid:gecos:home:shell (passwd(5)); ProFTPD's files have the same form.
func (c *conversion) passwd(f []string) (found, bool, error) {
	if strings.HasPrefix(f[0], "+") || strings.HasPrefix(f[0], "-") {
		return found{}, false, nil // NIS
	}
	if len(f) != 7 {
		return found{}, false, fmt.Errorf("has %d fields between colons, a passwd line has 7", len(f))
	}
	u, ok, err := c.base(f)
	if !ok || err != nil {
		return u, ok, err
	}
	u.user.HomeDir = f[5]
	u.user.Description, _, _ = strings.Cut(f[4], ",")
	if f[1] == "x" || c.shadow != nil {
		s, ok := c.shadow[u.name]
		switch {
		case ok:
			u.hash, u.user.ExpirationDate = s.hash, s.expires
		case f[1] == "x":
			u.hash, u.locked = "", true
			c.note(u.name, "its password is in a shadow file that was not given or does not name it")
		}
	}
	if strings.HasPrefix(u.hash, "!") || strings.HasPrefix(u.hash, "*") {
		u.hash, u.locked = "", true
	}
	return u, true, nil
}

// base reads the fields that all formats share: name, password, uid and gid. ok is false for a user who was
// not chosen.
func (c *conversion) base(f []string) (u found, ok bool, err error) {
	uid, err := id("uid", f[2])
	if err != nil {
		return u, false, err
	}
	gid, err := id("gid", f[3])
	if err != nil {
		return u, false, err
	}
	u.name, u.hash = f[0], f[1]
	if uid < c.opt.MinUID || uid > c.opt.MaxUID || len(c.opt.GIDs) > 0 && !slices.Contains(c.opt.GIDs, gid) {
		return u, false, nil
	}
	if len(c.opt.Users) > 0 && !slices.ContainsFunc(c.opt.Users, func(g string) bool { m, _ := path.Match(g, u.name); return m }) {
		return u, false, nil
	}
	if c.opt.UID >= 0 {
		uid = c.opt.UID
	}
	if c.opt.GID >= 0 {
		gid = c.opt.GID
	}
	u.user = account.User{Username: u.name, Status: 1, UID: uid, GID: gid, Permissions: map[string][]string{"/": {"*"}}}
	return u, true, nil
}

func id(what, s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 1<<32-1 {
		return 0, fmt.Errorf("the %s %q is not a number from 0 to 4294967294", what, s)
	}
	return int(n), nil
}

// add checks the user and takes it, or notes why not.
func (c *conversion) add(f found) error {
	u := &f.user
	if first, ok := c.seen[f.name]; ok {
		c.note(f.name, fmt.Sprintf("left out: line %d has the same name", first))
		return nil
	}
	c.seen[f.name] = c.line
	if len(c.seen) > maxUsers {
		return fmt.Errorf("there are more than %d users", maxUsers)
	}
	if home, rest, ok := strings.Cut(u.HomeDir, "/./"); ok { // the part before is the root, as wu-ftpd has it
		u.HomeDir = home
		if rest = strings.Trim(rest, "/"); rest != "" {
			u.Filters.StartDirectory = "/" + rest
		}
	}
	if !path.IsAbs(u.HomeDir) {
		c.note(f.name, fmt.Sprintf("left out: the home %q is not an absolute path", u.HomeDir))
		return nil
	}
	if path.Clean(u.HomeDir) == "/" {
		c.note(f.name, "left out: its home is /, the whole system")
		return nil
	}
	c.credentials(&f)
	if err := u.Normalize(context.Background(), c.opt.Rules); err != nil {
		c.note(f.name, "left out: "+err.Error())
		return nil
	}
	c.out.Users = append(c.out.Users, *u)
	return nil
}

// credentials sets password and keys, and switches off a user who has neither.
func (c *conversion) credentials(f *found) {
	u := &f.user
	switch {
	case f.hash == "":
	case account.IsHash(f.hash):
		u.Password = f.hash
	default:
		c.note(f.name, "its password has a form that cannot be checked ("+formOf(f.hash)+"); it was left out, set a new one")
	}
	if c.opt.Keys != nil {
		c.keys(u)
	}
	if u.Password != "" || len(u.PublicKeys) > 0 {
		return
	}
	u.Status = 0
	if f.locked {
		c.note(f.name, "has no usable password, so it is switched off")
	} else {
		c.note(f.name, "is switched off: there is nothing to log in with")
	}
}

// keys takes the public keys of the user's home.
func (c *conversion) keys(u *account.User) {
	lines, err := c.opt.Keys(u.HomeDir)
	if err != nil {
		c.note(u.Username, "its public keys were not read: "+err.Error())
		return
	}
	for _, l := range lines {
		l = strings.TrimSpace(l)
		if l == "" || l[0] == '#' {
			continue
		}
		_, _, options, _, err := ssh.ParseAuthorizedKey([]byte(l))
		if err != nil {
			c.note(u.Username, "a line of its public keys is no key and was left out")
			continue
		}
		if len(options) > 0 {
			c.note(u.Username, "a public key with options was left out: add it by hand, with the restriction that it needs")
			continue
		}
		u.PublicKeys = append(u.PublicKeys, l)
	}
}

// formOf names the form of a hash without giving it away.
func formOf(hash string) string {
	if rest, ok := strings.CutPrefix(hash, "$"); ok {
		if tag, _, ok := strings.Cut(rest, "$"); ok && len(tag) <= 20 {
			return strconv.Quote("$" + tag + "$")
		}
	}
	if len(hash) == 13 {
		return "traditional DES crypt"
	}
	return "unknown"
}

func (c *conversion) note(user, text string) {
	c.out.Notes = append(c.out.Notes, Note{Line: c.line, User: user, Text: text})
}

// eachLine calls do with each line that is not empty and no comment.
func eachLine(r io.Reader, do func(n int, line string) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 4096), maxLine)
	n := 0
	for s.Scan() {
		n++
		line := strings.TrimSuffix(s.Text(), "\r")
		if line == "" || line[0] == '#' {
			continue
		}
		if err := do(n, line); err != nil {
			return err
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("line %d is longer than %d bytes", n+1, maxLine)
	}
	return s.Err()
}
