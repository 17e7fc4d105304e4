package admin

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"image/png"
	"strings"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/auth"
	"github.com/gantryhq/gantry/internal/secret"
)

// Profile is what an administrator changes of themselves.
type Profile struct {
	Email           string `json:"email"`
	Description     string `json:"description"`
	AllowAPIKeyAuth bool   `json:"allow_api_key_auth"`
}

// ProfileOf is an administrator's own profile.
func ProfileOf(a *account.Admin) Profile {
	return Profile{a.Email, a.Description, a.Filters.AllowAPIKeyAuth}
}

// own changes the actor's own record. The hook hears that it was the administrator's own doing.
func (s *Service) own(ctx context.Context, by *Actor, fn func(a *account.Admin) error) error {
	self := *by
	_, err := putDoc(ctx, s, &self, by.Name, Edit{}, func(a *account.Admin) (*account.Admin, error) { return a, fn(a) })
	return err
}

// SetProfile replaces the actor's own profile.
func (s *Service) SetProfile(ctx context.Context, by *Actor, p Profile) error {
	return s.own(ctx, by, func(a *account.Admin) error {
		a.Email, a.Description, a.Filters.AllowAPIKeyAuth = p.Email, p.Description, p.AllowAPIKeyAuth
		return nil
	})
}

// PasswordChange is a new password beside the present one.
type PasswordChange struct {
	Current string `json:"current_password"`
	New     string `json:"new_password"`
}

// Check refuses a change that makes no sense.
func (c PasswordChange) Check() error {
	switch {
	case c.Current == "" || c.New == "":
		return invalid("current_password and new_password are needed")
	case c.Current == c.New:
		return invalid("the new password must differ from the current one")
	}
	return nil
}

// ChangePassword gives the actor a new password. Every token that was given before ends.
func (s *Service) ChangePassword(ctx context.Context, by *Actor, c PasswordChange) error {
	if err := c.Check(); err != nil {
		return err
	}
	a, _, err := getDoc[account.Admin](ctx, s, by.Name)
	if err != nil {
		return err
	}
	if err := s.proveAdmin(ctx, by, a, c.Current); err != nil {
		return err
	}
	next := &account.Admin{Username: a.Username, Password: c.New}
	if account.IsAdminHash(c.New) {
		return invalid("the new password must be given in clear")
	}
	if err := s.hashAdminPassword(ctx, next); err != nil {
		return err
	}
	return s.own(ctx, by, func(now *account.Admin) error {
		if now.Password != a.Password {
			return account.ErrChanged
		}
		now.Password, now.Filters.RequirePasswordChange = next.Password, false
		return nil
	})
}

// ProveAdmin has the actor prove who they are once more, by their password (AUTH-7).
func (s *Service) ProveAdmin(ctx context.Context, by *Actor, plain string) error {
	a, _, err := getDoc[account.Admin](ctx, s, by.Name)
	if err != nil {
		return err
	}
	return s.proveAdmin(ctx, by, a, plain)
}

func (s *Service) proveAdmin(ctx context.Context, by *Actor, a *account.Admin, plain string) error {
	return s.wrongPassword(ctx, by, s.Auth.AdminPassword(ctx, a, plain))
}

// wrongPassword tells the defender of a password that was not proven, and the caller that it is wrong, unless nobody
// could be asked.
func (s *Service) wrongPassword(ctx context.Context, by *Actor, err error) error {
	if err == nil {
		return nil
	}
	if !errors.Is(credentialError(err), ErrCredentials) {
		return err
	}
	s.Sessions.Refused(ctx, by.Remote, account.ProtocolHTTP, by.Name, account.MethodPassword, err)
	return invalid("the current password is wrong")
}

// TOTPSecret is a new secret of a second factor. Nothing of it is stored yet.
type TOTPSecret struct {
	ConfigName string `json:"config_name"`
	Issuer     string `json:"issuer"`
	Secret     string `json:"secret"`
	URL        string `json:"url"`
	QRCode     string `json:"qr_code"` // PNG, base64
}

// NewTOTP makes a secret for an account to enrol with.
func (s *Service) NewTOTP(config, username string) (*TOTPSecret, error) {
	for _, c := range s.Auth.TOTPConfigs() {
		if c.Name != config {
			continue
		}
		text, link := c.NewTOTP(username)
		img, err := qrImage(link, 200)
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			return nil, err
		}
		return &TOTPSecret{config, c.Issuer, text, link, base64.StdEncoding.EncodeToString(b.Bytes())}, nil
	}
	return nil, invalid("there is no TOTP configuration %q", config)
}

// CheckTOTP reports whether a code is one of a secret that is about to be enrolled.
func (s *Service) CheckTOTP(config, text, code, username string) error {
	ok, err := s.Auth.CodeIn(config, text, code, username)
	if err != nil {
		return invalid("%v", err)
	}
	if !ok {
		return invalid("the code is wrong")
	}
	return nil
}

// recoveryCodes is how many there are; fewer unused ones than minRecovery are replaced at an enrolment.
const (
	recoveryCodes = 12
	minRecovery   = 5
)

// CheckTOTPSecret checks the secret of an enrolment: unpadded base32 of at least 20 bytes, or one to keep.
func CheckTOTPSecret(sec secret.Secret, stored secret.Secret) error {
	if sec.Status == secret.Plain {
		if !enrolable(sec.Payload) {
			return invalid("the secret must be base32 without padding, of at least 20 bytes")
		}
		return nil
	}
	if stored.IsEmpty() {
		return invalid("no secret is stored; give one with the status Plain")
	}
	return nil
}

func enrolable(text string) bool {
	return len(text) >= 32 && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == "" && (len(text)%8 == 0 || len(text)%8 == 2 || len(text)%8 == 4 || len(text)%8 == 5 || len(text)%8 == 7)
}

// SaveTOTP switches the actor's second factor on or off. codes are new recovery codes, to be shown this once: there are
// some when fewer than five were left.
func (s *Service) SaveTOTP(ctx context.Context, by *Actor, c account.AdminTOTPConfig) (codes []string, err error) {
	err = s.own(ctx, by, func(a *account.Admin) error {
		f := &a.Filters
		if !c.Enabled {
			if f.RequireTwoFactor {
				return invalid("two-factor authentication is required for you")
			}
			f.TOTPConfig, f.RecoveryCodes = account.AdminTOTPConfig{}, nil
			return nil
		}
		if !s.hasTOTP(c.ConfigName) {
			return invalid("there is no TOTP configuration %q", c.ConfigName)
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

func (s *Service) hasTOTP(name string) bool {
	for _, c := range s.Auth.TOTPConfigs() {
		if c.Name == name {
			return true
		}
	}
	return false
}

// EnoughCodes replaces recovery codes of which fewer than five are left, and gives the new ones.
func EnoughCodes(list *[]account.RecoveryCode) (shown []string) {
	unused := 0
	for _, r := range *list {
		if !r.Used {
			unused++
		}
	}
	if unused >= minRecovery {
		return nil
	}
	shown, *list = NewRecoveryCodes()
	return shown
}

// NewRecoveryCodes makes twelve codes, and what is stored of them: their digests (AUTH-7).
func NewRecoveryCodes() (shown []string, stored []account.RecoveryCode) {
	return auth.NewRecoveryCodes(recoveryCodes)
}

// ReplaceRecoveryCodes gives the actor new recovery codes, to be shown this once.
func (s *Service) ReplaceRecoveryCodes(ctx context.Context, by *Actor) (codes []string, err error) {
	err = s.own(ctx, by, func(a *account.Admin) error {
		if !a.Filters.TOTPConfig.Enabled {
			return ErrNoTOTP
		}
		codes, a.Filters.RecoveryCodes = NewRecoveryCodes()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}

// ShownCode is a recovery code as a list shows it: what is stored is a digest, so that only whether it was used can be
// told.
type ShownCode struct {
	Code string `json:"code"`
	Used bool   `json:"used"`
}

// ShownCodes are the recovery codes of an account.
func ShownCodes(list []account.RecoveryCode) []ShownCode {
	out := make([]ShownCode, len(list))
	for i, r := range list {
		out[i] = ShownCode{account.RedactedPassword, r.Used}
	}
	return out
}

// UnmarshalTOTP reads the body of a save call, whose secret may have any form.
func UnmarshalTOTP(doc []byte) (account.AdminTOTPConfig, error) {
	var c account.AdminTOTPConfig
	if err := json.Unmarshal(doc, &c); err != nil {
		return c, invalid("the body is not the JSON of a TOTP configuration: %v", err)
	}
	return c, nil
}
