package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/ssh/command"
	"github.com/gantryhq/gantry/vfs"
)

// Names are the commands that can be run.
func Names() []string {
	out := []string{"rsync"}
	for name := range gitVerbs {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// maxPrograms is how many run at a time, of all clients.
const maxPrograms = 64

// Runner runs programs. Its zero value is not usable. Safe for concurrent use.
type Runner struct {
	places chan struct{}
	log    *slog.Logger
}

// NewRunner makes a Runner.
func NewRunner(log *slog.Logger) *Runner {
	return &Runner{places: make(chan struct{}, maxPrograms), log: log}
}

// Run runs one command to its end, or that of ctx, and gives its exit status. words is the split line, its first
// one of Names. What went wrong stands on std.Err. A read of std.In may be left behind: it ends with the channel.
func (r *Runner) Run(ctx context.Context, s *session.Session, words []string, std command.Streams) int {
	var once sync.Once
	tell := func(err error) {
		once.Do(func() { fmt.Fprintf(std.Err, "%s: %s\n", words[0], explain(err)) })
	}
	j, err := plan(ctx, s, words)
	if err == nil {
		select {
		case r.places <- struct{}{}:
			defer func() { <-r.places }()
		default:
			err = errBusy
		}
	}
	code := 1
	if err == nil {
		j.tell, j.stderr = tell, &saying{to: std.Err, left: maxStderr}
		code, err = j.run(ctx, std)
	}
	if j != nil && !j.started {
		j.tree.Drop()
	} else if j != nil {
		wrong := err
		if wrong == nil && code != 0 {
			wrong = fmt.Errorf("%s ended with status %d", words[0], code)
		}
		// What the program did is told and counted, also when the client has gone.
		if cerr := j.tree.Close(context.WithoutCancel(ctx), words[0], wrong); cerr != nil {
			r.log.Error("program", "conn", s.ID(), "user", s.Username(), "command", words[0], "err", cerr)
		}
	}
	if err != nil {
		tell(err)
	}
	said := ""
	if j != nil && j.stderr != nil {
		said = j.stderr.String()
	}
	r.log.Info("program ended", "conn", s.ID(), "user", s.Username(), "command", words[0], "status", code, "stderr", said, "err", err)
	return code
}

// job is one run. Owned by the goroutine of Run, but for what says otherwise.
type job struct {
	program string // to be found in PATH
	args    []string
	env     []string
	tree    *session.LocalTree
	write   bool
	links   bool // it may make symbolic links
	started bool
	stderr  *saying
	tell    func(error) // tells the client, the first time; any goroutine
}

// Errors that have a text of their own for the client.
var (
	errBusy      = errors.New("too many programs are running")
	errNoConfine = errors.New("this system cannot confine programs")
	errRoot      = errors.New("programs do not run as root: the account needs a uid")
	errMissing   = errors.New("not installed")
	errNoRepo    = errors.New("not a git repository")
)

// plan understands the words and takes the tree. On an error there is no job.
func plan(ctx context.Context, s *session.Session, words []string) (*job, error) {
	if words[0] == "rsync" {
		return planRsync(ctx, s, words[1:])
	}
	return planGit(ctx, s, words[0], words[1:])
}

func planGit(ctx context.Context, s *session.Session, verb string, args []string) (*job, error) {
	writes, ok := gitVerbs[verb]
	if !ok {
		return nil, fmt.Errorf("%w: unknown command", errUsage)
	}
	name, err := parseGit(args)
	if err != nil {
		return nil, err
	}
	p, err := command.Resolve(s, name)
	if err != nil {
		return nil, err
	}
	use := session.Use{Write: writes}
	tree, err := s.LocalTree(ctx, p, use) // asks for the rights before anything is told of what is there
	if errors.Is(err, fs.ErrNotExist) && !p.IsRoot() {
		if bare, cerr := p.Dir().Child(p.Base() + ".git"); cerr == nil {
			p = bare
			tree, err = s.LocalTree(ctx, p, use)
		}
	}
	if err != nil {
		return nil, err
	}
	if !isRepository(ctx, s, p) {
		tree.Drop()
		inner, cerr := p.Child(".git")
		if cerr != nil || !isRepository(ctx, s, inner) {
			return nil, errNoRepo
		}
		if tree, err = s.LocalTree(ctx, inner, use); err != nil {
			return nil, err
		}
	}
	return &job{
		program: "git", args: gitArgs(verb, tree.Room), env: gitEnv(s.Username()),
		tree: tree, write: writes,
	}, nil
}

// isRepository reports whether the directory looks like git's: what git asks for, too.
func isRepository(ctx context.Context, s *session.Session, dir vfs.Path) bool {
	for name, isDir := range map[string]bool{"HEAD": false, "objects": true, "refs": true} {
		p, err := dir.Child(name)
		if err != nil {
			return false
		}
		i, err := s.Stat(ctx, p)
		if err != nil || i.IsDir() != isDir {
			return false
		}
	}
	return true
}

func planRsync(ctx context.Context, s *session.Session, args []string) (*job, error) {
	c, err := parseRsync(args)
	if err != nil {
		return nil, err
	}
	p, err := command.Resolve(s, c.Path)
	if err != nil {
		return nil, err
	}
	use, inside := c.use(), p.IsRoot() || strings.HasSuffix(c.Path, "/") || strings.HasSuffix(c.Path, "/.") || c.Path == "." || c.Path == "~"
	target := "./"
	var tree *session.LocalTree
	if c.Sender {
		if use.Named = !inside; use.Named {
			target += p.Base()
		}
		tree, err = s.LocalTree(ctx, p, use)
	} else {
		tree, err = s.LocalTree(ctx, p, use)
		if (errors.Is(err, fs.ErrNotExist) || errors.Is(err, vfs.ErrNotDir)) && !p.IsRoot() {
			// It will be made, or written over: in the directory that holds it.
			target += p.Base()
			if inside {
				target += "/"
			}
			tree, err = s.LocalTree(ctx, p.Dir(), use)
		}
	}
	if err != nil {
		return nil, err
	}
	return &job{
		program: "rsync", args: c.args(target, tree.Links),
		tree: tree, write: use.Write, links: true,
	}, nil
}

// explain is what the client may read of an error.
func explain(err error) string {
	if r, ok := errors.AsType[*session.Refusal](err); ok {
		return printable(r.Error())
	}
	for _, known := range []error{errUsage, errBusy, errNoConfine, errRoot, errMissing, errNoRepo} {
		if errors.Is(err, known) {
			return printable(err.Error())
		}
	}
	switch {
	case errors.Is(err, session.ErrQuota):
		return "quota exceeded"
	case errors.Is(err, session.ErrReadQuota):
		return "download limit reached"
	}
	return command.Explain(err)
}

// maxStderr bounds what a client is shown of a program's standard error; maxSaid what the log keeps.
const (
	maxStderr = 64 << 10
	maxSaid   = 512
)

// saying passes a program's standard error on to the client, without what acts on a terminal, and keeps the
// beginning for the log.
type saying struct {
	to   io.Writer
	left int

	mu   sync.Mutex // guards said
	said []byte
}

func (w *saying) Write(p []byte) (int, error) {
	n := len(p)
	p = p[:min(n, w.left)]
	w.left -= len(p)
	clean := make([]byte, len(p))
	for i, b := range p {
		if b < ' ' && b != '\n' && b != '\r' && b != '\t' || b == 0x7f {
			b = '?'
		}
		clean[i] = b
	}
	w.mu.Lock()
	w.said = append(w.said, clean[:min(len(clean), maxSaid-len(w.said))]...)
	w.mu.Unlock()
	if _, err := w.to.Write(clean); err != nil {
		return 0, err
	}
	return n, nil
}

func (w *saying) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return printable(strings.TrimSpace(string(w.said)))
}

// printable fits on one line of a terminal (LOG-1).
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
