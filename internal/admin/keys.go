package admin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/auth"
)

// AdminKey proves an API key of an administrator: text is its id and secret, and may name the administrator whom a key
// of nobody stands for. The errors are ErrNoSuchKey, ErrCredentials, ErrForbidden and an *InputError.
func (s *Service) AdminKey(ctx context.Context, text string, remote netip.Addr) (*account.APIKey, *account.Admin, error) {
	k, name, err := s.useKey(ctx, text, account.APIKeyAdmin, remote)
	if err != nil {
		return nil, nil, err
	}
	a, err := s.Current(ctx, s.Rules.Name(name), remote)
	if err != nil {
		s.Sessions.Refused(ctx, remote, account.ProtocolHTTP, name, "api-key", err)
		return nil, nil, err
	}
	if !a.Filters.AllowAPIKeyAuth {
		return nil, nil, fmt.Errorf("%w: the administrator takes no API keys", ErrForbidden)
	}
	return k, a, nil
}

// UserKey proves an API key of a user and gives the user's name. That the user takes keys, and may come in at all, is
// the caller's to check.
func (s *Service) UserKey(ctx context.Context, text string, remote netip.Addr) (*account.APIKey, string, error) {
	return s.useKey(ctx, text, account.APIKeyUser, remote)
}

// useKey proves a key. Nothing of its text goes into an error or a log (KEY-1).
func (s *Service) useKey(ctx context.Context, text string, scope int, remote netip.Addr) (*account.APIKey, string, error) {
	part := strings.SplitN(text, ".", 3)
	if len(part) < 2 || len(text) > 1024 || part[0] == "" || part[1] == "" {
		return nil, "", invalid("the API key is malformed")
	}
	k, err := account.Get[account.APIKey](ctx, s.Store, part[0])
	if errors.Is(err, account.ErrNotFound) {
		s.Auth.Secret(ctx, "", "", part[1]) // costs what a wrong secret does
		s.Sessions.Refused(ctx, remote, account.ProtocolHTTP, "", "api-key", &auth.Denied{Reason: "unknown API key", Unknown: true})
		return nil, "", ErrNoSuchKey
	}
	if err != nil {
		return nil, "", err
	}
	if err := s.Auth.Secret(ctx, "key "+k.ID, k.Hash, part[1]); err != nil {
		s.Sessions.Refused(ctx, remote, account.ProtocolHTTP, k.ID, "api-key", err)
		return nil, "", credentialError(err)
	}
	now := s.Now().UnixMilli()
	if k.ExpiresAt > 0 && now > k.ExpiresAt {
		err := errors.New("the API key has expired")
		s.Sessions.Refused(ctx, remote, account.ProtocolHTTP, k.ID, "api-key", err)
		return nil, "", fmt.Errorf("%w: %w", ErrCredentials, err)
	}
	if k.Scope != scope {
		return nil, "", fmt.Errorf("%w: the API key is of another scope", ErrForbidden)
	}
	name := k.Admin
	if scope == account.APIKeyUser {
		name = k.User
	}
	if name == "" && len(part) == 3 {
		name = part[2]
	}
	if name == "" {
		return nil, "", fmt.Errorf("%w: the API key stands for no account, and names none", ErrCredentials)
	}
	s.noteKeyUse(ctx, &k, now)
	return &k, name, nil
}

// noteKeyUse writes the time of the last use, at most every ten minutes.
func (s *Service) noteKeyUse(ctx context.Context, k *account.APIKey, now int64) {
	if now-k.LastUseAt < lastLoginEvery {
		return
	}
	err := account.Edit(ctx, s.Store, k.ID, func(stored *account.APIKey) error {
		if now-stored.LastUseAt < lastLoginEvery {
			return errUnchanged
		}
		stored.LastUseAt = now
		return nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		s.Log.Warn("the time of a key's use was not written", "key", k.ID, "error", err)
	}
}
