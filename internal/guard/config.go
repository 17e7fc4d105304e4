package guard

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"
)

// Protocol is a set of protocols, in the bits of the lists' entries.
type Protocol uint8

// The protocols.
const (
	SSH Protocol = 1 << iota
	FTP
	DAV
	HTTP

	AllProtocols = SSH | FTP | DAV | HTTP
)

// ProtocolOf gives a protocol by its name in the records; 0 for another name.
func ProtocolOf(name string) Protocol {
	switch name {
	case "SSH":
		return SSH
	case "FTP":
		return FTP
	case "DAV":
		return DAV
	case "HTTP":
		return HTTP
	}
	return 0
}

// String names a single protocol.
func (p Protocol) String() string {
	switch p {
	case SSH:
		return "SSH"
	case FTP:
		return "FTP"
	case DAV:
		return "DAV"
	case HTTP:
		return "HTTP"
	}
	return fmt.Sprintf("protocols %d", uint8(p))
}

// Config is the part of the section "common" that the guard works by. A cap of 0 is none.
type Config struct {
	MaxTotal        int             `json:"max_total_connections"`
	MaxPerHost      int             `json:"max_per_host_connections"`
	AllowListStatus int             `json:"allowlist_status"` // 1: only who is in the allow list may connect
	Defender        DefenderConfig  `json:"defender"`
	RateLimiters    []LimiterConfig `json:"rate_limiters"`
}

// DefenderConfig is common.defender.
type DefenderConfig struct {
	Enabled          bool   `json:"enabled"`
	Driver           string `json:"driver"`             // memory, or provider: the nodes of one database have it together
	BanTime          int    `json:"ban_time"`           // minutes
	BanTimeIncrement int    `json:"ban_time_increment"` // percent of ban_time that each connection while banned adds
	Threshold        int    `json:"threshold"`
	ScoreInvalid     int    `json:"score_invalid"`
	ScoreValid       int    `json:"score_valid"`
	ScoreLimit       int    `json:"score_limit_exceeded"`
	ScoreNoAuth      int    `json:"score_no_auth"`
	ObservationTime  int    `json:"observation_time"` // minutes
	SoftLimit        int    `json:"entries_soft_limit"`
	HardLimit        int    `json:"entries_hard_limit"`
	LoginDelay       struct {
		Success        int `json:"success"`         // ms
		PasswordFailed int `json:"password_failed"` // ms
	} `json:"login_delay"`
}

// LimiterConfig is one of common.rate_limiters.
type LimiterConfig struct {
	Average        int      `json:"average"` // events in a period; 0 is off
	Period         int      `json:"period"`  // ms
	Burst          int      `json:"burst"`
	Type           int      `json:"type"` // 1 one bucket for all, 2 one for each source
	Protocols      []string `json:"protocols"`
	AllowList      []string `json:"allow_list"` // addresses and networks that are exempt
	DefenderEvents bool     `json:"generate_defender_events"`
	SoftLimit      int      `json:"entries_soft_limit"`
	HardLimit      int      `json:"entries_hard_limit"`
}

// DefaultConfig is what holds for keys that the configuration does not name.
func DefaultConfig() Config {
	d := DefenderConfig{Driver: "memory", BanTime: 30, BanTimeIncrement: 50, Threshold: 15, ScoreInvalid: 2, ScoreValid: 1, ScoreLimit: 3,
		ObservationTime: 30, SoftLimit: 100, HardLimit: 150}
	d.LoginDelay.PasswordFailed = 1000
	return Config{MaxPerHost: 20, Defender: d, RateLimiters: []LimiterConfig{DefaultLimiter()}}
}

// DefaultLimiter is what holds for keys that an element of rate_limiters does not name.
func DefaultLimiter() LimiterConfig {
	return LimiterConfig{Period: 1000, Burst: 1, Type: 2, Protocols: []string{"SSH", "FTP", "DAV", "HTTP"}, SoftLimit: 100, HardLimit: 150}
}

// maxEntries bounds the tables, whatever the configuration says: an entry has about 200 bytes.
const maxEntries = 10_000_000

// Validate says what is wrong with c, naming the keys.
func (c Config) Validate() error {
	var errs []error
	bad := func(key, format string, a ...any) {
		errs = append(errs, fmt.Errorf("common.%s: %s", key, fmt.Sprintf(format, a...)))
	}
	within := func(key string, v, low, high int) {
		if v < low || v > high {
			bad(key, "must be %d to %d, it is %d", low, high, v)
		}
	}
	if c.MaxTotal < 0 {
		bad("max_total_connections", "must be 0 (no limit) or more, it is %d", c.MaxTotal)
	}
	if c.MaxPerHost < 0 {
		bad("max_per_host_connections", "must be 0 (no limit) or more, it is %d", c.MaxPerHost)
	}
	within("allowlist_status", c.AllowListStatus, 0, 1)
	if d := c.Defender; d.Enabled {
		if d.Driver != "memory" && d.Driver != "provider" {
			bad("defender.driver", "must be memory or provider, it is %q", d.Driver)
		}
		const year = 366 * 24 * 60
		within("defender.ban_time", d.BanTime, 1, year)
		within("defender.ban_time_increment", d.BanTimeIncrement, 1, 100_000)
		within("defender.threshold", d.Threshold, 1, 10_000)
		within("defender.observation_time", d.ObservationTime, 1, year)
		for _, s := range []struct {
			key   string
			score int
		}{{"score_invalid", d.ScoreInvalid}, {"score_valid", d.ScoreValid}, {"score_limit_exceeded", d.ScoreLimit}, {"score_no_auth", d.ScoreNoAuth}} {
			if s.score < 0 || s.score >= d.Threshold {
				bad("defender."+s.key, "must be 0 or more and below threshold (%d), it is %d", d.Threshold, s.score)
			}
		}
		limits("defender", d.SoftLimit, d.HardLimit, bad)
		within("defender.login_delay.success", d.LoginDelay.Success, 0, 60_000)
		within("defender.login_delay.password_failed", d.LoginDelay.PasswordFailed, 0, 60_000)
	}
	for i, l := range c.RateLimiters {
		key := fmt.Sprintf("rate_limiters[%d]", i)
		within(key+".average", l.Average, 0, 1_000_000_000)
		if l.Average == 0 {
			continue
		}
		within(key+".period", l.Period, 100, 24*60*60*1000)
		within(key+".burst", l.Burst, 1, 1_000_000)
		within(key+".type", l.Type, 1, 2)
		for _, p := range l.Protocols {
			if ProtocolOf(p) == 0 {
				bad(key+".protocols", "%q is none of SSH, FTP, DAV and HTTP", p)
			}
		}
		if l.Type == 2 {
			limits(key, l.SoftLimit, l.HardLimit, bad)
		} else if l.DefenderEvents {
			bad(key+".generate_defender_events", "is for type 2 only: no source exceeds a bucket of all")
		}
		if _, err := parsePrefixes(l.AllowList); err != nil {
			bad(key+".allow_list", "%v", err)
		}
	}
	return errors.Join(errs...)
}

func limits(key string, soft, hard int, bad func(key, format string, a ...any)) {
	if soft < 1 || soft > maxEntries {
		bad(key+".entries_soft_limit", "must be 1 to %d, it is %d", maxEntries, soft)
	}
	if hard <= soft || hard > maxEntries {
		bad(key+".entries_hard_limit", "must be above entries_soft_limit (%d) and at most %d, it is %d", soft, maxEntries, hard)
	}
}

func sameLimiters(a, b []LimiterConfig) bool {
	return slices.EqualFunc(a, b, func(x, y LimiterConfig) bool { return reflect.DeepEqual(x, y) })
}

// prefixes are a few networks.
type prefixes []netip.Prefix

func (p prefixes) contains(a netip.Addr) bool {
	return slices.ContainsFunc(p, func(n netip.Prefix) bool { return n.Contains(a) })
}

// parsePrefixes reads addresses and networks.
func parsePrefixes(list []string) (prefixes, error) {
	var out prefixes
	for _, s := range list {
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
			a = a.Unmap()
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		n, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("%q is neither an address nor a network", s)
		}
		out = append(out, n.Masked())
	}
	return out, nil
}

func minutes(n int) time.Duration { return time.Duration(n) * time.Minute }
