package account

import (
	"context"
	"fmt"
	"net/mail"
	"slices"
	"strings"

	"github.com/gantryhq/gantry/internal/secret"
)

// Admin is an administrator.
type Admin struct {
	ID             int64        `json:"id"`
	Status         int          `json:"status"` // 1 enabled, 0 disabled
	Username       string       `json:"username"`
	Password       string       `json:"password,omitempty"` // plain on input, a hash once stored
	Email          string       `json:"email,omitempty"`
	Permissions    []string     `json:"permissions"`
	Filters        AdminFilters `json:"filters"`
	Description    string       `json:"description,omitempty"`
	AdditionalInfo string       `json:"additional_info,omitempty"`
	Groups         []AdminGroup `json:"groups,omitempty"`
	Role           string       `json:"role,omitempty"`
	CreatedAt      int64        `json:"created_at"`
	UpdatedAt      int64        `json:"updated_at"`
	LastLogin      int64        `json:"last_login"`
}

// AdminFilters restrict an administrator.
type AdminFilters struct {
	AllowList             []string         `json:"allow_list,omitempty"` // networks
	AllowAPIKeyAuth       bool             `json:"allow_api_key_auth,omitempty"`
	TOTPConfig            AdminTOTPConfig  `json:"totp_config"`
	RecoveryCodes         []RecoveryCode   `json:"recovery_codes,omitempty"`
	RequireTwoFactor      bool             `json:"require_two_factor"`
	RequirePasswordChange bool             `json:"require_password_change,omitempty"`
	Preferences           AdminPreferences `json:"preferences"`
}

// AdminTOTPConfig is an administrator's second factor.
type AdminTOTPConfig struct {
	Enabled    bool          `json:"enabled,omitempty"`
	ConfigName string        `json:"config_name,omitempty"`
	Secret     secret.Secret `json:"secret,omitzero"`
}

// AdminPreferences are for display only.
type AdminPreferences struct {
	HideUserPageSections   int `json:"hide_user_page_sections,omitempty"`
	DefaultUsersExpiration int `json:"default_users_expiration,omitempty"` // days
}

// AdminGroup is a group that the administrator's new users get by default.
type AdminGroup struct {
	Name    string            `json:"name"`
	Options AdminGroupOptions `json:"options"`
}

// AdminGroupOptions say how: 0 member, 1 primary, 2 secondary.
type AdminGroupOptions struct {
	AddToUsersAs int `json:"add_to_users_as,omitempty"`
}

// AdminPermissions are the known permissions of administrators. Those that newer SFTPGo versions dropped
// stay permissions of their own here, so that an old dump loads and nobody gains more than they had.
var AdminPermissions = []string{PermAny, "add_users", "edit_users", "del_users", "view_users", "view_conns", "close_conns", "view_status",
	"quota_scans", "manage_defender", "view_defender", "view_events", "manage_groups", "manage_folders", "disable_mfa",
	"manage_admins", "manage_apikeys", "manage_system", "retention_checks", "metadata_checks", "manage_event_rules", "manage_roles", "manage_ip_lists"}

// Kind implements Document.
func (a *Admin) Kind() Kind { return KindAdmin }

// Key implements Document.
func (a *Admin) Key() string { return a.Username }

// References implements Document.
func (a *Admin) References() []Ref {
	var out []Ref
	if a.Role != "" {
		out = append(out, Ref{KindRole, a.Role, "role"})
	}
	for i, g := range a.Groups {
		out = append(out, Ref{KindGroup, g.Name, fmt.Sprintf("groups[%d].name", i)})
	}
	return out
}

// Normalize implements Document.
func (a *Admin) Normalize(ctx context.Context, r Rules) error {
	a.Username, a.Role, a.ID = r.Name(a.Username), r.Name(a.Role), 0
	c := &checker{kind: string(KindAdmin), name: a.Username}
	c.accountName("username", a.Username, r)
	c.status(a.Status)
	c.email("email", a.Email)
	a.Permissions = c.oneOf("permissions", a.Permissions, AdminPermissions)
	if len(a.Permissions) == 0 {
		c.bad("permissions", "required", "at least one permission is needed")
	}
	if slices.Contains(a.Permissions, PermAny) {
		a.Permissions = []string{PermAny}
		if a.Role != "" {
			c.bad("permissions", "conflict", "an administrator with a role cannot hold *")
		}
	}
	a.Filters.AllowList = c.cidrs("filters.allow_list", a.Filters.AllowList)
	if t := &a.Filters.TOTPConfig; !t.Enabled {
		*t = AdminTOTPConfig{}
	} else if t.ConfigName == "" || t.Secret.IsEmpty() {
		c.bad("filters.totp_config", "required", "an enabled TOTP needs a config name and a secret")
	}
	nonNegative(c, "filters.preferences.hide_user_page_sections", a.Filters.Preferences.HideUserPageSections)
	nonNegative(c, "filters.preferences.default_users_expiration", a.Filters.Preferences.DefaultUsersExpiration)
	var names []string
	for i := range a.Groups {
		g := &a.Groups[i]
		g.Name = r.Name(g.Name)
		if g.Options.AddToUsersAs < 0 || g.Options.AddToUsersAs > 2 {
			c.bad(fmt.Sprintf("groups[%d].options.add_to_users_as", i), "range", "must be 0 member, 1 primary or 2 secondary")
		}
		if slices.Contains(names, g.Name) {
			c.bad(fmt.Sprintf("groups[%d].name", i), "duplicate", "%q is named twice", g.Name)
		}
		names = append(names, g.Name)
	}
	if a.Password == "" {
		c.bad("password", "required", "is needed")
	}
	a.Password = c.hash(ctx, r, "password", a.Password, adminHash)
	c.seal(r, a, a.Username)
	return c.result()
}

// adminHash reports whether an administrator's or a share's password is in its stored form.
func adminHash(p string) bool {
	return slices.ContainsFunc([]string{"$argon2id$", "$2a$", "$2b$", "$2y$"}, func(x string) bool { return strings.HasPrefix(p, x) })
}

// IsAdminHash reports whether an administrator's, a share's or an API key's secret is in its stored form.
func IsAdminHash(p string) bool { return adminHash(p) }

func (c *checker) accountName(field, name string, r Rules) {
	if why := r.CheckName(name); why != "" {
		c.bad(field, "name", "%s", why)
	}
	if name == "__self__" || name == "__system__" {
		c.bad(field, "reserved", "is reserved")
	}
}

func (c *checker) status(n int) {
	if n != 0 && n != 1 {
		c.bad("status", "range", "must be 0 or 1")
	}
}

func (c *checker) email(field, text string) {
	if text == "" {
		return
	}
	if a, err := mail.ParseAddress(text); err != nil || a.Address != text || !strings.Contains(text[strings.LastIndexByte(text, '@')+1:], ".") {
		c.bad(field, "email", "%q is not an e-mail address", text)
	}
}

// hash gives the stored form of a password.
func (c *checker) hash(ctx context.Context, r Rules, field, p string, stored func(string) bool) string {
	if c.err != nil || p == "" || stored(p) {
		return p
	}
	if r.HashPassword == nil {
		c.bad(field, "hash", "a plain password cannot be stored here")
		return p
	}
	h, err := r.HashPassword(ctx, p)
	if err != nil {
		c.bad(field, "hash", "%v", err)
		return p
	}
	return h
}
