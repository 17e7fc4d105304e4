package auth

import "github.com/gantryhq/gantry/cache"

// Reasons are all reasons of a Denied.
func Reasons() []string {
	return []string{
		ReasonMalformed, ReasonUsername, ReasonBlank, ReasonTooLong, ReasonUnknownUser, ReasonPassword, ReasonNoPassword, ReasonHash,
		ReasonKey, ReasonAccount, ReasonDisabled, ReasonExpired, ReasonAccessTime, ReasonHome, ReasonProtocol, ReasonMethod,
		ReasonAddress, ReasonPasswordChange, ReasonSecondFactor, ReasonStore, ReasonSource, ReasonHook, ReasonBusy, ReasonCanceled,
	}
}

// Caches are the counts of what is remembered, by name: accounts, names that are no account's, verified passwords.
func (a *Authenticator) Caches() map[string]cache.Stats {
	out := map[string]cache.Stats{"accounts": a.accounts.known.Stats(), "absent": a.accounts.absent.Stats()}
	if a.verified != nil {
		out["passwords"] = a.verified.memo.Stats()
	}
	return out
}

// Use is how many passwords are being hashed now, and how many wait for that.
func (h *Hasher) Use() (running, waiting int) { return len(h.slots), int(h.waiting.Load()) }
