package account

import (
	"context"

	"github.com/gantryhq/gantry/internal/secret"
)

// Configs are the settings that administrators change while the server runs. There is one.
type Configs struct {
	SFTPD     *SFTPDConfigs    `json:"sftpd,omitempty"`
	SMTP      *SMTPConfigs     `json:"smtp,omitempty"`
	ACME      *ACMEConfigs     `json:"acme,omitempty"`
	Branding  *BrandingConfigs `json:"branding,omitempty"`
	UpdatedAt int64            `json:"updated_at,omitempty"`
}

// SFTPDConfigs are algorithm lists.
type SFTPDConfigs struct {
	HostKeyAlgos   []string `json:"host_key_algos,omitempty"`
	PublicKeyAlgos []string `json:"public_key_algos,omitempty"`
	KexAlgorithms  []string `json:"kex_algorithms,omitempty"`
	Ciphers        []string `json:"ciphers,omitempty"`
	MACs           []string `json:"macs,omitempty"`
}

// SMTPConfigs is the mail server.
type SMTPConfigs struct {
	Host       string        `json:"host,omitempty"`
	Port       int           `json:"port,omitempty"`
	From       string        `json:"from,omitempty"`
	User       string        `json:"user,omitempty"`
	Password   secret.Secret `json:"password,omitzero"`
	AuthType   int           `json:"auth_type,omitempty"`  // 0 PLAIN, 1 LOGIN, 2 CRAM-MD5, 3 XOAUTH2
	Encryption int           `json:"encryption,omitempty"` // 0 none, 1 TLS, 2 STARTTLS
	Domain     string        `json:"domain,omitempty"`
	Debug      int           `json:"debug,omitempty"`
	OAuth2     SMTPOAuth2    `json:"oauth2"`
}

// SMTPOAuth2 is for auth_type 3.
type SMTPOAuth2 struct {
	Provider     int           `json:"provider,omitempty"` // 0 Google, 1 Microsoft
	Tenant       string        `json:"tenant,omitempty"`
	ClientID     string        `json:"client_id,omitempty"`
	ClientSecret secret.Secret `json:"client_secret,omitzero"`
	RefreshToken secret.Secret `json:"refresh_token,omitzero"`
}

// ACMEConfigs is the certificate from a certificate authority.
type ACMEConfigs struct {
	Domain          string        `json:"domain,omitempty"`
	Email           string        `json:"email,omitempty"`
	HTTP01Challenge ACMEChallenge `json:"http01_challenge"`
	Protocols       int           `json:"protocols,omitempty"` // bits: 1 HTTP, 2 FTP, 4 DAV
}

// ACMEChallenge says where the authority's request arrives.
type ACMEChallenge struct {
	Port int `json:"port"`
}

// BrandingConfigs are names and pictures of the pages.
type BrandingConfigs struct {
	WebAdmin  Branding `json:"WebAdmin"`
	WebClient Branding `json:"WebClient"`
}

// Branding is for one of the two web parts. Pictures are PNG.
type Branding struct {
	Name           string `json:"name,omitempty"`
	ShortName      string `json:"short_name,omitempty"`
	Logo           []byte `json:"logo,omitempty"`
	Favicon        []byte `json:"favicon,omitempty"`
	DisclaimerName string `json:"disclaimer_name,omitempty"`
	DisclaimerURL  string `json:"disclaimer_url,omitempty"`
}

// Kind implements Document.
func (o *Configs) Kind() Kind { return KindConfig }

// Key implements Document.
func (o *Configs) Key() string { return "configs" }

// References implements Document.
func (o *Configs) References() []Ref { return nil }

// Normalize implements Document.
func (o *Configs) Normalize(_ context.Context, r Rules) error {
	c := &checker{kind: string(KindConfig), name: "configs"}
	within := func(field string, v, low, high int) {
		if v < low || v > high {
			c.bad(field, "range", "must be %d to %d, it is %d", low, high, v)
		}
	}
	if m := o.SMTP; m != nil {
		within("smtp.port", m.Port, 0, 65535)
		within("smtp.auth_type", m.AuthType, 0, 3)
		within("smtp.encryption", m.Encryption, 0, 2)
		within("smtp.oauth2.provider", m.OAuth2.Provider, 0, 1)
		if m.Host != "" && m.Port == 0 {
			m.Port = 587
		}
	}
	if a := o.ACME; a != nil {
		within("acme.http01_challenge.port", a.HTTP01Challenge.Port, 0, 65535)
		within("acme.protocols", a.Protocols, 0, 7)
		c.email("acme.email", a.Email)
		if a.Domain != "" && a.Email == "" {
			c.bad("acme.email", "required", "is needed where a domain is set")
		}
	}
	c.seal(r, o, "smtp")
	return c.result()
}
