package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/session"
)

// Users lists users without their secrets, and counts all that the actor may see.
func (s *Service) Users(ctx context.Context, by *Actor, p account.Page) ([]account.User, int, error) {
	if err := by.need("view_users"); err != nil {
		return nil, 0, err
	}
	if by.Role != "" {
		p.Of = account.Ref{Kind: account.KindRole, Name: by.Role}
	}
	total, err := s.Store.Count(ctx, account.KindUser, p)
	if err != nil || p.Limit == 0 {
		return nil, total, err
	}
	list, err := s.Store.ListUsers(ctx, p)
	for i := range list {
		account.Redact(&list[i])
	}
	return list, total, err
}

// user reads a user that the actor may see; others are not there.
func (s *Service) user(ctx context.Context, by *Actor, name string) (account.User, error) {
	u, err := s.Store.User(ctx, name)
	if err == nil && by.Role != "" && u.Role != by.Role {
		return account.User{}, fmt.Errorf("user %q: %w", name, account.ErrNotFound)
	}
	return u, err
}

// User reads one user with its entity tag. confidential gives hashes and keys too, to actors that hold "*".
func (s *Service) User(ctx context.Context, by *Actor, name string, confidential bool) (*account.User, string, error) {
	if err := by.need("view_users"); err != nil {
		return nil, "", err
	}
	u, err := s.user(ctx, by, name)
	if err != nil {
		return nil, "", err
	}
	return shownUser(by, &u, confidential), tag(u.ID, u.Version), nil
}

func shownUser(by *Actor, u *account.User, confidential bool) *account.User {
	if confidential && by.May(account.PermAny) {
		u.HasPassword = u.Password != ""
	} else {
		account.Redact(u)
	}
	return u
}

// AddUser makes a user of its JSON.
func (s *Service) AddUser(ctx context.Context, by *Actor, doc []byte, confidential bool) (*account.User, string, error) {
	if err := by.need("add_users"); err != nil {
		return nil, "", err
	}
	var u account.User
	if err := decode(doc, &u); err != nil {
		return nil, "", err
	}
	if by.Role != "" {
		u.Role = by.Role
	}
	if days := s.expirationFor(ctx, by); days > 0 && !given(doc, "expiration_date") {
		u.ExpirationDate = s.Now().AddDate(0, 0, days).UnixMilli()
	}
	u.Filters.TOTPConfig, u.Filters.RecoveryCodes = account.UserTOTPConfig{}, nil
	if u.Password == account.RedactedPassword {
		return nil, "", &account.ValidationError{Kind: "user", Name: u.Username, Field: "password", Code: "redacted", Text: "is a redacted one; give the password itself"}
	}
	if err := s.checkGroupStrength(ctx, &u); err != nil {
		return nil, "", err
	}
	if err := s.Store.AddUser(ctx, &u); err != nil {
		return nil, "", err
	}
	stored, err := s.Store.User(ctx, u.Username)
	if err != nil {
		return nil, "", err
	}
	told := stored
	s.changed(by, "add", account.KindUser, stored.Username, &told)
	if stored, err = s.Store.User(ctx, u.Username); err != nil { // what was told is redacted
		return nil, "", err
	}
	return shownUser(by, &stored, confidential), tag(stored.ID, stored.Version), nil
}

// expirationFor is the preference of the administrator who acts.
func (s *Service) expirationFor(ctx context.Context, by *Actor) int {
	a, err := account.Get[account.Admin](ctx, s.Store, by.Name)
	if err != nil {
		return 0
	}
	return a.Filters.Preferences.DefaultUsersExpiration
}

// checkGroupStrength holds a plain password against the strength that the primary group asks for.
func (s *Service) checkGroupStrength(ctx context.Context, u *account.User) error {
	if u.Password == "" || account.IsHash(u.Password) || u.Filters.PasswordStrength > 0 || s.Rules.CheckPassword == nil {
		return nil
	}
	i := slices.IndexFunc(u.Groups, func(g account.GroupMapping) bool { return g.Type == account.GroupPrimary })
	if i < 0 {
		return nil
	}
	g, err := s.Store.Group(ctx, u.Groups[i].Name)
	if errors.Is(err, account.ErrNotFound) {
		return nil // the store refuses it
	}
	if err != nil || g.UserSettings.Filters.PasswordStrength == 0 {
		return err
	}
	if err := s.Rules.CheckPassword(u.Password, g.UserSettings.Filters.PasswordStrength); err != nil {
		return &account.ValidationError{Kind: "user", Name: u.Username, Field: "password", Code: "weak", Text: err.Error()}
	}
	return nil
}

// PutUser replaces a user by the JSON in doc, or merges it in. What the server keeps stays: counters, times, second
// factor, recovery codes; a password that is not given, and secrets that are redacted.
func (s *Service) PutUser(ctx context.Context, by *Actor, name string, doc []byte, e Edit) error {
	if err := by.need("edit_users"); err != nil {
		return err
	}
	for try := 1; ; try++ {
		err := s.putUser(ctx, by, name, doc, e)
		if !e.again(err, try) {
			return err
		}
	}
}

func (s *Service) putUser(ctx context.Context, by *Actor, name string, doc []byte, e Edit) error {
	cur, err := s.user(ctx, by, name)
	if err != nil {
		return err
	}
	if err := e.matches(tag(cur.ID, cur.Version)); err != nil {
		return fmt.Errorf("user %q: %w", name, err)
	}
	keepPassword := !given(doc, "password")
	if e.Merge {
		shown, err := s.user(ctx, by, name)
		if err != nil {
			return err
		}
		if shown.Version != cur.Version {
			return account.ErrChanged
		}
		account.Redact(&shown)
		whole, err := mergePatch(&shown, doc)
		if err != nil {
			return err
		}
		keepPassword = !given(doc, "password") // null removes it
		doc = whole
	}
	var next account.User
	if err := decode(doc, &next); err != nil {
		return err
	}
	next.Username = cur.Username
	if keepPassword || next.Password == account.RedactedPassword {
		next.Password = cur.Password
	}
	next.Filters.TOTPConfig, next.Filters.RecoveryCodes = cur.Filters.TOTPConfig, cur.Filters.RecoveryCodes
	if by.Role != "" {
		next.Role = by.Role
	}
	if next.Password != cur.Password {
		if err := s.checkGroupStrength(ctx, &next); err != nil {
			return err
		}
	}
	next.IfVersion = cur.Version
	if err := s.Store.UpdateUser(ctx, &next); err != nil {
		return err
	}
	s.userChanged(ctx, by, cur.Username)
	if e.Disconnect {
		s.Sessions.KillUser(cur.Username, session.ErrKilled)
	}
	return nil
}

// userChanged tells of a user as it is stored now.
func (s *Service) userChanged(ctx context.Context, by *Actor, name string) {
	u, err := s.Store.User(ctx, name)
	if err != nil {
		u = account.User{Username: name}
	}
	s.changed(by, "update", account.KindUser, name, &u)
}

// DeleteUser removes a user with its shares and API keys, and ends its sessions. Its files stay.
func (s *Service) DeleteUser(ctx context.Context, by *Actor, name string) error {
	if err := by.need("del_users"); err != nil {
		return err
	}
	u, err := s.user(ctx, by, name)
	if err != nil {
		return err
	}
	if err := s.Store.DeleteUser(ctx, u.Username); err != nil {
		return err
	}
	s.changed(by, "delete", account.KindUser, u.Username, &u)
	s.Sessions.KillUser(u.Username, session.ErrKilled)
	return nil
}

// DisableUserTOTP switches a user's second factor off, and removes the recovery codes.
func (s *Service) DisableUserTOTP(ctx context.Context, by *Actor, name string) error {
	if err := by.need("disable_mfa"); err != nil {
		return err
	}
	u, err := s.user(ctx, by, name)
	if err != nil {
		return err
	}
	err = s.Store.EditUser(ctx, u.Username, func(u *account.User) error {
		if !u.Filters.TOTPConfig.Enabled {
			return invalid("two-factor authentication is not enabled")
		}
		u.Filters.TOTPConfig, u.Filters.RecoveryCodes = account.UserTOTPConfig{}, nil
		u.UpdatedAt = s.Now().UnixMilli()
		return nil
	})
	if err != nil {
		return err
	}
	s.userChanged(ctx, by, u.Username)
	return nil
}
