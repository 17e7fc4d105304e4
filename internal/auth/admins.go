package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/gantryhq/gantry/internal/account"
)

// AdminStore is what is read of administrators.
type AdminStore interface {
	Record(ctx context.Context, kind account.Kind, key string) ([]byte, error)
}

// adminNames begins the names under which administrators are remembered beside users: no user's name holds NUL.
const adminNames = "\x00admin\x00"

// AuthenticateAdmin proves an administrator's password, and the code where a second factor is set up. Recovery codes are
// not taken. An unknown name costs what a wrong password does (AUTH-4). The error is a *Denied.
func (a *Authenticator) AuthenticateAdmin(ctx context.Context, s AdminStore, name, password, code string, remote netip.Addr) (account.Admin, error) {
	if err := checkUsername(name); err != nil {
		return account.Admin{}, deny(ReasonUsername, err)
	}
	if err := checkPassword(password); err != nil {
		return account.Admin{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, sourceWait)
	defer cancel()
	admin, err := a.admin(ctx, s, name)
	if err != nil {
		a.dummy(ctx, adminNames+name, password)
		return account.Admin{}, err
	}
	if err := a.AdminPassword(ctx, &admin, password); err != nil {
		return account.Admin{}, err
	}
	if err := admitAdmin(&admin, remote); err != nil {
		return account.Admin{}, err
	}
	if t := &admin.Filters.TOTPConfig; t.Enabled {
		if code == "" {
			return account.Admin{}, deny(ReasonSecondFactor, ErrCodeNeeded)
		}
		if err := a.adminCode(ctx, &admin, remote, code); err != nil {
			return account.Admin{}, err
		}
	}
	return admin, nil
}

// CurrentAdmin reads an administrator whose credential was proven before, and checks that they may still come in from
// remote.
func (a *Authenticator) CurrentAdmin(ctx context.Context, s AdminStore, name string, remote netip.Addr) (account.Admin, error) {
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	admin, err := a.admin(ctx, s, name)
	if err == nil {
		err = admitAdmin(&admin, remote)
	}
	if err != nil {
		return account.Admin{}, err
	}
	return admin, nil
}

func (a *Authenticator) admin(ctx context.Context, s AdminStore, name string) (out account.Admin, err error) {
	doc, err := s.Record(ctx, account.KindAdmin, name)
	switch {
	case errors.Is(err, account.ErrNotFound):
		return out, &Denied{Reason: ReasonUnknownUser, Unknown: true}
	case err != nil:
		return out, deny(ReasonStore, err)
	}
	if err := json.Unmarshal(doc, &out); err != nil {
		return out, deny(ReasonAccount, err)
	}
	if out.Username != name {
		return out, deny(ReasonStore, fmt.Errorf("the store answered with the administrator %q", out.Username))
	}
	return out, nil
}

// AdminPassword proves plain for an administrator. Every way to fail costs one hash. The error is a *Denied.
func (a *Authenticator) AdminPassword(ctx context.Context, admin *account.Admin, plain string) error {
	if err := checkPassword(plain); err != nil {
		return err
	}
	u := &account.User{Username: adminNames + admin.Username, Password: admin.Password}
	if u.Password == "" {
		a.dummy(ctx, u.Username, plain)
		return deny(ReasonNoPassword, nil)
	}
	ok, err := a.check(ctx, u, plain, func() (bool, error) { return a.passwords.Verify(ctx, u.Password, plain) })
	switch {
	case errors.Is(err, ErrBusy):
		return deny(ReasonBusy, err)
	case err != nil && ctx.Err() != nil:
		return deny(ReasonCanceled, err)
	case err != nil:
		a.dummy(ctx, u.Username, plain)
		return deny(ReasonHash, err)
	case !ok:
		if c, is := a.passwords.(cheapness); is && c.Cheap(u.Password) {
			a.dummy(ctx, u.Username, plain)
		}
		return deny(ReasonPassword, nil)
	}
	return nil
}

// adminCode proves a code of an administrator's second factor, once (AUTH-7).
func (a *Authenticator) adminCode(ctx context.Context, admin *account.Admin, remote netip.Addr, code string) error {
	u := &account.User{Username: adminNames + admin.Username}
	u.Filters.TOTPConfig = account.UserTOTPConfig{Enabled: true, ConfigName: admin.Filters.TOTPConfig.ConfigName, Secret: admin.Filters.TOTPConfig.Secret}
	return a.factors.check(ctx, u, remote, code, a.now())
}

// admitAdmin refuses administrators that are disabled or come from elsewhere.
func admitAdmin(admin *account.Admin, remote netip.Addr) error {
	if admin.Status != 1 {
		return deny(ReasonDisabled, nil)
	}
	if len(admin.Filters.AllowList) == 0 {
		return nil
	}
	remote = remote.Unmap().WithZone("")
	if !remote.IsValid() {
		return deny(ReasonAddress, errNoAddress)
	}
	if slices.ContainsFunc(admin.Filters.AllowList, func(s string) bool {
		p, err := parsePrefix(s)
		return err == nil && p.Contains(remote)
	}) {
		return nil
	}
	return deny(ReasonAddress, fmt.Errorf("%s is not in allow_list", remote))
}

// Secret compares a secret of the server's own making (an API key's, a share's password) with its stored hash. name
// tells such secrets apart in what is remembered. An unknown one has the stored hash "" and costs the same.
func (a *Authenticator) Secret(ctx context.Context, name, stored, plain string) error {
	if err := checkPassword(plain); err != nil {
		return err
	}
	name = "\x00secret\x00" + name
	if stored == "" {
		a.dummy(ctx, name, plain)
		return deny(ReasonPassword, nil)
	}
	ok, err := a.check(ctx, &account.User{Username: name, Password: stored}, plain, func() (bool, error) { return a.passwords.Verify(ctx, stored, plain) })
	if err != nil {
		return deny(ReasonHash, err)
	}
	if !ok {
		return deny(ReasonPassword, nil)
	}
	return nil
}

// Vouched is an account whose credential was proven before, or by other means: what a token or an API key stands for.
type Vouched struct {
	Username string
	ID       int64  // of the account when it was proven; 0 is any
	Method   string // account.MethodPassword, …
	Factor   bool   // the second factor was proven, or is not asked for
}

// Vouch makes the identity of such an account, as it is now and through Admit. The error is a *Denied.
func (a *Authenticator) Vouch(ctx context.Context, v Vouched, t *Attempt) (*Identity, error) {
	if t == nil || v.Username == "" {
		return nil, deny(ReasonMalformed, nil)
	}
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	c, err := a.accounts.lookup(ctx, v.Username)
	if err != nil {
		return nil, denied(err)
	}
	if v.ID != 0 && c.user.ID != v.ID {
		return nil, &Denied{Reason: ReasonUnknownUser, Unknown: true, Err: errors.New("the name stands for another account now")}
	}
	at := *t
	at.Method, at.factor = v.Method, v.Factor
	if err := c.admit(&at, a.now(), a.loc); err != nil {
		return nil, err
	}
	return &Identity{User: c.user, Method: v.Method, factor: v.Factor, of: c}, nil
}

// CodeIn reports whether a code is one of secretText around now; for enrolment (the codes of accounts are checked by
// their logins). A right one is good once (AUTH-7).
func (a *Authenticator) CodeIn(configName, secretText, code, name string) (bool, error) {
	i := slices.IndexFunc(a.factors.configs, func(t TOTPConfig) bool { return t.Name == configName })
	if i < 0 {
		return false, fmt.Errorf("mfa.totp has no configuration %q", configName)
	}
	step, ok, err := CheckTOTP(a.factors.configs[i].Algo, secretText, code, a.now())
	if err != nil || !ok {
		return false, err
	}
	return a.factors.use(&account.User{Username: "\x00enrol\x00" + name}, step, a.now())
}

// TOTPConfigs are those of the configuration.
func (a *Authenticator) TOTPConfigs() []TOTPConfig { return slices.Clone(a.factors.configs) }

// HasFactor reports whether a second factor was proven.
func (id *Identity) HasFactor() bool { return id.factor }

// Owes says what an account that HTTP lets in must do before anything else: change its password, set up a second factor.
func Owes(u *account.User, now time.Time) (password, factor bool) {
	f := &u.Filters
	password = f.RequirePasswordChange
	if f.PasswordExpiration > 0 && u.Password != "" {
		end := time.UnixMilli(u.LastPasswordChange).UTC().AddDate(0, 0, f.PasswordExpiration)
		password = password || u.LastPasswordChange == 0 || !now.Before(end)
	}
	on := f.TOTPConfig.Enabled && slices.Contains(f.TOTPConfig.Protocols, account.ProtocolHTTP)
	return password, slices.Contains(f.TwoFactorProtocols, account.ProtocolHTTP) && !on
}
