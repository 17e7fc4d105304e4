package pprof

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
)

// Config is the telemetry section. Relative file names begin in the configuration directory.
type Config struct {
	BindPort           int      `json:"bind_port"`    // 0 is off
	BindAddress        string   `json:"bind_address"` // an absolute path is a Unix socket
	EnableProfiler     bool     `json:"enable_profiler"`
	AuthUserFile       string   `json:"auth_user_file"` // htpasswd; "" asks for no login
	CertificateFile    string   `json:"certificate_file"`
	CertificateKeyFile string   `json:"certificate_key_file"`
	TLSCipherSuites    []string `json:"tls_cipher_suites"` // of TLS 1.2
	MinTLSVersion      int      `json:"min_tls_version"`   // 12 or 13
	TLSProtocols       []string `json:"tls_protocols"`     // kept: HTTP/1.1 is what is spoken
}

// DefaultConfig is off, and on loopback once it has a port.
func DefaultConfig() Config { return Config{BindAddress: "127.0.0.1", MinTLSVersion: 12} }

// IsOn reports whether there is something to listen on.
func (c *Config) IsOn() bool { return c.BindPort > 0 || c.IsSocket() }

// IsSocket reports whether the address is a Unix socket's.
func (c *Config) IsSocket() bool { return filepath.IsAbs(c.BindAddress) }

// IsTLS reports whether HTTPS is spoken.
func (c *Config) IsTLS() bool { return c.CertificateFile != "" }

// IsLocal reports whether only this machine reaches the address.
func (c *Config) IsLocal() bool {
	if c.IsSocket() || c.BindAddress == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(c.BindAddress)
	return err == nil && a.IsLoopback()
}

// Validate says what is wrong, each error with the name of its key.
func (c *Config) Validate() error {
	var errs []error
	bad := func(key, format string, a ...any) {
		errs = append(errs, fmt.Errorf("telemetry.%s: %s", key, fmt.Sprintf(format, a...)))
	}
	if c.BindPort < 0 || c.BindPort > 65535 {
		bad("bind_port", "must be 0 (off) to 65535, it is %d", c.BindPort)
	}
	if (c.CertificateFile == "") != (c.CertificateKeyFile == "") {
		bad("certificate_file", "certificate_file and certificate_key_file belong together")
	}
	switch c.MinTLSVersion {
	case 0, 10, 11, 12, 13:
	default:
		bad("min_tls_version", "must be 12 or 13 (10 and 11 are taken), it is %d", c.MinTLSVersion)
	}
	return errors.Join(errs...)
}

// Warnings names what works and is not wise.
func (c *Config) Warnings() []string {
	if !c.IsOn() || c.IsLocal() {
		return nil
	}
	var out []string
	if c.AuthUserFile == "" && c.EnableProfiler {
		out = append(out, fmt.Sprintf("telemetry: whoever reaches %q reads the process's profiles; set auth_user_file or bind to 127.0.0.1", c.BindAddress))
	}
	if c.AuthUserFile != "" && !c.IsTLS() {
		out = append(out, "telemetry: passwords travel in the clear; set certificate_file and certificate_key_file")
	}
	return out
}
