package program

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gantryhq/gantry/ssh/command"
)

func TestRsyncCallsOfRealClients(t *testing.T) {
	for _, tt := range []struct {
		line, want string
		links      bool
	}{
		{"rsync --server -logDtpre.iLsfxCIvu . /path", "--server -logDtpre.iLsfxCIvu --safe-links . ./", true},
		{"rsync --server --sender -vlogDtprze.iLsfxCIvu --bwlimit=1.5M . /path/", "--server --sender -vlogDtprze.iLsfxCIvu --bwlimit=1.5M --munge-links . ./", false},
		{"rsync --server -nlogDtprRe.iLsfxCIvu -B1024 -@-1 --delete --partial --timeout=30 . 'a b'", "--server -nlogDtprRe.iLsfxCIvu -B1024 -@-1 --delete --partial --timeout=30 --munge-links . ./", false},
		{"rsync --server -re31.14LsfxC --log-format=%i . x", "--server -re31.14LsfxC --log-format=%i --munge-links . ./", false},
	} {
		words, err := command.Split(tt.line)
		if err != nil {
			t.Fatal(err)
		}
		c, err := parseRsync(words[1:])
		if err != nil {
			t.Errorf("%s: %v", tt.line, err)
			continue
		}
		if got := strings.Join(c.args("./", tt.links), " "); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.line, got, tt.want)
		}
	}
}

// HOOK-2: what the list does not know is refused, whatever form it has.
func TestRsyncRefusesWhatIsNotOnTheList(t *testing.T) {
	for _, line := range []string{
		"", "-a a b", "--daemon", "--server", "--server .", "--server . a b", "--server -r .", "--server -r /a /b",
		"--server -Lr . a", "--server -kr . a", "--server -Kr . a", "--server -sr . a", "--server --sender -Rr . a", "--server -r -T/tmp . a", "--server -M--x . a",
		"--server -e sh . a", "--server -esh:id . a", "--server -re.LsfxC/ . a", "--server -re.L -e.L . a", "--server - . a",
		"--server --rsync-path=x . a", "--server --rsh=sh . a", "--server --config=x . a", "--server --files-from=- . a", "--server --files-from=/etc/passwd . a",
		"--server --temp-dir=/tmp . a", "--server --backup-dir=/tmp . a", "--server --partial-dir=/tmp . a", "--server --log-file=/tmp/x . a",
		"--server --copy-links . a", "--server --copy-unsafe-links . a", "--server --copy-dirlinks . a", "--server --keep-dirlinks . a", "--server --link-dest=/etc . a",
		"--server --compare-dest=/etc . a", "--server --copy-dest=/etc . a", "--server --write-batch=x . a", "--server --read-batch=x . a", "--server --fake-super . a",
		"--server --super . a", "--server --usermap=*:root . a", "--server --chown=root . a", "--server --copy-devices . a", "--server --write-devices . a",
		"--server --iconv=utf8 . a", "--server --max-alloc=1T . a", "--server --delete=x . a", "--server --timeout . a", "--server --timeout=x . a", "--server --timeout= . a",
		"--server --suffix=/x . a", "--server --suffix=.. /a . a", "--server --log-format=%n/%f . a", "--server --no-munge-links . a", "--server --munge-links . a",
		"--server --secluded-args . a", "--server --protect-args . a", "--server -- . a", "--server --delete\n . a",
	} {
		words, err := command.Split("rsync " + strings.ReplaceAll(line, "\n", "' \n'"))
		if err != nil {
			words = strings.Split("rsync "+line, " ")
		}
		if c, err := parseRsync(words[1:]); !errors.Is(err, errUsage) {
			t.Errorf("%s: %+v, %v", line, c, err)
		}
	}
	for _, args := range [][]string{nil, {"a", "b"}, {"--upload-pack=x"}, {"-c", "x"}, {"--", "a"}, {"-"}} {
		if p, err := parseGit(args); !errors.Is(err, errUsage) {
			t.Errorf("%q: %q, %v", args, p, err)
		}
	}
}

// Every argument that the program gets has one of these forms.
var safeArgument = regexp.MustCompile(`^(--[a-z0-9-]+(=[A-Za-z0-9%,. _~+-]*)?|-[A-Za-z]+[A-Za-z0-9.]*|-[B@]-?[0-9]+|\.|\./)$`)

func FuzzRsyncArguments(f *testing.F) {
	for _, s := range []string{
		"--server -logDtpre.iLsfxCIvu . /path", "--server --sender -vlogDtprze.iLsfxCIvu --bwlimit=1.5M . /p", "--server -re31.14LsfxC --log-format=%i . x",
		"--server -e sh . a", "--server --suffix=~ -b . a", "--server -B1 -@-1 . --x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words := strings.Split(line, " ")
		c, err := parseRsync(words)
		if err != nil {
			if !errors.Is(err, errUsage) {
				t.Fatal(err)
			}
			return
		}
		args := c.args("./", false)
		for _, a := range args {
			if !safeArgument.MatchString(a) {
				t.Fatalf("%q makes the argument %q", line, a)
			}
		}
		if i := slices.Index(args, "--munge-links"); i != len(args)-3 {
			t.Fatalf("%q: the links' option is at %d of %d: %q", line, i, len(args), args)
		}
		if strings.ContainsAny(c.Flags, "LkKs") || c.use().Write != (!c.Sender || slices.Contains(c.Long, "--remove-source-files")) {
			t.Fatalf("%q: %+v", line, c)
		}
	})
}

func FuzzGitArguments(f *testing.F) {
	f.Add("/repo.git")
	f.Add("--upload-pack=x /a")
	f.Fuzz(func(t *testing.T, line string) {
		words := strings.Split(line, " ")
		path, err := parseGit(words)
		if err == nil && (strings.HasPrefix(path, "-") || len(words) != 1) {
			t.Fatalf("%q: %q", line, path)
		}
		for _, kv := range gitEnv(path) {
			if strings.ContainsAny(kv, "\n\x00<>") {
				t.Fatalf("%q in the environment", kv)
			}
		}
	})
}
