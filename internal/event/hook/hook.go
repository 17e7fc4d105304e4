// Package hook asks programs and HTTP services that the configuration names (hooks.md 0).
//
// Only the configuration names a hook; what peers send goes into the environment, standard input, the query
// or the body, never into an argument, a shell or an address (HOOK-1, HOOK-2). Time, output and the number of
// hooks at work are bounded. Whatever is not a clear success is an error, and errors show no value that was
// handed over.
package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// The bounds of every hook.
const (
	maxAnswer = 1 << 20
	maxAtWork = 64 // of one name
	// endWait is for what a program left behind with its output open.
	endWait = time.Second
)

// Runner runs hooks. Safe for concurrent use.
type Runner struct {
	cfg    Config
	client *http.Client
	log    *slog.Logger

	mu    sync.Mutex               // guards slots
	slots map[string]chan struct{} // by the hook's name: one that hangs holds no other up
}

// New makes a Runner.
func New(cfg Config, log *slog.Logger) (*Runner, error) {
	if err := errors.Join(cfg.Command.Validate(), cfg.HTTP.Validate()); err != nil {
		return nil, err
	}
	transport, err := cfg.transport()
	if err != nil {
		return nil, err
	}
	return &Runner{cfg: cfg, log: log, slots: map[string]chan struct{}{}, client: &http.Client{
		Transport: transport,
		// A redirect would carry the secrets of the body to a place that nobody configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close drops the idle connections.
func (r *Runner) Close() { r.client.CloseIdleConnections() }

// Check says what is wrong with a hook's address: it is an http(s) URL or the absolute path of a program.
func Check(target string) error {
	if IsHTTP(target) {
		u, err := url.Parse(target)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return errors.New("not an http or https URL")
		}
		return nil
	}
	if !filepath.IsAbs(target) {
		return fmt.Errorf("%q is neither a URL nor an absolute path", target)
	}
	if _, err := exec.LookPath(target); err != nil {
		return fmt.Errorf("the program cannot be run: %w", err)
	}
	return nil
}

// IsHTTP reports whether a hook is a service; else it is a program.
func IsHTTP(target string) bool { return strings.HasPrefix(target, "http") }

// Call is one use of a hook.
type Call struct {
	Hook   string // one of the names
	Target string // URL or program
	Env    []string
	// Of a request. Method "" is POST; Query is added to the URL's own.
	Method string
	Query  url.Values
	Body   []byte // JSON
	Retry  bool   // tried again after transport errors and 5xx
	// NoContent: status 204 is an empty answer. Else only 200 is a success.
	NoContent bool
	// Answer: the program's output matters. Without it a program may leave others behind.
	Answer bool
}

// Do runs the hook and gives its answer, at most 1 MiB.
func (r *Runner) Do(ctx context.Context, c Call) ([]byte, error) {
	if r.cfg.Observe == nil {
		return r.do(ctx, c)
	}
	begun := time.Now()
	data, err := r.do(ctx, c)
	r.cfg.Observe(c.Hook, time.Since(begun), err)
	return data, err
}

func (r *Runner) do(ctx context.Context, c Call) ([]byte, error) {
	release, err := r.enter(ctx, c.Hook)
	if err != nil {
		return nil, err
	}
	defer release()
	if IsHTTP(c.Target) {
		return r.request(ctx, c)
	}
	return r.run(ctx, c)
}

// enter waits for one of the name's places, at most as long as a program may take.
func (r *Runner) enter(ctx context.Context, name string) (release func(), err error) {
	r.mu.Lock()
	slots := r.slots[name]
	if slots == nil {
		slots = make(chan struct{}, maxAtWork)
		r.slots[name] = slots
	}
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(r.cfg.Command.Timeout)*time.Second)
	defer cancel()
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("hook: %s: %d are at work already: %w", name, maxAtWork, ctx.Err())
	}
}

// command prepares a program in a group of its own that is killed with ctx.
func (r *Runner) command(ctx context.Context, c Call, env, args []string) (*exec.Cmd, error) {
	if !filepath.IsAbs(c.Target) {
		return nil, fmt.Errorf("hook: %q is not an absolute path", c.Target)
	}
	for _, kv := range c.Env {
		if strings.ContainsRune(kv, 0) {
			return nil, errors.New("hook: a value holds a NUL byte")
		}
	}
	cmd := exec.CommandContext(ctx, c.Target, args...)
	cmd.Env = append(append([]string{}, env...), c.Env...)
	cmd.WaitDelay = endWait
	ownGroup(cmd)
	return cmd, nil
}

func (r *Runner) run(ctx context.Context, c Call) ([]byte, error) {
	wait, env, args := r.cfg.Command.of(c.Target, c.Hook)
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	cmd, err := r.command(ctx, c, env, args)
	if err != nil {
		return nil, err
	}
	var out bounded
	var said lines
	if c.Answer {
		cmd.Stdout, cmd.Stderr = &out, &said
	}
	err = cmd.Run()
	said.log(r.log, c)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("hook: %s: %w", c.Target, ctx.Err())
	case out.over:
		return nil, fmt.Errorf("hook: %s: the answer is longer than %d bytes", c.Target, maxAnswer)
	case err != nil:
		return nil, fmt.Errorf("hook: %s: %w", c.Target, err)
	}
	return out.b, nil
}

// bounded keeps at most maxAnswer bytes; more ends the program. It embeds no buffer: one's ReadFrom would
// pass the bound by.
type bounded struct {
	b    []byte
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(b.b)+len(p) > maxAnswer {
		b.over = true
		return 0, errors.New("the answer is too long")
	}
	b.b = append(b.b, p...)
	return len(p), nil
}

// lines keeps the beginning of what a program says of errors; the rest is read and forgotten.
type lines struct{ b []byte }

const maxSaid = 4096

func (l *lines) Write(p []byte) (int, error) {
	l.b = append(l.b, p[:min(len(p), maxSaid-len(l.b))]...)
	return len(p), nil
}

func (l *lines) log(log *slog.Logger, c Call) {
	for line := range strings.Lines(string(l.b)) {
		if line = strings.TrimSpace(line); line != "" {
			log.Warn("a hook's program writes to its standard error", "hook", c.Hook, "text", strings.ToValidUTF8(line, "?"))
		}
	}
}

// request asks a service, again where the call says so.
func (r *Runner) request(ctx context.Context, c Call) ([]byte, error) {
	u, err := url.Parse(c.Target)
	if err != nil {
		return nil, errors.New("hook: not a URL")
	}
	shown := u.Scheme + "://" + u.Host + u.Path // without credentials and query
	if len(c.Query) > 0 {
		q := u.Query()
		for k, v := range c.Query {
			q[k] = v
		}
		u.RawQuery = q.Encode()
	}
	pause := time.Duration(r.cfg.HTTP.RetryWaitMin) * time.Second
	for try := 0; ; try++ {
		data, again, err := r.once(ctx, c, u, shown)
		if err == nil || !c.Retry || !again || try >= r.cfg.HTTP.RetryMax || ctx.Err() != nil {
			return data, err
		}
		r.log.Debug("a hook is tried again", "hook", c.Hook, "url", shown, "error", err)
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, err
		case <-t.C:
		}
		pause = min(2*pause, time.Duration(r.cfg.HTTP.RetryWaitMax)*time.Second)
	}
}

// once is one try. again: another may have another end.
func (r *Runner) once(ctx context.Context, c Call, u *url.URL, shown string) (data []byte, again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(r.cfg.HTTP.Timeout*float64(time.Second)))
	defer cancel()
	method := c.Method
	if method == "" {
		method = http.MethodPost
	}
	var body io.Reader
	if method != http.MethodGet {
		body = bytes.NewReader(c.Body)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, false, fmt.Errorf("hook: %s: not a request", shown)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range r.cfg.HTTP.Headers {
		if h.Key != "" && h.Value != "" && strings.HasPrefix(c.Target, h.URL) {
			req.Header.Set(h.Key, h.Value)
		}
	}
	resp, err := r.client.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // its text has the whole URL
		}
		return nil, true, fmt.Errorf("hook: %s: %w", shown, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent && c.NoContent {
		return nil, false, nil
	}
	if resp.StatusCode != http.StatusOK {
		return nil, resp.StatusCode >= 500, fmt.Errorf("hook: %s: status %d, want 200", shown, resp.StatusCode)
	}
	data, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, true, fmt.Errorf("hook: %s: %w", shown, err)
	}
	if len(data) > maxAnswer {
		return nil, false, fmt.Errorf("hook: %s: the answer is longer than %d bytes", shown, maxAnswer)
	}
	return data, false, nil
}
