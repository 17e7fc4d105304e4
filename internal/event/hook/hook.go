// Package hook asks programs and HTTP services that the configuration names (hooks.md 0).
//
// Only the configuration names a hook; what peers send goes into the environment or the body, never into
// an argument, a shell or an address (HOOK-1, HOOK-2). Time, output and the number of hooks at work are
// bounded. Whatever is not a clear success is an error, and errors show no value that was handed over.
package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The bounds of every hook.
const (
	maxAnswer = 1 << 20
	maxAtWork = 64
)

// Config says how hooks are run: parts of the sections "command" and "http".
type Config struct {
	CommandTimeout time.Duration // of a program
	HTTPTimeout    time.Duration // of a request
	Env            []string      // K=V of every program, which inherits nothing else
}

// Validate says what is wrong with c.
func (c Config) Validate() error {
	switch {
	case c.CommandTimeout < time.Second || c.CommandTimeout > 300*time.Second:
		return fmt.Errorf("command.timeout: must be between 1 and 300 seconds, it is %v", c.CommandTimeout)
	case c.HTTPTimeout <= 0 || c.HTTPTimeout > 300*time.Second:
		return fmt.Errorf("http.timeout: must be between 0 and 300 seconds, it is %v", c.HTTPTimeout)
	}
	for _, kv := range c.Env {
		if k, _, ok := strings.Cut(kv, "="); !ok || k == "" {
			return errors.New("command.env: an entry is not NAME=VALUE")
		}
	}
	return nil
}

// Runner runs hooks. Safe for concurrent use.
type Runner struct {
	cfg    Config
	client *http.Client
	slots  chan struct{}
}

// New makes a Runner.
func New(cfg Config) (*Runner, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	return &Runner{cfg: cfg, slots: make(chan struct{}, maxAtWork), client: &http.Client{
		Transport: transport,
		// A redirect would carry the secrets of the body to a place that nobody configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close drops the idle connections.
func (r *Runner) Close() { r.client.CloseIdleConnections() }

// Check says what is wrong with a hook's name: it is an http(s) URL or the absolute path of a program.
func Check(target string) error {
	if isHTTP(target) {
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

func isHTTP(target string) bool { return strings.HasPrefix(target, "http") }

// Ask hands env to a program, or body (JSON) to a service, and gives the answer, at most 1 MiB.
func (r *Runner) Ask(ctx context.Context, target string, env []string, body []byte) ([]byte, error) {
	wait := r.cfg.CommandTimeout
	if isHTTP(target) {
		wait = r.cfg.HTTPTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("hook: %d are at work already: %w", maxAtWork, ctx.Err())
	}
	if isHTTP(target) {
		return r.post(ctx, target, body)
	}
	return r.run(ctx, target, env)
}

func (r *Runner) run(ctx context.Context, program string, env []string) ([]byte, error) {
	for _, kv := range env {
		if strings.ContainsRune(kv, 0) {
			return nil, errors.New("hook: a value holds a NUL byte")
		}
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(append([]string{}, r.cfg.Env...), env...)
	cmd.WaitDelay = time.Second // for what the program left behind with its output open
	var out bounded
	cmd.Stdout = &out
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("hook: %s: %w", program, ctx.Err())
	case err != nil:
		return nil, fmt.Errorf("hook: %s: %w", program, err)
	}
	return out.Bytes(), nil
}

// bounded keeps at most maxAnswer bytes; more ends the program.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxAnswer {
		return 0, errors.New("the answer is too long")
	}
	return b.Buffer.Write(p)
}

func (r *Runner) post(ctx context.Context, target string, body []byte) ([]byte, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, errors.New("hook: not a URL")
	}
	shown := u.Scheme + "://" + u.Host + u.Path // without credentials and query
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("hook: %s: not a request", shown)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // its text has the whole URL
		}
		return nil, fmt.Errorf("hook: %s: %w", shown, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("hook: %s: status %d, want 200", shown, resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("hook: %s: %w", shown, err)
	}
	if len(data) > maxAnswer {
		return nil, fmt.Errorf("hook: %s: the answer is longer than %d bytes", shown, maxAnswer)
	}
	return data, nil
}
