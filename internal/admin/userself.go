package admin

import (
	"context"
	"slices"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/secret"
)

// UserProfile is what a user changes of themselves.
type UserProfile struct {
	Email            string   `json:"email,omitempty"`
	AdditionalEmails []string `json:"additional_emails,omitempty"`
	Description      string   `json:"description,omitempty"`
	AllowAPIKeyAuth  bool     `json:"allow_api_key_auth"`
	PublicKeys       []string `json:"public_keys,omitempty"`
	TLSCerts         []string `json:"tls_certs,omitempty"`
}

// UserProfileOf is a user's own profile, of the record as it is stored (without its groups).
func (s *Service) UserProfileOf(ctx context.Context, name string) (UserProfile, error) {
	u, err := s.Store.User(ctx, name)
	if err != nil {
		return UserProfile{}, err
	}
	f := &u.Filters
	return UserProfile{u.Email, f.AdditionalEmails, u.Description, f.AllowAPIKeyAuth, u.PublicKeys, f.TLSCerts}, nil
}

// ownUser changes a user's own record.
func (s *Service) ownUser(ctx context.Context, by *Actor, fn func(u *account.User) error) error {
	if err := s.Store.EditUser(ctx, by.Name, func(u *account.User) error {
		if err := fn(u); err != nil {
			return err
		}
		u.UpdatedAt = s.Now().UnixMilli()
		return nil
	}); err != nil {
		return err
	}
	u, err := s.Store.User(ctx, by.Name)
	if err != nil {
		return err
	}
	s.changed(by, "update", account.KindUser, u.Username, &u)
	return nil
}

// SetUserProfile replaces the parts of a profile that u, merged with its groups, may change; the others stay. If it may
// change none the error is ErrForbidden.
func (s *Service) SetUserProfile(ctx context.Context, by *Actor, u *account.User, p UserProfile) error {
	may := func(option string) bool { return !slices.Contains(u.Filters.WebClient, option) }
	keys, certs := may("publickey-change-disabled"), may("tls-cert-change-disabled")
	api, info := may("api-key-auth-change-disabled"), may("info-change-disabled")
	if !keys && !certs && !api && !info {
		return ErrForbidden
	}
	return s.ownUser(ctx, by, func(u *account.User) error {
		f := &u.Filters
		if keys {
			u.PublicKeys = p.PublicKeys
		}
		if certs {
			f.TLSCerts = p.TLSCerts
		}
		if api {
			f.AllowAPIKeyAuth = p.AllowAPIKeyAuth
		}
		if info {
			u.Email, f.AdditionalEmails, u.Description = p.Email, p.AdditionalEmails, p.Description
		}
		return nil
	})
}

// SetUserKeys replaces the public keys of a user who may change them.
func (s *Service) SetUserKeys(ctx context.Context, by *Actor, keys []string) error {
	return s.ownUser(ctx, by, func(u *account.User) error {
		u.PublicKeys = keys
		return nil
	})
}

// ChangeUserPassword gives a user a new password. u is merged with its groups. Every token that was given before ends.
func (s *Service) ChangeUserPassword(ctx context.Context, by *Actor, u *account.User, c PasswordChange) error {
	if err := c.Check(); err != nil {
		return err
	}
	if err := s.ProveUser(ctx, by, u, c.Current); err != nil {
		return err
	}
	if account.IsHash(c.New) {
		return invalid("the new password must be given in clear")
	}
	if s.Rules.CheckPassword != nil {
		if err := s.Rules.CheckPassword(c.New, u.Filters.PasswordStrength); err != nil {
			return &account.ValidationError{Kind: "user", Name: u.Username, Field: "password", Code: "strength", Text: err.Error()}
		}
	}
	hash, err := s.Rules.HashPassword(ctx, c.New)
	if err != nil {
		return err
	}
	return s.ownUser(ctx, by, func(now *account.User) error {
		if now.Password != u.Password {
			return account.ErrChanged
		}
		now.Password, now.Filters.RequirePasswordChange = hash, false
		now.LastPasswordChange = max(s.Now().UnixMilli(), now.LastPasswordChange+1) // tokens are bound to it
		return nil
	})
}

// ProveUser has a user, merged with its groups, prove who they are once more, by their password (AUTH-7).
func (s *Service) ProveUser(ctx context.Context, by *Actor, u *account.User, plain string) error {
	return s.wrongPassword(ctx, by, s.Auth.Secret(ctx, "user "+u.Username, u.Password, plain))
}

// SaveUserTOTP switches a user's second factor on or off. u is merged with its groups. codes are new recovery codes, to
// be shown this once.
func (s *Service) SaveUserTOTP(ctx context.Context, by *Actor, u *account.User, c account.UserTOTPConfig) (codes []string, err error) {
	required := u.Filters.TwoFactorProtocols
	if !c.Enabled && len(required) > 0 {
		return nil, invalid("two-factor authentication is required for you")
	}
	if c.Enabled {
		if !s.hasTOTP(c.ConfigName) {
			return nil, invalid("there is no TOTP configuration %q", c.ConfigName)
		}
		for _, p := range required {
			if !slices.Contains(c.Protocols, p) {
				return nil, invalid("two-factor authentication is required for %s", p)
			}
		}
	}
	err = s.ownUser(ctx, by, func(u *account.User) error {
		f := &u.Filters
		if !c.Enabled {
			f.TOTPConfig, f.RecoveryCodes = account.UserTOTPConfig{}, nil
			return nil
		}
		if err := CheckTOTPSecret(c.Secret, f.TOTPConfig.Secret); err != nil {
			return err
		}
		next := c
		if next.Secret.Status != secret.Plain {
			next.Secret = f.TOTPConfig.Secret
		}
		f.TOTPConfig = next
		codes = EnoughCodes(&f.RecoveryCodes)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}

// ReplaceUserCodes gives a user new recovery codes, to be shown this once.
func (s *Service) ReplaceUserCodes(ctx context.Context, by *Actor) (codes []string, err error) {
	err = s.ownUser(ctx, by, func(u *account.User) error {
		if !u.Filters.TOTPConfig.Enabled {
			return ErrNoTOTP
		}
		codes, u.Filters.RecoveryCodes = NewRecoveryCodes()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}

// UserCodes are the recovery codes of a user, as far as they can be shown.
func (s *Service) UserCodes(ctx context.Context, name string) ([]ShownCode, error) {
	u, err := s.Store.User(ctx, name)
	if err != nil {
		return nil, err
	}
	if !u.Filters.TOTPConfig.Enabled {
		return nil, ErrNoTOTP
	}
	return ShownCodes(u.Filters.RecoveryCodes), nil
}
