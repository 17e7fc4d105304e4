package auth

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/gantryhq/gantry/internal/account"
)

// Admit is the one check that every login passes, whatever the protocol and method (AUTH-3): enabled, not
// expired, within its times, from an allowed network, by an allowed protocol and method, with the second
// factor that it must have. It gives nil or a *Denied.
func Admit(u *account.User, t *Attempt, now time.Time) error {
	f := &u.Filters
	switch {
	case u.Username == "":
		return &Denied{Reason: "no identity"}
	case u.Status != 1:
		return &Denied{Reason: "account disabled"}
	case u.ExpirationDate > 0 && now.UnixMilli() > u.ExpirationDate:
		return &Denied{Reason: "account expired"}
	case !inTime(f.AccessTime, now):
		return &Denied{Reason: "outside the allowed times"}
	case slices.Contains(f.DeniedProtocols, t.Protocol):
		return &Denied{Reason: "protocol " + t.Protocol + " denied"}
	case slices.Contains(f.DeniedLoginMethods, t.Method),
		t.Method == account.MethodPassword && t.Protocol == account.ProtocolSSH && slices.Contains(f.DeniedLoginMethods, account.MethodPasswordOverSSH):
		return &Denied{Reason: "login method " + t.Method + " denied"}
	case t.Protocol != account.ProtocolHTTP && f.RequirePasswordChange:
		return &Denied{Reason: "password change required"}
	case t.Protocol != account.ProtocolHTTP && passwordExpired(u, now):
		return &Denied{Reason: "password expired"}
	case slices.Contains(f.TwoFactorProtocols, t.Protocol) && !(f.TOTPConfig.Enabled && slices.Contains(f.TOTPConfig.Protocols, t.Protocol)):
		return &Denied{Reason: "second factor required but not set up"}
	}
	return admitAddr(f, t.Remote)
}

func passwordExpired(u *account.User, now time.Time) bool {
	days := u.Filters.PasswordExpiration
	return days > 0 && u.Password != "" && now.UnixMilli() > u.LastPasswordChange+int64(days)*24*60*60*1000
}

// inTime reports whether now lies in one of the windows; no window allows all. now carries the time zone.
func inTime(windows []account.TimePeriod, now time.Time) bool {
	if len(windows) == 0 {
		return true
	}
	minute := now.Hour()*60 + now.Minute()
	for _, w := range windows {
		from, err1 := account.ParseClock(w.From)
		to, err2 := account.ParseClock(w.To)
		if err1 == nil && err2 == nil && int(now.Weekday()) == w.DayOfWeek && minute >= from && minute <= to {
			return true
		}
	}
	return false
}

// admitAddr judges the client's address: an allowed match accepts, then a denied one refuses, else an
// empty allowed list accepts. An address or an entry that cannot be read refuses.
func admitAddr(f *account.UserFilters, addr netip.Addr) error {
	if len(f.AllowedIP)+len(f.DeniedIP) == 0 {
		return nil
	}
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() {
		return &Denied{Reason: "client address unknown"}
	}
	match := func(list []string) (bool, error) {
		for _, s := range list {
			p, err := netip.ParsePrefix(s)
			if err != nil {
				return false, fmt.Errorf("IP filter %q: %w", s, err)
			}
			if p.Contains(addr) {
				return true, nil
			}
		}
		return false, nil
	}
	allowed, err1 := match(f.AllowedIP)
	denied, err2 := match(f.DeniedIP)
	switch {
	case err1 != nil:
		return &Denied{Reason: "IP filters cannot be read", Err: err1}
	case err2 != nil:
		return &Denied{Reason: "IP filters cannot be read", Err: err2}
	case allowed, !denied && len(f.AllowedIP) == 0:
		return nil
	}
	return &Denied{Reason: "client address denied"}
}
