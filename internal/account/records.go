package account

import "context"

// Kind names a kind of record in changes, counters and errors.
type Kind string

// The kinds of records.
const (
	KindUser   Kind = "user"
	KindFolder Kind = "folder"
	KindGroup  Kind = "group"
	KindAdmin  Kind = "admin"
	KindAPIKey Kind = "api_key"
	KindShare  Kind = "share"
	KindRole   Kind = "role"
	KindAction Kind = "event_action"
	KindRule   Kind = "event_rule"
	KindIPList Kind = "ip_list_entry"
	KindConfig Kind = "configs"

	// In changes only: WebDAV's locks, and the first properties in a directory.
	KindLock  Kind = "lock"
	KindProps Kind = "properties"
)

// Group is a set of settings that its users inherit at login (data-model.md 7).
type Group struct {
	ID             int64           `json:"id"`
	Name           string          `json:"name"`
	Description    string          `json:"description,omitempty"`
	CreatedAt      int64           `json:"created_at"`
	UpdatedAt      int64           `json:"updated_at"`
	Users          []string        `json:"users,omitempty"`  // output only
	Admins         []string        `json:"admins,omitempty"` // output only
	UserSettings   GroupSettings   `json:"user_settings"`
	VirtualFolders []VirtualFolder `json:"virtual_folders,omitempty"`

	Version   int64 `json:"-"`
	IfVersion int64 `json:"-"` // as a User's
}

// GroupSettings is what a group's users inherit.
type GroupSettings struct {
	HomeDir              string              `json:"home_dir,omitempty"`
	MaxSessions          int                 `json:"max_sessions,omitempty"`
	QuotaSize            int64               `json:"quota_size,omitempty"`
	QuotaFiles           int                 `json:"quota_files,omitempty"`
	Permissions          map[string][]string `json:"permissions,omitempty"`
	UploadBandwidth      int64               `json:"upload_bandwidth,omitempty"`
	DownloadBandwidth    int64               `json:"download_bandwidth,omitempty"`
	UploadDataTransfer   int64               `json:"upload_data_transfer,omitempty"`
	DownloadDataTransfer int64               `json:"download_data_transfer,omitempty"`
	TotalDataTransfer    int64               `json:"total_data_transfer,omitempty"`
	ExpiresIn            int                 `json:"expires_in,omitempty"` // days from creation
	Filters              BaseFilters         `json:"filters"`
	Filesystem           FilesystemConfig    `json:"filesystem"`
}

// Records keeps the other kinds (admins, API keys, shares, roles, event actions and rules, IP lists,
// configs) as JSON documents by natural key, with every member that came in. The feature that uses a kind
// brings its Go type and typed calls.
type Records interface {
	Record(ctx context.Context, kind Kind, key string) ([]byte, error)
	ListRecords(ctx context.Context, kind Kind, p Page) ([][]byte, error)
	AddRecord(ctx context.Context, kind Kind, doc []byte) error
	UpdateRecord(ctx context.Context, kind Kind, doc []byte) error
	// EditRecord gives the stored document to fn and stores what fn made of it, in one transaction. An error of fn
	// ends it without a change and is given back. Times stay as they are unless fn sets them.
	EditRecord(ctx context.Context, kind Kind, key string, fn func(doc []byte) ([]byte, error)) error
	DeleteRecord(ctx context.Context, kind Kind, key string) error
}
