// Package account holds the records that administrators keep: users, groups, virtual folders, admins and
// the rest, with their JSON form, defaults, validation, redaction and dump, and the store roles that
// keep them.
//
// The JSON is that of SFTPGo's REST API and dump (reference data-model.md); a record is stored as that
// JSON, so that a field whose feature comes later is kept.
package account

import (
	"github.com/gantryhq/gantry/internal/secret"
)

// User is one virtual account.
type User struct {
	ID                int64               `json:"id"`
	Status            int                 `json:"status"` // 1 enabled, 0 disabled
	Username          string              `json:"username"`
	Email             string              `json:"email,omitempty"`
	ExpirationDate    int64               `json:"expiration_date,omitempty"` // ms, 0 never
	Password          string              `json:"password,omitempty"`        // plain on input, a hash once stored
	PublicKeys        []string            `json:"public_keys,omitempty"`
	HasPassword       bool                `json:"has_password,omitempty"` // output only
	HomeDir           string              `json:"home_dir"`
	UID               int                 `json:"uid"`
	GID               int                 `json:"gid"`
	MaxSessions       int                 `json:"max_sessions"`
	QuotaSize         int64               `json:"quota_size"` // bytes, 0 unlimited
	QuotaFiles        int                 `json:"quota_files"`
	Permissions       map[string][]string `json:"permissions"`
	UploadBandwidth   int64               `json:"upload_bandwidth,omitempty"`   // KB/s
	DownloadBandwidth int64               `json:"download_bandwidth,omitempty"` // KB/s

	UploadDataTransfer   int64 `json:"upload_data_transfer"` // MB
	DownloadDataTransfer int64 `json:"download_data_transfer"`
	TotalDataTransfer    int64 `json:"total_data_transfer"`

	// Counters and times that the server keeps. A store holds them apart from the document.
	UsedQuotaSize            int64 `json:"used_quota_size,omitempty"`
	UsedQuotaFiles           int   `json:"used_quota_files,omitempty"`
	LastQuotaUpdate          int64 `json:"last_quota_update,omitempty"`
	UsedUploadDataTransfer   int64 `json:"used_upload_data_transfer,omitempty"` // bytes
	UsedDownloadDataTransfer int64 `json:"used_download_data_transfer,omitempty"`
	LastLogin                int64 `json:"last_login,omitempty"`
	FirstDownload            int64 `json:"first_download,omitempty"`
	FirstUpload              int64 `json:"first_upload,omitempty"`
	LastPasswordChange       int64 `json:"last_password_change,omitempty"`
	CreatedAt                int64 `json:"created_at"`
	UpdatedAt                int64 `json:"updated_at"`

	Description      string           `json:"description,omitempty"`
	AdditionalInfo   string           `json:"additional_info,omitempty"`
	Groups           []GroupMapping   `json:"groups,omitempty"`
	OIDCCustomFields *map[string]any  `json:"oidc_custom_fields,omitempty"`
	Role             string           `json:"role,omitempty"`
	Filters          UserFilters      `json:"filters"`
	VirtualFolders   []VirtualFolder  `json:"virtual_folders,omitempty"`
	Filesystem       FilesystemConfig `json:"filesystem"`

	// Version grows with every stored change of the record. It is the key of compiled policies.
	Version   int64 `json:"-"`
	IfVersion int64 `json:"-"` // of an update: what the record must be still; 0 is anything
}

// GroupMapping is a user's membership. Type is 1 primary, 2 secondary, 3 membership only.
type GroupMapping struct {
	Name string `json:"name"`
	Type int    `json:"type"`
}

// The kinds of a GroupMapping.
const (
	GroupPrimary    = 1
	GroupSecondary  = 2
	GroupMembership = 3
)

// BaseFilters are the restrictions that users and groups share.
type BaseFilters struct {
	AllowedIP               []string         `json:"allowed_ip,omitempty"`
	DeniedIP                []string         `json:"denied_ip,omitempty"`
	DeniedLoginMethods      []string         `json:"denied_login_methods,omitempty"`
	DeniedProtocols         []string         `json:"denied_protocols,omitempty"`
	FilePatterns            []PatternsFilter `json:"file_patterns,omitempty"`
	MaxUploadFileSize       int64            `json:"max_upload_file_size,omitempty"`
	TLSUsername             string           `json:"tls_username,omitempty"`
	TLSCerts                []string         `json:"tls_certs,omitempty"`
	Hooks                   HooksFilter      `json:"hooks"`
	DisableFsChecks         bool             `json:"disable_fs_checks,omitempty"`
	WebClient               []string         `json:"web_client,omitempty"`
	AllowAPIKeyAuth         bool             `json:"allow_api_key_auth,omitempty"`
	UserType                string           `json:"user_type,omitempty"`
	BandwidthLimits         []BandwidthLimit `json:"bandwidth_limits,omitempty"`
	ExternalAuthCacheTime   int64            `json:"external_auth_cache_time,omitempty"` // s
	StartDirectory          string           `json:"start_directory,omitempty"`
	TwoFactorProtocols      []string         `json:"two_factor_protocols,omitempty"`
	FTPSecurity             int              `json:"ftp_security,omitempty"`
	IsAnonymous             bool             `json:"is_anonymous,omitempty"`
	DefaultSharesExpiration int              `json:"default_shares_expiration,omitempty"` // days
	MaxSharesExpiration     int              `json:"max_shares_expiration,omitempty"`
	PasswordExpiration      int              `json:"password_expiration,omitempty"` // days
	PasswordStrength        int              `json:"password_strength,omitempty"`
	AccessTime              []TimePeriod     `json:"access_time,omitempty"`
}

// UserFilters are BaseFilters and what only a user has.
type UserFilters struct {
	BaseFilters
	RequirePasswordChange bool           `json:"require_password_change,omitempty"`
	AdditionalEmails      []string       `json:"additional_emails,omitempty"`
	TOTPConfig            UserTOTPConfig `json:"totp_config"`
	RecoveryCodes         []RecoveryCode `json:"recovery_codes,omitempty"`
}

// PatternsFilter allows or denies names below Path by shell globs.
type PatternsFilter struct {
	Path            string   `json:"path"`
	AllowedPatterns []string `json:"allowed_patterns,omitempty"`
	DeniedPatterns  []string `json:"denied_patterns,omitempty"`
	DenyPolicy      int      `json:"deny_policy,omitempty"` // 0 show, 1 hide
}

// HooksFilter switches hooks off for one account.
type HooksFilter struct {
	ExternalAuthDisabled  bool `json:"external_auth_disabled"`
	PreLoginDisabled      bool `json:"pre_login_disabled"`
	CheckPasswordDisabled bool `json:"check_password_disabled"`
}

// BandwidthLimit replaces both bandwidths for clients of Sources (CIDR).
type BandwidthLimit struct {
	Sources           []string `json:"sources"`
	UploadBandwidth   int64    `json:"upload_bandwidth,omitempty"`   // KB/s
	DownloadBandwidth int64    `json:"download_bandwidth,omitempty"` // KB/s
}

// TimePeriod is a weekly window in which a login is allowed. DayOfWeek 0 is Sunday; From and To are "HH:MM", inclusive.
type TimePeriod struct {
	DayOfWeek int    `json:"day_of_week"`
	From      string `json:"from"`
	To        string `json:"to"`
}

// UserTOTPConfig is a user's second factor.
type UserTOTPConfig struct {
	Enabled    bool          `json:"enabled,omitempty"`
	ConfigName string        `json:"config_name,omitempty"`
	Secret     secret.Secret `json:"secret,omitzero"`
	Protocols  []string      `json:"protocols,omitempty"`
}

// RecoveryCode is a one-time code beside TOTP.
type RecoveryCode struct {
	Secret secret.Secret `json:"secret"`
	Used   bool          `json:"used,omitempty"`
}

// Folder is a storage tree that accounts may mount.
type Folder struct {
	ID              int64            `json:"id"`
	Name            string           `json:"name"`
	MappedPath      string           `json:"mapped_path,omitempty"`
	Description     string           `json:"description,omitempty"`
	UsedQuotaSize   int64            `json:"used_quota_size"`
	UsedQuotaFiles  int              `json:"used_quota_files"`
	LastQuotaUpdate int64            `json:"last_quota_update"`
	Users           []string         `json:"users,omitempty"`  // output only
	Groups          []string         `json:"groups,omitempty"` // output only
	Filesystem      FilesystemConfig `json:"filesystem"`

	Version   int64 `json:"-"`
	IfVersion int64 `json:"-"` // as a User's
}

// VirtualFolder is a Folder mounted at VirtualPath. A quota of -1, -1 counts in the user's own.
type VirtualFolder struct {
	Folder
	VirtualPath string `json:"virtual_path"`
	QuotaSize   int64  `json:"quota_size"`
	QuotaFiles  int    `json:"quota_files"`
	Subpath     string `json:"subpath,omitempty"`
}

// InUserQuota reports whether what lies in the folder counts in the user's quota.
func (v *VirtualFolder) InUserQuota() bool { return v.QuotaSize == -1 && v.QuotaFiles == -1 }

// Protocols of the records' denied_protocols.
const (
	ProtocolSSH  = "SSH"
	ProtocolFTP  = "FTP"
	ProtocolDAV  = "DAV"
	ProtocolHTTP = "HTTP"
)

// Login methods of the records' denied_login_methods.
const (
	MethodPassword            = "password"
	MethodPasswordOverSSH     = "password-over-SSH"
	MethodPublicKey           = "publickey"
	MethodKeyboardInteractive = "keyboard-interactive"
	MethodKeyAndPassword      = "publickey+password"
	MethodKeyAndKeyboard      = "publickey+keyboard-interactive"
	MethodTLSCertificate      = "TLSCertificate"
	MethodTLSCertAndPassword  = "TLSCertificate+password"
)

// Permissions of the records' permission lists.
const (
	PermAny            = "*"
	PermList           = "list"
	PermDownload       = "download"
	PermUpload         = "upload"
	PermOverwrite      = "overwrite"
	PermDelete         = "delete"
	PermDeleteFiles    = "delete_files"
	PermDeleteDirs     = "delete_dirs"
	PermRename         = "rename"
	PermRenameFiles    = "rename_files"
	PermRenameDirs     = "rename_dirs"
	PermCreateDirs     = "create_dirs"
	PermCreateSymlinks = "create_symlinks"
	PermChmod          = "chmod"
	PermChown          = "chown"
	PermChtimes        = "chtimes"
	PermCopy           = "copy"
)
