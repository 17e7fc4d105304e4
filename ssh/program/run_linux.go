package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantryhq/gantry/ssh/command"
)

// chunk is how much is passed on at a time, in bytes.
const chunk = 64 << 10

// endWait is how long a program that is to end has for it.
const endWait = 2 * time.Second

// process is a running program.
type process struct {
	tree interface {
		Pass(n int, fromClient bool) error
	}
	in, out, errs *os.File    // our ends of its standard streams
	tell          func(error) // tells the client, the first time

	mu     sync.Mutex // guards what follows
	pid    int        // of the process and its group; 0 when there is none to be killed
	reason error      // why it was killed
}

// run runs the program to its end, or that of ctx, and gives its exit status.
func (j *job) run(ctx context.Context, std command.Streams) (int, error) {
	bin, err := exec.LookPath(j.program)
	if err == nil {
		bin, err = filepath.Abs(bin)
	}
	if err != nil {
		return 1, fmt.Errorf("%w: %w", errMissing, err)
	}
	cred, err := j.credential()
	if err != nil {
		return 1, err
	}
	c, err := j.build(bin)
	if err != nil {
		return 1, err
	}
	defer c.close()
	p := &process{tree: j.tree, tell: j.tell}
	theirs, err := p.pipes()
	if err != nil {
		return 1, err
	}
	defer p.closePipes()
	cmd := &exec.Cmd{
		Path: bin, Args: append([]string{j.program}, j.args...),
		Env: append([]string{"PATH=" + filepath.Dir(bin), "HOME=/nonexistent", "XDG_CONFIG_HOME=/nonexistent", "LC_ALL=C"}, j.env...),
		// The directory itself, wherever its name leads by now.
		Dir:   fmt.Sprintf("/proc/self/fd/%d", j.tree.Begin.Fd()),
		Stdin: theirs[0], Stdout: theirs[1], Stderr: theirs[2],
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: cred},
	}
	started, ended := make(chan error, 1), make(chan int, 1)
	go func() { // ends with the process, which p.kill can end; run waits for it
		// Never unlocked: the thread is in the cage for ever, and ends with this goroutine. It waits here for
		// the process, which gets Pdeathsig when its parent thread ends.
		runtime.LockOSThread()
		err := c.enter()
		if err == nil {
			err = cmd.Start()
		}
		for _, f := range theirs {
			f.Close()
		}
		if err != nil {
			started <- err
			return
		}
		if err := j.limit(cmd.Process.Pid, cred); err != nil {
			cmd.Process.Kill()
			cmd.Wait()
			started <- err
			return
		}
		p.mu.Lock()
		p.pid = cmd.Process.Pid
		p.mu.Unlock()
		started <- nil
		ended <- p.wait(cmd)
	}()
	if err := <-started; err != nil {
		return 1, fmt.Errorf("start %s: %w", bin, err)
	}
	j.started = true
	defer context.AfterFunc(ctx, func() { p.kill(context.Cause(ctx)) })()
	go p.pumpIn(std.In) // ends with the process's input, or the client's: the channel is closed after run
	var pumps sync.WaitGroup
	pumps.Go(func() { p.pump(std.Out, p.out, false) })
	pumps.Go(func() { p.pump(j.stderr, p.errs, true) })
	code := <-ended
	pumps.Wait() // the whole group has been killed: both come to an end, or ctx closes what they write to
	p.mu.Lock()
	defer p.mu.Unlock()
	return code, p.reason
}

// credential is whom the program runs as: the account's uid and gid, where the server may choose; never root.
func (j *job) credential() (*syscall.Credential, error) {
	uid := os.Geteuid()
	if uid != 0 {
		return nil, nil
	}
	if j.tree.UID > 0 {
		uid = j.tree.UID
	}
	gid := uid
	if j.tree.GID > 0 {
		gid = j.tree.GID
	}
	if uid == 0 || gid == 0 {
		return nil, errRoot
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// limit bounds what the process may use, before the first byte of the client reaches it. The calling thread is
// locked to its goroutine.
func (j *job) limit(pid int, cred *syscall.Credential) error {
	prlimit(pid, unix.RLIMIT_CORE, 0, cred) // a comfort
	largest := j.tree.Single
	if j.tree.Room > 0 && (largest == 0 || j.tree.Room < largest) {
		largest = j.tree.Room
	}
	if largest <= 0 {
		return nil
	}
	if err := prlimit(pid, unix.RLIMIT_FSIZE, uint64(largest), cred); err != nil {
		return fmt.Errorf("limit the size of files: %w", err)
	}
	return nil
}

// prlimit sets a limit of a process. Root without CAP_SYS_RESOURCE, as containers have it, may do so where its real
// ids are the process's: this thread's are, for the time of the call. They are set by bare system calls, which
// leave the other threads alone.
func prlimit(pid, what int, max uint64, cred *syscall.Credential) error {
	set := func() error { return unix.Prlimit(pid, what, &unix.Rlimit{Cur: max, Max: max}, nil) }
	err := set()
	if !errors.Is(err, unix.EPERM) || cred == nil {
		return err
	}
	const same = ^uintptr(0)
	real := func(uid, gid uintptr) error {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, gid, same, same); errno != 0 {
			return errno
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, same, same); errno != 0 {
			return errno
		}
		return nil
	}
	uid, gid := uintptr(os.Getuid()), uintptr(os.Getgid())
	if err := real(uintptr(cred.Uid), uintptr(cred.Gid)); err != nil {
		return err
	}
	err = set()
	return errors.Join(err, real(uid, gid))
}

// pipes makes the three streams and gives the process's ends.
func (p *process) pipes() (theirs [3]*os.File, err error) {
	for i, ours := range []**os.File{&p.in, &p.out, &p.errs} {
		r, w, perr := os.Pipe()
		if perr != nil {
			for _, f := range theirs {
				f.Close()
			}
			p.closePipes()
			return theirs, perr
		}
		theirs[i], *ours = w, r
		if i == 0 {
			theirs[i], *ours = r, w
		}
	}
	return theirs, nil
}

func (p *process) closePipes() {
	for _, f := range []*os.File{p.in, p.out, p.errs} {
		f.Close()
	}
}

// wait waits for the process, ends what it started, and gives its status. Until it is reaped its group's number
// is nobody else's.
func (p *process) wait(cmd *exec.Cmd) int {
	for {
		err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	syscall.Kill(-p.pid, syscall.SIGKILL)
	p.pid = 0
	p.mu.Unlock()
	cmd.Wait()
	code := cmd.ProcessState.ExitCode()
	if code < 0 { // a signal
		code = 128 + int(cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
	}
	return code
}

// fail tells the client why, before it sees its program end, and ends the process.
func (p *process) fail(reason error) {
	p.tell(reason)
	p.kill(reason)
}

// kill ends the process and all that it started. It has endWait to take away its temporary files and locks.
func (p *process) kill(reason error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid == 0 || p.reason != nil {
		return
	}
	if p.reason = reason; reason == nil {
		p.reason = context.Canceled
	}
	syscall.Kill(-p.pid, syscall.SIGTERM)
	time.AfterFunc(endWait, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.pid != 0 {
			syscall.Kill(-p.pid, syscall.SIGKILL)
		}
	})
}

// pumpIn gives the process what the client sends.
func (p *process) pumpIn(from io.Reader) {
	buf := make([]byte, chunk)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if perr := p.tree.Pass(n, true); perr != nil {
				p.fail(perr)
				return
			}
			if _, werr := p.in.Write(buf[:n]); werr != nil {
				return // it reads no more
			}
		}
		if err != nil {
			p.in.Close()
			return
		}
	}
}

// pump gives the client what the process writes. What does not arrive ends the process.
func (p *process) pump(to io.Writer, from *os.File, isErr bool) {
	buf := make([]byte, chunk)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			var perr error
			if !isErr {
				perr = p.tree.Pass(n, false)
			}
			if perr == nil {
				_, perr = to.Write(buf[:n])
			}
			if perr != nil {
				p.fail(perr)
				io.Copy(io.Discard, from)
				return
			}
		}
		if err != nil {
			return
		}
	}
}
