//go:build unix

package e2e

import (
	"os/exec"
	"strings"
	"testing"
)

// TestAdministratorsByCurlAlone runs rest.sh on the embedded drivers: it prints the same on each.
func TestAdministratorsByCurlAlone(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl")
	}
	first := ""
	for _, driver := range []string{"sqlite", "bolt", "memory"} {
		cmd := exec.Command("./rest.sh", bin, driver)
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s\n%s", driver, err, out, said.String())
		}
		got := string(out)
		for _, want := range []string{"POST /setup -> 201", "SFTP: stored", "FTP: stored", "the transfer was cut", "all answers are the same", "PATCH /users/u -> 412"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: the output lacks %q:\n%s\n%s", driver, want, got, said.String())
			}
		}
		if first == "" {
			first = got
		} else if got != first {
			t.Errorf("%s prints something else:\n%s\nthan sqlite:\n%s", driver, got, first)
		}
	}
}
