package program

import (
	"fmt"
	"strconv"
	"strings"
)

// gitVerbs are what git clients ask for, and whether it writes. Read only.
var gitVerbs = map[string]bool{"git-upload-pack": false, "git-upload-archive": false, "git-receive-pack": true}

// parseGit reads the words after the verb: one path. Options are for the client's side.
func parseGit(args []string) (path string, err error) {
	switch {
	case len(args) != 1:
		return "", fmt.Errorf("%w: one path is wanted", errUsage)
	case strings.HasPrefix(args[0], "-"):
		return "", fmt.Errorf("%w: options are not served", errUsage)
	}
	return args[0], nil
}

// gitArgs makes the program's arguments: the repository is where it begins. What stands in the repository's own
// configuration is the user's; where that names a program, or a way out, ours goes before it. It is the second
// line: the first is that the kernel lets git execute nothing but git.
func gitArgs(verb string, room int64) []string {
	set := []string{
		"safe.directory=*", // the kernel keeps it in; whose files these are says nothing here
		"core.hooksPath=/dev/null", "core.fsmonitor=false", "core.alternateRefsCommand=false", "core.sshCommand=false",
		"core.gitProxy=none", "core.pager=cat", "core.askPass=false", "credential.helper=",
		"gpg.program=false", "gpg.openpgp.program=false", "gpg.x509.program=false", "gpg.ssh.program=false",
		"protocol.allow=never",
		"receive.denyCurrentBranch=refuse", "receive.autogc=false", "gc.auto=0", "maintenance.auto=false", "pack.threads=1",
	}
	if room > 0 {
		set = append(set, "receive.maxInputSize="+strconv.FormatInt(room, 10))
	}
	var out []string
	for _, s := range set {
		out = append(out, "-c", s)
	}
	out = append(out, strings.TrimPrefix(verb, "git-"))
	if verb == "git-upload-pack" {
		out = append(out, "--strict")
	}
	return append(out, ".")
}

// gitEnv is all of git's environment beside what every program has. The name stands in the reflogs.
func gitEnv(user string) []string {
	name := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || strings.ContainsRune("<>", r) {
			return -1
		}
		return r
	}, user)
	return []string{
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1",
		"GIT_NO_LAZY_FETCH=1", "GIT_ALLOW_PROTOCOL=none", "GIT_TERMINAL_PROMPT=0", "GIT_PROTOCOL_FROM_USER=0",
		"GIT_COMMITTER_NAME=" + name, "GIT_COMMITTER_EMAIL=" + name + "@localhost",
		"GIT_AUTHOR_NAME=" + name, "GIT_AUTHOR_EMAIL=" + name + "@localhost",
	}
}
