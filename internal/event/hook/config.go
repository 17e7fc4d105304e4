package hook

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Names of hooks, as command.commands[].hook has them.
const (
	FSActions       = "fs_actions"
	ProviderActions = "provider_actions"
	Startup         = "startup"
	PostConnect     = "post_connect"
	PostDisconnect  = "post_disconnect"
	CheckPassword   = "check_password"
	PreLogin        = "pre_login"
	PostLogin       = "post_login"
	ExternalAuth    = "external_auth"
	Interactive     = "keyboard_interactive"
)

// names are those that an entry of command.commands may have; data_retention is one that nothing calls.
var names = map[string]bool{
	"": true, FSActions: true, ProviderActions: true, Startup: true, PostConnect: true, PostDisconnect: true, CheckPassword: true,
	PreLogin: true, PostLogin: true, ExternalAuth: true, Interactive: true, "data_retention": true,
}

// CommandConfig is the section "command": how programs are run.
type CommandConfig struct {
	Timeout  int       `json:"timeout"` // seconds, 1 to 300
	Env      []string  `json:"env"`     // NAME=VALUE of every program, which inherits nothing else
	Commands []Command `json:"commands"`
}

// Command is what one program gets beside.
type Command struct {
	Path    string   `json:"path"`    // as the hook has it
	Timeout int      `json:"timeout"` // seconds; 0 is the section's
	Env     []string `json:"env"`     // added to the section's
	Args    []string `json:"args"`    // fixed: nothing of a peer becomes an argument (HOOK-2)
	Hook    string   `json:"hook"`    // the one hook that this is for; "" is every one
}

// Validate says what is wrong with c.
func (c CommandConfig) Validate() error {
	var errs []error
	bad := func(key, format string, a ...any) {
		errs = append(errs, fmt.Errorf("command.%s: %s", key, fmt.Sprintf(format, a...)))
	}
	env := func(key string, list []string) {
		for i, kv := range list {
			if k, _, ok := strings.Cut(kv, "="); !ok || k == "" || strings.ContainsRune(kv, 0) {
				bad(fmt.Sprintf("%s[%d]", key, i), "not NAME=VALUE")
			}
		}
	}
	if c.Timeout < 1 || c.Timeout > 300 {
		bad("timeout", "must be between 1 and 300 seconds, it is %d", c.Timeout)
	}
	env("env", c.Env)
	for i, e := range c.Commands {
		key := func(k string) string { return fmt.Sprintf("commands[%d].%s", i, k) }
		if !filepath.IsAbs(e.Path) {
			bad(key("path"), "%q is not an absolute path", e.Path)
		}
		if e.Timeout != 0 && (e.Timeout < 1 || e.Timeout > 300) {
			bad(key("timeout"), "must be 0 or between 1 and 300 seconds, it is %d", e.Timeout)
		}
		if !names[e.Hook] {
			bad(key("hook"), "%q is no hook", e.Hook)
		}
		env(key("env"), e.Env)
	}
	return errors.Join(errs...)
}

// of finds what a program gets for a hook: an entry for that hook before one for all.
func (c CommandConfig) of(program, hook string) (wait time.Duration, env, args []string) {
	wait, env = time.Duration(c.Timeout)*time.Second, c.Env
	for _, name := range []string{hook, ""} {
		for _, e := range c.Commands {
			if e.Path != program || e.Hook != name {
				continue
			}
			if e.Timeout > 0 {
				wait = time.Duration(e.Timeout) * time.Second
			}
			return wait, append(append([]string{}, env...), e.Env...), e.Args
		}
	}
	return wait, env, nil
}

// HTTPConfig is the section "http": how services are asked.
type HTTPConfig struct {
	Timeout        float64   `json:"timeout"`        // seconds of one try, above 0
	RetryWaitMin   int       `json:"retry_wait_min"` // seconds
	RetryWaitMax   int       `json:"retry_wait_max"` // seconds
	RetryMax       int       `json:"retry_max"`      // tries after the first, for the hooks that are tried again
	CACertificates []string  `json:"ca_certificates"`
	Certificates   []KeyPair `json:"certificates"`
	SkipTLSVerify  bool      `json:"skip_tls_verify"`
	Headers        []Header  `json:"headers"`
}

// KeyPair is a client certificate's files.
type KeyPair struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

// Header is added to the requests whose URL begins with URL.
type Header struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	URL   string `json:"url"`
}

// Validate says what is wrong with c.
func (c HTTPConfig) Validate() error {
	var errs []error
	if !(c.Timeout > 0 && c.Timeout <= 300) {
		errs = append(errs, fmt.Errorf("http.timeout: must be above 0 and at most 300 seconds, it is %v", c.Timeout))
	}
	if c.RetryWaitMin < 0 || c.RetryWaitMax < c.RetryWaitMin || c.RetryWaitMax > 3600 {
		errs = append(errs, fmt.Errorf("http.retry_wait_min and retry_wait_max: %d and %d are not 0 ≤ min ≤ max ≤ 3600 seconds", c.RetryWaitMin, c.RetryWaitMax))
	}
	if c.RetryMax < 0 || c.RetryMax > 100 {
		errs = append(errs, fmt.Errorf("http.retry_max: must be between 0 and 100, it is %d", c.RetryMax))
	}
	for i, h := range c.Headers {
		if strings.ContainsAny(h.Key, " :\r\n") || strings.ContainsAny(h.Value, "\r\n") {
			errs = append(errs, fmt.Errorf("http.headers[%d]: not the name and value of a header", i))
		}
	}
	return errors.Join(errs...)
}

// Config is both sections. Relative files begin at Dir.
type Config struct {
	Command CommandConfig
	HTTP    HTTPConfig
	Dir     string
	// Observe, if set, is told of every call of Do: its hook, how long it took, its error.
	Observe func(hook string, d time.Duration, err error)
}

// Names are the names of all hooks that are called.
func Names() []string {
	return []string{FSActions, ProviderActions, Startup, PostConnect, PostDisconnect, CheckPassword, PreLogin, PostLogin, ExternalAuth, Interactive}
}

// DefaultConfig is what holds for keys that the configuration does not name.
func DefaultConfig() Config {
	return Config{Command: CommandConfig{Timeout: 30}, HTTP: HTTPConfig{Timeout: 20, RetryWaitMin: 2, RetryWaitMax: 30, RetryMax: 3}}
}

// transport makes the one transport that all calls share. A file that cannot be read is an error: without
// it calls would trust or prove something else than was configured.
func (c Config) transport() (*http.Transport, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 16
	t.ResponseHeaderTimeout = 0 // the call's own deadline
	file := func(name string) string {
		if name == "" || filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(c.Dir, name)
	}
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.HTTP.SkipTLSVerify}
	if len(c.HTTP.CACertificates) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		for _, name := range c.HTTP.CACertificates {
			pem, err := os.ReadFile(file(name))
			if err != nil {
				return nil, fmt.Errorf("http.ca_certificates: %w", err)
			}
			if !pool.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("http.ca_certificates: %s holds no certificate in PEM", name)
			}
		}
		t.TLSClientConfig.RootCAs = pool
	}
	for i, p := range c.HTTP.Certificates {
		pair, err := tls.LoadX509KeyPair(file(p.Cert), file(p.Key))
		if err != nil {
			return nil, fmt.Errorf("http.certificates[%d]: %w", i, err)
		}
		t.TLSClientConfig.Certificates = append(t.TLSClientConfig.Certificates, pair)
	}
	return t, nil
}
