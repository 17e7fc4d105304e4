package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/auth"
	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/vfs"
)

// Errors beside those of vfs. Test with errors.Is.
var (
	// ErrQuota: a limit of the account refuses the write. It is also a vfs.ErrQuota.
	ErrQuota = fmt.Errorf("quota exceeded: %w", vfs.ErrQuota)
	// ErrReadQuota: the account may not download more.
	ErrReadQuota = errors.New("download limit reached")
	// ErrTooManySessions: max_sessions of the account is reached.
	ErrTooManySessions = errors.New("too many open sessions")
	// ErrClosed: the session has ended or the server stops.
	ErrClosed = fmt.Errorf("session closed: %w", fs.ErrClosed)
	// ErrIdle and ErrKilled are reasons that Conn.Kill is given.
	ErrIdle   = errors.New("idle for too long")
	ErrKilled = errors.New("ended by an administrator")
	// ErrOtherStorage: a rename to a storage that is not of the same kind. It is an fs.ErrPermission.
	ErrOtherStorage = fmt.Errorf("on another storage: %w", fs.ErrPermission)
	// ErrBusy: the name is in use by an upload and cannot be changed that way now.
	ErrBusy = errors.New("in use by an upload")
)

// Values of Config.TrackQuota.
const (
	TrackNone    = 0 // nothing is counted and nothing but max_upload_file_size enforced
	TrackAll     = 1
	TrackLimited = 2 // users with a limit, and all folders
)

// Bits of Config.SymlinkMode.
const (
	SymlinksLocal = 1
	SymlinksSFTP  = 2
)

// Config is the server's rules for all accounts. The keys are those of the section "common", and
// track_quota of "data_provider".
type Config struct {
	IdleTimeout int `json:"idle_timeout"` // minutes, 0 off
	UploadMode  int `json:"upload_mode"`  // 0 in place, 1 atomic, 2 atomic with resume; add 4 for S3, 8 for Google, 16 for Azure to keep what a lost client left of a new file
	SetstatMode int `json:"setstat_mode"` // 0 do, 1 ignore, 2 ignore where the storage cannot
	RenameMode  int `json:"rename_mode"`
	SymlinkMode int `json:"symlink_mode"` // bits SymlinksLocal, SymlinksSFTP
	TrackQuota  int `json:"track_quota"`
	QuotaDelay  int `json:"delayed_quota_update"` // seconds between two writes of the counters; 0 is half a second
}

// DefaultConfig is what holds for keys that the configuration does not name.
func DefaultConfig() Config {
	return Config{IdleTimeout: 15, SymlinkMode: SymlinksLocal, TrackQuota: TrackLimited}
}

// Validate says what is wrong with c, naming the key.
func (c Config) Validate() error {
	check := func(ok bool, key string, v int, want string) error {
		if ok {
			return nil
		}
		return fmt.Errorf("%s: %d is not %s", key, v, want)
	}
	return errors.Join(
		check(c.IdleTimeout >= 0, "idle_timeout", c.IdleTimeout, "0 or a number of minutes"),
		check(c.UploadMode >= 0 && c.UploadMode < 32 && c.UploadMode&3 != 3, "upload_mode", c.UploadMode, "0, 1 or 2 (with 4, 8 and 16 added for object stores)"),
		check(c.SetstatMode >= 0 && c.SetstatMode <= 2, "setstat_mode", c.SetstatMode, "0, 1 or 2"),
		check(c.RenameMode >= 0 && c.RenameMode <= 1, "rename_mode", c.RenameMode, "0 or 1"),
		check(c.SymlinkMode >= 0 && c.SymlinkMode <= 3, "symlink_mode", c.SymlinkMode, "between 0 and 3"),
		check(c.QuotaDelay >= 0 && c.QuotaDelay <= 3600, "delayed_quota_update", c.QuotaDelay, "0 to 3600 seconds"),
		check(c.TrackQuota >= 0 && c.TrackQuota <= 2, "track_quota", c.TrackQuota, "0, 1 or 2"),
	)
}

// Authenticator is what the server needs of *auth.Authenticator.
type Authenticator interface {
	Authenticate(ctx context.Context, t *auth.Attempt) (*auth.Identity, error)
	Current(ctx context.Context, id *auth.Identity, w auth.Way) (*auth.Identity, error)
}

// Voucher is an Authenticator that takes accounts whose credential was proven before, for Server.Vouch.
type Voucher interface {
	Vouch(ctx context.Context, v auth.Vouched, t *auth.Attempt) (*auth.Identity, error)
}

// Rememberer is an Authenticator that knows what it has in memory, for Server.StandsNow.
type Rememberer interface {
	Remembered(id *auth.Identity, w auth.Way) (now *auth.Identity, ok bool, err error)
}

// Accounts finds the records of accounts to be scanned: users merged with their groups.
type Accounts interface {
	User(ctx context.Context, name string) (account.User, error)
	Folder(ctx context.Context, name string) (account.Folder, error)
}

// Storage says which tree NewFS opens.
type Storage struct {
	Config *account.FilesystemConfig
	Name   string // the account's or the folder's, for logs
	Root   string // the operating system's directory, for the storages that have one
	// UID and GID own what is made; 0 and -1 leave the owner alone.
	UID, GID int
	// Create: make Root, with parents, where it is missing. Without it a missing Root may be an error.
	Create bool
}

// Deps are the parts that a Server works with. Auth, Counters, NewFS and Log are needed.
type Deps struct {
	Auth     Authenticator
	Counters account.Counters
	Accounts Accounts // for Recover and Scan
	// Locks and Props keep what WebDAV clients put on files. Without Locks they end with the server; without Props there
	// are no properties.
	Locks account.Locks
	Props account.Props
	// NewFS opens a storage. Called with a deadline; the server closes what it gives.
	NewFS func(ctx context.Context, st Storage) (vfs.FS, error)
	Sinks []event.Sink
	Log   *slog.Logger
	// Now is the clock of everything that is not a wait; nil means time.Now.
	Now func() time.Time
	// Node names this process in the durable marks; "" means "local".
	Node string
	// Shared, if set, is where the nodes that share the database meet; Member is this one, its ID is Node.
	Shared account.Shared
	Member account.Node
	// Failed, if set, is told of every failed login and of peers that left without one (the defender).
	Failed func(Failure)
	// Delay, which may be nil, is how long the answer to a login with a password is held back.
	Delay func(ok bool) time.Duration
	// LoggedIn, if set, is told of every login, also of those that failed; Left of every session's end. They
	// must not wait.
	LoggedIn func(Outcome)
	Left     func(Left)
}

func (d *Deps) check() error {
	if d.Auth == nil || d.Counters == nil || d.NewFS == nil || d.Log == nil {
		return errors.New("session: Auth, Counters, NewFS and Log are needed")
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Node == "" {
		d.Node = "local"
	}
	return nil
}

// The deadlines of what a peer waits for.
const (
	storeWait   = 5 * time.Second  // one call of the store
	storageWait = 30 * time.Second // opening a storage
	abortWait   = 15 * time.Second // the end of a handle whose peer has gone
	lockWait    = 60 * time.Second // another operation on the same name
)
