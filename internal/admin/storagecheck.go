package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/secret"
	"github.com/gantryhq/gantry/internal/session"
)

// StorageCheck says which storage to try: that of a user, with what its groups add, or of a folder, as it is stored; or
// the given one. With a user or folder the given one is what its filesystem is about to become: secrets that are
// Redacted are those that are stored, if it still leads to the same place.
type StorageCheck struct {
	User       string                    `json:"user,omitempty"`
	Folder     string                    `json:"folder,omitempty"`
	Filesystem *account.FilesystemConfig `json:"filesystem,omitempty"`
	// Path is the home_dir or mapped_path beside Filesystem, for the storages that have one.
	Path string `json:"path,omitempty"`
	// ListOnly writes nothing.
	ListOnly bool `json:"list_only,omitempty"`
}

// CheckedStep is one step of a check: open, list, write, read or delete.
type CheckedStep struct {
	Step  string `json:"step"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"` // of the storage, without secrets
	Note  string `json:"note,omitempty"`
	Took  int64  `json:"took"` // ms
}

// CheckedStorage is what came of a check. The steps end with the first one that failed.
type CheckedStorage struct {
	OK    bool          `json:"ok"`
	Steps []CheckedStep `json:"steps"`
}

// The bounds of checks.
const (
	storageCheckWait = 30 * time.Second // of one, as the opening of a session's storage
	storageChecks    = 4                // at once
)

// CheckStorage tries a storage as a session would use it. Endpoints are judged as a session's are (SSRF-1).
func (s *Service) CheckStorage(ctx context.Context, by *Actor, c StorageCheck) (*CheckedStorage, error) {
	st, err := s.storageToCheck(ctx, by, c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, storageCheckWait)
	defer cancel()
	select {
	case s.checking <- struct{}{}:
		defer func() { <-s.checking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	out := &CheckedStorage{OK: true}
	if note, err := missingRoot(st, !c.ListOnly); note != "" || err != nil {
		out.Steps = []CheckedStep{{Step: "open", OK: err == nil, Note: note}}
		if err != nil {
			out.OK, out.Steps[0].Error = false, err.Error()
		}
	} else {
		hide := s.secretsOf(st.Config)
		for _, t := range s.Sessions.Try(ctx, st, !c.ListOnly) {
			step := CheckedStep{Step: t.Step, OK: t.Err == nil, Took: t.Took.Milliseconds()}
			switch {
			case errors.Is(t.Err, context.DeadlineExceeded):
				step.Error = "it took too long"
			case t.Err != nil:
				step.Error = hide.Replace(t.Err.Error())
			}
			out.OK = out.OK && step.OK
			out.Steps = append(out.Steps, step)
		}
	}
	s.Log.Info("storage checked", "user", c.User, "folder", c.Folder, "provider", int(st.Config.Provider), "ok", out.OK, "by", by.Name)
	return out, nil
}

// storageToCheck checks what the actor may try, and says which storage it is.
func (s *Service) storageToCheck(ctx context.Context, by *Actor, c StorageCheck) (st session.Storage, err error) {
	var key account.CounterKey
	var stored *account.FilesystemConfig // as it is in the record
	switch {
	case c.User != "" && c.Folder != "":
		return st, invalid("user and folder cannot be given together")
	case c.User != "":
		if err := by.need("edit_users"); err != nil {
			return st, err
		}
		u, err := s.user(ctx, by, c.User)
		if err != nil {
			return st, err
		}
		key, stored = account.CounterKey{Kind: account.KindUser, Name: u.Username}, &u.Filesystem
	case c.Folder != "":
		if err := by.need("manage_folders"); err != nil {
			return st, err
		}
		f, err := s.Store.Folder(ctx, c.Folder)
		if err != nil {
			return st, err
		}
		key, stored = account.CounterKey{Kind: account.KindFolder, Name: f.Name}, &f.Filesystem
	default:
		if by.need("edit_users") != nil && by.need("manage_folders") != nil {
			return st, fmt.Errorf("%w: edit_users or manage_folders is needed", ErrForbidden)
		}
		if c.Filesystem == nil {
			return st, invalid("user, folder or filesystem is needed")
		}
	}
	if key.Name != "" {
		if st, err = s.Sessions.StorageOf(ctx, key); err != nil {
			return st, err
		}
	}
	if c.Filesystem == nil && c.Path == "" {
		return st, checkPlaceholders(st)
	}
	next := account.Folder{Name: "check", MappedPath: c.Path}
	if next.MappedPath == "" {
		next.MappedPath = st.Root
	}
	switch {
	case c.Filesystem != nil:
		next.Filesystem = *c.Filesystem
	case st.Config != nil:
		next.Filesystem = *st.Config
	}
	if account.Unkept(&next.Filesystem) {
		if stored == nil || !samePlace(&next.Filesystem, stored) {
			return st, invalid("a redacted secret is not given to another place than the stored one; give the secret itself")
		}
		account.KeepSecrets(&next.Filesystem, stored)
		if t := &next.Filesystem.S3Config.SessionToken; *t == "" { // it is not shown either
			*t = stored.S3Config.SessionToken
		}
		if account.Unkept(&next.Filesystem) {
			return st, invalid("a redacted secret was given and none is stored; give the secret itself")
		}
	}
	if err := next.Normalize(s.Rules); err != nil {
		return st, err
	}
	st.Config, st.Root = &next.Filesystem, next.MappedPath
	if st.Name == "" {
		st.Name = next.Name
	}
	return st, checkPlaceholders(st)
}

// samePlace reports whether two configurations give their secrets to the same server and account.
func samePlace(a, b *account.FilesystemConfig) bool {
	if a.Provider != b.Provider {
		return false
	}
	switch a.Provider {
	case account.S3Provider:
		x, y := &a.S3Config, &b.S3Config
		return x.Endpoint == y.Endpoint && x.Region == y.Region && x.AccessKey == y.AccessKey && x.RoleARN == y.RoleARN && x.SkipTLSVerify == y.SkipTLSVerify
	case account.AzBlobProvider:
		x, y := &a.AzBlobConfig, &b.AzBlobConfig
		return x.Endpoint == y.Endpoint && x.AccountName == y.AccountName && x.UseEmulator == y.UseEmulator
	case account.SFTPProvider:
		x, y := &a.SFTPConfig, &b.SFTPConfig
		return x.Endpoint == y.Endpoint && x.Username == y.Username
	case account.HTTPProvider:
		x, y := &a.HTTPConfig, &b.HTTPConfig
		return x.Endpoint == y.Endpoint && x.Username == y.Username && x.SkipTLSVerify == y.SkipTLSVerify
	}
	return true
}

// checkPlaceholders refuses what is another storage for each user.
func checkPlaceholders(st session.Storage) error {
	c := st.Config
	for _, text := range []string{st.Root, c.S3Config.KeyPrefix, c.GCSConfig.KeyPrefix, c.AzBlobConfig.KeyPrefix, c.SFTPConfig.Username, c.SFTPConfig.Prefix, c.HTTPConfig.Username} {
		if strings.Contains(text, "%username%") || strings.Contains(text, "%role%") {
			return invalid("%q stands for another place with each user; check the storage of a user", text)
		}
	}
	return nil
}

// missingRoot says so of a local directory that is not there. The first login makes it: whether that can be is tried
// with a directory of another name, which goes at once.
func missingRoot(st session.Storage, write bool) (note string, err error) {
	if p := st.Config.Provider; p != account.LocalProvider && p != account.CryptProvider || !filepath.IsAbs(st.Root) {
		return "", nil
	}
	if _, err := os.Stat(st.Root); !errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	note = "the directory is missing; the first login makes it"
	if !write {
		return note, nil
	}
	dir := filepath.Dir(st.Root)
	for {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	tried, err := os.MkdirTemp(dir, ".gantry-check-")
	if err != nil {
		return "", fmt.Errorf("the directory is missing and cannot be made: %w", err)
	}
	return note, os.Remove(tried)
}

// secretsOf takes the secrets of a configuration out of texts (LOG-1).
func (s *Service) secretsOf(c *account.FilesystemConfig) *strings.Replacer {
	open := *c
	if err := account.OpenSecrets(s.Rules.Box, &open); err != nil {
		return strings.NewReplacer() // no storage could open them either
	}
	const hidden = "[redacted]"
	var pairs []string
	hide := func(text string) {
		if len(text) >= 4 { // a shorter one would take words apart, and is none
			pairs = append(pairs, text, hidden, url.QueryEscape(text), hidden, url.PathEscape(text), hidden)
		}
	}
	account.EachSecret(&open, func(x secret.Secret) {
		hide(x.Payload)
		if u, err := url.Parse(x.Payload); err == nil && u.RawQuery != "" { // a SAS URL is one by its query
			hide(u.RawQuery)
			hide(u.Query().Get("sig"))
		}
	})
	hide(open.S3Config.SessionToken)
	return strings.NewReplacer(pairs...)
}
