package admin

import (
	"context"
	"fmt"
	"slices"

	"github.com/gantryhq/gantry/internal/account"
)

// Permission names of what only "*" allows in newer versions of the API. They stay permissions of their own, so that an
// old dump loads and nobody gains more than they had (account.AdminPermissions).
const (
	manageAdmins  = "manage_admins"
	manageKeys    = "manage_apikeys"
	manageRoles   = "manage_roles"
	manageLists   = "manage_ip_lists"
	manageRules   = "manage_event_rules"
	retentionPerm = "retention_checks"
)

// Admins lists administrators without their secrets, and counts them all.
func (s *Service) Admins(ctx context.Context, by *Actor, p account.Page) ([]account.Admin, int, error) {
	if err := by.need(manageAdmins); err != nil {
		return nil, 0, err
	}
	return listDocs[account.Admin](ctx, s, p)
}

// Admin reads one administrator with the entity tag.
func (s *Service) Admin(ctx context.Context, by *Actor, name string) (*account.Admin, string, error) {
	if err := by.need(manageAdmins); err != nil {
		return nil, "", err
	}
	a, etag, err := getDoc[account.Admin](ctx, s, s.Rules.Name(name))
	if err != nil {
		return nil, "", err
	}
	account.Redact(a)
	return a, etag, nil
}

// AddAdmin makes an administrator of its JSON.
func (s *Service) AddAdmin(ctx context.Context, by *Actor, doc []byte) (*account.Admin, string, error) {
	if err := by.need(manageAdmins); err != nil {
		return nil, "", err
	}
	var a account.Admin
	if err := decode(doc, &a); err != nil {
		return nil, "", err
	}
	if !by.covers(a.Permissions) {
		return nil, "", fmt.Errorf("%w: nobody can grant more than they have", ErrForbidden)
	}
	a.LastLogin, a.Filters.TOTPConfig, a.Filters.RecoveryCodes = 0, account.AdminTOTPConfig{}, nil
	if a.Password == account.RedactedPassword {
		a.Password = ""
	}
	if err := s.hashAdminPassword(ctx, &a); err != nil {
		return nil, "", err
	}
	stored, etag, err := addDoc(ctx, s, by, &a)
	if err != nil {
		return nil, "", err
	}
	account.Redact(stored)
	return stored, etag, nil
}

// hashAdminPassword checks and hashes a plain password, which is slow and must not be done in a transaction.
func (s *Service) hashAdminPassword(ctx context.Context, a *account.Admin) error {
	if a.Password == "" || account.IsAdminHash(a.Password) {
		return nil
	}
	if err := s.checkAdminPassword(a.Username, a.Password); err != nil {
		return err
	}
	h, err := s.Rules.HashPassword(ctx, a.Password)
	if err != nil {
		return &account.ValidationError{Kind: "admin", Name: a.Username, Field: "password", Code: "hash", Text: err.Error()}
	}
	a.Password = h
	return nil
}

// PutAdmin replaces an administrator by the JSON in doc. An empty password, the second factor and the recovery codes stay
// as they are. Nobody takes their own permissions, status or role away, nor changes who has more than they.
func (s *Service) PutAdmin(ctx context.Context, by *Actor, name string, doc []byte, e Edit) error {
	if err := by.need(manageAdmins); err != nil {
		return err
	}
	name = s.Rules.Name(name)
	var given account.Admin
	if err := decode(doc, &given); err != nil {
		return err
	}
	given.Username = name
	if given.Password == account.RedactedPassword {
		given.Password = ""
	}
	if err := s.hashAdminPassword(ctx, &given); err != nil {
		return err
	}
	_, err := putDoc(ctx, s, by, name, e, func(cur *account.Admin) (*account.Admin, error) {
		next := given
		if !by.covers(cur.Permissions) || !by.covers(next.Permissions) {
			return nil, fmt.Errorf("%w: nobody can grant or change more than they have", ErrForbidden)
		}
		if by.Name == name {
			switch {
			case by.APIKey != "":
				return nil, invalid("an API key cannot change its own administrator")
			case !sameSet(next.Permissions, cur.Permissions):
				return nil, invalid("you cannot change your own permissions")
			case next.Status != cur.Status:
				return nil, invalid("you cannot disable yourself")
			case s.Rules.Name(next.Role) != cur.Role:
				return nil, invalid("you cannot change your own role")
			}
			next.Filters.RequireTwoFactor, next.Filters.RequirePasswordChange = cur.Filters.RequireTwoFactor, cur.Filters.RequirePasswordChange
		}
		if next.Password == "" {
			next.Password = cur.Password
		}
		next.Filters.TOTPConfig, next.Filters.RecoveryCodes, next.LastLogin = cur.Filters.TOTPConfig, cur.Filters.RecoveryCodes, cur.LastLogin
		return &next, nil
	})
	return err
}

func sameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

// DeleteAdmin removes an administrator with the API keys.
func (s *Service) DeleteAdmin(ctx context.Context, by *Actor, name string) error {
	if err := by.need(manageAdmins); err != nil {
		return err
	}
	name = s.Rules.Name(name)
	if name == by.Name {
		return invalid("you cannot delete yourself")
	}
	a, _, err := getDoc[account.Admin](ctx, s, name)
	if err != nil {
		return err
	}
	if !by.covers(a.Permissions) {
		return fmt.Errorf("%w: the administrator has more than you", ErrForbidden)
	}
	return deleteDoc[account.Admin](ctx, s, by, name)
}

// DisableAdminTOTP switches an administrator's second factor off.
func (s *Service) DisableAdminTOTP(ctx context.Context, by *Actor, name string) error {
	if err := by.need(manageAdmins); err != nil {
		return err
	}
	name = s.Rules.Name(name)
	_, err := putDoc(ctx, s, by, name, Edit{}, func(a *account.Admin) (*account.Admin, error) {
		switch {
		case !by.covers(a.Permissions):
			return nil, fmt.Errorf("%w: the administrator has more than you", ErrForbidden)
		case !a.Filters.TOTPConfig.Enabled:
			return nil, invalid("two-factor authentication is not enabled")
		case a.Username == by.Name && a.Filters.RequireTwoFactor:
			return nil, invalid("two-factor authentication is required for you")
		}
		a.Filters.TOTPConfig, a.Filters.RecoveryCodes = account.AdminTOTPConfig{}, nil
		return a, nil
	})
	return err
}

// Roles lists roles, and counts them all.
func (s *Service) Roles(ctx context.Context, by *Actor, p account.Page) ([]account.Role, int, error) {
	if err := by.need(manageRoles); err != nil {
		return nil, 0, err
	}
	list, total, err := listDocs[account.Role](ctx, s, p)
	if err != nil {
		return nil, 0, err
	}
	for i := range list {
		if err := s.fillRole(ctx, &list[i]); err != nil {
			return nil, 0, err
		}
	}
	return list, total, nil
}

func (s *Service) fillRole(ctx context.Context, r *account.Role) (err error) {
	of := account.Ref{Kind: account.KindRole, Name: r.Name}
	if r.Users, err = s.namesOf(ctx, account.KindUser, of); err == nil {
		r.Admins, err = s.namesOf(ctx, account.KindAdmin, of)
	}
	return err
}

// Role reads one role with its entity tag.
func (s *Service) Role(ctx context.Context, by *Actor, name string) (*account.Role, string, error) {
	if err := by.need(manageRoles); err != nil {
		return nil, "", err
	}
	r, etag, err := getDoc[account.Role](ctx, s, s.Rules.Name(name))
	if err != nil {
		return nil, "", err
	}
	return r, etag, s.fillRole(ctx, r)
}

// AddRole makes a role of its JSON.
func (s *Service) AddRole(ctx context.Context, by *Actor, doc []byte) (*account.Role, string, error) {
	if err := by.need(manageRoles); err != nil {
		return nil, "", err
	}
	var r account.Role
	if err := decode(doc, &r); err != nil {
		return nil, "", err
	}
	return addDoc(ctx, s, by, &r)
}

// PutRole replaces a role by the JSON in doc.
func (s *Service) PutRole(ctx context.Context, by *Actor, name string, doc []byte, e Edit) error {
	if err := by.need(manageRoles); err != nil {
		return err
	}
	var next account.Role
	if err := decode(doc, &next); err != nil {
		return err
	}
	_, err := putDoc(ctx, s, by, s.Rules.Name(name), e, func(cur *account.Role) (*account.Role, error) {
		next.Name = cur.Name
		return &next, nil
	})
	return err
}

// DeleteRole removes a role that no administrator has; users lose it.
func (s *Service) DeleteRole(ctx context.Context, by *Actor, name string) error {
	if err := by.need(manageRoles); err != nil {
		return err
	}
	return deleteDoc[account.Role](ctx, s, by, s.Rules.Name(name))
}
