// Package secret holds sealed values: what is stored encrypted, shown redacted and never logged.
//
// The two local ciphers are those of existing account databases and dumps (reference data-model.md 10,
// guard.md 6), so that records made elsewhere open here. Without a master key, what is stored next to the
// payload is enough to open it: a master key is what makes a stolen database useless (CRY-3).
package secret

import (
	"encoding/json"
	"fmt"
	"log/slog"
)

// Status says in which form a Secret's payload is. The values are the field's JSON.
type Status string

// The forms a secret may have. Others than these are refused at decoding.
const (
	Empty     Status = ""
	Plain     Status = "Plain"
	Redacted  Status = "Redacted"
	Secretbox Status = "Secretbox"
	AES256GCM Status = "AES-256-GCM"
	AWS       Status = "AWS"
	GCP       Status = "GCP"
	Vault     Status = "VaultTransit"
	AzureKV   Status = "AzureKeyVault"
	OracleKV  Status = "OracleKeyVault"
)

// known reports whether s is one of the forms above.
func (s Status) known() bool {
	switch s {
	case Empty, Plain, Redacted, Secretbox, AES256GCM, AWS, GCP, Vault, AzureKV, OracleKV:
		return true
	}
	return false
}

// Secret is a value at rest, in the JSON form of account records. The zero Secret is "nothing stored".
type Secret struct {
	Status         Status `json:"status,omitempty"`
	Payload        string `json:"payload,omitempty"`
	Key            string `json:"key,omitempty"`
	AdditionalData string `json:"additional_data,omitempty"`
	Mode           int    `json:"mode,omitempty"` // 1 when a master key was used
}

// New gives a Plain secret of value, or the empty one.
func New(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{Status: Plain, Payload: value}
}

// UnmarshalJSON refuses an unknown status: a payload of a cipher that we do not know must not pass for
// anything else.
func (s *Secret) UnmarshalJSON(b []byte) error {
	type fields Secret // without this method
	var f fields
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	if !f.Status.known() {
		return fmt.Errorf("secret: unknown status %q", f.Status)
	}
	if f.Mode < 0 || f.Mode > 1 {
		return fmt.Errorf("secret: unknown mode %d", f.Mode)
	}
	*s = Secret(f)
	return nil
}

// LogValue hides the secret from logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// String hides the secret from formatted text.
func (s Secret) String() string { return "[redacted]" }

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return "[redacted]" }

// IsEmpty reports whether nothing is stored: no payload that could mean anything, and no wish to keep one.
func (s Secret) IsEmpty() bool {
	return s.Payload == "" && s.Status != Redacted
}

// IsPlain reports whether the payload is clear text.
func (s Secret) IsPlain() bool { return s.Status == Plain && s.Payload != "" }

// IsSealed reports whether the payload is ciphertext, whoever made it.
func (s Secret) IsSealed() bool {
	switch s.Status {
	case Empty, Plain, Redacted:
		return false
	}
	return s.Payload != ""
}

// IsOpenable reports whether a sealed secret came with what opens it. One read from redacted output did
// not, and stands for "keep the stored one", as Redacted does.
func (s Secret) IsOpenable() bool { return s.IsSealed() && (s.Key != "" || s.external()) }

func (s Secret) external() bool {
	return s.IsSealed() && s.Status != Secretbox && s.Status != AES256GCM
}

// Hide gives what may be shown: nothing but that there is a value.
func (s Secret) Hide() Secret {
	if s.IsEmpty() {
		return Secret{}
	}
	return Secret{Status: Redacted}
}

// Keep gives the secret that an update stores: next, or stored where next asks to keep it (Redacted, or
// what an earlier output showed).
func (next Secret) Keep(stored Secret) Secret {
	switch {
	case next.Status == Redacted, next.IsSealed() && !next.IsOpenable():
		return stored
	}
	return next
}
