//go:build unix

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// davServer runs a server with a WebDAV binding and the user "c", and gives its URL and the user's home.
func davServer(t *testing.T) (s *gantrytest.Server, url, home string) {
	t.Helper()
	home = t.TempDir()
	port := gantrytest.FreePort(t)
	config := fmt.Sprintf(`{"webdavd":{"bindings":[{"address":"127.0.0.1","port":%s}]}}`, port)
	s = gantrytest.Start(t, gantrytest.Options{Bin: bin, Config: config, Dump: oneUser(newUser("c", home)), Secrets: []string{password}})
	return s, "http://127.0.0.1:" + port + "/", home
}

var litmusSummary = regexp.MustCompile("<- summary for `([a-z]+)': of (\\d+) tests run: (\\d+) passed, (\\d+) failed")

// TestLitmus runs every suite of litmus: no test may fail or be left out.
func TestLitmus(t *testing.T) {
	t.Parallel()
	litmus := need(t, "litmus", "litmus")
	_, url, _ := davServer(t)
	// It writes logs where it stands, and ends with 1 at a failure.
	out := program{dir: t.TempDir()}.run(t, litmus, "-k", url, "c", password)
	passed := 0
	suites := map[string]bool{}
	for _, m := range litmusSummary.FindAllStringSubmatch(out, -1) {
		n, _ := strconv.Atoi(m[3])
		passed += n
		suites[m[1]] = m[2] == m[3] && m[4] == "0"
	}
	for _, suite := range []string{"basic", "copymove", "props", "locks", "http"} {
		if !suites[suite] {
			t.Errorf("suite %s did not pass", suite)
		}
	}
	if passed < 104 || strings.Contains(out, "SKIPPED") || strings.Contains(out, "WARNING") {
		t.Errorf("%d tests passed\n%s", passed, out)
	}
}

// TestCadaver: a session of a person with a shell of WebDAV.
func TestCadaver(t *testing.T) {
	t.Parallel()
	cadaver := need(t, "cadaver", "cadaver")
	_, url, home := davServer(t)
	dir := t.TempDir()
	gantrytest.WriteFile(t, filepath.Join(dir, ".netrc"), "machine 127.0.0.1 login c password "+password+"\n")
	text := strings.Repeat("0123456789abcde\n", 10_000)
	gantrytest.WriteFile(t, filepath.Join(dir, "text"), text)
	out := program{dir: dir, env: []string{"HOME=" + dir}, stdin: `mkcol box
cd box
put text
copy text two
lock two
put text two
unlock two
copy two three
move three nine
move nine three
propset text mood happy
propget text mood
copy text four
propget four mood
ls
get text back
delete text
cd ..
move box/ chest/
ls
quit
`}.run(t, cadaver, url)
	for _, want := range []string{
		"Creating `box': succeeded", "Copying `/box/text' to `/box/two':  succeeded", "Locking `two': succeeded", "Unlocking `two': succeeded", "Moving `/box/nine' to `/box/three':  succeeded",
		"Setting property on `text': succeeded", "Value of mood is: happy", "Deleting `text': succeeded", "Listing collection `/box/': succeeded", "Coll:   chest",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q", want)
		}
	}
	if strings.Contains(out, "failed") || strings.Count(out, "Value of mood is: happy") != 2 {
		t.Error("something failed")
	}
	for name, want := range map[string]string{dir + "/back": text, home + "/chest/three": text, home + "/chest/two": text, home + "/chest/four": text} {
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}
