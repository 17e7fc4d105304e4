package dav

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gantryhq/gantry/engine"
)

// Config is the webdavd section. Relative file names begin at ConfigDir.
type Config struct {
	Bindings           []Binding `json:"bindings"`
	CertificateFile    string    `json:"certificate_file"`
	CertificateKeyFile string    `json:"certificate_key_file"`
	CACertificates     []string  `json:"ca_certificates"`
	CARevocationLists  []string  `json:"ca_revocation_lists"`
	CORS               CORS      `json:"cors"`
	Cache              Cache     `json:"cache"`

	// The keys below are our own.

	// HeaderTimeout is how long a peer may take for the head of a request, KeepAliveTimeout how long a connection may wait
	// for the next one, StallTimeout how long nothing may move in a body. In seconds.
	HeaderTimeout    int `json:"header_timeout"`
	KeepAliveTimeout int `json:"keep_alive_timeout"`
	StallTimeout     int `json:"stall_timeout"`
	// MinRate is how many bytes a second a body must come with, over half a minute of waiting; 0 is any.
	MinRate int `json:"min_rate"`
	// DepthInfinityLimit is how many resources a PROPFIND of depth infinity may tell of; 0 refuses it (DAV-2).
	DepthInfinityLimit int `json:"depth_infinity_limit"`

	// Not in the file; the caller sets it.

	ConfigDir string `json:"-"`
}

// Binding is one address to listen on.
type Binding struct {
	Address            string   `json:"address"` // "" is every interface, an absolute path a UNIX socket
	Port               int      `json:"port"`    // 0 is off, unless the address is a path
	EnableHTTPS        bool     `json:"enable_https"`
	CertificateFile    string   `json:"certificate_file"`
	CertificateKeyFile string   `json:"certificate_key_file"`
	MinTLSVersion      int      `json:"min_tls_version"` // 12 or 13; 10 and 11 are for very old clients
	ClientAuthType     int      `json:"client_auth_type"`
	TLSCipherSuites    []string `json:"tls_cipher_suites"`
	// Protocols are those of ALPN. There is http/1.1 alone, whatever else is listed.
	Protocols []string `json:"tls_protocols"`
	Prefix    string   `json:"prefix"`     // such as "/dav": what is not below it is not served
	ProxyMode int      `json:"proxy_mode"` // 0 the headers of ProxyAllowed, 1 the PROXY protocol as common has it
	// ProxyAllowed are addresses and networks whose headers name the client. ClientIPProxyHeader is that with its address;
	// without one it is X-Forwarded-For. ClientIPHeaderDepth counts the addresses in it from the right, -1 is the leftmost.
	ProxyAllowed         []string `json:"proxy_allowed"`
	ClientIPProxyHeader  string   `json:"client_ip_proxy_header"`
	ClientIPHeaderDepth  int      `json:"client_ip_header_depth"`
	DisableWWWAuthHeader bool     `json:"disable_www_auth_header"` // 401 without a challenge
}

// CORS is the section of what pages of other origins may do.
type CORS struct {
	Enabled              bool     `json:"enabled"`
	AllowedOrigins       []string `json:"allowed_origins"` // exact ones, "*", or one "*" in each
	AllowedMethods       []string `json:"allowed_methods"`
	AllowedHeaders       []string `json:"allowed_headers"`
	ExposedHeaders       []string `json:"exposed_headers"`
	AllowCredentials     bool     `json:"allow_credentials"`
	MaxAge               int      `json:"max_age"` // seconds
	OptionsPassthrough   bool     `json:"options_passthrough"`
	OptionsSuccessStatus int      `json:"options_success_status"`
	AllowPrivateNetwork  bool     `json:"allow_private_network"`
}

// Cache is the section of what is remembered.
type Cache struct {
	Users     UserCache `json:"users"`
	MimeTypes MimeCache `json:"mime_types"`
}

// UserCache bounds the logins that are remembered between connections.
type UserCache struct {
	ExpirationTime int `json:"expiration_time"` // minutes; 0 is for ever
	MaxSize        int `json:"max_size"`        // 0 is unlimited
}

// MimeCache is the section of content types. They follow from names; nothing is read to find one, so that Enabled and
// MaxSize have nothing to bound.
type MimeCache struct {
	Enabled        bool          `json:"enabled"`
	MaxSize        int           `json:"max_size"`
	CustomMappings []MimeMapping `json:"custom_mappings"`
}

// MimeMapping is the content type of an extension, which begins with a dot.
type MimeMapping struct {
	Ext  string `json:"ext"`
	Mime string `json:"mime"`
}

// IsValid reports whether the binding is to be listened on.
func (b Binding) IsValid() bool { return b.Port > 0 || filepath.IsAbs(b.Address) }

// Listen opens the binding's port, or its UNIX socket.
func (b Binding) Listen(ctx context.Context) (net.Listener, error) {
	return engine.Listen(ctx, b.Address, b.Port)
}

// Proxies gives what says whether the headers of a peer name the client.
func (b Binding) Proxies() func(a netip.Addr) bool {
	nets, _ := engine.Networks(b.ProxyAllowed) // Validate has looked
	return func(a netip.Addr) bool { return b.ProxyMode == 0 && contains(nets, a) }
}

func contains(nets []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(a) })
}

// DefaultConfig has safe values for every key: no listener.
func DefaultConfig() Config {
	return Config{
		Bindings:         []Binding{{MinTLSVersion: 12}},
		Cache:            Cache{Users: UserCache{MaxSize: 50}, MimeTypes: MimeCache{Enabled: true, MaxSize: 1000}},
		HeaderTimeout:    30,
		KeepAliveTimeout: 60,
		StallTimeout:     60,
		MinRate:          240,

		DepthInfinityLimit: 20_000,
	}
}

// Validate says what is wrong, each error with the name of its key.
func (c *Config) Validate() error {
	var errs []error
	bad := func(key, format string, a ...any) {
		errs = append(errs, fmt.Errorf("webdavd.%s: %s", key, fmt.Sprintf(format, a...)))
	}
	between := func(key string, v, low, high int) {
		if v < low || v > high {
			bad(key, "%d is not between %d and %d", v, low, high)
		}
	}
	for i, b := range c.Bindings {
		at := fmt.Sprintf("bindings[%d].", i)
		between(at+"port", b.Port, 0, 65535)
		between(at+"client_auth_type", b.ClientAuthType, 0, 2)
		between(at+"proxy_mode", b.ProxyMode, 0, 1)
		between(at+"client_ip_header_depth", b.ClientIPHeaderDepth, -1, 100)
		if b.MinTLSVersion != 0 {
			between(at+"min_tls_version", b.MinTLSVersion, 10, 13)
		}
		if p := b.Prefix; p != "" && (p[0] != '/' || filepath.ToSlash(filepath.Clean(p)) != p || p == "/" || strings.ContainsAny(p, "%?#\x00")) {
			bad(at+"prefix", "%q must begin with / and not end with it, as /dav", p)
		}
		if _, err := engine.Networks(b.ProxyAllowed); err != nil {
			bad(at+"proxy_allowed", "%v", err)
		}
		if h := b.ClientIPProxyHeader; h != "" && !isToken([]byte(h)) {
			bad(at+"client_ip_proxy_header", "%q is no name of a header", h)
		}
		if b.ClientIPProxyHeader != "" && len(b.ProxyAllowed) == 0 && b.IsValid() {
			bad(at+"client_ip_proxy_header", "%q is read from nobody while proxy_allowed is empty: name the proxies there", b.ClientIPProxyHeader) // AUTH-6
		}
		cert, key := b.CertificateFile, b.CertificateKeyFile
		if cert == "" {
			cert, key = c.CertificateFile, c.CertificateKeyFile
		}
		if b.IsValid() && b.EnableHTTPS && cert == "" {
			bad(at+"enable_https", "it needs certificate_file and certificate_key_file")
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
		if b.IsValid() && b.ClientAuthType == 1 && !b.EnableHTTPS {
			bad(at+"client_auth_type", "1 needs enable_https: there are no certificates without it")
		}
	}
	for i, o := range c.CORS.AllowedOrigins {
		if strings.Count(o, "*") > 1 {
			bad(fmt.Sprintf("cors.allowed_origins[%d]", i), "%q has more than one *", o)
		}
	}
	if c.CORS.Enabled && c.CORS.AllowCredentials && slices.Contains(c.CORS.AllowedOrigins, "*") {
		bad("cors.allow_credentials", "every origin could act for whoever is logged in: name the origins")
	}
	between("cors.max_age", c.CORS.MaxAge, 0, 86400)
	if s := c.CORS.OptionsSuccessStatus; s != 0 {
		between("cors.options_success_status", s, 200, 299)
	}
	between("cache.users.expiration_time", c.Cache.Users.ExpirationTime, 0, 1<<30)
	between("cache.users.max_size", c.Cache.Users.MaxSize, 0, 1<<30)
	between("cache.mime_types.max_size", c.Cache.MimeTypes.MaxSize, 0, 1<<30)
	for i, m := range c.Cache.MimeTypes.CustomMappings {
		at := fmt.Sprintf("cache.mime_types.custom_mappings[%d].", i)
		if !strings.HasPrefix(m.Ext, ".") || len(m.Ext) < 2 || strings.ContainsAny(m.Ext[1:], "./") {
			bad(at+"ext", "%q must be an extension with its dot, as .txt", m.Ext)
		}
		if !strings.Contains(m.Mime, "/") || strings.ContainsFunc(m.Mime, func(r rune) bool { return r < ' ' || r > '~' }) {
			bad(at+"mime", "%q is no content type, as text/plain", m.Mime)
		}
	}
	between("header_timeout", c.HeaderTimeout, 1, 600)
	between("keep_alive_timeout", c.KeepAliveTimeout, 1, 3600)
	between("stall_timeout", c.StallTimeout, 1, 24*3600)
	between("min_rate", c.MinRate, 0, 1<<20)
	between("depth_infinity_limit", c.DepthInfinityLimit, 0, 1<<30)
	return errors.Join(errs...)
}

// Unbuilt names the keys that are set and have no effect.
func (c *Config) Unbuilt() []string {
	var out []string
	for i, b := range c.Bindings {
		if slices.ContainsFunc(b.Protocols, func(p string) bool { return p != "http/1.1" }) {
			out = append(out, fmt.Sprintf("webdavd.bindings[%d].tls_protocols", i))
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
