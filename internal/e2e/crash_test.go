//go:build unix

package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// TestKillDuringUploads: after kill -9 in the middle of uploads the tree is what the upload mode promises, and after
// the next start no temporary file is left and the tally equals the disk. QUO-3, UPL-2.
func TestKillDuringUploads(t *testing.T) {
	rounds := 4
	if long() {
		rounds = 200
	}
	old := bytes.Repeat([]byte("old "), 100_000)
	fresh := make([]byte, 24<<20)
	for i := range fresh {
		fresh[i] = byte(i * 7)
	}
	for mode := range 3 {
		t.Run(fmt.Sprintf("mode %d", mode), func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			u := newUser("k", home)
			u.QuotaFiles = 1000
			o := gantrytest.Options{Bin: bin, Dir: t.TempDir(), Config: fmt.Sprintf(`{"common":{"upload_mode":%d}}`, mode), Dump: &account.Dump{Users: []account.User{u}}}
			count := map[string]int{}
			for round := range rounds {
				s := gantrytest.Start(t, o)
				o.Dump = nil // once
				c := client(t, s, "k")
				if err := put(c, "/exist", old, os.O_CREATE|os.O_TRUNC); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				if err := put(c, "/new", fresh, os.O_CREATE|os.O_TRUNC); err != nil {
					t.Fatal(err)
				}
				whole := 2 * time.Since(start) // of two at once
				c.Remove("/new")
				var uploads sync.WaitGroup
				for _, name := range []string{"/exist", "/new"} {
					c := client(t, s, "k")
					uploads.Go(func() { put(c, name, fresh, os.O_CREATE|os.O_TRUNC) }) // it is cut
				}
				time.Sleep(time.Duration(rand.Int64N(int64(whole * 3 / 2)))) // the kill comes somewhere within, or just after
				s.Stop(syscall.SIGKILL)
				uploads.Wait()
				for name, before := range map[string][]byte{"exist": old, "new": nil} {
					got, err := os.ReadFile(filepath.Join(home, name))
					state := "torn"
					switch {
					case os.IsNotExist(err):
						state = "missing"
					case err != nil:
						t.Fatal(err)
					case bytes.Equal(got, fresh):
						state = "new"
					case before != nil && bytes.Equal(got, before):
						state = "old"
					}
					count[name+" "+state]++
					switch {
					case state == "torn" && mode != 0:
						t.Errorf("round %d: %s is torn, %d bytes, %x", round, name, len(got), sha256.Sum256(got))
					case state == "missing" && before != nil:
						t.Errorf("round %d: %s has vanished", round, name)
					case state == "torn" && mode == 0 && !bytes.HasPrefix(fresh, got) && !sparseOf(got, fresh, old):
						t.Errorf("round %d: %s holds what nobody wrote", round, name)
					}
				}
				count["temps after the kill"] += temps(t, home)

				s = gantrytest.Start(t, o)
				if n := temps(t, home); n > 0 {
					t.Errorf("round %d: %d temporary files after the start", round, n)
				}
				if code := s.Stop(syscall.SIGTERM); code != 0 {
					t.Errorf("round %d: exit code %d", round, code)
				}
				files, size := used(t, s.Dump(), "k")
				if wantFiles, wantSize := onDisk(t, home); files != wantFiles || size != wantSize {
					t.Errorf("round %d: charged %d files and %d bytes, the disk holds %d and %d", round, files, size, wantFiles, wantSize)
				}
			}
			t.Logf("%d kills: %v", rounds, count)
		})
	}
}

// sparseOf reports whether each 32 KiB of got is zero, new or old: writes of one upload arrive in any order.
func sparseOf(got, fresh, old []byte) bool {
	zero := make([]byte, 32<<10)
	for at := 0; at < len(got); at += len(zero) {
		part := got[at:min(at+len(zero), len(got))]
		ok := bytes.Equal(part, zero[:len(part)])
		for _, src := range [][]byte{fresh, old} {
			ok = ok || at+len(part) <= len(src) && bytes.Equal(part, src[at:at+len(part)])
		}
		if !ok { // a block may end within: look byte by byte
			for i, b := range part {
				if b != 0 && (at+i >= len(fresh) || b != fresh[at+i]) && (at+i >= len(old) || b != old[at+i]) {
					return false
				}
			}
		}
	}
	return true
}

// temps counts the temporary files of uploads below dir.
func temps(t *testing.T, dir string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(e.Name(), ".gantry-upload.") {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestParallelUploadsAgainstAQuota: whatever clients do at the same time, the disk is never over the limit and the
// tally equals a scan. QUO-1, QUO-2.
func TestParallelUploadsAgainstAQuota(t *testing.T) {
	const maxFiles, maxSize = 20, 2_000_000
	for mode := range 3 {
		t.Run(fmt.Sprintf("mode %d", mode), func(t *testing.T) {
			home := t.TempDir()
			u := newUser("q", home)
			u.QuotaFiles, u.QuotaSize = maxFiles, maxSize
			s := gantrytest.Start(t, gantrytest.Options{
				Bin: bin, Config: fmt.Sprintf(`{"common":{"upload_mode":%d}}`, mode), Dump: &account.Dump{Users: []account.User{u}},
			})
			var clients sync.WaitGroup
			var mu sync.Mutex
			outcome := map[string]int{}
			for n := range 8 {
				c, conn := clientOf(t, s, "q")
				seed := rand.New(rand.NewPCG(uint64(n), 7))
				clients.Go(func() {
					for range 40 {
						name := fmt.Sprintf("/f%d", seed.IntN(30))
						var what string
						var err error
						switch seed.IntN(6) {
						case 0:
							what, err = "remove", c.Remove(name)
						case 1:
							what, err = "rename", c.PosixRename(name, fmt.Sprintf("/f%d", seed.IntN(30)))
						case 2:
							what, err = "truncate", c.Truncate(name, int64(seed.IntN(1000)))
						default:
							what, err = "upload", put(c, name, make([]byte, seed.IntN(300_000)), os.O_CREATE|os.O_TRUNC)
						}
						if err != nil {
							what += " refused"
						}
						mu.Lock()
						outcome[what]++
						mu.Unlock()
					}
					if n%2 == 0 { // cut in the middle of an upload
						if f, err := c.OpenFile(fmt.Sprintf("/cut%d", n), os.O_WRONLY|os.O_CREATE|os.O_TRUNC); err == nil {
							f.Write(make([]byte, 50_000))
						}
						conn.Close()
					}
				})
			}
			clients.Wait()
			if code := s.Stop(syscall.SIGTERM); code != 0 {
				t.Errorf("exit code %d", code)
			}
			wantFiles, wantSize := onDisk(t, home)
			if wantFiles > maxFiles || wantSize > maxSize {
				t.Errorf("the disk holds %d files and %d bytes: over the limit", wantFiles, wantSize)
			}
			if files, size := used(t, s.Dump(), "q"); files != wantFiles || size != wantSize {
				t.Errorf("charged %d files and %d bytes, the disk holds %d and %d", files, size, wantFiles, wantSize)
			}
			if outcome["upload refused"] == 0 || outcome["upload"] == 0 {
				t.Errorf("the mix did not meet the limit: %v", outcome)
			}
			t.Logf("%d files, %d bytes: %v", wantFiles, wantSize, outcome)
		})
	}
}
