package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/ssh"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/sftpfs"
)

// openSFTP opens a directory of another SFTP server. It is connected to when it is used.
func (x *storages) openSFTP(_ context.Context, st session.Storage) (vfs.FS, error) {
	s := &st.Config.SFTPConfig
	cfg := sftpfs.Config{
		Endpoint: s.Endpoint, Username: s.Username, Password: s.Password.Payload, Fingerprints: s.Fingerprints, Prefix: s.Prefix,
		Sequential: s.DisableConcurrentReads, Window: int(s.BufferSize) << 20, ByUser: s.EqualityCheckMode > 0,
		// Where users may make links, none may lead out of the prefix.
		Confine: x.common.Session.SymlinkMode&session.SymlinksSFTP != 0,
	}
	if !s.PrivateKey.IsEmpty() {
		var err error
		if cfg.Key, err = account.ParsePrivateKey(s.PrivateKey, s.KeyPassphrase); err != nil {
			return nil, errors.New("sftpfs: the private key cannot be used; look at it and at its passphrase") // the cause may show parts of it
		}
	}
	f, err := x.sftp.New(cfg)
	if err != nil {
		return nil, err // not a nil *FS in an interface
	}
	return f, nil
}

// self is what tells a storage on another server from one on this.
type self struct {
	keys     func() []ssh.HostKey
	accounts session.Accounts
}

// know tells who we are, once there is somebody.
func (x *storages) know(keys func() []ssh.HostKey, accounts session.Accounts) {
	x.self.Store(&self{keys, accounts})
}

// ownHost refuses a server that is this one. With common.allow_self_connections it refuses only what could go on in
// circles: the account there has an SFTP storage itself.
func (x *storages) ownHost(fingerprint, username string) error {
	me := x.self.Load()
	if me == nil || !slices.ContainsFunc(me.keys(), func(k ssh.HostKey) bool { return k.Fingerprint == fingerprint }) {
		return nil
	}
	if x.common.AllowSelfConnections == 0 {
		return sftpfs.ErrLoop
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) // a connection's, which several callers share
	defer cancel()
	u, err := me.accounts.User(ctx, username)
	if errors.Is(err, account.ErrNotFound) {
		return nil // it will not be let in
	}
	if err != nil {
		return err
	}
	nested := u.Filesystem.Provider == account.SFTPProvider
	for i := range u.VirtualFolders {
		nested = nested || u.VirtualFolders[i].Filesystem.Provider == account.SFTPProvider
	}
	if nested {
		return fmt.Errorf("%w, where %q has an SFTP storage itself", errNested, username)
	}
	return nil
}

var errNested = errors.New("the server is this one")
