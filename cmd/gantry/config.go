package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gantryhq/gantry/dav"
	"github.com/gantryhq/gantry/engine"
	"github.com/gantryhq/gantry/ftp"
	"github.com/gantryhq/gantry/httpapi"
	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/sqlstore"
	"github.com/gantryhq/gantry/internal/auth"
	"github.com/gantryhq/gantry/internal/config"
	"github.com/gantryhq/gantry/internal/egress"
	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/internal/event/hook"
	"github.com/gantryhq/gantry/internal/guard"
	"github.com/gantryhq/gantry/internal/logs"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/pprof"
	"github.com/gantryhq/gantry/ssh"
)

// prefixes of variables: ours, then the alias.
var prefixes = []string{"GANTRY", "SFTPGO"}

// Config is the root of the configuration file. Its sections and keys are those of SFTPGo.
type Config struct {
	Common       Common         `json:"common"`
	SFTPD        ssh.Config     `json:"sftpd"`
	FTPD         ftp.Config     `json:"ftpd"`
	WebDAVD      dav.Config     `json:"webdavd"`
	HTTPD        httpapi.Config `json:"httpd"`
	DataProvider DataProvider   `json:"data_provider"`
	KMS          KMS            `json:"kms"`
	MFA          MFA            `json:"mfa"`
	Telemetry    pprof.Config   `json:"telemetry"`

	Command hook.CommandConfig `json:"command"`
	HTTP    hook.HTTPConfig    `json:"http"`
}

// Validate checks what concerns more than one section.
func (c *Config) Validate() error {
	if d := c.Common.Guard.Defender; d.Enabled && d.Driver == "provider" && !c.DataProvider.isShared() {
		return errors.New("common.defender.driver: provider needs data_provider.is_shared 1 and a database server (postgresql, cockroachdb, mysql); use memory")
	}
	if _, err := engine.CipherSuites(c.Telemetry.TLSCipherSuites); err != nil {
		return fmt.Errorf("telemetry.tls_cipher_suites: %w", err)
	}
	return nil
}

// KMS is the section of what seals secrets.
type KMS struct {
	Secrets struct {
		URL           string `json:"url"`
		MasterKey     string `json:"master_key"`
		MasterKeyPath string `json:"master_key_path"` // wins over MasterKey
	} `json:"secrets"`
}

// Validate checks the keys.
func (k KMS) Validate() error {
	if u := k.Secrets.URL; u != "" && u != "local://" && u != "builtin://" {
		return fmt.Errorf("kms.secrets.url: %q is not built yet; use local://", u)
	}
	if p := k.Secrets.MasterKeyPath; p != "" && !filepath.IsAbs(p) {
		return fmt.Errorf("kms.secrets.master_key_path: must be an absolute path, it is %q", p)
	}
	return nil
}

// MFA is the section of second factors.
type MFA struct {
	TOTP []auth.TOTPConfig `json:"totp"`
}

// Validate checks the keys.
func (m MFA) Validate() error {
	seen := map[string]bool{}
	for i, t := range m.TOTP {
		if err := t.Validate(); err != nil {
			return fmt.Errorf("mfa.totp[%d]: %w", i, err)
		}
		if seen[t.Name] {
			return fmt.Errorf("mfa.totp[%d].name: %q is there twice", i, t.Name)
		}
		seen[t.Name] = true
	}
	return nil
}

// Common is the section of what all protocols share.
type Common struct {
	Session session.Config `json:",inline" omit:"track_quota,delayed_quota_update"`

	Guard guard.Config `json:",inline"`

	ProxyProtocol int      `json:"proxy_protocol"` // 0 off, 1 headers are read where they come, 2 they are required
	ProxyAllowed  []string `json:"proxy_allowed"`  // addresses and networks that may send a header
	ProxySkipped  []string `json:"proxy_skipped"`  // those that connect directly whatever the mode

	Umask         string `json:"umask"`          // octal, of the process; empty leaves it
	ServerVersion string `json:"server_version"` // "short" hides the version
	TZ            string `json:"tz"`             // "local" for access times, else UTC

	AllowedEndpoints     []string `json:"allowed_endpoints"` // beside public ones, of storages: networks, loopback, private, any (SSRF-1)
	Cloud                Cloud    `json:",inline"`
	AllowSelfConnections int      `json:"allow_self_connections"` // 1: an SFTP storage may be on this server
	SecretMinEntropy     float64  `json:"secret_min_entropy"`     // bits, of plain passphrases and customer keys of storages; 0 takes every one

	Actions            event.ActionsConfig `json:"actions"`
	StartupHook        string              `json:"startup_hook"`
	PostConnectHook    string              `json:"post_connect_hook"`
	PostDisconnectHook string              `json:"post_disconnect_hook"`
}

// Validate checks the keys that are used here.
func (c Common) Validate() error {
	var errs []error
	if c.Umask != "" {
		if n, err := strconv.ParseUint(c.Umask, 8, 32); err != nil || n > 0o777 {
			errs = append(errs, fmt.Errorf("common.umask: %q is not an octal mask such as 022", c.Umask))
		}
	}
	if c.ServerVersion != "" && c.ServerVersion != "short" {
		errs = append(errs, fmt.Errorf(`common.server_version: must be empty or "short", it is %q`, c.ServerVersion))
	}
	if c.TZ != "" && c.TZ != "local" {
		errs = append(errs, fmt.Errorf(`common.tz: must be empty (UTC) or "local", it is %q`, c.TZ))
	}
	if _, err := c.proxy(); err != nil {
		errs = append(errs, err)
	}
	if _, err := egress.New(c.AllowedEndpoints); err != nil {
		errs = append(errs, fmt.Errorf("common.allowed_endpoints%w", err))
	}
	if c.AllowSelfConnections < 0 || c.AllowSelfConnections > 1 {
		errs = append(errs, fmt.Errorf("common.allow_self_connections: must be 0 or 1, it is %d", c.AllowSelfConnections))
	}
	if c.SecretMinEntropy < 0 || c.SecretMinEntropy > 1000 {
		errs = append(errs, fmt.Errorf("common.secret_min_entropy: must be between 0 and 1000, it is %v", c.SecretMinEntropy))
	}
	if c.Cloud.MemoryMB != 0 && c.Cloud.MemoryMB < 16 {
		errs = append(errs, fmt.Errorf("common.cloud_memory_mb: must be 0 or at least 16, it is %d", c.Cloud.MemoryMB))
	}
	if c.Cloud.SweepHours < 0 {
		errs = append(errs, fmt.Errorf("common.cloud_sweep_hours: must be 0 or more, it is %d", c.Cloud.SweepHours))
	}
	return errors.Join(append(errs, c.Guard.Validate())...)
}

// DataProvider is the section of the account store.
type DataProvider struct {
	Driver       string `json:"driver"`
	Name         string `json:"name"` // the file of sqlite or bolt, the dump of memory; relative to the configuration directory. A server's database
	TablesPrefix string `json:"sql_tables_prefix"`

	// Of a database server.
	Host               string `json:"host"`
	Port               int    `json:"port"`
	Username           string `json:"username"`
	Password           string `json:"password"`
	PasswordFile       string `json:"password_file"` // wins over Password
	SSLMode            int    `json:"sslmode"`
	RootCert           string `json:"root_cert"`
	ClientCert         string `json:"client_cert"`
	ClientKey          string `json:"client_key"`
	DisableSNI         bool   `json:"disable_sni"`
	TargetSessionAttrs string `json:"target_session_attrs"`
	ConnectionString   string `json:"connection_string"` // replaces the keys above
	PoolSize           int    `json:"pool_size"`

	UpdateMode      int             `json:"update_mode"` // 1: only initprovider changes the schema
	IsShared        int             `json:"is_shared"`   // 1: other nodes work on the same server's database
	Node            NodeConfig      `json:"node"`
	AutoBackup      AutoBackup      `json:"auto_backup"`
	QuotaDelay      int             `json:"delayed_quota_update"` // seconds between two writes of the counters; 0 is half a second
	TrackQuota      int             `json:"track_quota"`
	UsersBaseDir    string          `json:"users_base_dir"`
	NamingRules     int             `json:"naming_rules"`
	PasswordHashing auth.HashConfig `json:"password_hashing"`
	PasswordCaching bool            `json:"password_caching"`

	PasswordValidation auth.PasswordValidation `json:"password_validation"`

	CreateDefaultAdmin bool   `json:"create_default_admin"` // of GANTRY_DEFAULT_ADMIN_USERNAME and _PASSWORD, if there is no administrator
	BackupsPath        string `json:"backups_path"`         // where dumps go, relative to the configuration directory

	CheckPasswordHook  string `json:"check_password_hook"`
	CheckPasswordScope int    `json:"check_password_scope"` // bits 1 SSH, 2 FTP, 4 WebDAV; 0 is all
	ExternalAuthHook   string `json:"external_auth_hook"`
	ExternalAuthScope  int    `json:"external_auth_scope"` // bits 1 password, 2 public key, 4 keyboard-interactive, 8 TLS certificate; 0 is all
	PreLoginHook       string `json:"pre_login_hook"`
	PostLoginHook      string `json:"post_login_hook"`
	PostLoginScope     int    `json:"post_login_scope"` // 0 all, 1 failed, 2 successful

	Actions event.ProviderConfig `json:"actions"`
}

// Validate checks the keys that are used here.
func (d DataProvider) Validate() error {
	var errs []error
	bad := func(key, format string, a ...any) {
		errs = append(errs, fmt.Errorf("data_provider.%s: %s", key, fmt.Sprintf(format, a...)))
	}
	switch d.Driver {
	case "sqlite", "bolt":
		if d.Name == "" {
			bad("name", "%s needs the name of a file", d.Driver)
		}
	case "memory":
	case "mysql", "postgresql", "cockroachdb":
		if d.Name == "" && d.ConnectionString == "" {
			bad("name", "%s needs the name of a database", d.Driver)
		}
		server := d.server(func(file string) string { return file })
		if err := server.Validate(d.Driver); err != nil {
			for _, e := range flatten(err) {
				errs = append(errs, fmt.Errorf("data_provider.%w", e))
			}
		}
	default:
		bad("driver", "%q is unknown; use sqlite, postgresql, cockroachdb, mysql, bolt or memory", d.Driver)
	}
	if d.IsShared < 0 || d.IsShared > 1 {
		bad("is_shared", "must be 0 or 1, it is %d", d.IsShared)
	}
	if d.QuotaDelay < 0 || d.QuotaDelay > 3600 {
		bad("delayed_quota_update", "must be 0 to 3600 seconds, it is %d", d.QuotaDelay)
	}
	if d.Node.Port < 0 || d.Node.Port > 65535 {
		bad("node.port", "must be 0 to 65535, it is %d", d.Node.Port)
	}
	if p := d.Node.Proto; p != "" && p != "http" && p != "https" {
		bad("node.proto", "must be http or https, it is %q", p)
	}
	if d.UpdateMode < 0 || d.UpdateMode > 1 {
		bad("update_mode", "must be 0 or 1, it is %d", d.UpdateMode)
	}
	if d.TrackQuota < 0 || d.TrackQuota > 2 {
		bad("track_quota", "must be 0, 1 or 2, it is %d", d.TrackQuota)
	}
	if d.UsersBaseDir != "" && !filepath.IsAbs(d.UsersBaseDir) {
		bad("users_base_dir", "must be empty or an absolute path, it is %q", d.UsersBaseDir)
	}
	// AUTH-5: logins that a hook should judge are not let in without it.
	for _, x := range [][2]string{{"external_auth_hook", d.ExternalAuthHook}, {"pre_login_hook", d.PreLoginHook},
		{"post_login_hook", d.PostLoginHook}, {"check_password_hook", d.CheckPasswordHook}} {
		if x[1] == "" {
			continue
		}
		if err := hook.Check(x[1]); err != nil {
			bad(x[0], "%v", err)
		}
	}
	if d.ExternalAuthScope < 0 || d.ExternalAuthScope > 15 {
		bad("external_auth_scope", "must be a sum of 1, 2, 4 and 8, it is %d", d.ExternalAuthScope)
	}
	if d.PostLoginScope < 0 || d.PostLoginScope > 2 {
		bad("post_login_scope", "must be 0, 1 or 2, it is %d", d.PostLoginScope)
	}
	if d.CheckPasswordScope < 0 || d.CheckPasswordScope > 7 {
		bad("check_password_scope", "must be a sum of 1, 2 and 4, it is %d", d.CheckPasswordScope)
	}
	if d.NamingRules < 0 || d.NamingRules > 7 {
		bad("naming_rules", "must be a sum of 1, 2 and 4, it is %d", d.NamingRules)
	}
	return errors.Join(errs...)
}

// isServer reports whether the driver's database is a server.
func (d *DataProvider) isServer() bool {
	return d.Driver == "mysql" || d.Driver == "postgresql" || d.Driver == "cockroachdb"
}

// server is the database server as its keys have it; path makes the names of files absolute.
func (d *DataProvider) server(path func(string) string) sqlstore.Server {
	return sqlstore.Server{
		Host: d.Host, Port: d.Port, Database: d.Name, Username: d.Username, Password: d.Password, TLS: d.SSLMode,
		RootCert: path(d.RootCert), ClientCert: path(d.ClientCert), ClientKey: path(d.ClientKey), DisableSNI: d.DisableSNI,
		SessionAttrs: d.TargetSessionAttrs, ConnectionString: d.ConnectionString, PoolSize: d.PoolSize,
	}
}

// defaultConfig has a safe value for every key.
func defaultConfig() *Config {
	hooks := hook.DefaultConfig()
	return &Config{
		Command: hooks.Command,
		HTTP:    hooks.HTTP,
		MFA:     MFA{TOTP: auth.DefaultTOTP()},

		Telemetry: pprof.DefaultConfig(),
		Common:    Common{Session: session.DefaultConfig(), Guard: guard.DefaultConfig(), Cloud: Cloud{SweepHours: 72}, SecretMinEntropy: 80},
		SFTPD:     ssh.DefaultConfig(),
		FTPD:      ftp.DefaultConfig(),
		WebDAVD:   dav.DefaultConfig(),
		HTTPD:     httpapi.DefaultConfig(),
		DataProvider: DataProvider{
			Driver: "sqlite", Name: "gantry.db", TrackQuota: session.TrackLimited, NamingRules: account.DefaultRules().Naming,
			PasswordHashing: auth.DefaultHashConfig(), PasswordCaching: true, BackupsPath: "backups",
			AutoBackup: AutoBackup{Enabled: true, Hour: "0", DayOfWeek: "*", Keep: 14}, Node: NodeConfig{Proto: "http"},
		},
	}
}

// flags are those of every verb that reads the configuration, and of serve. Their variables are the flag's
// name in capitals with the prefix: --log-level is GANTRY_LOG_LEVEL.
type flags struct {
	dir, file string
	log       logs.Config

	given map[string]bool // on the command line; filled by the first load
}

func (f *flags) add(fs *pflag.FlagSet) {
	fs.StringVarP(&f.dir, "config-dir", "c", ".", "configuration directory, the base of relative paths (GANTRY_CONFIG_DIR)")
	fs.StringVar(&f.file, "config-file", "", "configuration file, relative to the directory (GANTRY_CONFIG_FILE)")
}

// variables are the flags that have a variable of another name than theirs.
var variables = map[string]string{"loaddata-scan": "LOADDATA_QUOTA_SCAN"}

// variableOf names a flag's variable without prefix.
func variableOf(flag string) string {
	if v, ok := variables[flag]; ok {
		return v
	}
	return strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// plainVariables are the variables that are no keys of the configuration: those of serve's flags.
var plainVariables = []string{
	"CONFIG_DIR", "CONFIG_FILE", "LOG_FILE_PATH", "LOG_MAX_SIZE", "LOG_MAX_BACKUPS", "LOG_MAX_AGE", "LOG_COMPRESS", "LOG_VERBOSE", "LOG_LEVEL",
	"LOG_UTC_TIME", "LOADDATA_FROM", "LOADDATA_MODE", "LOADDATA_QUOTA_SCAN", "LOADDATA_CLEAN", "GRACE_TIME", "FIRST_USER",
	"DEFAULT_ADMIN_USERNAME", "DEFAULT_ADMIN_PASSWORD", "MINIO_SHA256_SIMD",
}

// settings is a loaded configuration.
type settings struct {
	*Config
	flags  *flags
	report *config.Report
	dir    string // absolute

	node       string // names this process in a shared database
	mayUpgrade bool   // the verb is there to change the schema, whatever update_mode says
}

// path gives a file of the configuration, relative ones in the configuration directory.
func (s *settings) path(name string) string { return absolute(s.dir, name) }

func absolute(dir, name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

// load reads flags' variables and the configuration. The settings are given with an error too, when there
// is something to report.
func (a *app) load(f *flags, fs *pflag.FlagSet) (*settings, error) {
	if f.given == nil {
		f.given = map[string]bool{}
		fs.Visit(func(p *pflag.Flag) { f.given[p.Name] = true })
	}
	// The directory cannot come from the files inside it.
	process, err := config.Environment(config.Options{Prefixes: prefixes, Environ: a.environ})
	if err != nil {
		return nil, err
	}
	if v, ok := config.Lookup(process, prefixes, "CONFIG_DIR"); ok && !f.given["config-dir"] && v.Value != "" {
		f.dir = v.Value
	}
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		return nil, fmt.Errorf("configuration directory: %w", err)
	}
	env, err := config.Environment(config.Options{Prefixes: prefixes, Environ: a.environ, Dir: dir})
	if err != nil {
		return nil, err
	}
	if err := f.setFromVariables(fs, env); err != nil {
		return nil, err
	}
	s := &settings{Config: defaultConfig(), flags: f, dir: dir}
	s.SFTPD.ConfigDir, s.SFTPD.Version = dir, version
	s.FTPD.ConfigDir, s.FTPD.Version = dir, version
	s.WebDAVD.ConfigDir = dir
	s.HTTPD.ConfigDir, s.HTTPD.Version = dir, version
	s.report, err = config.Load(s.Config, config.Options{
		Dir: dir, File: f.file, SearchDirs: searchDirs(a.home()), Names: []string{"gantry", "sftpgo"},
		Prefixes: prefixes, Environ: a.environ, Plain: plainVariables, Known: knownKeys(),
	})
	s.SFTPD.ShortVersion = s.Common.ServerVersion == "short"
	s.FTPD.ShortVersion, s.HTTPD.ShortVersion = s.SFTPD.ShortVersion, s.SFTPD.ShortVersion
	for _, key := range slices.Concat(s.SFTPD.Unbuilt(), s.FTPD.Unbuilt(), s.WebDAVD.Unbuilt()) {
		s.report.Warnings = append(s.report.Warnings, "not built yet, so without effect: "+key)
	}
	if s.DataProvider.IsShared == 1 && !s.DataProvider.isServer() {
		s.report.Warnings = append(s.report.Warnings, fmt.Sprintf("data_provider.is_shared: %s serves one process at a time, so it is taken as 0", s.DataProvider.Driver))
	}
	s.report.Warnings = append(s.report.Warnings, s.checkHooks()...)
	s.report.Warnings = append(s.report.Warnings, s.Telemetry.Warnings()...)
	return s, err
}

// setFromVariables sets the flags that the command line did not, from their variables.
func (f *flags) setFromVariables(fs *pflag.FlagSet, env map[string]config.Var) error {
	var errs []error
	fs.VisitAll(func(p *pflag.Flag) {
		if f.given[p.Name] || p.Name == "config-dir" || p.Name == "help" {
			return
		}
		v, ok := config.Lookup(env, prefixes, variableOf(p.Name))
		if !ok {
			if p.Changed { // by a variable that a reload does not find any more
				p.Value.Set(p.DefValue)
				p.Changed = false
			}
			return
		}
		if err := fs.Set(p.Name, v.Value); err != nil {
			errs = append(errs, fmt.Errorf("%s: --%s: %w", v.Source, p.Name, err))
		}
	})
	return errors.Join(errs...)
}

func (a *app) home() string {
	for _, kv := range a.environ {
		if v, ok := strings.CutPrefix(kv, "HOME="); ok {
			return v
		}
	}
	return ""
}

// searchDirs are where a configuration file is looked for after the configuration directory.
func searchDirs(home string) []string {
	var dirs []string
	for _, name := range []string{"gantry", "sftpgo"} {
		switch runtime.GOOS {
		case "windows":
		case "darwin":
			dirs = append(dirs, "/usr/local/etc/"+name)
		default:
			if filepath.IsAbs(home) {
				dirs = append(dirs, filepath.Join(home, ".config", name))
			}
			dirs = append(dirs, "/etc/"+name, "/usr/local/etc/"+name)
		}
	}
	if wd, err := os.Getwd(); err == nil {
		dirs = append(dirs, wd)
	}
	return dirs
}

// ensureDir makes the configuration directory, for its owner alone.
func (s *settings) ensureDir() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("configuration directory: %w", err)
	}
	return nil
}
