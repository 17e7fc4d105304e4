package auth

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gantryhq/gantry/cache"
	"github.com/gantryhq/gantry/internal/account"
)

// compiled is an account with what its logins are checked by, made once per version. Immutable.
type compiled struct {
	user *account.User
	keys keyRing
	// allowed, denied are the IP filters; badIP says that one entry could not be read, and nobody gets in.
	allowed, denied []netip.Prefix
	badIP           error
	windows         []window
	timed           bool    // access_time is set
	problems        []error // for the log, once

	byPassword atomic.Pointer[Identity] // of logins by a password alone, which are all the same

	// What is remembered holds at an epoch of its tag and up to a time; until is 0 of what is not. Set before c is shared.
	tag   string
	at    cache.Epoch
	until int64 // UnixNano
}

// window is one access_time in minutes of its day, both inclusive.
type window struct {
	day      time.Weekday
	from, to int
}

func compile(u *account.User) *compiled {
	c := &compiled{user: u}
	c.keys, c.problems = compileKeys(u.PublicKeys)
	c.allowed = c.prefixes("allowed_ip", u.Filters.AllowedIP)
	c.denied = c.prefixes("denied_ip", u.Filters.DeniedIP)
	c.timed = len(u.Filters.AccessTime) > 0
	for i, p := range u.Filters.AccessTime {
		from, err1 := account.ParseClock(p.From)
		to, err2 := account.ParseClock(p.To)
		if err1 != nil || err2 != nil || p.DayOfWeek < 0 || p.DayOfWeek > 6 {
			c.problems = append(c.problems, fmt.Errorf("access_time[%d]: %d %q to %q is no weekly period", i, p.DayOfWeek, p.From, p.To))
			continue // it lets nobody in
		}
		c.windows = append(c.windows, window{time.Weekday(p.DayOfWeek), from, to})
	}
	return c
}

func (c *compiled) prefixes(key string, list []string) []netip.Prefix {
	var out []netip.Prefix
	for i, s := range list {
		p, err := parsePrefix(s)
		if err != nil {
			c.badIP = fmt.Errorf("%s[%d]: %q is no network", key, i, s)
			c.problems = append(c.problems, c.badIP)
			continue
		}
		out = append(out, p)
	}
	return out
}

// parsePrefix reads a network or a bare address. 4-in-6 forms become IPv4.
func parsePrefix(s string) (netip.Prefix, error) {
	s = strings.TrimSpace(s)
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	if a := p.Addr(); a.Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%q covers more than IPv4", s)
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// admit is the one check of whether an account may come in by an attempt whose credential is proven
// (AUTH-3). What it does not know it refuses.
func (c *compiled) admit(t *Attempt, now time.Time, loc *time.Location) error {
	u := c.user
	f := &u.Filters
	switch {
	case u.Username == "":
		return deny(ReasonAccount, errNoName)
	case u.Status != 1:
		return deny(ReasonDisabled, nil)
	case u.ExpirationDate != 0 && now.UnixMilli() > u.ExpirationDate:
		return deny(ReasonExpired, nil)
	case c.timed && !c.inWindow(now.In(loc)):
		return deny(ReasonAccessTime, nil)
	case !filepath.IsAbs(u.HomeDir):
		return deny(ReasonHome, nil)
	case !slices.Contains([]string{account.ProtocolSSH, account.ProtocolFTP, account.ProtocolDAV, account.ProtocolHTTP}, t.Protocol):
		return deny(ReasonProtocol, fmt.Errorf("%q is not known", t.Protocol))
	case slices.Contains(f.DeniedProtocols, t.Protocol):
		return deny(ReasonProtocol, fmt.Errorf("%s is in denied_protocols", t.Protocol))
	case t.Protocol == account.ProtocolFTP && f.FTPSecurity == 1 && !t.Secure:
		return deny(ReasonProtocol, errNeedsTLS)
	}
	if err := c.method(t); err != nil {
		return err
	}
	if err := c.address(t.Remote); err != nil {
		return err
	}
	return c.secondFactor(t, now)
}

var errNeedsTLS = errors.New("ftp_security asks for TLS")

// method refuses login methods that the account denies. A step is not a login: who denies the single methods
// does not get in by one.
func (c *compiled) method(t *Attempt) error {
	denied := c.user.Filters.DeniedLoginMethods
	switch t.Method {
	case account.MethodPassword:
		if t.Protocol == account.ProtocolSSH && slices.Contains(denied, account.MethodPasswordOverSSH) {
			return deny(ReasonMethod, fmt.Errorf("%s is in denied_login_methods", account.MethodPasswordOverSSH))
		}
	case account.MethodPublicKey, account.MethodKeyboardInteractive, account.MethodKeyAndPassword, account.MethodKeyAndKeyboard:
		if t.Protocol != account.ProtocolSSH {
			return deny(ReasonMethod, fmt.Errorf("%s is not a method of %s", t.Method, t.Protocol))
		}
	case account.MethodTLSCertificate, account.MethodTLSCertAndPassword:
		if t.Protocol != account.ProtocolFTP && t.Protocol != account.ProtocolDAV {
			return deny(ReasonMethod, fmt.Errorf("%s is not a method of %s", t.Method, t.Protocol))
		}
	default:
		return deny(ReasonMethod, fmt.Errorf("%q is not available", t.Method))
	}
	if slices.Contains(denied, t.Method) {
		return deny(ReasonMethod, fmt.Errorf("%s is in denied_login_methods", t.Method))
	}
	return nil
}

// address keeps the current order: an allowed match accepts, a denied match refuses, anyone else comes in
// only if nothing is listed as allowed. An address that is not known passes no filter (AUTH-5).
func (c *compiled) address(remote netip.Addr) error {
	if c.badIP != nil {
		return deny(ReasonAddress, c.badIP)
	}
	if len(c.allowed) == 0 && len(c.denied) == 0 {
		return nil
	}
	remote = remote.Unmap().WithZone("")
	match := func(p netip.Prefix) bool { return p.Contains(remote) }
	switch {
	case !remote.IsValid():
		return deny(ReasonAddress, errNoAddress)
	case slices.ContainsFunc(c.allowed, match):
		return nil
	case slices.ContainsFunc(c.denied, match):
		return deny(ReasonAddress, fmt.Errorf("%s is in denied_ip", remote))
	case len(c.allowed) > 0:
		return deny(ReasonAddress, fmt.Errorf("%s is not in allowed_ip", remote))
	}
	return nil
}

// secondFactor refuses accounts that must do something first: change the password (HTTP lets them in to do
// that), or set up the second factor; and logins that would pass a second factor by. Plain password and
// key logins over SSH are not challenged for TOTP, as permissions-and-filters.md 8 has it.
func (c *compiled) secondFactor(t *Attempt, now time.Time) error {
	u, f := c.user, &c.user.Filters
	if t.Protocol != account.ProtocolHTTP {
		if f.RequirePasswordChange {
			return deny(ReasonPasswordChange, nil)
		}
		// Who has no password has none that could be too old.
		if f.PasswordExpiration > 0 && u.Password != "" {
			end := time.UnixMilli(u.LastPasswordChange).UTC().AddDate(0, 0, f.PasswordExpiration)
			if u.LastPasswordChange == 0 || !now.Before(end) {
				return deny(ReasonPasswordChange, errPasswordOld)
			}
		}
	}
	on := c.hasFactor(t.Protocol)
	switch {
	case !on && t.Protocol != account.ProtocolHTTP && slices.Contains(f.TwoFactorProtocols, t.Protocol):
		return deny(ReasonSecondFactor, errNoTOTP)
	case on && !t.factor && (t.Protocol != account.ProtocolSSH || strings.HasSuffix(t.Method, account.MethodKeyboardInteractive)):
		return deny(ReasonSecondFactor, ErrCodeNeeded)
	}
	return nil
}

func (c *compiled) inWindow(now time.Time) bool {
	minute := now.Hour()*60 + now.Minute()
	return slices.ContainsFunc(c.windows, func(w window) bool {
		return w.day == now.Weekday() && w.from <= minute && minute <= w.to
	})
}
