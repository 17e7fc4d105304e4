package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/auth"
)

// Login proves an administrator's password and code. A failure is told to the defender and held back; its error is
// ErrCredentials, whatever it was, or one that says that nobody could be asked.
func (s *Service) Login(ctx context.Context, name, password, code string, remote netip.Addr) (*account.Admin, error) {
	a, err := s.Auth.AuthenticateAdmin(ctx, s.Store, s.Rules.Name(name), password, code, remote)
	if err != nil {
		s.Sessions.Refused(ctx, remote, account.ProtocolHTTP, name, account.MethodPassword, err)
		return nil, credentialError(err)
	}
	s.Log.Info("administrator logged in", "username", a.Username, "ip", ipText(remote))
	a.LastLogin = s.Now().UnixMilli()
	s.noteAdminLogin(ctx, &a)
	return &a, nil
}

// lastLoginEvery is how often the time of a login is written at most.
const lastLoginEvery = 10 * 60 * 1000

// noteAdminLogin writes the time of the login. It may fail: who could log in is not kept out by a busy store.
func (s *Service) noteAdminLogin(ctx context.Context, a *account.Admin) {
	err := account.Edit(ctx, s.Store, a.Username, func(now *account.Admin) error {
		if a.LastLogin-now.LastLogin < lastLoginEvery {
			return errUnchanged
		}
		now.LastLogin = a.LastLogin
		return nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		s.Log.Warn("the time of a login was not written", "username", a.Username, "error", err)
	}
}

var errUnchanged = errors.New("nothing to change")

// Current is an administrator who has proven who they are before, as they are now.
func (s *Service) Current(ctx context.Context, name string, remote netip.Addr) (*account.Admin, error) {
	a, err := s.Auth.CurrentAdmin(ctx, s.Store, name, remote)
	if err != nil {
		return nil, credentialError(err)
	}
	return &a, nil
}

// credentialError tells a refusal from a server that cannot say.
func credentialError(err error) error {
	if d, ok := errors.AsType[*auth.Denied](err); ok && (d.Reason == auth.ReasonStore || d.Reason == auth.ReasonBusy || d.Reason == auth.ReasonCanceled) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrCredentials, err)
}

// HasAdmin reports whether there is an administrator.
func (s *Service) HasAdmin(ctx context.Context) (bool, error) {
	list, err := s.Store.ListRecords(ctx, account.KindAdmin, account.Page{Limit: 1})
	return len(list) > 0, err
}

// SetupToken makes the one-time token that CreateFirstAdmin takes.
func (s *Service) SetupToken() string {
	token := strings.ToLower(rand.Text()) // 128 bits (CRY-1)
	sum := sha256.Sum256([]byte(token))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setup = sum[:]
	return token
}

// CreateFirstAdmin makes the first administrator, with all permissions, for who knows the set-up token. It is refused
// when there is one already.
func (s *Service) CreateFirstAdmin(ctx context.Context, token, name, password string, remote netip.Addr) (*account.Admin, error) {
	sum := sha256.Sum256([]byte(token))
	s.mu.Lock()
	known := s.setup != nil && subtle.ConstantTimeCompare(sum[:], s.setup) == 1
	s.mu.Unlock()
	if !known {
		s.Sessions.Refused(ctx, remote, account.ProtocolHTTP, "", "setup", errors.New("the set-up token is wrong or was used"))
		return nil, ErrCredentials
	}
	a, err := s.AddFirstAdmin(ctx, name, password, remote)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.setup = nil
	s.mu.Unlock()
	return a, nil
}

// AddFirstAdmin makes the first administrator.
func (s *Service) AddFirstAdmin(ctx context.Context, name, password string, remote netip.Addr) (*account.Admin, error) {
	if have, err := s.HasAdmin(ctx); err != nil {
		return nil, err
	} else if have {
		return nil, fmt.Errorf("%w: there is an administrator already", ErrForbidden)
	}
	if err := s.checkAdminPassword(name, password); err != nil {
		return nil, err
	}
	a := &account.Admin{Username: s.Rules.Name(name), Password: password, Status: 1, Permissions: []string{account.PermAny}}
	if err := account.Add(ctx, s.Store, a); err != nil {
		return nil, err
	}
	stored, err := account.Get[account.Admin](ctx, s.Store, a.Username)
	if err != nil {
		return nil, err
	}
	told := stored
	by := System()
	by.Remote = remote
	s.changed(by, "add", account.KindAdmin, stored.Username, &told)
	return &stored, nil
}

// checkAdminPassword refuses a plain password that is too weak.
func (s *Service) checkAdminPassword(name, plain string) error {
	if plain == "" || s.CheckAdminPassword == nil || account.IsAdminHash(plain) {
		return nil
	}
	if err := s.CheckAdminPassword(plain); err != nil {
		return &account.ValidationError{Kind: string(account.KindAdmin), Name: name, Field: "password", Code: "weak", Text: err.Error()}
	}
	return nil
}
