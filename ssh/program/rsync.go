package program

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/gantryhq/gantry/internal/session"
)

// errUsage is a command line that is not served.
var errUsage = errors.New("refused")

// rsyncCall is a client's "rsync --server …", understood.
type rsyncCall struct {
	Sender bool
	Flags  string // letters of rsyncFlags
	Caps   string // "e" and the client's protocol and abilities
	Long   []string
	Path   string
}

// rsyncFlags are the letters that are passed on. Not here, on purpose: s (arguments that follow on standard
// input, unseen by us), L, k and K (links followed), R of a sender (names beside the path's). Read only.
const rsyncFlags = "vqnlHogDtUpEAXrdcIiSWxzymOJubChR"

// rsyncLong are the long options that are passed on, with the form of their value: "" has none. What is not
// here is refused: among others --rsync-path, --daemon, --config, --files-from, --temp-dir, --backup-dir,
// --partial-dir, --log-file, --copy-links, --copy-unsafe-links, --link-dest, --compare-dest, --copy-dest,
// --write-batch, --read-batch, --fake-super, --super, --usermap, --groupmap, --copy-devices, --write-devices,
// --iconv and --max-alloc. Read only.
var rsyncLong = map[string]string{
	"delete": "", "delete-before": "", "delete-during": "", "delete-after": "", "delete-delay": "", "delete-excluded": "",
	"delete-missing-args": "", "ignore-missing-args": "", "force": "", "ignore-errors": "", "max-delete": number,
	"existing": "", "ignore-existing": "", "remove-source-files": "", "size-only": "", "inplace": "", "append": "",
	"partial": "", "delay-updates": "", "numeric-ids": "", "no-implied-dirs": "", "mkpath": "", "preallocate": "", "fsync": "",
	"open-noatime": "", "devices": "", "specials": "", "no-devices": "", "no-specials": "", "no-r": "", "list-only": "", "stats": "",
	"msgs2stderr": "", "no-msgs2stderr": "", "new-compress": "", "old-compress": "", "safe-links": "",
	"compress-level": number, "compress-choice": word, "checksum-choice": word, "checksum-seed": number,
	"timeout": number, "bwlimit": size, "max-size": size, "min-size": size,
	"log-format": `[%A-Za-z ]{0,32}`, "out-format": `[%A-Za-z ]{0,32}`, "suffix": `[A-Za-z0-9._~+]{1,32}`,
	"info": `[A-Za-z0-9,]{1,128}`, "debug": `[A-Za-z0-9,]{1,128}`,
}

// The forms of values.
const (
	number = `-?[0-9]{1,10}`
	size   = `[0-9]{1,15}(\.[0-9]{1,3})?[KMGTPkmgtp]?([iI]?[bB])?`
	word   = `[A-Za-z0-9,]{1,64}`
)

// The forms of short options, compiled where they are needed, as those of values are: a quarter of the program's start went
// into all of them, for servers most of which run no rsync.
const (
	rsyncLetters = `^-([A-Za-z]*?)(?:e([0-9.]{0,16}[A-Za-z]{0,32}))?$`
	rsyncNumeric = `^-(?:B[0-9]{1,9}|@-?[0-9]{1,9})$`
)

// hasForm reports whether the whole of value has a form of rsyncLong.
func hasForm(form, value string) bool {
	ok, err := regexp.MatchString(`^(?:`+form+`)$`, value)
	return ok && err == nil
}

// parseRsync reads the words after "rsync": --server [--sender] options . path.
func parseRsync(args []string) (*rsyncCall, error) {
	no := func(format string, a ...any) (*rsyncCall, error) {
		return nil, fmt.Errorf("%w: %s", errUsage, fmt.Sprintf(format, a...))
	}
	if len(args) == 0 || args[0] != "--server" {
		return no("only the server's side of rsync is run")
	}
	c, caps := &rsyncCall{}, false
	letters, numeric := regexp.MustCompile(rsyncLetters), regexp.MustCompile(rsyncNumeric)
	i := 1
	for ; i < len(args) && strings.HasPrefix(args[i], "-"); i++ {
		a := args[i]
		switch {
		case a == "--sender":
			c.Sender = true
		case strings.HasPrefix(a, "--"):
			name, value, has := strings.Cut(a[2:], "=")
			form, known := rsyncLong[name]
			if !known {
				return no("the option --%s is not served", name)
			}
			if has != (form != "") || has && !hasForm(form, value) {
				return no("the value of --%s is not served", name)
			}
			c.Long = append(c.Long, a)
		case numeric.MatchString(a):
			c.Long = append(c.Long, a)
		default:
			m := letters.FindStringSubmatch(a)
			if m == nil || len(a) < 2 {
				return no("the option %q is not served", a)
			}
			for _, l := range m[1] {
				switch {
				case l == 's':
					return no("arguments on standard input are not served, use --no-secluded-args")
				case !strings.ContainsRune(rsyncFlags, l):
					return no("the option -%c is not served", l)
				}
			}
			c.Flags += m[1]
			if rest := a[1+len(m[1]):]; rest != "" {
				if caps {
					return no("two options -e")
				}
				c.Caps, caps = "e"+m[2], true
			}
		}
	}
	if len(c.Flags) > 64 {
		return no("too many options")
	}
	switch rest := args[i:]; {
	case len(rest) != 2 || rest[0] != ".":
		return no("one path is served")
	default:
		c.Path = rest[1]
	}
	if c.Sender && strings.ContainsRune(c.Flags, 'R') {
		return no("the option -R is not served for what is read here")
	}
	return c, nil
}

// use is what the call will do with its tree.
func (c *rsyncCall) use() session.Use {
	u := session.Use{Write: !c.Sender}
	for _, l := range c.Long {
		u.Write = u.Write || l == "--remove-source-files"
	}
	u.Chmod = !c.Sender && strings.ContainsAny(c.Flags, "pEAX")
	u.Chown = !c.Sender && strings.ContainsAny(c.Flags, "og")
	u.Chtimes = !c.Sender && strings.ContainsAny(c.Flags, "tU")
	return u
}

// args makes the program's arguments. target is "./" or "./name"; links says whether the user may make them.
func (c *rsyncCall) args(target string, links bool) []string {
	out := []string{"--server"}
	if c.Sender {
		out = append(out, "--sender")
	}
	if letters := c.Flags + c.Caps; letters != "" {
		out = append(out, "-"+letters)
	}
	out = append(out, c.Long...)
	if links {
		out = append(out, "--safe-links")
	} else {
		out = append(out, "--munge-links")
	}
	return append(out, ".", target)
}
