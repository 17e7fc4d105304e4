package program

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// minLandlock is the first version that lets files be renamed between the directories of one tree (Linux 5.19).
const minLandlock = 2

// The rights of Landlock that are used.
const (
	readFile = unix.LANDLOCK_ACCESS_FS_READ_FILE
	readDir  = unix.LANDLOCK_ACCESS_FS_READ_DIR
	execute  = unix.LANDLOCK_ACCESS_FS_EXECUTE
	change   = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_REFER |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE
)

// libraries are what a program's libraries and their list are read from. Read only.
var libraries = []string{
	"/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/local/lib", "/etc/ld.so.cache",
	"/etc/ld-musl-x86_64.path", "/etc/ld-musl-aarch64.path", "/dev/urandom", "/dev/random", "/dev/zero",
}

// cage is a ruleset that is not in force yet. Owned by one goroutine.
type cage struct {
	fd      int
	handled uint64
}

// newCage refuses everything that the kernel knows to refuse of files, TCP and abstract sockets.
func newCage() (*cage, error) {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return nil, fmt.Errorf("%w: Landlock: %w", errNoConfine, errno)
	}
	if abi < minLandlock {
		return nil, fmt.Errorf("%w: Landlock is of version %d, %d is needed", errNoConfine, abi, minLandlock)
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: unix.LANDLOCK_ACCESS_FS_REFER<<1 - 1}
	if abi >= 3 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 4 {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if abi >= 5 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if abi >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return nil, fmt.Errorf("%w: Landlock: %w", errNoConfine, errno)
	}
	unix.CloseOnExec(int(fd))
	return &cage{int(fd), attr.Handled_access_fs}, nil
}

func (c *cage) close() { unix.Close(c.fd) }

// allow opens the file or directory, with all below it, to rights. What is no directory has no rights of one.
func (c *cage) allow(fd int, rights uint64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= execute | readFile | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	attr := unix.LandlockPathBeneathAttr{Allowed_access: rights & c.handled, Parent_fd: int32(fd)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(c.fd), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// allowPath is allow for what may not be there.
func (c *cage) allowPath(name string, rights uint64) error {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EACCES) {
		return nil
	}
	if err == nil {
		err = c.allow(fd, rights)
		unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("confine: %s: %w", name, err)
	}
	return nil
}

// build is the cage of the job: bin and its own kind to execute, libraries to read, the tree.
func (j *job) build(bin string) (*cage, error) {
	c, err := newCage()
	if err != nil {
		return nil, err
	}
	for _, name := range libraries {
		err = errors.Join(err, c.allowPath(name, readFile|readDir))
	}
	err = errors.Join(err, c.allowPath("/dev/null", readFile|unix.LANDLOCK_ACCESS_FS_WRITE_FILE))
	for _, name := range executables(bin) {
		err = errors.Join(err, c.allowPath(name, execute|readFile))
	}
	rights := uint64(readFile | readDir)
	if j.write {
		rights |= change
		if j.links {
			rights |= unix.LANDLOCK_ACCESS_FS_MAKE_SYM
		}
	}
	if aerr := c.allow(int(j.tree.Root.Fd()), rights); aerr != nil {
		err = errors.Join(err, fmt.Errorf("confine: the tree: %w", aerr))
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// executables are the program, the loader that it names, and for git the copy of itself that it starts.
func executables(bin string) []string {
	out := []string{bin}
	real, err := filepath.EvalSymlinks(bin)
	if err != nil {
		return out
	}
	if f, err := elf.Open(real); err == nil {
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP && p.Filesz < 4096 {
				if name, err := io.ReadAll(p.Open()); err == nil {
					out = append(out, strings.TrimRight(string(name), "\x00"))
				}
			}
		}
		f.Close()
	}
	if filepath.Base(bin) == "git" {
		if dir := gitCore(real); dir != "" {
			out = append(out, filepath.Join(dir, "git"))
		}
	}
	return out
}

// gitCore finds git's directory of programs beside the program; "" leaves it to git.
func gitCore(real string) string {
	for _, dir := range []string{"libexec", "lib"} {
		dir = filepath.Join(filepath.Dir(real), "..", dir, "git-core")
		if _, err := os.Stat(filepath.Join(dir, "git")); err == nil {
			return dir
		}
	}
	return ""
}

// enter puts the calling thread, and what it starts, into the cage for ever.
func (c *cage) enter() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("%w: no_new_privs: %w", errNoConfine, err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(c.fd), 0, 0); errno != 0 {
		return fmt.Errorf("%w: Landlock: %w", errNoConfine, errno)
	}
	return nil
}
