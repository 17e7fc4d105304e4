package admin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gantryhq/gantry/internal/account"
)

// web_client options that concern shares.
const (
	noShares     = "shares-disabled"
	noOpenShares = "shares-without-password-disabled"
)

// UserActor is a user who changes what is their own.
func UserActor(u *account.User, remote netip.Addr) *Actor {
	return &Actor{Name: u.Username, Role: u.Role, Remote: remote}
}

// Shares lists the shares of a user, without their passwords, and counts them all.
func (s *Service) Shares(ctx context.Context, u *account.User, p account.Page) ([]account.Share, int, error) {
	p.Of = account.Ref{Kind: account.KindUser, Name: u.Username}
	return listDocs[account.Share](ctx, s, p)
}

// ownShare reads a share of a user; another's is not there.
func (s *Service) ownShare(ctx context.Context, u *account.User, id string) (*account.Share, string, error) {
	sh, etag, err := getDoc[account.Share](ctx, s, id)
	if err == nil && sh.Username != u.Username {
		err = fmt.Errorf("share: %w", account.ErrNotFound)
	}
	return sh, etag, err
}

// Share reads one share of a user with its entity tag.
func (s *Service) Share(ctx context.Context, u *account.User, id string) (*account.Share, string, error) {
	sh, etag, err := s.ownShare(ctx, u, id)
	if err != nil {
		return nil, "", err
	}
	account.Redact(sh)
	return sh, etag, nil
}

// checkShare asks the rules of the owner about a share that they make or change.
func (s *Service) checkShare(ctx context.Context, u *account.User, sh *account.Share) error {
	bad := func(field, text string) error {
		return &account.ValidationError{Kind: "share", Name: sh.Name, Field: field, Code: "range", Text: text}
	}
	now := s.Now()
	f := &u.Filters
	if sh.ExpiresAt != 0 && sh.ExpiresAt <= now.UnixMilli() {
		return bad("expires_at", "must lie ahead")
	}
	if days := f.MaxSharesExpiration; days > 0 && (sh.ExpiresAt == 0 || sh.ExpiresAt > now.Add(time.Duration(days)*24*time.Hour+time.Minute).UnixMilli()) {
		return bad("expires_at", fmt.Sprintf("a share ends after %d days at most", days))
	}
	switch {
	case sh.Password == "":
		if slices.Contains(f.WebClient, noOpenShares) {
			return fmt.Errorf("%w: a share needs a password (%s)", ErrForbidden, noOpenShares)
		}
	case account.IsHash(sh.Password):
		return bad("password", "must be given in clear")
	case sh.Password != account.RedactedPassword && s.Rules.CheckPassword != nil:
		if err := s.Rules.CheckPassword(sh.Password, f.PasswordStrength); err != nil {
			return bad("password", err.Error())
		}
	}
	return nil
}

// AddShare makes a share of its JSON for a user.
func (s *Service) AddShare(ctx context.Context, by *Actor, u *account.User, doc []byte) (*account.Share, error) {
	var sh account.Share
	if err := decode(doc, &sh); err != nil {
		return nil, err
	}
	sh.ID, sh.Username, sh.UsedTokens, sh.LastUseAt = newID(), u.Username, 0, 0
	if days := u.Filters.DefaultSharesExpiration; days > 0 && sh.ExpiresAt == 0 && !given(doc, "expires_at") {
		sh.ExpiresAt = s.Now().Add(time.Duration(days) * 24 * time.Hour).UnixMilli()
	}
	if sh.Password == account.RedactedPassword {
		return nil, invalid("the password must be given in clear")
	}
	if err := s.checkShare(ctx, u, &sh); err != nil {
		return nil, err
	}
	stored, _, err := addDoc(ctx, s, by, &sh)
	if err != nil {
		return nil, err
	}
	account.Redact(stored)
	return stored, nil
}

// PutShare replaces a user's share by the JSON in doc; owner, counters and last use stay.
func (s *Service) PutShare(ctx context.Context, by *Actor, u *account.User, id string, doc []byte, e Edit) error {
	var next account.Share
	if err := decode(doc, &next); err != nil {
		return err
	}
	old, _, err := s.ownShare(ctx, u, id)
	if err != nil {
		return err
	}
	keep := next.Password == account.RedactedPassword && old.Password != ""
	if next.Password == account.RedactedPassword && !keep {
		return invalid("a redacted password was given and none is stored; give the password itself")
	}
	if err := s.checkShare(ctx, u, &next); err != nil {
		return err
	}
	if next.Password != "" && !keep {
		if next.Password, err = s.Rules.HashPassword(ctx, next.Password); err != nil { // not in the transaction: it takes its time
			return err
		}
	}
	_, err = putDoc(ctx, s, by, id, e, func(cur *account.Share) (*account.Share, error) {
		if cur.Username != u.Username {
			return nil, account.ErrNotFound
		}
		n := next
		n.ID, n.Username, n.UsedTokens, n.LastUseAt = cur.ID, cur.Username, cur.UsedTokens, cur.LastUseAt
		if keep {
			n.Password = cur.Password
		}
		return &n, nil
	})
	return err
}

// DeleteShare removes a user's share.
func (s *Service) DeleteShare(ctx context.Context, by *Actor, u *account.User, id string) error {
	if _, _, err := s.ownShare(ctx, u, id); err != nil {
		return err
	}
	return deleteDoc[account.Share](ctx, s, by, id)
}

// ShareUse is how somebody comes to a share.
type ShareUse struct {
	ID          string
	Read, Write bool // what is to be done; both is what either scope gives
	Password    string
	HasPassword bool // one was given
	Remote      netip.Addr
}

// EnterShare lets a visitor in, or not (SHARE-1). It checks, in this order: that there is the share and its scope; that
// uses are left and it has not expired; the address; the password. That its owner may share is the caller's to check,
// by ShareOwner. Errors are account.ErrNotFound, ErrForbidden and ErrCredentials.
func (s *Service) EnterShare(ctx context.Context, use ShareUse) (*account.Share, error) {
	sh, _, err := getDoc[account.Share](ctx, s, use.ID)
	if err != nil {
		return nil, err
	}
	if use.Read && sh.Scope == account.ShareWrite || use.Write && sh.Scope == account.ShareRead {
		return nil, fmt.Errorf("%w: the share is not for this", ErrForbidden)
	}
	if err := s.shareOpen(sh, 1); err != nil {
		return nil, err
	}
	if err := fromNetworks(sh.AllowFrom, use.Remote); err != nil {
		return nil, err
	}
	if sh.Password == "" {
		return sh, nil
	}
	if !use.HasPassword {
		return nil, fmt.Errorf("%w: the share needs a password", ErrCredentials)
	}
	if err := s.Auth.Secret(ctx, "share "+sh.ID, sh.Password, use.Password); err != nil {
		s.Sessions.Refused(ctx, use.Remote, account.ProtocolHTTP, sh.Username, "share", err)
		return nil, credentialError(err)
	}
	return sh, nil
}

// shareOpen says that a share is over as if there were none.
func (s *Service) shareOpen(sh *account.Share, uses int) error {
	switch {
	case sh.ExpiresAt > 0 && s.Now().UnixMilli() > sh.ExpiresAt:
		return fmt.Errorf("the share has expired: %w", account.ErrNotFound)
	case sh.MaxTokens > 0 && sh.UsedTokens+uses > sh.MaxTokens:
		return fmt.Errorf("the share was used %d times: %w", sh.UsedTokens, account.ErrNotFound)
	}
	return nil
}

func fromNetworks(list []string, remote netip.Addr) error {
	if len(list) == 0 {
		return nil
	}
	remote = remote.Unmap().WithZone("")
	for _, text := range list {
		if p, err := netip.ParsePrefix(strings.TrimSpace(text)); err == nil && p.Contains(remote) {
			return nil
		} else if a, err := netip.ParseAddr(text); err == nil && a.Unmap() == remote {
			return nil
		}
	}
	return fmt.Errorf("%w: not from your address", ErrForbidden) // one that is not known is in no network (AUTH-5)
}

// ShareOwner asks whether an account may have open a share.
func ShareOwner(u *account.User, sh *account.Share) error {
	switch {
	case slices.Contains(u.Filters.WebClient, noShares):
		return fmt.Errorf("the owner may not share: %w", account.ErrNotFound)
	case sh.Password == "" && slices.Contains(u.Filters.WebClient, noOpenShares):
		return fmt.Errorf("%w: the share has no password", ErrForbidden)
	}
	return nil
}

// errSpent ends the transaction of a share that may not be used any more.
var errSpent = fmt.Errorf("the share was used as often as it may be: %w", account.ErrNotFound)

// SpendShare takes one use of a share, in one transaction: of many who come at once no more get in than may. back
// gives it back for a use that came to nothing.
func (s *Service) SpendShare(ctx context.Context, id string) (back func(), err error) {
	err = account.Edit(ctx, s.Store, id, func(sh *account.Share) error {
		if s.shareOpen(sh, 1) != nil {
			return errSpent
		}
		sh.UsedTokens++
		sh.LastUseAt = s.Now().UnixMilli()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second) // the visitor may have gone
		defer cancel()
		err := account.Edit(ctx, s.Store, id, func(sh *account.Share) error {
			sh.UsedTokens = max(0, sh.UsedTokens-1)
			return nil
		})
		if err != nil && !errors.Is(err, account.ErrNotFound) {
			s.Log.Warn("a use of a share was not given back", "error", err)
		}
	}, nil
}
