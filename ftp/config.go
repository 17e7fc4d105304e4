package ftp

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/gantryhq/gantry/engine"
)

// Config is the ftpd section. Relative file names begin at ConfigDir.
type Config struct {
	Bindings []Binding `json:"bindings"`
	// Banner is the old name of common.server_version's text: what 220 says.
	Banner     string `json:"banner"`
	BannerFile string `json:"banner_file"`
	// ActiveTransfersPortNon20: active data connections come from any port, else from port 20.
	ActiveTransfersPortNon20 bool      `json:"active_transfers_port_non_20"`
	PassivePortRange         PortRange `json:"passive_port_range"`
	DisableActiveMode        bool      `json:"disable_active_mode"`
	EnableSite               bool      `json:"enable_site"`
	HashSupport              int       `json:"hash_support"`    // 1 enables HASH, XCRC, XMD5, …
	CombineSupport           int       `json:"combine_support"` // 1 enables COMB
	CertificateFile          string    `json:"certificate_file"`
	CertificateKeyFile       string    `json:"certificate_key_file"`
	CACertificates           []string  `json:"ca_certificates"`
	CARevocationLists        []string  `json:"ca_revocation_lists"`

	// The keys below are our own.

	// LoginGraceTime is the time that a peer has from its connection to its login, in seconds.
	LoginGraceTime int `json:"login_grace_time"`
	// DataTimeout is how long a data connection may take to come, and how long one may move nothing, in seconds.
	DataTimeout  int `json:"data_timeout"`
	StallTimeout int `json:"stall_timeout"`
	// AllowTruncatedTLS takes the end of a TCP connection for the end of an upload over TLS, as some old clients
	// need it. A connection that is cut then looks like a complete file (FTP-4).
	AllowTruncatedTLS bool `json:"allow_truncated_tls"`

	// Not in the file; the caller sets them.

	ConfigDir    string `json:"-"`
	Version      string `json:"-"`
	ShortVersion bool   `json:"-"`
}

// PortRange is where passive listeners are; Start 0 is any port.
type PortRange struct {
	Start int `json:"start"`
	End   int `json:"end"`
}

// Binding is one address to listen on.
type Binding struct {
	Address          string `json:"address"` // "" is every interface
	Port             int    `json:"port"`    // 0 is off
	ApplyProxyConfig bool   `json:"apply_proxy_config"`
	// TLSMode is 0 clear with AUTH TLS where there is a certificate, 1 TLS required on both channels, 2 implicit TLS.
	TLSMode int `json:"tls_mode"`
	// TLSSessionReuse 1: a data connection must resume the TLS session of its own control connection.
	TLSSessionReuse    int                 `json:"tls_session_reuse"`
	CertificateFile    string              `json:"certificate_file"`
	CertificateKeyFile string              `json:"certificate_key_file"`
	MinTLSVersion      int                 `json:"min_tls_version"` // 12 or 13; 10 and 11 are for very old clients
	ForcePassiveIP     string              `json:"force_passive_ip"`
	PassiveIPOverrides []PassiveIPOverride `json:"passive_ip_overrides"`
	PassiveHost        string              `json:"passive_host"` // resolved at each PASV
	ClientAuthType     int                 `json:"client_auth_type"`
	TLSCipherSuites    []string            `json:"tls_cipher_suites"`
	// PassiveConnectionsSecurity 1 takes data connections from any address. ActiveConnectionsSecurity is kept and
	// has no effect: nothing is ever opened to anybody but the control peer (FTP-1).
	PassiveConnectionsSecurity int `json:"passive_connections_security"`
	ActiveConnectionsSecurity  int `json:"active_connections_security"`
	// IgnoreASCIITransferType 1 treats TYPE A as TYPE I.
	IgnoreASCIITransferType int  `json:"ignore_ascii_transfer_type"`
	Debug                   bool `json:"debug"` // log every command
}

// PassiveIPOverride is the address for clients of some networks; an empty IP is that of the control connection.
type PassiveIPOverride struct {
	Networks []string `json:"networks"`
	IP       string   `json:"ip"`
}

// IsValid reports whether the binding is to be listened on.
func (b Binding) IsValid() bool { return b.Port > 0 }

// DefaultConfig has safe values for every key: no listener, and no active mode.
func DefaultConfig() Config {
	return Config{
		Bindings:                 []Binding{{ApplyProxyConfig: true, MinTLSVersion: 12}},
		ActiveTransfersPortNon20: true,
		PassivePortRange:         PortRange{50000, 50100},
		DisableActiveMode:        true,
		LoginGraceTime:           60,
		DataTimeout:              20,
		StallTimeout:             300,
	}
}

// Validate says what is wrong, each error with the name of its key.
func (c *Config) Validate() error {
	var errs []error
	bad := func(key, format string, a ...any) {
		errs = append(errs, fmt.Errorf("ftpd.%s: %s", key, fmt.Sprintf(format, a...)))
	}
	between := func(key string, v, low, high int) {
		if v < low || v > high {
			bad(key, "%d is not between %d and %d", v, low, high)
		}
	}
	for i, b := range c.Bindings {
		at := fmt.Sprintf("bindings[%d].", i)
		between(at+"port", b.Port, 0, 65535)
		between(at+"tls_mode", b.TLSMode, 0, 2)
		between(at+"tls_session_reuse", b.TLSSessionReuse, 0, 1)
		between(at+"client_auth_type", b.ClientAuthType, 0, 2)
		if b.MinTLSVersion != 0 {
			between(at+"min_tls_version", b.MinTLSVersion, 10, 13)
		}
		if b.ForcePassiveIP != "" {
			if a, err := netip.ParseAddr(b.ForcePassiveIP); err != nil || !a.Is4() {
				bad(at+"force_passive_ip", "%q is not an IPv4 address", b.ForcePassiveIP)
			}
		}
		for j, o := range b.PassiveIPOverrides {
			if a, err := netip.ParseAddr(o.IP); o.IP != "" && (err != nil || !a.Is4()) {
				bad(fmt.Sprintf("%spassive_ip_overrides[%d].ip", at, j), "%q is not an IPv4 address", o.IP)
			}
			for _, n := range o.Networks {
				if _, err := netip.ParsePrefix(n); err != nil {
					bad(fmt.Sprintf("%spassive_ip_overrides[%d].networks", at, j), "%q is not a network", n)
				}
			}
		}
		cert, key := b.CertificateFile, b.CertificateKeyFile
		if cert == "" {
			cert, key = c.CertificateFile, c.CertificateKeyFile
		}
		if b.IsValid() && b.TLSMode > 0 && cert == "" {
			bad(at+"tls_mode", "%d needs certificate_file and certificate_key_file", b.TLSMode)
		}
		if (cert == "") != (key == "") {
			bad(at+"certificate_file", "certificate_file and certificate_key_file belong together")
		}
		if _, err := engine.CipherSuites(b.TLSCipherSuites); err != nil {
			bad(at+"tls_cipher_suites", "%v", err)
		}
		if b.IsValid() && b.ClientAuthType == 1 && len(c.CACertificates) == 0 {
			bad(at+"client_auth_type", "1 needs ca_certificates, or anybody's certificate would do") // AUTH-5
		}
	}
	r := c.PassivePortRange
	if r.Start != 0 && (r.Start < 1024 || r.End > 65535 || r.End < r.Start) {
		bad("passive_port_range", "%d to %d: want ports from 1024 to 65535, the end not below the start, or a start of 0 for any", r.Start, r.End)
	}
	between("login_grace_time", c.LoginGraceTime, 1, 3600)
	between("data_timeout", c.DataTimeout, 1, 30)
	between("stall_timeout", c.StallTimeout, 1, 24*3600)
	between("hash_support", c.HashSupport, 0, 1)
	between("combine_support", c.CombineSupport, 0, 1)
	return errors.Join(errs...)
}

// Unbuilt names the keys that are set and have no effect.
func (c *Config) Unbuilt() []string {
	var out []string
	for i, b := range c.Bindings {
		if b.ActiveConnectionsSecurity != 0 {
			out = append(out, fmt.Sprintf("ftpd.bindings[%d].active_connections_security", i))
		}
	}
	return out
}

func (c *Config) path(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.ConfigDir, name)
}

func (c *Config) paths(names []string) []string {
	var out []string
	for _, n := range names {
		out = append(out, c.path(n))
	}
	return out
}
