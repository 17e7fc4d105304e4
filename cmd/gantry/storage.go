package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/egress"
	"github.com/gantryhq/gantry/internal/secret"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/crypt"
	"github.com/gantryhq/gantry/vfs/httpfs"
	"github.com/gantryhq/gantry/vfs/local"
	"github.com/gantryhq/gantry/vfs/sftpfs"
)

// opener opens one kind of storage. The secrets of st are open, in a copy that is the opener's.
type opener func(ctx context.Context, st session.Storage) (vfs.FS, error)

// storages opens storages by their provider. Safe for concurrent use.
type storages struct {
	common *Common
	box    *secret.Box
	egress *egress.Policy // what dials endpoints (SSRF-1)
	cloud  *cloud
	sftp   *sftpfs.Pool
	http   *httpfs.Pool
	self   atomic.Pointer[self]
	// openers is the registry of backends. Read only.
	openers map[account.Provider]opener
}

// newStorages makes the registry. any allows every endpoint: whoever started the process named it.
func (s *settings) newStorages(any bool, log *slog.Logger) (*storages, error) {
	box, err := s.KMS.box()
	if err != nil {
		return nil, err
	}
	allowed := s.Common.AllowedEndpoints
	if any {
		allowed = []string{"any"}
	}
	policy, err := egress.New(allowed)
	if err != nil {
		return nil, fmt.Errorf("common.allowed_endpoints%w", err)
	}
	x := &storages{common: &s.Common, box: box, egress: policy, cloud: newCloud(&s.Common, policy, log)}
	x.sftp = sftpfs.NewPool(sftpfs.Options{Dial: policy.DialContext, Log: log.With("sender", "sftpfs"), Software: "Gantry_" + version, Own: x.ownHost})
	x.http = httpfs.NewPool(httpfs.Options{Dial: policy.DialContext})
	x.openers = map[account.Provider]opener{
		account.LocalProvider:  newLocal,
		account.CryptProvider:  newCrypt,
		account.S3Provider:     x.cloud.openS3,
		account.GCSProvider:    x.cloud.openGCS,
		account.AzBlobProvider: x.cloud.openAzBlob,
		account.SFTPProvider:   x.openSFTP,
		account.HTTPProvider:   x.openHTTP,
	}
	return x, nil
}

// close ends what the storages do by themselves.
func (x *storages) close() {
	x.cloud.close()
	x.sftp.Close()
}

// open is session.Deps.NewFS. Sealed secrets are opened here and nowhere else.
func (x *storages) open(ctx context.Context, st session.Storage) (vfs.FS, error) {
	var cfg account.FilesystemConfig
	if st.Config != nil {
		cfg = *st.Config // its only reference, the fingerprints, is not written to
	}
	open, ok := x.openers[cfg.Provider]
	if !ok {
		return nil, fmt.Errorf("the storage provider %d is not built yet", cfg.Provider)
	}
	if err := account.OpenSecrets(x.box, &cfg); err != nil {
		return nil, fmt.Errorf("a secret of the storage: %w", err)
	}
	st.Config = &cfg
	return open(ctx, st)
}

// openHTTP opens the tree of a REST service. It is asked when it is used.
func (x *storages) openHTTP(_ context.Context, st session.Storage) (vfs.FS, error) {
	h := &st.Config.HTTPConfig
	f, err := x.http.New(httpfs.Config{
		Endpoint: h.Endpoint, Username: h.Username, Password: h.Password.Payload, APIKey: h.APIKey.Payload, SkipTLSVerify: h.SkipTLSVerify,
		ByUser: h.EqualityCheckMode > 0,
	})
	if err != nil {
		return nil, err // not a nil *FS in an interface
	}
	return f, nil
}

// newLocal opens a directory of this machine, made with its parents where the session asks for it.
func newLocal(_ context.Context, st session.Storage) (vfs.FS, error) {
	f, err := openLocal(st)
	if err != nil {
		return nil, err // not a nil *FS in an interface
	}
	return f, nil
}

// newCrypt encrypts what a directory of this machine holds.
func newCrypt(_ context.Context, st session.Storage) (vfs.FS, error) {
	base, err := openLocal(st)
	if err != nil {
		return nil, err
	}
	f, err := crypt.New(base, st.Config.CryptConfig.Passphrase.Payload)
	if err != nil {
		base.Close()
		return nil, err
	}
	return f, nil
}

func openLocal(st session.Storage) (*local.FS, error) {
	if !filepath.IsAbs(st.Root) {
		return nil, fmt.Errorf("local: the root %q is not absolute", st.Root)
	}
	if st.Create {
		if err := makeRoot(st); err != nil {
			return nil, err
		}
	}
	return local.New(st.Root, local.Options{UID: st.UID, GID: st.GID})
}

// makeRoot makes a missing root and gives it to its owner.
func makeRoot(st session.Storage) error {
	if _, err := os.Stat(st.Root); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(st.Root, 0o777); err != nil { // less the umask
		return fmt.Errorf("local: make the root: %w", err)
	}
	if st.UID <= 0 && st.GID <= 0 {
		return nil
	}
	owner := func(id int) int {
		if id <= 0 {
			return -1
		}
		return id
	}
	if err := os.Chown(st.Root, owner(st.UID), owner(st.GID)); err != nil && os.Geteuid() == 0 {
		return fmt.Errorf("local: give the root to its owner: %w", err)
	}
	return nil
}
