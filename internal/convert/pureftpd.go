package convert

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/gantryhq/gantry/internal/account"
)

// The fields of a line of Pure-FTPd's user file, as its manual lists them.
const (
	pureGecos = 4 + iota
	pureHome
	pureUploadRate   // bytes/s
	pureDownloadRate // bytes/s
	pureUploadRatio
	pureDownloadRatio
	pureSessions
	pureFiles
	pureSize // bytes
	pureLocalAllow
	pureLocalDeny
	pureClientAllow
	pureClientDeny
	pureTime // HHMM-HHMM
	pureFields
)

// pureFTPd reads one line. Limits, client networks and the daily window are taken over; ratios and the
// server's own addresses have no counterpart and are noted.
func (c *conversion) pureFTPd(f []string) (found, bool, error) {
	if len(f) < pureHome+1 {
		return found{}, false, fmt.Errorf("has %d fields between colons, a Pure-FTPd line has %d", len(f), pureFields)
	}
	for len(f) < pureFields { // older files are shorter
		f = append(f, "")
	}
	u, ok, err := c.base(f)
	if !ok || err != nil {
		return u, ok, err
	}
	u.user.HomeDir, u.user.Description = f[pureHome], f[pureGecos]
	if strings.HasPrefix(u.hash, "!") || strings.HasPrefix(u.hash, "*") {
		u.hash, u.locked = "", true
	}
	numbers := map[int]int64{}
	for _, i := range []int{pureUploadRate, pureDownloadRate, pureUploadRatio, pureDownloadRatio, pureSessions, pureFiles, pureSize} {
		if f[i] == "" {
			continue
		}
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil || n < 0 {
			return u, false, fmt.Errorf("field %d, %q, is not a number", i+1, f[i])
		}
		numbers[i] = n
	}
	if numbers[pureSessions] > 1<<30 || numbers[pureFiles] > 1<<31-1 {
		return u, false, fmt.Errorf("a limit is too large")
	}
	u.user.UploadBandwidth, u.user.DownloadBandwidth = kilobytes(numbers[pureUploadRate]), kilobytes(numbers[pureDownloadRate])
	u.user.MaxSessions, u.user.QuotaFiles, u.user.QuotaSize = int(numbers[pureSessions]), int(numbers[pureFiles]), numbers[pureSize]
	if numbers[pureUploadRatio]+numbers[pureDownloadRatio] > 0 {
		c.note(u.name, "upload and download ratios have no counterpart")
	}
	if f[pureLocalAllow]+f[pureLocalDeny] != "" {
		c.note(u.name, "restrictions to addresses of the server have no counterpart")
	}
	allow, okAllow := c.networks(u.name, f[pureClientAllow])
	deny, okDeny := c.networks(u.name, f[pureClientDeny])
	u.user.Filters.AllowedIP, u.user.Filters.DeniedIP = allow, deny
	if len(allow) > 0 && len(deny) > 0 {
		// There a client must be allowed and not denied, here the allowed list is asked first.
		c.note(u.name, "has allowed and denied networks: an address in both was refused there and is allowed here")
		okAllow = false
	}
	if okTime := c.window(&u, f[pureTime]); !okTime || !okAllow || !okDeny {
		u.user.Status = 0
		c.note(u.name, "is switched off until a person has looked at its restrictions")
	}
	return u, true, nil
}

// kilobytes rounds a rate in bytes up, so that a limit does not become none.
func kilobytes(n int64) int64 {
	return n/1024 + min(n%1024, 1)
}

// networks reads a list of addresses and networks. ok is false when one could not be read.
func (c *conversion) networks(user, list string) (out []string, ok bool) {
	ok = true
	for _, s := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()).String())
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			c.note(user, fmt.Sprintf("%q is no address and no network such as 10.0.0.0/8", s))
			ok = false
			continue
		}
		out = append(out, p.Masked().String())
	}
	return out, ok
}

// window reads the daily time of logins, HHMM-HHMM. One that spans midnight becomes two.
func (c *conversion) window(u *found, s string) bool {
	if s == "" {
		return true
	}
	from, to, _ := strings.Cut(s, "-")
	a, okA := clock(from)
	b, okB := clock(to)
	if !okA || !okB || a == b {
		c.note(u.name, fmt.Sprintf("the time of logins %q is not HHMM-HHMM", s))
		return false
	}
	for day := range 7 {
		if a < b {
			u.user.Filters.AccessTime = append(u.user.Filters.AccessTime, account.TimePeriod{DayOfWeek: day, From: a, To: b})
			continue
		}
		if b > "00:00" {
			u.user.Filters.AccessTime = append(u.user.Filters.AccessTime, account.TimePeriod{DayOfWeek: day, From: "00:00", To: b})
		}
		if a < "23:59" {
			u.user.Filters.AccessTime = append(u.user.Filters.AccessTime, account.TimePeriod{DayOfWeek: day, From: a, To: "23:59"})
		}
	}
	return true
}

// clock turns HHMM into HH:MM.
func clock(s string) (string, bool) {
	if len(s) != 4 {
		return "", false
	}
	for _, d := range s {
		if d < '0' || d > '9' {
			return "", false
		}
	}
	if s[:2] > "23" || s[2:] > "59" {
		return "", false
	}
	return s[:2] + ":" + s[2:], true
}
