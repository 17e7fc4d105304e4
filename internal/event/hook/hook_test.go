//go:build unix

package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newRunner(t *testing.T, change func(*Config)) (*Runner, *bytes.Buffer) {
	c := DefaultConfig()
	c.Command.Timeout, c.HTTP.Timeout, c.HTTP.RetryWaitMin, c.HTTP.RetryWaitMax = 1, 1, 0, 0
	if change != nil {
		change(&c)
	}
	var log bytes.Buffer
	r, err := New(c, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r, &log
}

func script(t *testing.T, text string) string {
	file := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

// HOOK-1, HOOK-2: the environment is what was configured, and arguments are fixed.
func TestProgramGetsNothingElse(t *testing.T) {
	t.Setenv("LEAKED", "secret")
	p := script(t, `echo "$# $1 $A $B $C $LEAKED"; echo "not good" >&2`)
	r, log := newRunner(t, func(c *Config) {
		c.Command.Env = []string{"A=a"}
		c.Command.Commands = []Command{{Path: p, Args: []string{"for all"}, Env: []string{"B=all"}}, {Path: p, Hook: PreLogin, Args: []string{"x y"}, Env: []string{"B=b"}}}
	})
	for name, want := range map[string]string{PreLogin: "1 x y a b $(id) ", ExternalAuth: "1 for all a all $(id) "} {
		out, err := r.Do(t.Context(), Call{Hook: name, Target: p, Env: []string{"C=$(id)"}, Answer: true})
		if err != nil || string(out) != want+"\n" {
			t.Errorf("%s: %q, %v; want %q", name, out, err, want)
		}
	}
	if !strings.Contains(log.String(), "not good") {
		t.Error("standard error is not logged")
	}
	for _, c := range []Call{{Target: "relative"}, {Target: p, Env: []string{"C=a\x00b"}}, {Target: "/does/not/exist"}} {
		if _, err := r.Do(t.Context(), c); err == nil {
			t.Errorf("%q ran", c.Target)
		}
	}
}

// HOOK-1: the whole group is killed at the deadline.
func TestProgramIsKilledWithWhatItStarted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	p := script(t, "/bin/sleep 60 & echo $! > "+file+".new; /bin/mv "+file+".new "+file+"; wait")
	r, _ := newRunner(t, nil)
	start := time.Now()
	_, err := r.Do(t.Context(), Call{Target: p, Answer: true})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 20*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); syscall.Kill(pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if state, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); bytes.Contains(state, []byte(") Z ")) {
			break // killed, and nobody has asked for it
		}
		if time.Now().After(end) {
			t.Fatal("the child lives")
		}
	}
}

func TestAnswersAreBounded(t *testing.T) { // RES-1
	r, _ := newRunner(t, nil)
	if _, err := r.Do(t.Context(), Call{Target: script(t, "/usr/bin/head -c 1048577 /dev/zero"), Answer: true}); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Error(err)
	}
	out, err := r.Do(t.Context(), Call{Target: script(t, "/usr/bin/head -c 1048576 /dev/zero"), Answer: true})
	if err != nil || len(out) != 1<<20 {
		t.Error(len(out), err)
	}
	d, err := r.Talk(t.Context(), Call{Target: script(t, "/usr/bin/head -c 100000 /dev/zero")})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if line, err := d.Line(); err == nil {
		t.Errorf("a line of %d bytes", len(line))
	}
}

func TestServiceIsAskedAgainOnlyWhereSaid(t *testing.T) {
	var n atomic.Int32
	status := 500
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		n.Add(1)
		u, p, _ := req.BasicAuth()
		if u+p != "up" || req.URL.RawQuery != "a=1&b=2" || req.Header.Get("X-K") != "v" || req.Header.Get("X-Other") != "" {
			t.Errorf("%s %v %v", u, req.URL, req.Header)
		}
		w.WriteHeader(status)
	}))
	defer s.Close()
	target := strings.Replace(s.URL, "://", "://u:p@", 1) + "/?a=1"
	r, _ := newRunner(t, func(c *Config) {
		c.HTTP.RetryMax = 2
		c.HTTP.Headers = []Header{{Key: "X-K", Value: "v", URL: target}, {Key: "X-Other", Value: "v", URL: "http://elsewhere"}, {Key: "", Value: "v"}}
	})
	q := url.Values{"b": {"2"}}
	for _, c := range []struct {
		status  int
		retry   bool
		content bool
		tries   int32
		ok      bool
	}{{500, true, false, 3, false}, {500, false, false, 1, false}, {404, true, false, 1, false}, {204, true, false, 1, false}, {204, false, true, 1, true}, {201, false, true, 1, false}, {200, true, false, 1, true}} {
		n.Store(0)
		status = c.status
		_, err := r.Do(t.Context(), Call{Target: target, Query: q, Retry: c.retry, NoContent: c.content})
		if n.Load() != c.tries || (err == nil) != c.ok {
			t.Errorf("%+v: %d tries, %v", c, n.Load(), err)
		}
		if err != nil && strings.Contains(err.Error(), "u:p") { // LOG-1
			t.Error(err)
		}
	}
}

func TestClientTrustsWhatIsConfigured(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	s.Config.ErrorLog = nil
	r, _ := newRunner(t, nil)
	if _, err := r.Do(t.Context(), Call{Target: s.URL}); err == nil {
		t.Error("an unknown authority was trusted")
	}
	r, _ = newRunner(t, func(c *Config) { c.HTTP.SkipTLSVerify = true })
	if _, err := r.Do(t.Context(), Call{Target: s.URL}); err != nil {
		t.Error(err)
	}
	c := DefaultConfig()
	c.HTTP.CACertificates = []string{"missing.pem"}
	if _, err := New(c, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a missing file of authorities was ignored") // AUTH-5
	}
}

func TestOneHookHoldsNoOtherUp(t *testing.T) {
	r, _ := newRunner(t, nil)
	var releases []func()
	for range maxAtWork {
		f, err := r.enter(t.Context(), PostConnect)
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, f)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.enter(ctx, PostConnect); err == nil {
		t.Error("more are at work than may be")
	}
	f, err := r.enter(t.Context(), PreLogin)
	if err != nil {
		t.Fatal(err)
	}
	f()
	for _, f := range releases {
		f()
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"command.timeout: ":            func(c *Config) { c.Command.Timeout = 0 },
		"command.env[0]":               func(c *Config) { c.Command.Env = []string{"=x"} },
		"command.commands[0].path":     func(c *Config) { c.Command.Commands = []Command{{Path: "x"}} },
		"command.commands[0].timeout:": func(c *Config) { c.Command.Commands = []Command{{Path: "/x", Timeout: 301}} },
		"command.commands[0].hook":     func(c *Config) { c.Command.Commands = []Command{{Path: "/x", Hook: "nosuch"}} },
		"http.timeout":                 func(c *Config) { c.HTTP.Timeout = 0 },
		"http.retry_max":               func(c *Config) { c.HTTP.RetryMax = -1 },
		"http.headers[0]":              func(c *Config) { c.HTTP.Headers = []Header{{Key: "a\r\nb", Value: "c"}} },
	} {
		c := DefaultConfig()
		change(&c)
		if _, err := New(c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCallsAreObserved(t *testing.T) {
	type said struct {
		hook   string
		failed bool
	}
	var got []said
	r, _ := newRunner(t, func(c *Config) {
		c.Observe = func(hook string, d time.Duration, err error) {
			if d <= 0 {
				t.Errorf("%s took %v", hook, d)
			}
			got = append(got, said{hook, err != nil})
		}
	})
	r.Do(t.Context(), Call{Hook: Startup, Target: script(t, "exit 0\n")})
	r.Do(t.Context(), Call{Hook: PreLogin, Target: script(t, "exit 1\n")})
	if len(got) != 2 || got[0] != (said{Startup, false}) || got[1] != (said{PreLogin, true}) {
		t.Errorf("got %v", got)
	}
}
