// Package secret holds sealed values: what is stored encrypted, shown redacted and never logged.
package secret

import "log/slog"

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

// Secret is a value at rest, in the JSON form of account records.
type Secret struct {
	Status         Status `json:"status,omitempty"`
	Payload        string `json:"payload,omitempty"`
	Key            string `json:"key,omitempty"`
	AdditionalData string `json:"additional_data,omitempty"`
	Mode           int    `json:"mode,omitempty"` // 1 when a master key was used
}

// LogValue hides the secret from logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// String hides the secret from formatted text.
func (s Secret) String() string { return "[redacted]" }

// IsEmpty reports whether nothing is stored.
func (s Secret) IsEmpty() bool { return s.Status == Empty && s.Payload == "" }
