package ssh

import (
	"context"
	"errors"
	"testing"

	gossh "golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/session"
)

// AUTH-1, AUTH-2: what follows a key is offered to who has proven that key, and carries it along.
func TestSecondStepCarriesTheFirst(t *testing.T) {
	mine, other := newKey(t), newKey(t)
	step := &session.Step{Next: []string{methodPassword, methodInteractive}}
	judge := func(a *session.Attempt) (login, error) {
		switch {
		case a.Method == methodPublicKey && string(a.PublicKey) == string(mine.PublicKey().Marshal()):
			return nil, step
		case a.Method == methodPassword && a.Prior == step && a.Password == "secret":
			return fakeLogin("alice"), nil
		case a.Method == methodInteractive && a.Prior == step:
			answers, err := a.Ask(context.Background(), "hello", []session.Question{{Text: "Code: "}, {Text: "Colour: ", Echo: true}})
			if err != nil || len(answers) != 2 || answers[0] != "Code: " || answers[1] != "Colour: " {
				return nil, errors.New("wrong answers")
			}
			return fakeLogin("alice"), nil
		}
		return nil, errors.New("no")
	}
	echo := gossh.KeyboardInteractive(func(_, _ string, questions []string, echos []bool) ([]string, error) {
		if len(echos) == 2 && (echos[0] || !echos[1]) {
			t.Errorf("echos are %v", echos)
		}
		return questions, nil
	})
	for name, c := range map[string]struct {
		auth     []gossh.AuthMethod
		password bool // of the configuration
		kbd      bool
		in       bool
	}{
		"key, password":              {[]gossh.AuthMethod{gossh.PublicKeys(mine), gossh.Password("secret")}, true, true, true},
		"key, questions":             {[]gossh.AuthMethod{gossh.PublicKeys(mine), echo}, true, true, true},
		"key, password switched off": {[]gossh.AuthMethod{gossh.PublicKeys(mine), gossh.Password("secret")}, false, true, false},
		"all switched off":           {[]gossh.AuthMethod{gossh.PublicKeys(mine), gossh.Password("secret"), echo}, false, false, false},
		"key alone":                  {[]gossh.AuthMethod{gossh.PublicKeys(mine)}, true, true, false},
		"password alone":             {[]gossh.AuthMethod{gossh.Password("secret")}, true, true, false},
		"questions alone":            {[]gossh.AuthMethod{echo}, true, true, false},
		"other key, password":        {[]gossh.AuthMethod{gossh.PublicKeys(other), gossh.Password("secret")}, true, true, false},
		"key, wrong password":        {[]gossh.AuthMethod{gossh.PublicKeys(mine), gossh.Password("wrong")}, true, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, func(cfg *Config, b *fakeBackend) {
				cfg.PasswordAuthentication, cfg.KeyboardInteractive, b.judge = c.password, c.kbd, judge
			})
			client, err := s.dial(t, func(cfg *gossh.ClientConfig) { cfg.Auth = c.auth })
			if (err == nil) != c.in {
				t.Fatalf("got %v, want in: %v", err, c.in)
			}
			if err == nil {
				client.Close()
			}
		})
	}
}
