package auth

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/gantryhq/gantry/cache"
	"github.com/gantryhq/gantry/internal/secret"
)

// Config is the authenticator's settings.
type Config struct {
	Caching   bool // data_provider.password_caching
	LocalTime bool // common.tz: access times are in local time, else UTC

	Follow cache.FollowConfig // how the store's changes are followed

	TOTP   []TOTPConfig // mfa.totp
	Trust  Trust        // whose SSH user certificates are taken
	Box    *secret.Box  // opens the secrets of second factors; nil opens those without master key
	Hooks  Hooks        // asked at logins
	Editor Editor       // stores new hashes and used recovery codes; nil stores none
	Steps  Steps        // stores which one-time codes were used; nil: they are remembered until the end of the process
}

// HashConfig says how new passwords are hashed: the section data_provider.password_hashing.
type HashConfig struct {
	Algo   string        `json:"algo"` // "bcrypt" or "argon2id"
	Bcrypt BcryptOptions `json:"bcrypt_options"`
	Argon2 Argon2Options `json:"argon2_options"`
}

// BcryptOptions are the settings of bcrypt.
type BcryptOptions struct {
	Cost int `json:"cost"`
}

// Argon2Options are the settings of argon2id.
type Argon2Options struct {
	Memory      int `json:"memory"` // KiB
	Iterations  int `json:"iterations"`
	Parallelism int `json:"parallelism"` // 0 means the number of CPUs
}

// DefaultHashConfig is what holds for keys that the configuration does not name: bcrypt at cost 10.
func DefaultHashConfig() HashConfig {
	return HashConfig{Algo: "bcrypt", Bcrypt: BcryptOptions{Cost: 10}, Argon2: Argon2Options{Memory: 65536, Iterations: 1, Parallelism: 2}}
}

// The bounds of what is configured and of what a stored hash may ask for: a few seconds of one login, and
// a GiB. What asks for more than bigArgonMemory is worked on one at a time.
const (
	maxBcryptCost  = 16
	maxArgonMemory = 1 << 20   // KiB
	bigArgonMemory = 128 << 10 // KiB
	maxArgonPasses = 64
	maxArgonWork   = 4 << 20 // KiB times passes
	maxArgonLanes  = 64
)

// Validate says what is wrong with c, naming the key.
func (c HashConfig) Validate() error {
	var errs []error
	check := func(key string, v, lo, hi int) {
		if v < lo || v > hi {
			errs = append(errs, fmt.Errorf("%s: must be between %d and %d, it is %d", key, lo, hi, v))
		}
	}
	if c.Algo != "bcrypt" && c.Algo != "argon2id" {
		errs = append(errs, fmt.Errorf("algo: must be bcrypt or argon2id, it is %q", c.Algo))
	}
	check("bcrypt_options.cost", c.Bcrypt.Cost, 4, maxBcryptCost)
	a := c.Argon2
	check("argon2_options.parallelism", a.Parallelism, 0, maxArgonLanes)
	check("argon2_options.memory", a.Memory, 8*max(1, min(a.Parallelism, maxArgonLanes)), maxArgonMemory)
	check("argon2_options.iterations", a.Iterations, 1, maxArgonPasses)
	if len(errs) == 0 && a.Memory*a.Iterations > maxArgonWork {
		errs = append(errs, fmt.Errorf("argon2_options: memory times iterations is %d KiB, at most %d are taken: lower one of them", a.Memory*a.Iterations, maxArgonWork))
	}
	return errors.Join(errs...)
}

// lanes is the parallelism in effect.
func (a Argon2Options) lanes() int {
	if a.Parallelism == 0 {
		return max(1, min(runtime.NumCPU(), maxArgonLanes, a.Memory/8))
	}
	return a.Parallelism
}
