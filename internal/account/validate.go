package account

import (
	"context"
	"fmt"
	"net/mail"
	"net/netip"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gantryhq/gantry/internal/secret"
)

// Bits of Rules.Naming (data_provider.naming_rules).
const (
	NamingUTF8  = 1
	NamingLower = 2
	NamingTrim  = 4
)

// Rules are the configuration that records are checked by.
type Rules struct {
	Naming       int
	UsersBaseDir string
	// HashPassword makes the stored form of a plain password. Nil refuses plain passwords.
	HashPassword func(ctx context.Context, plain string) (string, error)
	// CheckPassword refuses plain passwords that are too weak. strength is the account's own minimum of
	// entropy in bits, 0 for the configured one. Nil takes every password.
	CheckPassword func(plain string, strength int) error
	// CheckSecret refuses plain passphrases and customer keys of storages that are too weak. Nil takes every one.
	CheckSecret func(plain string) error
	// Box seals secrets before they are stored. Nil seals without a master key.
	Box *secret.Box
}

// DefaultRules are those of keys that the configuration does not name.
func DefaultRules() Rules { return Rules{Naming: NamingUTF8 | NamingTrim} }

// hashPrefixes begin a stored password; anything else is plain text (data-model.md 8). $2b$ and $2y$ are
// bcrypt as well and are taken as such.
var hashPrefixes = []string{"$argon2id$", "$2a$", "$2b$", "$2y$", "$pbkdf2-sha1$", "$pbkdf2-sha256$", "$pbkdf2-sha512$",
	"$pbkdf2-b64salt-sha256$", "$1$", "$apr1$", "$6$", "$5$", "$y$", "{MD5}", "{SHA256}", "{SHA512}"}

// IsHash reports whether a password is already in a stored form.
func IsHash(password string) bool {
	return slices.ContainsFunc(hashPrefixes, func(p string) bool { return strings.HasPrefix(password, p) })
}

// Name gives the stored form of a name that a peer or an administrator typed.
func (r Rules) Name(name string) string {
	if r.Naming&NamingTrim != 0 {
		name = strings.TrimSpace(name)
	}
	if r.Naming&NamingLower != 0 {
		name = strings.ToLower(name)
	}
	return name
}

// CheckName says what is wrong with a name (data-model.md 1, AUTH-6), "" if nothing is.
func (r Rules) CheckName(name string) string {
	switch {
	case name == "":
		return "is needed"
	case len(name) > 255:
		return "is longer than 255 bytes"
	case !utf8.ValidString(name):
		return "is not UTF-8"
	case name == "." || name == "..":
		return "must not be . or .."
	case strings.ContainsAny(name, `/\:*?"<>|`):
		return `must not contain / \ : * ? " < > |`
	case strings.HasSuffix(name, " ") || strings.HasSuffix(name, "."):
		return "must not end with a space or a dot"
	}
	for _, c := range name {
		if unicode.IsControl(c) || unicode.In(c, unicode.Cf, unicode.Zl, unicode.Zp) {
			return "must not contain control or format characters"
		}
		if r.Naming&NamingUTF8 == 0 && !(c < 128 && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-_.~", c))) {
			return "may hold letters, digits and - _ . ~ only (naming_rules)"
		}
	}
	stem, _, _ := strings.Cut(strings.ToUpper(name), ".")
	if slices.Contains([]string{"CON", "PRN", "AUX", "NUL"}, stem) || len(stem) == 4 && (strings.HasPrefix(stem, "COM") || strings.HasPrefix(stem, "LPT")) && stem[3] >= '1' && stem[3] <= '9' {
		return "is a device name on Windows"
	}
	return ""
}

// checker gathers the first thing that is wrong with one record.
type checker struct {
	kind, name string
	err        *ValidationError
}

func (c *checker) bad(field, code, text string, args ...any) {
	if c.err == nil {
		c.err = &ValidationError{Kind: c.kind, Name: c.name, Field: field, Code: code, Text: fmt.Sprintf(text, args...)}
	}
}

func (c *checker) result() error {
	if c.err == nil {
		return nil
	}
	return c.err
}

func (c *checker) oneOf(field string, list, known []string) []string {
	list = dedup(list)
	for _, v := range list {
		if !slices.Contains(known, v) {
			c.bad(field, "unknown", "%q is unknown; known are %s", v, strings.Join(known, ", "))
		}
	}
	return list
}

func (c *checker) cidrs(field string, list []string) []string {
	list = dedup(list)
	for _, v := range list {
		if _, err := netip.ParsePrefix(v); err != nil {
			c.bad(field, "cidr", "%q is not an address with a prefix, such as 192.0.2.0/24", v)
		}
	}
	return list
}

func dedup(list []string) []string {
	var out []string
	for _, v := range list {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// CleanPath makes a virtual path of a record canonical: "\" becomes "/", absolute, clean.
func CleanPath(p string) string { return path.Clean("/" + strings.ReplaceAll(p, `\`, "/")) }

var knownPerms = []string{PermAny, PermList, PermDownload, PermUpload, PermOverwrite, PermDelete, PermDeleteFiles, PermDeleteDirs,
	PermRename, PermRenameFiles, PermRenameDirs, PermCreateDirs, PermCreateSymlinks, PermChmod, PermChown, PermChtimes, PermCopy}

var knownMethods = []string{MethodPassword, MethodPasswordOverSSH, MethodPublicKey, MethodKeyboardInteractive, MethodKeyAndPassword,
	MethodKeyAndKeyboard, MethodTLSCertificate, MethodTLSCertAndPassword}

var knownProtocols = []string{ProtocolSSH, ProtocolFTP, ProtocolDAV, ProtocolHTTP}

var knownWebClient = []string{"publickey-change-disabled", "tls-cert-change-disabled", "write-disabled", "mfa-disabled", "password-change-disabled",
	"api-key-auth-change-disabled", "info-change-disabled", "shares-disabled", "password-reset-disabled", "shares-without-password-disabled"}

// Normalize checks u and brings it to its stored form. It hashes a plain password.
func (u *User) Normalize(ctx context.Context, r Rules) error {
	u.Username = r.Name(u.Username)
	c := &checker{kind: "user", name: u.Username}
	if why := r.CheckName(u.Username); why != "" {
		c.bad("username", "name", "%s", why)
	}
	if u.Username == "__self__" || u.Username == "__system__" {
		c.bad("username", "reserved", "is reserved")
	}
	if u.Status != 0 && u.Status != 1 {
		c.bad("status", "range", "must be 0 or 1")
	}
	if u.Email != "" {
		if a, err := mail.ParseAddress(u.Email); err != nil || a.Address != u.Email || !strings.Contains(u.Email[strings.LastIndexByte(u.Email, '@')+1:], ".") {
			c.bad("email", "email", "%q is not an e-mail address", u.Email)
		}
	}
	if u.ExpirationDate < 0 {
		c.bad("expiration_date", "range", "must be 0 or a time in milliseconds")
	}
	if u.HomeDir == "" && r.UsersBaseDir != "" {
		u.HomeDir = filepath.Join(r.UsersBaseDir, u.Username)
	}
	if u.HomeDir == "" && u.Filesystem.Provider != LocalProvider && u.Filesystem.Provider != CryptProvider {
		u.HomeDir = filepath.Join("/tmp", "gantry-"+u.Username)
	}
	if !filepath.IsAbs(u.HomeDir) {
		c.bad("home_dir", "absolute", "must be an absolute path; set it, or set data_provider.users_base_dir")
	} else {
		u.HomeDir = filepath.Clean(u.HomeDir)
	}
	u.UID, u.GID = ownerID(u.UID), ownerID(u.GID)
	nonNegative(c, "max_sessions", u.MaxSessions)
	nonNegative(c, "quota_size", u.QuotaSize)
	nonNegative(c, "quota_files", u.QuotaFiles)
	nonNegative(c, "upload_data_transfer", u.UploadDataTransfer)
	nonNegative(c, "download_data_transfer", u.DownloadDataTransfer)
	nonNegative(c, "total_data_transfer", u.TotalDataTransfer)
	if u.TotalDataTransfer > 0 {
		u.UploadDataTransfer, u.DownloadDataTransfer = 0, 0
	}
	u.UploadBandwidth, u.DownloadBandwidth = max(0, u.UploadBandwidth), max(0, u.DownloadBandwidth)
	u.Permissions = c.permissions("permissions", u.Permissions, true)
	var keys []string
	for i, k := range u.PublicKeys {
		if k = strings.TrimSpace(k); k != "" {
			if why := badPublicKey(k); why != "" {
				c.bad(fmt.Sprintf("public_keys[%d]", i), "key", "%s", why)
			}
			keys = append(keys, k)
		}
	}
	u.PublicKeys = dedup(keys)
	primary := 0
	var names []string
	for i, g := range u.Groups {
		if g.Type < GroupPrimary || g.Type > GroupMembership {
			c.bad(fmt.Sprintf("groups[%d].type", i), "range", "must be 1 primary, 2 secondary or 3 membership")
		}
		if g.Type == GroupPrimary {
			primary++
		}
		if slices.Contains(names, g.Name) {
			c.bad(fmt.Sprintf("groups[%d].name", i), "duplicate", "%q is named twice", g.Name)
		}
		names = append(names, g.Name)
	}
	if primary > 1 {
		c.bad("groups", "primary", "only one group may be primary")
	}
	c.filters(&u.Filters.BaseFilters)
	if u.Filters.RequirePasswordChange && slices.Contains(u.Filters.WebClient, "password-change-disabled") {
		c.bad("filters.require_password_change", "conflict", "cannot stand beside password-change-disabled")
	}
	t := &u.Filters.TOTPConfig
	if t.Enabled {
		if t.ConfigName == "" || t.Secret.IsEmpty() || len(t.Protocols) == 0 {
			c.bad("filters.totp_config", "required", "an enabled TOTP needs a config name, a secret and a protocol")
		}
		t.Protocols = c.oneOf("filters.totp_config.protocols", t.Protocols, []string{ProtocolSSH, ProtocolFTP, ProtocolHTTP})
	} else {
		*t = UserTOTPConfig{}
	}
	if u.Filters.IsAnonymous {
		for dir := range u.Permissions {
			u.Permissions[dir] = []string{PermList, PermDownload}
		}
		u.Filters.DeniedProtocols = dedup(append(u.Filters.DeniedProtocols, ProtocolSSH, ProtocolHTTP))
		for _, m := range knownMethods {
			if m != MethodPassword {
				u.Filters.DeniedLoginMethods = dedup(append(u.Filters.DeniedLoginMethods, m))
			}
		}
	}
	c.virtualFolders(u.VirtualFolders)
	c.filesystem(r, "filesystem", &u.Filesystem)
	u.OIDCCustomFields, u.HasPassword = nil, false
	if c.err == nil && u.Password != "" && !IsHash(u.Password) {
		if weak := r.tooWeak(u); weak != nil {
			c.bad("password", "weak", "%v", weak)
		}
	}
	u.Password = c.hash(ctx, r, "password", u.Password, IsHash)
	c.seal(r, u, u.Username)
	return c.result()
}

func (r Rules) tooWeak(u *User) error {
	if r.CheckPassword == nil {
		return nil
	}
	return r.CheckPassword(u.Password, u.Filters.PasswordStrength)
}

func ownerID(n int) int {
	if n < 1 || n > 1<<31-1 {
		return 0
	}
	return n
}

func nonNegative[T int | int64](c *checker, field string, v T) {
	if v < 0 {
		c.bad(field, "range", "must be 0 (unlimited) or more, it is %d", v)
	}
}

func (c *checker) permissions(field string, in map[string][]string, needRoot bool) map[string][]string {
	out := make(map[string][]string, len(in))
	for dir, list := range in {
		if !strings.HasPrefix(strings.ReplaceAll(dir, `\`, "/"), "/") {
			c.bad(field, "absolute", "%q must be an absolute virtual path", dir)
		}
		clean := CleanPath(dir)
		if clean == "/" && dir != "/" {
			c.bad(field, "alias", "%q is another form of /; use /", dir)
		}
		if _, err := path.Match(clean, "x"); err != nil {
			c.bad(field, "glob", "%q is not a valid glob", dir)
		}
		if _, ok := out[clean]; ok {
			c.bad(field, "duplicate", "%q is named twice", clean)
		}
		list = c.oneOf(field+"."+dir, list, knownPerms)
		if slices.Contains(list, PermAny) {
			list = []string{PermAny}
		}
		if clean == "/" && len(list) == 0 {
			c.bad(field, "required", "/ needs at least one permission")
		}
		if list == nil {
			list = []string{}
		}
		out[clean] = list
	}
	if _, ok := out["/"]; needRoot && !ok {
		c.bad(field, "required", `an entry for "/" is needed`)
	}
	return out
}

func (c *checker) filters(f *BaseFilters) {
	f.AllowedIP = c.cidrs("filters.allowed_ip", f.AllowedIP)
	f.DeniedIP = c.cidrs("filters.denied_ip", f.DeniedIP)
	f.DeniedLoginMethods = c.oneOf("filters.denied_login_methods", f.DeniedLoginMethods, knownMethods)
	if len(f.DeniedLoginMethods) == len(knownMethods) {
		c.bad("filters.denied_login_methods", "all", "at least one method must stay allowed")
	}
	f.DeniedProtocols = c.oneOf("filters.denied_protocols", f.DeniedProtocols, knownProtocols)
	if len(f.DeniedProtocols) == len(knownProtocols) {
		c.bad("filters.denied_protocols", "all", "at least one protocol must stay allowed")
	}
	f.WebClient = c.oneOf("filters.web_client", f.WebClient, knownWebClient)
	f.TwoFactorProtocols = c.oneOf("filters.two_factor_protocols", f.TwoFactorProtocols, []string{ProtocolSSH, ProtocolFTP, ProtocolHTTP})
	if len(f.TwoFactorProtocols) > 0 && slices.Contains(f.WebClient, "mfa-disabled") {
		c.bad("filters.two_factor_protocols", "conflict", "cannot stand beside mfa-disabled")
	}
	if f.TLSUsername != "" && f.TLSUsername != "None" && f.TLSUsername != "CommonName" {
		c.bad("filters.tls_username", "unknown", "must be None or CommonName")
	}
	if f.UserType != "" && f.UserType != "LDAPUser" && f.UserType != "OSUser" {
		c.bad("filters.user_type", "unknown", "must be empty, LDAPUser or OSUser")
	}
	nonNegative(c, "filters.max_upload_file_size", f.MaxUploadFileSize)
	if f.FTPSecurity != 0 && f.FTPSecurity != 1 {
		c.bad("filters.ftp_security", "range", "must be 0 or 1")
	}
	if f.MaxSharesExpiration > 0 && f.DefaultSharesExpiration > f.MaxSharesExpiration {
		c.bad("filters.default_shares_expiration", "range", "must not exceed max_shares_expiration")
	}
	if f.StartDirectory != "" {
		if f.StartDirectory = CleanPath(f.StartDirectory); f.StartDirectory == "/" {
			f.StartDirectory = ""
		}
	}
	for i := range f.BandwidthLimits {
		b := &f.BandwidthLimits[i]
		field := fmt.Sprintf("filters.bandwidth_limits[%d].sources", i)
		if b.Sources = c.cidrs(field, b.Sources); len(b.Sources) == 0 {
			c.bad(field, "required", "at least one network is needed")
		}
		b.UploadBandwidth, b.DownloadBandwidth = max(0, b.UploadBandwidth), max(0, b.DownloadBandwidth)
	}
	for i, t := range f.AccessTime {
		from, err1 := ParseClock(t.From)
		to, err2 := ParseClock(t.To)
		if t.DayOfWeek < 0 || t.DayOfWeek > 6 || err1 != nil || err2 != nil || to <= from {
			c.bad(fmt.Sprintf("filters.access_time[%d]", i), "range", "needs day_of_week 0 to 6 and from before to, as HH:MM")
		}
	}
	var paths []string
	for i := range f.FilePatterns {
		p := &f.FilePatterns[i]
		field := fmt.Sprintf("filters.file_patterns[%d]", i)
		if !strings.HasPrefix(strings.ReplaceAll(p.Path, `\`, "/"), "/") {
			c.bad(field+".path", "absolute", "must be an absolute virtual path")
		}
		p.Path = CleanPath(p.Path)
		if slices.Contains(paths, p.Path) {
			c.bad(field+".path", "duplicate", "%q is named twice", p.Path)
		}
		paths = append(paths, p.Path)
		if len(p.AllowedPatterns)+len(p.DeniedPatterns) == 0 {
			c.bad(field, "required", "needs an allowed or a denied pattern")
		}
		if p.DenyPolicy != 0 && p.DenyPolicy != 1 {
			c.bad(field+".deny_policy", "range", "must be 0 (show) or 1 (hide)")
		}
		for _, list := range []*[]string{&p.AllowedPatterns, &p.DeniedPatterns} {
			for j, g := range *list {
				g = strings.ToLower(strings.TrimSpace(g))
				if _, err := path.Match(g, "x"); err != nil || g == "" {
					c.bad(field, "glob", "%q is not a valid pattern", g)
				}
				(*list)[j] = g
			}
			*list = dedup(*list)
		}
	}
}

// ParseClock reads "HH:MM" as minutes of the day.
func ParseClock(s string) (int, error) {
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("%s is not a time such as 08:30", strconv.Quote(s))
	}
	return t.Hour()*60 + t.Minute(), nil
}

func (c *checker) virtualFolders(list []VirtualFolder) {
	var paths []string
	for i := range list {
		v := &list[i]
		field := fmt.Sprintf("virtual_folders[%d]", i)
		if v.Name == "" {
			c.bad(field+".name", "required", "is needed")
		}
		if v.VirtualPath == "" {
			c.bad(field+".virtual_path", "required", "is needed")
		}
		v.VirtualPath = CleanPath(v.VirtualPath)
		if slices.Contains(paths, v.VirtualPath) {
			c.bad(field+".virtual_path", "duplicate", "%q is mapped twice", v.VirtualPath)
		}
		paths = append(paths, v.VirtualPath)
		if v.QuotaSize < -1 || v.QuotaFiles < -1 || (v.QuotaSize == -1) != (v.QuotaFiles == -1) {
			c.bad(field+".quota_size", "range", "quota_size and quota_files must both be -1, or both be 0 or more")
		}
		if v.Subpath != "" {
			if v.Subpath = CleanPath(v.Subpath); len(v.Subpath) > 191 {
				c.bad(field+".subpath", "range", "is longer than 191 bytes")
			}
			if v.Subpath == "/" {
				v.Subpath = ""
			}
		}
	}
}

// Normalize checks f and brings it to its stored form.
func (f *Folder) Normalize(r Rules) error {
	f.Name = r.Name(f.Name)
	c := &checker{kind: "folder", name: f.Name}
	if why := r.CheckName(f.Name); why != "" {
		c.bad("name", "name", "%s", why)
	}
	local := f.Filesystem.Provider == LocalProvider || f.Filesystem.Provider == CryptProvider
	if (local || f.MappedPath != "") && !filepath.IsAbs(f.MappedPath) {
		c.bad("mapped_path", "absolute", "must be an absolute path")
	} else if f.MappedPath != "" {
		f.MappedPath = filepath.Clean(f.MappedPath)
	}
	c.filesystem(r, "filesystem", &f.Filesystem)
	f.Users, f.Groups = nil, nil
	c.seal(r, f, "folder_"+f.Name)
	return c.result()
}

// Normalize checks g and brings it to its stored form.
func (g *Group) Normalize(r Rules) error {
	g.Name = r.Name(g.Name)
	c := &checker{kind: "group", name: g.Name}
	if why := r.CheckName(g.Name); why != "" {
		c.bad("name", "name", "%s", why)
	}
	s := &g.UserSettings
	if s.HomeDir != "" && !filepath.IsAbs(s.HomeDir) {
		c.bad("user_settings.home_dir", "absolute", "must be an absolute path")
	}
	nonNegative(c, "user_settings.max_sessions", s.MaxSessions)
	nonNegative(c, "user_settings.quota_size", s.QuotaSize)
	nonNegative(c, "user_settings.quota_files", s.QuotaFiles)
	s.Permissions = c.permissions("user_settings.permissions", s.Permissions, false)
	s.Filters.TLSCerts, s.Filters.UserType = nil, ""
	c.filters(&s.Filters)
	c.virtualFolders(g.VirtualFolders)
	c.filesystem(r, "user_settings.filesystem", &s.Filesystem)
	g.Users, g.Admins = nil, nil
	c.seal(r, g, "group_"+g.Name)
	return c.result()
}
