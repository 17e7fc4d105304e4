//go:build unix

// Package e2e holds the tests of the built program: real clients against a real process.
package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// Set once by TestMain.
var (
	bin string
	key gantrytest.Key
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gantry-e2e")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if bin, err = gantrytest.Build(dir, "../../cmd/gantry"); err == nil {
		key, err = gantrytest.NewKey(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// long reports whether the slow tests run too.
func long() bool { return os.Getenv("GANTRY_TEST_LONG") != "" }

// newUser is a user with every permission, password "pw-NAME" and the key of the tests.
func newUser(name, home string) account.User {
	return account.User{
		Username: name, Password: "pw-" + name, PublicKeys: []string{key.Public}, HomeDir: home, Status: 1,
		Permissions: map[string][]string{"/": {"*"}},
	}
}

// client is a logged-in SFTP client.
func client(t *testing.T, s *gantrytest.Server, user string) *sftp.Client {
	t.Helper()
	c, _ := clientOf(t, s, user)
	return c
}

func clientOf(t *testing.T, s *gantrytest.Server, user string) (*sftp.Client, *ssh.Client) {
	t.Helper()
	conn, err := s.Dial(user, "pw-"+user)
	if err != nil {
		t.Fatalf("login of %s: %v", user, err)
	}
	t.Cleanup(func() { conn.Close() })
	c, err := sftp.NewClient(conn)
	if err != nil {
		t.Fatalf("sftp of %s: %v", user, err)
	}
	return c, conn
}

// put writes a file in one go and gives the first error.
func put(c *sftp.Client, name string, data []byte, flags int) error {
	f, err := c.OpenFile(name, os.O_WRONLY|flags)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// used gives the files and bytes that the store says a user holds.
func used(t *testing.T, d *account.Dump, user string) (files int, size int64) {
	t.Helper()
	for _, u := range d.Users {
		if u.Username == user {
			return u.UsedQuotaFiles, u.UsedQuotaSize
		}
	}
	t.Fatalf("the dump has no user %s", user)
	return 0, 0
}

// onDisk counts the regular files below dir.
func onDisk(t *testing.T, dir string) (files int, size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		files++
		size += info.Size()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, size
}

// onDiskNames lists a directory.
func onDiskNames(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}
