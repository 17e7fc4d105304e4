package admin

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/gantryhq/gantry/internal/account"
)

// newID makes the id of a key or a share: 22 letters and digits, 131 bits (CRY-1).
func newID() string {
	const alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	return randomText(alphabet, 22)
}

// randomText draws n characters of an alphabet of at most 256.
func randomText(alphabet string, n int) string {
	limit := 256 - 256%len(alphabet)
	out := make([]byte, 0, n)
	var buf [64]byte
	for len(out) < n {
		rand.Read(buf[:])
		for _, b := range buf {
			if int(b) < limit && len(out) < n { // no character is likelier than another
				out = append(out, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(out)
}

// NewShareID makes the id of a share.
func NewShareID() string { return newID() }

// APIKeys lists keys without their hashes, and counts them all.
func (s *Service) APIKeys(ctx context.Context, by *Actor, p account.Page) ([]account.APIKey, int, error) {
	if err := by.need(manageKeys); err != nil {
		return nil, 0, err
	}
	return listDocs[account.APIKey](ctx, s, p)
}

// APIKey reads one key with its entity tag.
func (s *Service) APIKey(ctx context.Context, by *Actor, id string) (*account.APIKey, string, error) {
	if err := by.need(manageKeys); err != nil {
		return nil, "", err
	}
	k, etag, err := getDoc[account.APIKey](ctx, s, id)
	if err != nil {
		return nil, "", err
	}
	account.Redact(k)
	return k, etag, nil
}

// mayHold reports whether the actor may make a key that stands for whom k names: never for more than they may do
// themselves (ADM-1).
func (s *Service) mayHold(ctx context.Context, by *Actor, k *account.APIKey) error {
	if by.May(account.PermAny) {
		return nil
	}
	switch {
	case k.Scope == account.APIKeyAdmin && k.Admin != "":
		a, _, err := getDoc[account.Admin](ctx, s, s.Rules.Name(k.Admin))
		if err != nil {
			return nil // the store refuses it
		}
		if by.covers(a.Permissions) && (by.Role == "" || a.Role == by.Role) {
			return nil
		}
	case k.Scope == account.APIKeyUser && k.User != "" && by.Role != "":
		if u, err := s.Store.User(ctx, k.User); err == nil && u.Role == by.Role {
			return nil
		}
	case k.Scope == account.APIKeyUser && by.Role == "":
		return nil
	}
	return fmt.Errorf("%w: the key would stand for more than you", ErrForbidden)
}

// AddAPIKey makes a key of its JSON. text is the key, to be shown this once.
func (s *Service) AddAPIKey(ctx context.Context, by *Actor, doc []byte) (k *account.APIKey, text string, err error) {
	if err := by.need(manageKeys); err != nil {
		return nil, "", err
	}
	var next account.APIKey
	if err := decode(doc, &next); err != nil {
		return nil, "", err
	}
	if err := s.mayHold(ctx, by, &next); err != nil {
		return nil, "", err
	}
	if next.ExpiresAt > 0 && next.ExpiresAt < s.Now().UnixMilli() {
		return nil, "", &account.ValidationError{Kind: "api_key", Name: next.Name, Field: "expires_at", Code: "range", Text: "must lie ahead"}
	}
	secret := rand.Text() + rand.Text() // 260 bits (KEY-1)
	next.ID, next.LastUseAt = newID(), 0
	if next.Hash, err = s.Rules.HashPassword(ctx, secret); err != nil {
		return nil, "", err
	}
	stored, _, err := addDoc(ctx, s, by, &next)
	if err != nil {
		return nil, "", err
	}
	account.Redact(stored)
	return stored, stored.ID + "." + secret, nil
}

// PutAPIKey replaces a key by the JSON in doc; id, secret and last use stay.
func (s *Service) PutAPIKey(ctx context.Context, by *Actor, id string, doc []byte, e Edit) error {
	if err := by.need(manageKeys); err != nil {
		return err
	}
	var next account.APIKey
	if err := decode(doc, &next); err != nil {
		return err
	}
	old, _, err := getDoc[account.APIKey](ctx, s, id)
	if err != nil {
		return err
	}
	if err := s.mayHold(ctx, by, old); err != nil {
		return err
	}
	if err := s.mayHold(ctx, by, &next); err != nil {
		return err
	}
	_, err = putDoc(ctx, s, by, id, e, func(cur *account.APIKey) (*account.APIKey, error) {
		if cur.Admin != old.Admin || cur.User != old.User || cur.Scope != old.Scope {
			return nil, account.ErrChanged
		}
		next.ID, next.Hash, next.LastUseAt = cur.ID, cur.Hash, cur.LastUseAt
		return &next, nil
	})
	return err
}

// DeleteAPIKey removes a key.
func (s *Service) DeleteAPIKey(ctx context.Context, by *Actor, id string) error {
	if err := by.need(manageKeys); err != nil {
		return err
	}
	k, _, err := getDoc[account.APIKey](ctx, s, id)
	if err != nil {
		return err
	}
	if err := s.mayHold(ctx, by, k); err != nil {
		return err
	}
	return deleteDoc[account.APIKey](ctx, s, by, id)
}
