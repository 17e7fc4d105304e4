package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gantryhq/gantry/internal/account"
)

// Step is the outcome of a credential that is right and not enough: the account wants another one on the
// same connection. It is an error, so that nobody takes it for a login. Immutable.
type Step struct {
	// Next are the methods that may follow: account.MethodPassword, account.MethodKeyboardInteractive.
	Next []string

	id       *Identity
	username string // as typed
}

func (s *Step) Error() string { return "another credential is needed: " + strings.Join(s.Next, " or ") }

// Question is one prompt of keyboard-interactive (RFC 4256).
type Question struct {
	Text string
	Echo bool // the answer may be shown
}

// LoginMethod is how a login by t would be called: two steps have a name of their own.
func (t *Attempt) LoginMethod() string {
	if t.Prior != nil {
		return account.MethodPublicKey + "+" + t.Method
	}
	return t.Method
}

// nextSteps are the methods that must follow a public key, none if the key alone decides: only where every
// single method is denied does the account ask for two (permissions-and-filters.md 8).
func (c *compiled) nextSteps() []string {
	denied := c.user.Filters.DeniedLoginMethods
	no := func(m string) bool { return slices.Contains(denied, m) }
	if !no(account.MethodPublicKey) || !no(account.MethodKeyboardInteractive) || !no(account.MethodPassword) && !no(account.MethodPasswordOverSSH) {
		return nil
	}
	var out []string
	if !no(account.MethodKeyAndPassword) {
		out = append(out, account.MethodPassword)
	}
	if !no(account.MethodKeyAndKeyboard) {
		out = append(out, account.MethodKeyboardInteractive)
	}
	return out
}

// step passes an account whose key is proven through what can be checked of it already. The error is a
// *Step, or a *Denied.
func (a *Authenticator) step(c *compiled, t *Attempt, id *Identity, next []string) error {
	at := *t
	at.Method = account.MethodPublicKey + "+" + next[0]
	at.factor = true // it is asked for at the step that can give it
	if err := c.admit(&at, a.now(), a.loc); err != nil {
		return err
	}
	return &Step{Next: next, id: id, username: t.Username}
}

// carry takes the restrictions of the step before along (AUTH-2): the key must still be one of the account,
// from this address and at this time.
func (a *Authenticator) carry(c *compiled, t *Attempt, id *Identity) error {
	p := t.Prior
	switch {
	case p.id == nil || p.id.key == "" || p.username != t.Username:
		return deny(ReasonMalformed, errors.New("the step before was another user's"))
	case p.id.User.Username != c.user.Username || p.id.User.ID != c.user.ID:
		return deny(ReasonMalformed, errors.New("the step before was another account's"))
	case !slices.Contains(c.nextSteps(), t.Method) || !slices.Contains(p.Next, t.Method):
		return deny(ReasonMethod, fmt.Errorf("%s is not the step that follows", t.Method))
	}
	text, err := a.proveKey(c, []byte(p.id.key), t)
	if err != nil {
		return deny(ReasonKey, err)
	}
	id.KeyFingerprint, id.key = text, p.id.key
	return nil
}

// proveKey finds the key among the account's, or checks the certificate. The text describes it.
func (a *Authenticator) proveKey(c *compiled, wire []byte, t *Attempt) (string, error) {
	if isCertificate(wire) {
		return a.trust.Load().check(wire, c.user.Username, t.Remote, a.now())
	}
	k, err := c.keys.find(wire, t.Remote, a.now())
	if err == nil && a.trust.Load().revokesKey(wire) {
		err = fmt.Errorf("the key %s is revoked", k.fingerprint)
	}
	return k.fingerprint, err
}

// proveSecret proves the password, the code of the second factor, or both. proven: the source has checked
// the password itself.
func (a *Authenticator) proveSecret(ctx context.Context, c *compiled, t *Attempt, id *Identity, proven bool) error {
	u, plain, code := c.user, t.Password, t.Code
	interactive := t.Method == account.MethodKeyboardInteractive
	if interactive && t.Ask != nil && a.hooks.Interactive != "" && t.Protocol == account.ProtocolSSH {
		return a.interactive(ctx, u, t, id)
	}
	second := c.hasFactor(t.Protocol) && (interactive || t.Protocol != account.ProtocolSSH)
	if !(interactive && t.Prior != nil && second) { // after a key only the code is asked for
		if interactive && t.Ask != nil {
			var err error
			if plain, err = a.askPassword(ctx, t); err != nil {
				return err
			}
		}
		if second && t.Protocol == account.ProtocolFTP {
			n := len(plain) - totpDigits
			if n < 1 {
				a.dummy(ctx, u.Username, plain)
				return deny(ReasonSecondFactor, ErrCodeNeeded)
			}
			plain, code = plain[:n], plain[n:]
		}
		if !proven {
			if err := a.password(ctx, u, plain, t); err != nil {
				return err
			}
		}
	}
	if !second {
		return nil
	}
	if interactive && t.Ask != nil {
		answer, err := ask(ctx, t, Question{Text: "Authentication code: "})
		if err != nil {
			return err
		}
		code = answer
	}
	if code == "" {
		return deny(ReasonSecondFactor, ErrCodeNeeded)
	}
	if err := a.factors.check(ctx, u, t.Remote, code, a.now()); err != nil {
		return err
	}
	id.factor = true
	return nil
}

// hasFactor reports whether the account has enrolled a second factor for a protocol.
func (c *compiled) hasFactor(protocol string) bool {
	t := &c.user.Filters.TOTPConfig
	return t.Enabled && slices.Contains(t.Protocols, protocol)
}

// askPassword asks for the password, with the bounds of every password.
func (a *Authenticator) askPassword(ctx context.Context, t *Attempt) (string, error) {
	plain, err := ask(ctx, t, Question{Text: "Password: "})
	if err != nil {
		return "", err
	}
	return plain, checkPassword(plain)
}

func ask(ctx context.Context, t *Attempt, q Question) (string, error) {
	answers, err := t.Ask(ctx, "", []Question{q})
	if err != nil {
		return "", deny(ReasonCanceled, err)
	}
	if len(answers) != 1 {
		return "", deny(ReasonMalformed, fmt.Errorf("%d answers to one question", len(answers)))
	}
	return answers[0], nil
}
