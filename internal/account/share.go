package account

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Scopes of a Share.
const (
	ShareRead      = 1
	ShareWrite     = 2
	ShareReadWrite = 3
)

// Share opens paths of a user to people without an account.
type Share struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Scope       int      `json:"scope"`
	Paths       []string `json:"paths"`
	Username    string   `json:"username"`
	CreatedAt   int64    `json:"created_at"`
	UpdatedAt   int64    `json:"updated_at"`
	LastUseAt   int64    `json:"last_use_at,omitempty"`
	ExpiresAt   int64    `json:"expires_at,omitempty"` // ms, 0 never
	Password    string   `json:"password"`             // plain on input, a hash once stored
	MaxTokens   int      `json:"max_tokens,omitempty"`
	UsedTokens  int      `json:"used_tokens,omitempty"`
	AllowFrom   []string `json:"allow_from,omitempty"` // networks
}

// Kind implements Document.
func (s *Share) Kind() Kind { return KindShare }

// Key implements Document.
func (s *Share) Key() string { return s.ID }

// References implements Document.
func (s *Share) References() []Ref { return []Ref{{KindUser, s.Username, "username"}} }

// Normalize implements Document. That expires_at lies ahead is asked where a person makes a share, not
// here: an expired one of a dump stays what it is.
func (s *Share) Normalize(ctx context.Context, r Rules) error {
	s.Username = r.Name(s.Username)
	c := &checker{kind: string(KindShare), name: s.ID}
	if why := r.CheckName(s.ID); why != "" {
		c.bad("id", "name", "%s", why)
	}
	if s.Name == "" {
		s.Name = s.ID
	}
	if why := r.CheckName(s.Name); why != "" {
		c.bad("name", "name", "%s", why)
	}
	if s.Username == "" {
		c.bad("username", "required", "is needed")
	}
	if s.Scope < ShareRead || s.Scope > ShareReadWrite {
		c.bad("scope", "range", "must be 1 read, 2 write or 3 read and write")
	}
	for i := range s.Paths {
		s.Paths[i] = CleanPath(s.Paths[i])
	}
	s.Paths = dedup(s.Paths)
	if len(s.Paths) == 0 || s.Scope != ShareRead && len(s.Paths) != 1 {
		c.bad("paths", "required", "at least one path is needed, and exactly one where the share may be written")
	}
	for i, p := range s.Paths {
		for _, q := range s.Paths {
			if p != q && (q == "/" || strings.HasPrefix(p, q+"/")) {
				c.bad(fmt.Sprintf("paths[%d]", i), "nested", "%q lies in %q", p, q)
			}
		}
	}
	slices.Sort(s.Paths)
	nonNegative(c, "expires_at", s.ExpiresAt)
	nonNegative(c, "max_tokens", s.MaxTokens)
	nonNegative(c, "used_tokens", s.UsedTokens)
	s.AllowFrom = c.cidrs("allow_from", s.AllowFrom)
	s.Password = c.hash(ctx, r, "password", s.Password, adminHash)
	return c.result()
}
