package dav

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gantryhq/gantry/engine"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
)

// listenOn runs a server on the accounts of env and gives its address.
func listenOn(t testing.TB, env *sessiontest.Env) string {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Bindings[0].Address, cfg.Bindings[0].Port = "127.0.0.1", 1
	e, err := engine.New(engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(cfg, e, env.Server, nil, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), 0, l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		s.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// TestTranscripts plays what clients send, each file on one connection. A request is its "C:" lines, each ended by CRLF, and
// its "B:" line, the body, whose length is {LENGTH}. Of the answer the first "S:" is the status line, the others are fields
// that must be there; "S<" must stand in the body, "S!" must not. A {NAME} in what is expected takes a lock token, which
// it stands for from then on.
func TestTranscripts(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) < 3 {
		t.Fatal("there are no transcripts")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { playTranscript(t, file) })
	}
}

func playTranscript(t *testing.T, file string) {
	addr := listenOn(t, sessiontest.New(t, sessiontest.Options{}, sessiontest.User("u")))
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(30 * time.Second))
	in := bufio.NewReader(nc)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{
		"HOST": addr, "AUTH": "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("u:secret")),
	}
	expand := func(s string) string {
		for k, v := range values {
			s = strings.ReplaceAll(s, "{"+k+"}", v)
		}
		return s
	}
	var request, body, got string
	var answer *http.Response
	for i, line := range strings.Split(string(text), "\n") {
		at := fmt.Sprintf("%s:%d", file, i+1)
		verb, rest, _ := strings.Cut(line, " ")
		plain, err := strconv.Unquote(`"` + strings.ReplaceAll(rest, `"`, `\"`) + `"`)
		if err != nil {
			t.Fatal(at, err)
		}
		switch verb {
		case "", "#":
		case "C:":
			answer = nil
			request += plain + "\r\n"
		case "B:":
			body += plain
		case "S:":
			if answer == nil {
				values["LENGTH"] = strconv.Itoa(len(body))
				method, _, _ := strings.Cut(request, " ")
				if _, err := io.WriteString(nc, expand(request)+body); err != nil {
					t.Fatal(at, err)
				}
				if answer, err = http.ReadResponse(in, &http.Request{Method: method}); err != nil {
					t.Fatal(at, err)
				}
				b, err := io.ReadAll(answer.Body)
				if err != nil {
					t.Fatal(at, err)
				}
				got = string(b)
				if status := answer.Proto + " " + answer.Status; status != plain {
					t.Fatalf("%s: %s\n%s\nwant %s", at, status, got, plain)
				}
				request, body = "", ""
				continue
			}
			name, want, _ := strings.Cut(plain, ": ")
			have := answer.Header.Get(name)
			if m := regexp.MustCompile(`\{([A-Z]+)\}`).FindStringSubmatch(want); m != nil && values[m[1]] == "" {
				values[m[1]] = tokenPattern.FindString(have)
			}
			if have != expand(want) {
				t.Fatalf("%s: %s: %s, want %s", at, name, have, expand(want))
			}
		case "S<", "S!":
			if strings.Contains(got, expand(plain)) != (verb == "S<") {
				t.Fatalf("%s: %s in\n%s", at, line, got)
			}
		default:
			t.Fatalf("%s: %q", at, line)
		}
	}
	if request != "" {
		t.Fatalf("%s: a request without an answer at the end", file)
	}
}
