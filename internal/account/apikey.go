package account

import "context"

// Scopes of an APIKey.
const (
	APIKeyAdmin = 1
	APIKeyUser  = 2
)

// APIKey lets a program act as an administrator or a user.
type APIKey struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Hash        string `json:"key,omitempty"` // in dumps and in the store only
	Scope       int    `json:"scope"`
	CreatedAt   int64  `json:"created_at"`
	UpdatedAt   int64  `json:"updated_at"`
	LastUseAt   int64  `json:"last_use_at,omitempty"`
	ExpiresAt   int64  `json:"expires_at,omitempty"` // ms, 0 never
	Description string `json:"description,omitempty"`
	User        string `json:"user,omitempty"`
	Admin       string `json:"admin,omitempty"`
}

// Kind implements Document.
func (k *APIKey) Kind() Kind { return KindAPIKey }

// Key implements Document.
func (k *APIKey) Key() string { return k.ID }

// References implements Document.
func (k *APIKey) References() []Ref {
	switch {
	case k.User != "":
		return []Ref{{KindUser, k.User, "user"}}
	case k.Admin != "":
		return []Ref{{KindAdmin, k.Admin, "admin"}}
	}
	return nil
}

// Normalize implements Document.
func (k *APIKey) Normalize(ctx context.Context, r Rules) error {
	k.User, k.Admin = r.Name(k.User), r.Name(k.Admin)
	c := &checker{kind: string(KindAPIKey), name: k.ID}
	if why := r.CheckName(k.ID); why != "" {
		c.bad("id", "name", "%s", why)
	}
	if why := r.CheckName(k.Name); why != "" {
		c.bad("name", "name", "%s", why)
	}
	if k.User != "" && k.Admin != "" {
		c.bad("user", "conflict", "user and admin cannot both be set")
	}
	switch k.Scope {
	case APIKeyAdmin:
		k.User = ""
	case APIKeyUser:
		k.Admin = ""
	default:
		c.bad("scope", "range", "must be 1 (admin) or 2 (user)")
	}
	nonNegative(c, "expires_at", k.ExpiresAt)
	if k.Hash == "" {
		c.bad("key", "required", "is needed")
	}
	k.Hash = c.hash(ctx, r, "key", k.Hash, adminHash)
	return c.result()
}
