package ssh

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gantryhq/gantry/ssh/command"
	"github.com/gantryhq/gantry/ssh/program"
)

// Config is the sftpd section. Relative file names begin at ConfigDir.
type Config struct {
	Bindings []Binding `json:"bindings"`
	// MaxAuthTries is the number of failed tries a connection has; each public key that is offered counts.
	// 0 means 6, a negative number no limit.
	MaxAuthTries int `json:"max_auth_tries"`
	// Banner is the old name of common.server_version: only "short" means something, it hides the version.
	Banner string `json:"banner"`
	// HostKeys are private key files. Empty means id_ed25519 and id_rsa in ConfigDir, and id_ecdsa if it is there. A file with
	// one of these names is made if it is missing.
	HostKeys                []string `json:"host_keys"`
	HostCertificates        []string `json:"host_certificates"` // OpenSSH host certificates, one key each
	HostKeyAlgorithms       []string `json:"host_key_algorithms"`
	KexAlgorithms           []string `json:"kex_algorithms"`
	Ciphers                 []string `json:"ciphers"`
	MACs                    []string `json:"macs"`
	PublicKeyAlgorithms     []string `json:"public_key_algorithms"` // of clients' keys
	LoginBannerFile         string   `json:"login_banner_file"`
	PasswordAuthentication  bool     `json:"password_authentication"`
	Moduli                  []string `json:"moduli"` // kept; groups for key exchange are the fixed ones
	MinDHGroupExchangeKey   int      `json:"min_dh_group_exchange_key_size"`
	EnabledSSHCommands      []string `json:"enabled_ssh_commands"` // "*" for all that there are
	KeyboardInteractive     bool     `json:"keyboard_interactive_authentication"`
	KeyboardInteractiveHook string   `json:"keyboard_interactive_auth_hook"`
	TrustedUserCAKeys       []string `json:"trusted_user_ca_keys"`
	RevokedUserCertsFile    string   `json:"revoked_user_certs_file"`
	OPKSSHPath              string   `json:"opkssh_path"`
	OPKSSHChecksum          string   `json:"opkssh_checksum"`
	FolderPrefix            string   `json:"folder_prefix"`

	// The keys below are our own.

	// LoginGraceTime is the time that a peer has from its connection to its login, in seconds.
	LoginGraceTime int `json:"login_grace_time"`
	// MaxStartups is "start:rate:full": from start connections that have not logged in, new ones are dropped
	// with a chance of rate percent, which grows to all of them at full.
	MaxStartups string `json:"max_startups"`
	// MaxHandshakes is how many connections of one address (IPv4) or /64 (IPv6) may be before their login.
	MaxHandshakes int `json:"max_handshakes"`
	// MaxChannels is how many channels one connection may have open.
	MaxChannels int `json:"max_channels"`
	// KeepaliveInterval in seconds: a peer that has been silent so long is asked for a sign of life; 0 never.
	// After KeepaliveCount unanswered intervals its connection is closed.
	KeepaliveInterval int `json:"keepalive_interval"`
	KeepaliveCount    int `json:"keepalive_count"`
	// RekeyMB is how many MiB one key encrypts at most, in each direction.
	RekeyMB int `json:"rekey_mb"`
	// CipherSteering offers a client that knows AES-GCM only that, where AES is in hardware.
	CipherSteering bool `json:"cipher_steering"`
	// WindowBudgetMB is the memory in MiB by which the receive windows of all channels together may be
	// widened for uploads over long links; 0 keeps them at 2 MiB.
	WindowBudgetMB int `json:"window_budget_mb"`

	// Not in the file; the caller sets them.

	ConfigDir    string `json:"-"` // "" is the working directory
	Version      string `json:"-"` // of the program, for the identification string
	ShortVersion bool   `json:"-"` // common.server_version is "short": say only "Gantry"
}

// Binding is one address to listen on.
type Binding struct {
	Address          string `json:"address"` // "" is every interface
	Port             int    `json:"port"`    // 0 is off
	ApplyProxyConfig bool   `json:"apply_proxy_config"`
}

// IsValid reports whether the binding is to be listened on.
func (b Binding) IsValid() bool { return b.Port > 0 }

// DefaultConfig has safe values for every key.
func DefaultConfig() Config {
	return Config{
		Bindings:               []Binding{{Port: 2022, ApplyProxyConfig: true}},
		HostKeyAlgorithms:      defaultHostKeyAlgorithms(),
		KexAlgorithms:          defaultKexAlgorithms(),
		Ciphers:                defaultCiphers(),
		MACs:                   defaultMACs(),
		PublicKeyAlgorithms:    defaultPublicKeyAlgorithms(),
		PasswordAuthentication: true,
		EnabledSSHCommands:     []string{"md5sum", "sha1sum", "sha256sum", "cd", "pwd", "scp"},
		KeyboardInteractive:    true,
		LoginGraceTime:         60,
		MaxStartups:            "100:30:300",
		MaxHandshakes:          100,
		MaxChannels:            10,
		KeepaliveInterval:      60,
		KeepaliveCount:         3,
		RekeyMB:                1024,
		CipherSteering:         true,
		WindowBudgetMB:         128,
	}
}

// Validate says what is wrong, each error with the name of its key.
func (c *Config) Validate() error {
	var errs []error
	bad := func(key, format string, a ...any) {
		errs = append(errs, fmt.Errorf("sftpd.%s: %s", key, fmt.Sprintf(format, a...)))
	}
	for i, b := range c.Bindings {
		if b.Port < 0 || b.Port > 65535 {
			bad(fmt.Sprintf("bindings[%d].port", i), "%d is not a port (0 to 65535)", b.Port)
		}
	}
	for _, l := range c.algorithmLists() {
		for _, name := range l.names {
			if !l.known(name) {
				bad(l.key, "unknown algorithm %q; known are %s", name, strings.Join(l.all(), ", "))
			}
		}
	}
	if _, err := parseMaxStartups(c.MaxStartups); err != nil {
		bad("max_startups", "%v", err)
	}
	between := func(key string, v, low, high int) {
		if v < low || v > high {
			bad(key, "%d is not between %d and %d", v, low, high)
		}
	}
	between("login_grace_time", c.LoginGraceTime, 1, 3600)
	between("max_handshakes", c.MaxHandshakes, 1, 1<<20)
	between("max_channels", c.MaxChannels, 1, 1000)
	between("keepalive_interval", c.KeepaliveInterval, 0, 24*3600)
	between("keepalive_count", c.KeepaliveCount, 1, 1000)
	between("rekey_mb", c.RekeyMB, 1, 1<<20)
	between("window_budget_mb", c.WindowBudgetMB, 0, 1<<20)
	if strings.ContainsFunc(c.Version, func(r rune) bool { return r <= ' ' || r > '~' }) {
		errs = append(errs, fmt.Errorf("ssh: version %q: only printable ASCII may stand in the identification string", c.Version))
	}
	return errors.Join(errs...)
}

// Unbuilt names the keys that are set to something other than their default and whose feature does not exist yet.
func (c *Config) Unbuilt() []string {
	var out []string
	note := func(set bool, key string) {
		if set {
			out = append(out, "sftpd."+key)
		}
	}
	note(len(c.Moduli) > 0, "moduli")
	note(c.OPKSSHPath != "", "opkssh_path")
	note(c.FolderPrefix != "", "folder_prefix")
	for _, name := range c.EnabledSSHCommands {
		note(name != "*" && !slices.Contains(SSHCommands(), name), "enabled_ssh_commands: "+name)
	}
	return out
}

// SSHCommands are the commands that can be enabled.
func SSHCommands() []string {
	return append(append(command.Names(), "scp"), program.Names()...)
}

// commandEnabled reports whether clients may run a command. What is not built is not enabled, whatever is listed.
func (c *Config) commandEnabled(name string) bool {
	return slices.Contains(SSHCommands(), name) && (slices.Contains(c.EnabledSSHCommands, name) || slices.Contains(c.EnabledSSHCommands, "*"))
}

// identification is the version string of RFC 4253 4.2, without CR LF.
func (c *Config) identification() string {
	if c.Version == "" || c.ShortVersion || c.Banner == "short" {
		return "SSH-2.0-Gantry"
	}
	return "SSH-2.0-Gantry_" + c.Version
}

// startups is the parsed max_startups.
type startups struct{ start, rate, full int }

func parseMaxStartups(s string) (startups, error) {
	const want = `want "start:rate:full" with 1 ≤ start ≤ full and rate from 1 to 100, or one number`
	part := strings.Split(s, ":")
	var n [3]int
	for i, p := range part {
		v, err := strconv.Atoi(strings.TrimSpace(p))
		if err != nil || i > 2 {
			return startups{}, fmt.Errorf("%q: %s", s, want)
		}
		n[i] = v
	}
	if len(part) == 1 {
		n[1], n[2] = 100, n[0]
	}
	if len(part) == 2 || n[0] < 1 || n[1] < 1 || n[1] > 100 || n[2] < n[0] {
		return startups{}, fmt.Errorf("%q: %s", s, want)
	}
	return startups{n[0], n[1], n[2]}, nil
}
