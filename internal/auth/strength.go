package auth

import (
	"fmt"

	strength "github.com/wagslane/go-password-validator"
)

// PasswordValidation is the section data_provider.password_validation.
type PasswordValidation struct {
	Users  MinEntropy `json:"users"`
	Admins MinEntropy `json:"admins"`
}

// MinEntropy is how hard to guess a plain password must be, in bits; 0 takes every one.
type MinEntropy struct {
	MinEntropy float64 `json:"min_entropy"`
}

// Validate says what is wrong with v, naming the key.
func (v PasswordValidation) Validate() error {
	for key, m := range map[string]MinEntropy{"users": v.Users, "admins": v.Admins} {
		if m.MinEntropy < 0 || m.MinEntropy > 1000 {
			return fmt.Errorf("password_validation.%s.min_entropy: must be between 0 and 1000, it is %v", key, m.MinEntropy)
		}
	}
	return nil
}

// Check refuses plain where it is easier to guess than own bits, or than m where own is 0. The error names
// neither the password nor how near it came.
func (m MinEntropy) Check(plain string, own int) error {
	want := m.MinEntropy
	if own > 0 {
		want = float64(own)
	}
	if want <= 0 || len(plain) <= maxPassword && strength.GetEntropy(plain) >= want {
		return nil
	}
	return fmt.Errorf("too easy to guess: %v bits of entropy are asked for; make it longer or use more kinds of characters", want)
}
