package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// RetentionCheck is the removal of a user's old files that is under way.
type RetentionCheck struct {
	Username string
	Folders  []account.FolderRetention
	Started  time.Time
}

// RetentionChecks lists the checks that this process has under way, oldest first.
func (s *Service) RetentionChecks(ctx context.Context, by *Actor) ([]RetentionCheck, error) {
	if err := by.need(retentionPerm); err != nil {
		return nil, err
	}
	s.mu.Lock()
	out := make([]RetentionCheck, 0, len(s.checks))
	for _, c := range s.checks {
		out = append(out, c)
	}
	s.mu.Unlock()
	if by.Role != "" {
		out = slices.DeleteFunc(out, func(c RetentionCheck) bool {
			_, err := s.user(ctx, by, c.Username)
			return err != nil
		})
	}
	slices.SortFunc(out, func(a, b RetentionCheck) int { return a.Started.Compare(b.Started) })
	return out, nil
}

// StartRetention begins to remove a user's files that are older than their directory's retention. The nearest entry
// above a file decides; one of 0 keeps what is below it. The user's permissions and patterns do not count.
func (s *Service) StartRetention(ctx context.Context, by *Actor, name string, folders []account.FolderRetention) error {
	if err := by.need(retentionPerm); err != nil {
		return err
	}
	rules := map[string]account.FolderRetention{}
	some := false
	for i := range folders {
		f := &folders[i]
		f.Path = account.CleanPath(f.Path)
		if _, twice := rules[f.Path]; twice {
			return invalid("%q is named twice", f.Path)
		}
		if f.Retention < 0 {
			return invalid("retention must be 0 or more hours")
		}
		if _, err := vfs.ParseConfigPath(f.Path); err != nil {
			return invalid("%q is no path: %v", f.Path, err)
		}
		rules[f.Path] = *f
		some = some || f.Retention > 0
	}
	if !some {
		return invalid("at least one directory needs a retention above 0")
	}
	u, err := s.user(ctx, by, name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if _, ok := s.checks[u.Username]; ok {
		s.mu.Unlock()
		return fmt.Errorf("%w: the retention check of %q", ErrRunning, u.Username)
	}
	s.checks[u.Username] = RetentionCheck{u.Username, folders, s.Now()}
	s.mu.Unlock()
	s.Log.Info("retention check started", "username", u.Username, "by", by.Name)
	s.work.Go(func() { // ends with Close
		defer func() {
			s.mu.Lock()
			delete(s.checks, u.Username)
			s.mu.Unlock()
		}()
		began := s.Now()
		c := &sweep{rules: rules, now: began}
		err := c.run(s.ctx, s.Sessions, u.Username)
		level := s.Log.Info
		if err != nil {
			level = s.Log.Error
		}
		level("retention check done", "username", u.Username, "files", c.files, "bytes", c.bytes, "dirs", c.dirs, "dur", s.Now().Sub(began), "error", err)
	})
	return nil
}

// sweep is one check.
type sweep struct {
	rules map[string]account.FolderRetention
	now   time.Time
	x     *session.Session

	files, dirs int
	bytes       int64
}

// maxSweepDepth bounds the directories below one another.
const maxSweepDepth = 1000

func (c *sweep) run(ctx context.Context, sessions *session.Server, user string) error {
	x, err := sessions.System(ctx, user, "DataRetention")
	if err != nil {
		return err
	}
	defer x.Close()
	c.x = x
	var errs []error
	for _, r := range c.rules {
		if r.Retention == 0 {
			continue
		}
		p, err := vfs.ParseConfigPath(r.Path)
		if err != nil {
			return err
		}
		if _, err := c.dir(ctx, p, r, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("%s: %w", r.Path, err))
		}
	}
	return errors.Join(errs...)
}

// dir removes the old files below a directory and reports whether nothing is left there. A directory with an entry of its
// own is that entry's.
func (c *sweep) dir(ctx context.Context, dir vfs.Path, r account.FolderRetention, depth int) (empty bool, err error) {
	if depth > maxSweepDepth {
		return false, fmt.Errorf("more than %d directories below one another", maxSweepDepth)
	}
	old := c.now.Add(-time.Duration(r.Retention) * time.Hour)
	empty = true
	var subs []vfs.Path
	for i, err := range c.x.List(ctx, dir) {
		if err != nil {
			return false, err
		}
		p, err := dir.Child(i.Name)
		if err != nil {
			empty = false
			continue
		}
		switch {
		case i.IsDir():
			if _, own := c.rules[p.String()]; own {
				empty = false
				continue
			}
			subs = append(subs, p)
		case i.Mode.IsRegular() && i.ModTime.Before(old):
			if err := c.x.Remove(ctx, p); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return false, err
			}
			c.files, c.bytes = c.files+1, c.bytes+i.Size
		default: // links are not followed, and stay (SYM-2)
			empty = false
		}
	}
	for _, p := range subs {
		gone, err := c.dir(ctx, p, r, depth+1)
		if err != nil {
			return false, err
		}
		if !gone || !r.DeleteEmptyDirs {
			empty = false
			continue
		}
		if err := c.x.Rmdir(ctx, p); err != nil {
			empty = false // a mount, or filled meanwhile
			continue
		}
		c.dirs++
	}
	return empty, nil
}
