package admin

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/session"
)

// Host is one that the defender has an eye on: a score, or a ban until then.
type Host struct {
	Addr  netip.Addr
	Score int
	Ban   time.Time // zero: not banned
}

// Connections lists the live sessions that the actor may see, oldest first.
func (s *Service) Connections(by *Actor) ([]session.Info, error) {
	if err := by.need("view_conns"); err != nil {
		return nil, err
	}
	list := s.Sessions.Sessions()
	if by.Role != "" {
		list = slices.DeleteFunc(list, func(i session.Info) bool { return i.Role != by.Role })
	}
	return list, nil
}

// Nodes lists the living nodes of a shared database; none if it is not shared.
func (s *Service) Nodes(ctx context.Context, by *Actor) ([]account.Node, error) {
	if err := by.need("view_status"); err != nil {
		return nil, err
	}
	return s.Sessions.Nodes(ctx)
}

// CloseConnection ends a live session.
func (s *Service) CloseConnection(by *Actor, id string) error {
	if err := by.need("close_conns"); err != nil {
		return err
	}
	if by.Role != "" && !slices.ContainsFunc(s.Sessions.Sessions(), func(i session.Info) bool { return i.ID == id && i.Role == by.Role }) {
		return account.ErrNotFound
	}
	if !s.Sessions.Kill(id, session.ErrKilled) {
		return account.ErrNotFound
	}
	s.Log.Info("connection closed", "connection_id", id, "by", by.Name)
	return nil
}

// Scan is a count of an account's files that is under way.
type Scan struct {
	Name    string
	Role    string
	Started time.Time
}

// Scans lists the counts that this process has under way for users or folders, oldest first.
func (s *Service) Scans(ctx context.Context, by *Actor, kind account.Kind) ([]Scan, error) {
	if err := by.need("quota_scans"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	var out []Scan
	for k, at := range s.scans {
		if k.Kind == kind {
			out = append(out, Scan{Name: k.Name, Started: at})
		}
	}
	s.mu.Unlock()
	if by.Role != "" && kind == account.KindUser {
		out = slices.DeleteFunc(out, func(x Scan) bool {
			_, err := s.user(ctx, by, x.Name)
			return err != nil
		})
	}
	slices.SortFunc(out, func(a, b Scan) int { return a.Started.Compare(b.Started) })
	return out, nil
}

// StartScan begins to count what a user or a folder holds. The outcome replaces the counters.
func (s *Service) StartScan(ctx context.Context, by *Actor, key account.CounterKey) error {
	if err := by.need("quota_scans"); err != nil {
		return err
	}
	if s.TrackQuota == session.TrackNone {
		return fmt.Errorf("%w: data_provider.track_quota is 0", ErrDisabled)
	}
	var err error
	if key.Kind == account.KindFolder {
		var f account.Folder
		if f, err = s.Store.Folder(ctx, key.Name); err == nil {
			if key.Name = f.Name; strings.Contains(f.MappedPath, "%username%") || strings.Contains(f.MappedPath, "%role%") {
				return invalid("the folder has a placeholder in its path and is many directories")
			}
		}
	} else {
		var u account.User
		u, err = s.user(ctx, by, key.Name)
		key.Name = u.Username
	}
	if err != nil {
		return err
	}
	return s.scan(key)
}

// scan counts in the background.
func (s *Service) scan(key account.CounterKey) error {
	if err := s.takeScan(key); err != nil {
		return err
	}
	s.work.Go(func() { // ends with Close
		defer s.giveScan(key)
		began := s.Now()
		files, bytes, err := s.Sessions.Scan(s.ctx, key)
		if err != nil {
			s.Log.Error("quota scan failed", "kind", string(key.Kind), "name", key.Name, "error", err)
			return
		}
		s.Log.Info("quota scan done", "kind", string(key.Kind), "name", key.Name, "files", files, "bytes", bytes, "dur", s.Now().Sub(began))
	})
	return nil
}

func (s *Service) takeScan(key account.CounterKey) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.scans[key]; ok {
		return fmt.Errorf("%w: the scan of %s %q", ErrRunning, key.Kind, key.Name)
	}
	s.scans[key] = s.Now()
	return nil
}

func (s *Service) giveScan(key account.CounterKey) {
	s.mu.Lock()
	delete(s.scans, key)
	s.mu.Unlock()
}

// Usage is what an administrator sets or adds to an account's counters.
type Usage struct {
	Files    int
	Bytes    int64
	Up, Down int64 // bytes of transfers
	Add      bool
}

// SetUsage replaces the files and bytes of a user or folder, or adds to them.
func (s *Service) SetUsage(ctx context.Context, by *Actor, key account.CounterKey, u Usage) error {
	perm := "edit_users"
	if key.Kind == account.KindFolder {
		perm = "manage_folders"
	}
	if err := by.need(perm); err != nil {
		return err
	}
	if u.Files < 0 || u.Bytes < 0 {
		return invalid("used_quota_size and used_quota_files must be 0 or more")
	}
	if err := s.counted(ctx, by, &key, u.Add, func(x *account.User) bool { return x.QuotaFiles > 0 || x.QuotaSize > 0 }); err != nil {
		return err
	}
	if err := s.takeScan(key); err != nil { // neither may undo the other
		return err
	}
	defer s.giveScan(key)
	if u.Add {
		return s.Sessions.AddUsage(ctx, key, u.Files, u.Bytes)
	}
	return s.Sessions.SetUsage(ctx, key, u.Files, u.Bytes)
}

// SetTransferUsage replaces a user's totals of transfers, or adds to them.
func (s *Service) SetTransferUsage(ctx context.Context, by *Actor, name string, u Usage) error {
	if err := by.need("edit_users"); err != nil {
		return err
	}
	if u.Up < 0 || u.Down < 0 {
		return invalid("used_upload_data_transfer and used_download_data_transfer must be 0 or more")
	}
	key := account.CounterKey{Kind: account.KindUser, Name: name}
	limited := func(x *account.User) bool {
		return x.UploadDataTransfer > 0 || x.DownloadDataTransfer > 0 || x.TotalDataTransfer > 0
	}
	if err := s.counted(ctx, by, &key, u.Add, limited); err != nil {
		return err
	}
	return s.Sessions.SetTransfers(ctx, key, u.Up, u.Down, u.Add)
}

// counted finds an account whose counters are to be changed, as the actor may.
func (s *Service) counted(ctx context.Context, by *Actor, key *account.CounterKey, add bool, limited func(*account.User) bool) error {
	if s.TrackQuota == session.TrackNone {
		return fmt.Errorf("%w: data_provider.track_quota is 0", ErrDisabled)
	}
	if key.Kind == account.KindFolder {
		f, err := s.Store.Folder(ctx, key.Name)
		key.Name = f.Name
		return err
	}
	u, err := s.user(ctx, by, key.Name)
	if err != nil {
		return err
	}
	key.Name = u.Username
	if add && s.TrackQuota == session.TrackLimited && !limited(&u) {
		return invalid("the user has no limit of that kind, so that nothing is counted (data_provider.track_quota is 2)")
	}
	return nil
}
