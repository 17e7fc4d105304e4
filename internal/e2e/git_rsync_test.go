//go:build linux

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// programsUID owns the homes of these tests when they run as root: programs do not.
const programsUID = 65534

// servePrograms runs a server with git and rsync enabled, for the user c, changed by each of change, whose home it
// gives.
func servePrograms(t *testing.T, change ...func(u *account.User)) (s *gantrytest.Server, home string) {
	t.Helper()
	need(t, "git", "git")
	need(t, "rsync", "rsync")
	need(t, "ssh", "openssh-client")
	home = t.TempDir()
	for _, dir := range []string{home, filepath.Dir(home)} { // the account's uid goes through
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	u := newUser("c", home)
	if os.Geteuid() == 0 {
		u.UID, u.GID = programsUID, programsUID
		own(t, home)
	}
	for _, f := range change {
		f(&u)
	}
	s = gantrytest.Start(t, gantrytest.Options{
		Bin: bin, Dump: oneUser(u),
		Config: `{"sftpd":{"enabled_ssh_commands":["git-receive-pack","git-upload-pack","git-upload-archive","rsync"]},"data_provider":{"track_quota":1}}`,
	})
	return s, home
}

// own gives a tree to the account's owner, where that is somebody else.
func own(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, programsUID, programsUID)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sshCommand is what git and rsync are to use as ssh.
func sshCommand(s *gantrytest.Server) string {
	return "ssh " + strings.Join(sshFlags(), " ") + " -p " + s.Port()
}

// gitIn runs git in a directory, without settings of the person who tests.
func gitIn(s *gantrytest.Server, dir string) program {
	return program{dir: dir, env: []string{
		"GIT_SSH_COMMAND=" + sshCommand(s), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b",
	}}
}

// bareIn makes an empty repository in a home.
func bareIn(t *testing.T, home, name string) string {
	t.Helper()
	dir := filepath.Join(home, name)
	program{env: []string{"GIT_CONFIG_GLOBAL=/dev/null"}}.run(t, "git", "init", "-q", "--bare", "-b", "main", dir)
	own(t, dir)
	return dir
}

func gitURL(s *gantrytest.Server, path string) string {
	return "ssh://c@127.0.0.1:" + s.Port() + path
}

// TestGitClonesAndPushes: a repository goes up and comes back with every object, archives are made of it, and the
// account's counters know its size.
func TestGitClonesAndPushes(t *testing.T) {
	s, home := servePrograms(t)
	bareIn(t, home, "repo.git")
	local := t.TempDir()
	work, again := filepath.Join(local, "work"), filepath.Join(local, "again")
	g := gitIn(s, local)
	g.run(t, "git", "clone", "-q", gitURL(s, "/repo.git"), work)
	makeTree(t, filepath.Join(work, "tree"))
	in := gitIn(s, work)
	in.run(t, "git", "add", "-A")
	in.run(t, "git", "commit", "-qm", "one")
	in.run(t, "git", "push", "-q", "origin", "HEAD:main")
	g.run(t, "git", "clone", "-q", gitURL(s, "/repo"), again) // as git does, .git may be left out
	sameNames(t, filepath.Join(work, "tree"), filepath.Join(again, "tree"))
	// A second push, with a removal, a rename and a tag, and a fetch of it.
	in.run(t, "git", "mv", "tree/one", "tree/two")
	in.run(t, "git", "rm", "-q", "-r", "tree/many")
	in.run(t, "git", "commit", "-qm", "two")
	in.run(t, "git", "tag", "v1")
	in.run(t, "git", "push", "-q", "--tags", "origin", "HEAD:main")
	gitIn(s, again).run(t, "git", "pull", "-q")
	sameNames(t, filepath.Join(work, "tree"), filepath.Join(again, "tree"))
	in.run(t, "git", "push", "-q", "origin", ":refs/tags/v1")
	// An archive has the same files.
	gitIn(s, work).run(t, "git", "archive", "-o", filepath.Join(local, "a.tar"), "--remote="+gitURL(s, "/repo.git"), "main")
	out := filepath.Join(local, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	program{}.run(t, "tar", "-xf", filepath.Join(local, "a.tar"), "-C", out)
	if files := sameNames(t, filepath.Join(work, "tree"), filepath.Join(out, "tree")); files < 5 {
		t.Errorf("the archive has %d files", files)
	}
	program{}.run(t, "git", "--git-dir", filepath.Join(home, "repo.git"), "-c", "safe.directory=*", "fsck", "--full", "--strict")
	s.WaitLog(map[string]any{"message": "program ended", "command": "git-receive-pack", "status": 0})
	s.Stop(15)
	files, size := used(t, s.Dump(), "c")
	if wantFiles, wantSize := onDisk(t, home); files != wantFiles || size != wantSize {
		t.Errorf("the counters say %d files of %d bytes, there are %d of %d", files, size, wantFiles, wantSize)
	}
}

// sameNames compares the bytes of the files below two directories and says how many there are.
func sameNames(t *testing.T, a, b string) int {
	t.Helper()
	list := func(dir string) map[string]string {
		out := map[string]string{}
		filepath.WalkDir(dir, func(name string, e os.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				data, _ := os.ReadFile(name)
				rel, _ := filepath.Rel(dir, name)
				out[rel] = string(data)
			}
			return err
		})
		return out
	}
	x, y := list(a), list(b)
	for name, data := range x {
		if y[name] != data {
			t.Errorf("%s differs", name)
		}
	}
	if len(x) != len(y) {
		t.Errorf("%d and %d files", len(x), len(y))
	}
	return len(x)
}

// TestRsyncCopiesChangedTrees: a tree goes up and comes back, also after it has changed, and with --delete is the same.
func TestRsyncCopiesChangedTrees(t *testing.T) {
	s, home := servePrograms(t)
	local := t.TempDir()
	tree, back := filepath.Join(local, "tree"), filepath.Join(local, "back")
	makeTree(t, tree)
	if err := os.Symlink("sub/32k+1", filepath.Join(tree, "link")); err != nil {
		t.Fatal(err)
	}
	sync := func(args ...string) string {
		t.Helper()
		return program{}.run(t, "rsync", append([]string{"-a", "-e", sshCommand(s)}, args...)...)
	}
	remote := func(path string) string { return "c@127.0.0.1:" + path }
	sync(tree+"/", remote("/tree"))
	sameTree(t, tree, filepath.Join(home, "tree"), true)
	sync(tree, remote("/in")) // the directory itself, into one that is made
	sameTree(t, tree, filepath.Join(home, "in", "tree"), true)
	sync(remote("/tree/"), back)
	sameTree(t, tree, back, true)
	sync(remote("/tree"), filepath.Join(local, "named"))
	sameTree(t, tree, filepath.Join(local, "named", "tree"), true)
	if target, err := os.Readlink(filepath.Join(back, "link")); target != "sub/32k+1" {
		t.Errorf("the link came back as %q, %v", target, err)
	}
	// Changes: a rename, a removal, an addition, a byte in the middle.
	for _, err := range []error{
		os.Rename(filepath.Join(tree, "one"), filepath.Join(tree, "renamed")),
		os.RemoveAll(filepath.Join(tree, "many")),
		os.WriteFile(filepath.Join(tree, "-new 'name' *"), []byte("new"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(filepath.Join(tree, "sub/deep/er/3M"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("changed"), 1<<20)
	f.Close()
	sync("-z", "--delete", "--stats", tree+"/", remote("/tree"))
	sameTree(t, tree, filepath.Join(home, "tree"), true)
	sync("--delete", "-v", "-i", "--checksum", remote("tree/"), back+"/")
	sameTree(t, tree, back, true)
	if out := sync("-i", tree+"/", remote("/tree")); strings.TrimSpace(out) != "" {
		t.Errorf("an equal tree is copied again:\n%s", out)
	}
	// One file, both ways, with a name that means something to a shell.
	one := filepath.Join(tree, "-new 'name' *")
	sync(one, remote("/a $(b) name"))
	sameFile(t, one, filepath.Join(home, "a $(b) name"))
	sync(remote("/a $(b) name"), filepath.Join(local, "one"))
	sameFile(t, one, filepath.Join(local, "one"))
	s.Stop(15)
	files, size := used(t, s.Dump(), "c")
	if wantFiles, wantSize := onDisk(t, home); files != wantFiles || size != wantSize {
		t.Errorf("the counters say %d files of %d bytes, there are %d of %d", files, size, wantFiles, wantSize)
	}
}

// exitOf runs a client and gives its exit code and what it wrote.
func exitOf(t *testing.T, env []string, name string, args ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clientWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatalf("%s did not run", name)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// TestProgramsAreRefusedClearly: rights, patterns, mounts and quotas hold for programs too. PERM-1
func TestProgramsAreRefusedClearly(t *testing.T) {
	other := t.TempDir()
	own(t, other)
	s, home := servePrograms(t, func(u *account.User) {
		u.Permissions = map[string][]string{
			"/": {"*"}, "/read": {"list", "download"}, "/none": {"list"}, "/part/deep": {"list"},
			"/plain": {"list", "download", "upload", "overwrite", "create_dirs", "delete"},
		}
		u.Filters.FilePatterns = []account.PatternsFilter{{Path: "/patterns", DeniedPatterns: []string{"*.exe"}}}
		u.VirtualFolders = []account.VirtualFolder{{VirtualPath: "/mounts/here", Folder: account.Folder{Name: "f", MappedPath: other}}}
	})
	for _, d := range []string{"read", "none", "part/deep", "plain", "patterns", "mounts"} {
		if err := os.MkdirAll(filepath.Join(home, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	gantrytest.WriteFile(t, filepath.Join(home, "read", "file"), "readable")
	bareIn(t, home, "read/repo.git")
	bareIn(t, home, "none/repo.git")
	own(t, home)
	local := t.TempDir()
	gantrytest.WriteFile(t, filepath.Join(local, "src/file"), "mine")
	ssh := sshCommand(s)
	src, dst := filepath.Join(local, "src")+"/", filepath.Join(local, "dst")
	r := func(path string) string { return "c@127.0.0.1:" + path }
	// What may be read may be read.
	program{}.run(t, "rsync", "-a", "-e", ssh, r("/read/file"), dst)
	gitIn(s, local).run(t, "git", "clone", "-q", gitURL(s, "/read/repo.git"), filepath.Join(local, "clone"))
	// Without the right to change attributes the rest goes on.
	program{}.run(t, "rsync", "-r", "-e", ssh, src, r("/plain"))
	for _, tt := range []struct {
		want string
		args []string
	}{
		{"it takes upload", []string{"-r", src, r("/read/")}},
		{"it takes upload", []string{"-r", src, r("/read/new")}},
		{"it takes upload", []string{"-r", "--remove-source-files", r("/read/file"), dst}},
		{"it takes download", []string{"-r", r("/none/"), dst}},
		{"it takes download", []string{"-r", src, r("/part")}},
		{"it takes chmod", []string{"-rp", src, r("/plain")}},
		{"it takes chtimes", []string{"-rt", src, r("/plain")}},
		{"it takes chown", []string{"-ro", src, r("/plain")}},
		{"file patterns rule here", []string{"-r", src, r("/patterns")}},
		{"a virtual folder lies below", []string{"-r", r("/mounts/"), dst}},
		{"no such file", []string{"-r", r("/missing"), dst}},
		{"no such file", []string{"-r", src, r("/missing/deep/er")}},
		{"the option -L is not served", []string{"-rL", r("/read/"), dst}},
		{"the option -K is not served", []string{"-rK", src, r("/plain")}},
		{"the option --temp-dir is not served", []string{"-r", "--temp-dir=/tmp", src, r("/plain")}},
		{"the option --link-dest is not served", []string{"-r", "--link-dest=/etc", src, r("/plain")}},
		{"the option --backup-dir is not served", []string{"-r", "-b", "--backup-dir=/tmp", src, r("/plain")}},
		{"one path is served", []string{"-r", r("/read/file"), r("/read/repo.git"), dst}},
		{"arguments on standard input", []string{"-rs", r("/read/"), dst}},
	} {
		code, out := exitOf(t, nil, "rsync", append([]string{"-e", ssh}, tt.args...)...)
		if code == 0 || !strings.Contains(out, tt.want) {
			t.Errorf("rsync %q: code %d, want %q in\n%s", tt.args, code, tt.want, out)
		}
	}
	env := gitIn(s, local).env
	for _, tt := range []struct{ want, path string }{
		{"it takes download", "/none/repo.git"}, {"no such file", "/missing"}, {"not a git repository", "/read"},
	} {
		if code, out := exitOf(t, env, "git", "clone", gitURL(s, tt.path), filepath.Join(local, "no")); code == 0 || !strings.Contains(out, tt.want) {
			t.Errorf("clone of %s: code %d, want %q in\n%s", tt.path, code, tt.want, out)
		}
	}
	work := filepath.Join(local, "clone")
	gitIn(s, work).run(t, "git", "commit", "-q", "--allow-empty", "-m", "x")
	if code, out := exitOf(t, env, "git", "-C", work, "push", "origin", "HEAD:main"); code == 0 || !strings.Contains(out, "it takes upload") {
		t.Errorf("push: code %d\n%s", code, out)
	}
	if left, _ := os.ReadDir(filepath.Join(home, "patterns")); len(left) > 0 {
		t.Errorf("refused, and left %v", left)
	}
}

// TestProgramsCannotLeaveTheirTree: links that lead out, a repository that borrows objects or names commands, and
// arguments made to be options. HOOK-2, SYM-1
func TestProgramsCannotLeaveTheirTree(t *testing.T) {
	s, home := servePrograms(t)
	outside := t.TempDir()
	os.Chmod(outside, 0o777)
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("outside"), 0o666); err != nil {
		t.Fatal(err)
	}
	os.Chmod(secret, 0o666)
	os.MkdirAll(filepath.Join(home, "d"), 0o755)
	for name, target := range map[string]string{"d/dir": outside, "d/file": secret, "top": outside} {
		if err := os.Symlink(target, filepath.Join(home, name)); err != nil {
			t.Fatal(err)
		}
	}
	// A repository with every door open that its own configuration knows.
	evil := bareIn(t, home, "evil.git")
	donor := bareIn(t, outside, "donor.git")
	marker := filepath.Join(outside, "marker")
	local := t.TempDir()
	work := filepath.Join(local, "work")
	g := gitIn(s, local)
	g.run(t, "git", "clone", "-q", gitURL(s, "/evil.git"), work)
	gantrytest.WriteFile(t, filepath.Join(work, "f"), "f")
	gantrytest.WriteFile(t, filepath.Join(work, ".gitattributes"), "f filter=x export-subst\n")
	in := gitIn(s, work)
	in.run(t, "git", "add", "-A")
	in.run(t, "git", "commit", "-qm", "one")
	in.run(t, "git", "push", "-q", "origin", "HEAD:main")
	head := "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
	touch := "touch " + marker
	for _, hook := range []string{"pre-receive", "update", "post-update", "post-receive", "proc-receive", "reference-transaction"} {
		file := filepath.Join(evil, "hooks", hook)
		gantrytest.WriteFile(t, file, "#!/bin/sh\n"+touch+"\n")
		os.Chmod(file, 0o755)
	}
	trusting := filepath.Join(local, "gitconfig") // of git alone
	gantrytest.WriteFile(t, trusting, "[safe]\n\tdirectory = *\n")
	push, archive := []string{"push", "-f", "origin", "HEAD:two"}, []string{"archive", "--format=tar", "main"}
	for _, door := range []struct {
		config, alternates string
		args               []string
		opens              bool // git alone goes through it
	}{
		{"", "", push, true}, // the hooks
		{"[tar \"evil\"]\n\tcommand = " + touch + "\n\tremote = true\n", "", []string{"archive", "--format=evil", "main"}, true},
		{"[filter \"x\"]\n\tsmudge = " + touch + "\n", "", archive, true},
		{"[core]\n\talternateRefsCommand = " + touch + "\n", donor + "/objects", push, true},
		{"[core]\n\tfsmonitor = " + touch + "\n\tsshCommand = " + touch + "\n[uploadpack]\n\tpackObjectsHook = " + touch + "\n", "", []string{"clone"}, false},
		{"[remote \"r\"]\n\turl = ext::" + touch + "\n\tpromisor = true\n[extensions]\n\tpartialClone = r\n", "", []string{"clone"}, false},
		{"[include]\n\tpath = " + secret + "\n", "", []string{"clone"}, false},
	} {
		gantrytest.WriteFile(t, filepath.Join(evil, "config"), head+door.config)
		gantrytest.WriteFile(t, filepath.Join(evil, "objects/info/alternates"), door.alternates+"\n")
		gantrytest.WriteFile(t, filepath.Join(evil, "info/attributes"), "f filter=x\n")
		own(t, home)
		try := func(url string) {
			gitIn(s, work).run(t, "git", "commit", "-q", "--amend", "--allow-empty", "-m", "x"+url)
			args := []string{"-C", work, door.args[0]}
			switch door.args[0] {
			case "clone":
				args = append(args, url, filepath.Join(t.TempDir(), "clone"))
			case "archive":
				args = append(append(args, "--remote="+url), door.args[1:]...)
			default:
				args = append(args, strings.Split(strings.ReplaceAll(strings.Join(door.args[1:], "\x00"), "origin", url), "\x00")...)
			}
			code, out := exitOf(t, append(g.env, "GIT_CONFIG_GLOBAL="+trusting), "git", args...)
			t.Logf("%q: %d %q", args[2:], code, out[:min(len(out), 200)])
		}
		try(gitURL(s, "/evil.git"))
		if _, err := os.Stat(marker); err == nil {
			t.Errorf("a command was run by way of %q", door.config)
		}
		if door.opens { // and the test would see it
			try(evil)
			if _, err := os.Stat(marker); err != nil {
				t.Errorf("git alone does not run a command by way of %q: the test proves nothing", door.config)
			}
		}
		os.Remove(marker)
	}
	ssh := sshCommand(s)
	r := func(path string) string { return "c@127.0.0.1:" + path }
	src := filepath.Join(local, "src")
	gantrytest.WriteFile(t, filepath.Join(src, "dir", "planted"), "planted")
	gantrytest.WriteFile(t, filepath.Join(src, "secret"), "planted")
	for _, args := range [][]string{
		{"-r", src + "/", r("/top")}, {"-r", src + "/", r("/top/")}, {"-r", r("/top/"), filepath.Join(local, "got")}, {"-r", r("/d/dir/"), filepath.Join(local, "got")},
		{"-r", r("/d/file/"), filepath.Join(local, "got")}, {"-r", r("/../../../../" + secret), filepath.Join(local, "got")},
		{"-r", src + "/", r("/d/dir/x")},
	} {
		if code, out := exitOf(t, nil, "rsync", append([]string{"-e", ssh}, args...)...); code == 0 {
			t.Errorf("rsync %q went well:\n%s", args, out)
		}
	}
	exitOf(t, nil, "rsync", "-rl", "-e", ssh, src+"/", r("/d"))
	exitOf(t, nil, "rsync", "-r", "--inplace", "-e", ssh, filepath.Join(src, "secret"), r("/d/file"))
	// A client that asks the program for what ours would not: lines as an attacker writes them.
	for _, line := range []string{
		"rsync --server --sender -LlogDtpre.iLsfxCIvu . /d/", "rsync --server --sender -vlogDtpre.iLsfxCIvu --copy-unsafe-links . /d/",
		"rsync --server -vlogDtpre.iLsfxCIvu --log-file=" + marker + " . /", "rsync --server --daemon --config=/d/file . /",
		"rsync --daemon --config=/d/file", "rsync --server -e'sh -c id' . /", "rsync --server --rsync-path=id . /", "rsync -e id a:b .",
		"rsync --server --sender -se.iLsfxCIvu . /", "rsync --server --files-from=/etc/passwd . /", "rsync --server . --daemon",
		"git-upload-pack --upload-pack=" + marker + " /evil.git", "git-upload-pack -c core.pager=id /evil.git", "git-upload-archive --exec=id",
		"git-receive-pack '--help'", "git-upload-pack /top/donor.git", "git-upload-pack ../../.." + donor, "git-upload-pack", "git upload-pack /evil.git",
		"git-shell -c id", "git-upload-pack '/evil.git' '; id'",
	} {
		if code, out := exitOf(t, nil, "ssh", append(sshFlags(), "-p", s.Port(), "c@127.0.0.1", line)...); code == 0 || strings.Contains(out, "uid=") {
			t.Errorf("%s: code %d\n%q", line, code, out)
		}
	}
	for _, name := range []string{marker, filepath.Join(outside, "planted"), filepath.Join(outside, "x")} {
		if _, err := os.Lstat(name); err == nil {
			t.Errorf("%s was made", name)
		}
	}
	if data, _ := os.ReadFile(secret); string(data) != "outside" {
		t.Errorf("what is outside is now %q", data)
	}
	filepath.WalkDir(filepath.Join(local, "got"), func(name string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			t.Errorf("%s came from outside", name)
		}
		return nil
	})
}

// TestProgramsAreBounded: the quota and the transfer limit stop a program, the client is told why, and what is left is
// counted. QUOTA-1
func TestProgramsAreBounded(t *testing.T) {
	s, home := servePrograms(t, func(u *account.User) { u.QuotaSize, u.DownloadDataTransfer = 4<<20, 2 })
	local := t.TempDir()
	big := filepath.Join(local, "big")
	randomFile(t, big, 6<<20, rand.NewChaCha8([32]byte{9}))
	small := filepath.Join(local, "small")
	randomFile(t, small, 3<<20, rand.NewChaCha8([32]byte{8}))
	ssh := sshCommand(s)
	ended := 0
	over := func() { // what a program held is given back
		t.Helper()
		ended++
		s.Until("the program has ended", func() bool {
			n := 0
			for _, m := range s.Log() {
				if m["message"] == "program ended" {
					n++
				}
			}
			return n >= ended
		})
	}
	if code, out := exitOf(t, nil, "rsync", "-e", ssh, big, "c@127.0.0.1:/big"); code == 0 || !strings.Contains(out, "quota exceeded") {
		t.Errorf("6 MiB into 4: code %d\n%s", code, out)
	}
	over()
	if left, _ := os.ReadDir(home); len(left) != 0 {
		t.Errorf("the refused upload left %v", left)
	}
	program{}.run(t, "rsync", "-e", ssh, small, "c@127.0.0.1:/small")
	over()
	if code, out := exitOf(t, nil, "rsync", "-e", ssh, "c@127.0.0.1:/small", filepath.Join(local, "back")); code == 0 || !strings.Contains(out, "download limit reached") {
		t.Errorf("3 MiB with a limit of 2: code %d\n%s", code, out)
	}
	over()
	// Bytes that grow on the way: the size of a file is bounded too.
	zeros := filepath.Join(local, "zeros")
	if err := os.WriteFile(zeros, make([]byte, 8<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, out := exitOf(t, nil, "rsync", "-z", "-e", ssh, zeros, "c@127.0.0.1:/zeros"); code == 0 {
		t.Errorf("8 MiB of zeros in 1: code %d\n%s", code, out)
	}
	s.Stop(15)
	files, size := used(t, s.Dump(), "c")
	if wantFiles, wantSize := onDisk(t, home); files != wantFiles || size != wantSize || size > 4<<20 {
		t.Errorf("the counters say %d files of %d bytes, there are %d of %d", files, size, wantFiles, wantSize)
	}
}

// children are the processes that a process has started.
func children(pid int) []string {
	var out []string
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		data, _ := os.ReadFile(file)
		_, rest, _ := strings.Cut(string(data), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(pid) && f[0] != "Z" {
			out = append(out, filepath.Base(filepath.Dir(file)))
		}
	}
	return out
}

// TestProgramsEndWithTheirClient: the process ends when the client goes, and when the server is killed. RES-1
func TestProgramsEndWithTheirClient(t *testing.T) {
	s, home := servePrograms(t)
	bareIn(t, home, "repo.git")
	start := func(line string) (*exec.Cmd, io.Closer, []string) {
		cmd := exec.Command("ssh", append(sshFlags(), "-p", s.Port(), "c@127.0.0.1", line)...)
		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		var pids []string
		s.Until("the program runs", func() bool { pids = children(s.PID); return len(pids) > 0 })
		return cmd, in, pids
	}
	for _, line := range []string{"rsync --server -re.iLsfxCIvu . /new", "git-receive-pack /repo.git"} {
		client, _, pids := start(line)
		t.Logf("%s runs as %v", line, pids)
		status, err := os.ReadFile("/proc/" + pids[0] + "/status")
		if err != nil || !strings.Contains(string(status), "NoNewPrivs:\t1") || os.Geteuid() == 0 && !strings.Contains(string(status), fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d", programsUID)) {
			t.Errorf("%s: %v\n%s", line, err, status)
		}
		client.Process.Kill()
		s.Until("the program ends with its client", func() bool { return len(children(s.PID)) == 0 })
	}
	_, _, pids := start("git-receive-pack /repo.git")
	s.Stop(syscall.SIGKILL)
	s.Until("the program ends with the server", func() bool {
		_, err := os.Stat("/proc/" + pids[0])
		if err == nil {
			data, _ := os.ReadFile("/proc/" + pids[0] + "/stat")
			return strings.Contains(string(data), ") Z ")
		}
		return true
	})
}

// TestProgramsDoNotRunAsRoot: without a uid of its own an account of a server that is root has no programs.
func TestProgramsDoNotRunAsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	s, _ := servePrograms(t, func(u *account.User) { u.UID, u.GID = 0, 0 })
	if code, out := exitOf(t, nil, "rsync", "-r", "-e", sshCommand(s), t.TempDir()+"/", "c@127.0.0.1:/"); code == 0 || !strings.Contains(out, "needs a uid") {
		t.Errorf("code %d\n%s", code, out)
	}
}
