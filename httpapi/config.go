package httpapi

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/gantryhq/gantry/engine"
)

// Config is the httpd section. Relative file names begin at ConfigDir.
type Config struct {
	Bindings           []Binding `json:"bindings"`
	WebRoot            string    `json:"web_root"` // absolute prefix of every path, "" for none
	CertificateFile    string    `json:"certificate_file"`
	CertificateKeyFile string    `json:"certificate_key_file"`
	CACertificates     []string  `json:"ca_certificates"`
	CARevocationLists  []string  `json:"ca_revocation_lists"`

	SigningPassphrase     string `json:"signing_passphrase"`      // signs tokens; empty makes one at each start
	SigningPassphraseFile string `json:"signing_passphrase_file"` // wins
	TokenValidation       int    `json:"token_validation"`        // bits: 1 tokens hold from any address, 2 any change of the account ends them
	JWTLifetime           int    `json:"jwt_lifetime"`            // minutes
	MaxUploadFileSize     int64  `json:"max_upload_file_size"`    // bytes, 0 no limit
	CORS                  CORS   `json:"cors"`
	Setup                 Setup  `json:"setup"`

	// Not in the file; the caller sets them.

	ConfigDir    string `json:"-"`
	Version      string `json:"-"`
	ShortVersion bool   `json:"-"`
}

// Setup is what the making of the first administrator asks for beside the token that the start prints.
type Setup struct {
	InstallationCode     string `json:"installation_code"`
	InstallationCodeHint string `json:"installation_code_hint"`
}

// Bits of Binding.DisabledLoginMethods.
const (
	NoAdminToken  = 16
	NoUserToken   = 32
	NoAdminAPIKey = 64
	NoUserAPIKey  = 128
)

// Binding is one address to listen on.
type Binding struct {
	Address              string   `json:"address"` // an absolute path is a Unix socket
	Port                 int      `json:"port"`    // 0 is off
	EnableRESTAPI        bool     `json:"enable_rest_api"`
	DisabledLoginMethods int      `json:"disabled_login_methods"`
	EnableHTTPS          bool     `json:"enable_https"`
	CertificateFile      string   `json:"certificate_file"`
	CertificateKeyFile   string   `json:"certificate_key_file"`
	MinTLSVersion        int      `json:"min_tls_version"` // 12 or 13
	ClientAuthType       int      `json:"client_auth_type"`
	TLSCipherSuites      []string `json:"tls_cipher_suites"`
	TLSProtocols         []string `json:"tls_protocols"` // kept: HTTP/1.1 is what is spoken
	ProxyMode            int      `json:"proxy_mode"`    // 1: PROXY headers as common has it, in the place of HTTP ones
	ProxyAllowed         []string `json:"proxy_allowed"` // whose HTTP headers about the client count
	ClientIPProxyHeader  string   `json:"client_ip_proxy_header"`
	ClientIPHeaderDepth  int      `json:"client_ip_header_depth"`
	RenderOpenAPI        bool     `json:"render_openapi"`
	Security             Security `json:"security"`
}

// HeaderValue is one header with a value.
type HeaderValue struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Security are headers and checks for browsers. Nothing of it holds unless Enabled.
type Security struct {
	Enabled                   bool          `json:"enabled"`
	AllowedHosts              []string      `json:"allowed_hosts"`
	AllowedHostsAreRegex      bool          `json:"allowed_hosts_are_regex"`
	HostsProxyHeaders         []string      `json:"hosts_proxy_headers"`
	HTTPSRedirect             bool          `json:"https_redirect"`
	HTTPSHost                 string        `json:"https_host"`
	HTTPSProxyHeaders         []HeaderValue `json:"https_proxy_headers"`
	STSSeconds                int64         `json:"sts_seconds"`
	STSIncludeSubdomains      bool          `json:"sts_include_subdomains"`
	STSPreload                bool          `json:"sts_preload"`
	ContentTypeNosniff        bool          `json:"content_type_nosniff"`
	ContentSecurityPolicy     string        `json:"content_security_policy"`
	PermissionsPolicy         string        `json:"permissions_policy"`
	CrossOriginOpenerPolicy   string        `json:"cross_origin_opener_policy"`
	CrossOriginResourcePolicy string        `json:"cross_origin_resource_policy"`
	CrossOriginEmbedderPolicy string        `json:"cross_origin_embedder_policy"`
	ReferrerPolicy            string        `json:"referrer_policy"`
	CacheControl              string        `json:"cache_control"`
}

// CORS says which pages of other origins may call.
type CORS struct {
	Enabled              bool     `json:"enabled"`
	AllowedOrigins       []string `json:"allowed_origins"`
	AllowedMethods       []string `json:"allowed_methods"`
	AllowedHeaders       []string `json:"allowed_headers"`
	ExposedHeaders       []string `json:"exposed_headers"`
	AllowCredentials     bool     `json:"allow_credentials"`
	MaxAge               int      `json:"max_age"` // seconds
	OptionsPassthrough   bool     `json:"options_passthrough"`
	OptionsSuccessStatus int      `json:"options_success_status"`
	AllowPrivateNetwork  bool     `json:"allow_private_network"`
}

// IsValid reports whether the binding is to be listened on.
func (b Binding) IsValid() bool { return b.Port > 0 || b.socket() }

// socket reports whether the address is a Unix socket's.
func (b Binding) socket() bool { return filepath.IsAbs(b.Address) }

// DefaultConfig has safe values for every key: REST for this machine alone (ADM-1).
func DefaultConfig() Config {
	return Config{
		Bindings:    []Binding{DefaultBinding()},
		JWTLifetime: 20,
		Setup:       Setup{InstallationCodeHint: "Installation code"},
	}
}

// DefaultBinding is what holds for the keys that an element of bindings does not name.
func DefaultBinding() Binding {
	return Binding{Address: "127.0.0.1", Port: 8080, EnableRESTAPI: true, MinTLSVersion: 12, RenderOpenAPI: true}
}

// Validate says what is wrong, each error with the name of its key.
func (c *Config) Validate() error {
	var errs []error
	bad := func(key, format string, a ...any) {
		errs = append(errs, fmt.Errorf("httpd.%s: %s", key, fmt.Sprintf(format, a...)))
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
		between(at+"disabled_login_methods", b.DisabledLoginMethods, 0, 255)
		if b.MinTLSVersion != 0 {
			between(at+"min_tls_version", b.MinTLSVersion, 10, 13)
		}
		cert, key := c.pair(b)
		if b.IsValid() && b.EnableHTTPS && cert == "" {
			bad(at+"enable_https", "needs certificate_file and certificate_key_file")
		}
		if (cert == "") != (key == "") {
			bad(at+"certificate_file", "certificate_file and certificate_key_file belong together")
		}
		if _, err := engine.CipherSuites(b.TLSCipherSuites); err != nil {
			bad(at+"tls_cipher_suites", "%v", err)
		}
		if b.IsValid() && b.EnableHTTPS && b.ClientAuthType == 1 && len(c.CACertificates) == 0 {
			bad(at+"client_auth_type", "1 needs ca_certificates, or anybody's certificate would do") // AUTH-5
		}
		if _, err := engine.Networks(b.ProxyAllowed); err != nil {
			bad(at+"proxy_allowed", "%v", err)
		}
		if _, err := compileHosts(b.Security); err != nil {
			bad(at+"security.allowed_hosts", "%v", err)
		}
		for _, h := range append([]string{b.Security.ContentSecurityPolicy, b.Security.PermissionsPolicy, b.Security.ReferrerPolicy,
			b.Security.CrossOriginOpenerPolicy, b.Security.CrossOriginResourcePolicy, b.Security.CrossOriginEmbedderPolicy, b.Security.CacheControl}, b.ClientIPProxyHeader) {
			if strings.ContainsAny(h, "\r\n") {
				bad(at+"security", "a header cannot hold a line break")
			}
		}
	}
	if c.WebRoot != "" && (!strings.HasPrefix(c.WebRoot, "/") || strings.ContainsAny(c.WebRoot, "{}?#%")) {
		bad("web_root", "%q must be empty or begin with /", c.WebRoot)
	}
	between("token_validation", c.TokenValidation, 0, 3)
	between("jwt_lifetime", c.JWTLifetime, 1, 720)
	if c.MaxUploadFileSize < 0 {
		bad("max_upload_file_size", "must be 0 or more, it is %d", c.MaxUploadFileSize)
	}
	if s := c.CORS.OptionsSuccessStatus; s != 0 {
		between("cors.options_success_status", s, 200, 299)
	}
	if c.CORS.Enabled && c.CORS.AllowCredentials && slices.Contains(c.CORS.AllowedOrigins, "*") {
		bad("cors.allowed_origins", "* cannot stand beside allow_credentials: name the origins")
	}
	return errors.Join(errs...)
}

// pair gives a binding's certificate and key.
func (c *Config) pair(b Binding) (cert, key string) {
	if b.CertificateFile != "" || b.CertificateKeyFile != "" {
		return b.CertificateFile, b.CertificateKeyFile
	}
	return c.CertificateFile, c.CertificateKeyFile
}

// File gives a file of the configuration, relative ones in the configuration directory.
func (c *Config) File(name string) string { return c.path(name) }

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

// hosts are compiled allowed_hosts; nil lets every name in.
type hosts struct {
	names []string
	res   []*regexp.Regexp
}

func compileHosts(s Security) (*hosts, error) {
	if !s.Enabled || len(s.AllowedHosts) == 0 {
		return nil, nil
	}
	h := &hosts{}
	for _, n := range s.AllowedHosts {
		if !s.AllowedHostsAreRegex {
			h.names = append(h.names, strings.ToLower(n))
			continue
		}
		re, err := regexp.Compile("^(?i:" + n + ")$")
		if err != nil {
			return nil, err
		}
		h.res = append(h.res, re)
	}
	return h, nil
}

func (h *hosts) allow(name string) bool {
	if h == nil {
		return true
	}
	for _, re := range h.res {
		if re.MatchString(name) {
			return true
		}
	}
	return slices.Contains(h.names, strings.ToLower(name))
}
