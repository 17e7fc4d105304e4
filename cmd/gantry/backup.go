package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// AutoBackup is the section data_provider.auto_backup: dumps made by the server itself.
type AutoBackup struct {
	Enabled   bool   `json:"enabled"`
	Hour      string `json:"hour"`        // of local time, as in cron: 0, *, 1-5, */6, 0,12
	DayOfWeek string `json:"day_of_week"` // 0 (Sunday) to 6, as in cron
	Keep      int    `json:"keep"`        // how many stay; 0 is all
}

// Validate checks the keys.
func (b AutoBackup) Validate() error {
	if _, err := cronField(b.Hour, 24); err != nil {
		return fmt.Errorf("data_provider.auto_backup.hour: %w", err)
	}
	if _, err := cronField(b.DayOfWeek, 7); err != nil {
		return fmt.Errorf("data_provider.auto_backup.day_of_week: %w", err)
	}
	if b.Keep < 0 {
		return fmt.Errorf("data_provider.auto_backup.keep: must be 0 (all) or more, it is %d", b.Keep)
	}
	return nil
}

// cronField reads a list of numbers below n, ranges and steps.
func cronField(text string, n int) (map[int]bool, error) {
	out := map[int]bool{}
	for _, part := range strings.Split(text, ",") {
		span, every, stepped := strings.Cut(strings.TrimSpace(part), "/")
		step := 1
		if stepped {
			var err error
			if step, err = strconv.Atoi(every); err != nil || step < 1 {
				return nil, fmt.Errorf("%q is not a step", every)
			}
		}
		from, to := 0, n-1
		if span != "*" {
			first, last, isRange := strings.Cut(span, "-")
			var err error
			if from, err = strconv.Atoi(first); err != nil {
				return nil, fmt.Errorf("%q is not a number, a range or *", span)
			}
			if to = from; isRange {
				if to, err = strconv.Atoi(last); err != nil {
					return nil, fmt.Errorf("%q is not a range", span)
				}
			} else if stepped {
				to = n - 1
			}
		}
		if from < 0 || to >= n || from > to {
			return nil, fmt.Errorf("%q is not within 0 to %d", span, n-1)
		}
		for i := from; i <= to; i += step {
			out[i] = true
		}
	}
	return out, nil
}

// due reports whether a backup belongs to the hour of t.
func (b AutoBackup) due(t time.Time) bool {
	hours, err := cronField(b.Hour, 24)
	days, err2 := cronField(b.DayOfWeek, 7)
	return b.Enabled && err == nil && err2 == nil && hours[t.Hour()] && days[int(t.Weekday())]
}

// The names of backups, and how long one may take.
const (
	backupPrefix = "gantry-backup-"
	backupName   = backupPrefix + "20060102-15.json"
	backupLook   = 30 * time.Second
	backupWait   = 30 * time.Minute
)

// backups makes the dumps that are due, until the node stops. Of several nodes one makes each.
func (n *node) backups() {
	if !n.s.DataProvider.AutoBackup.Enabled {
		return
	}
	ctx, stop := context.WithCancel(context.Background()) // ends with the node's stop
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(backupLook)
		defer tick.Stop()
		tried := ""
		for {
			now := time.Now()
			if name := now.Format(backupName); n.s.DataProvider.AutoBackup.due(now) && name != tried {
				tried = name
				if err := n.backup(ctx, now); err != nil && ctx.Err() == nil {
					n.log.Error("the backup was not made", "sender", "service", "error", err)
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	n.later(func(context.Context) error {
		stop()
		done.Wait()
		return nil
	})
}

// backup makes the backup of the hour of now, unless it is there, and removes the oldest of too many.
func (n *node) backup(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, backupWait)
	defer cancel()
	dir := n.s.path(n.s.DataProvider.BackupsPath)
	file := filepath.Join(dir, now.Format(backupName))
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	if n.shared != nil {
		mine, err := n.shared.ClaimValue(ctx, "backup", filepath.Base(file), []byte(n.shared.node.ID), 2*time.Hour)
		if err != nil || !mine {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil { // a dump holds password hashes
		return err
	}
	d, err := n.store.Dump(ctx)
	if err != nil {
		return err
	}
	if err := dumpTo(file, d); err != nil {
		return err
	}
	n.log.Info("backup made", "sender", "service", "file", file, "content", contentOf(d))
	return prune(dir, n.s.DataProvider.AutoBackup.Keep)
}

// prune leaves the newest backups.
func prune(dir string, keep int) error {
	if keep == 0 {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var names []string
	for _, e := range entries {
		if _, err := time.Parse(backupName, e.Name()); err == nil && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	for len(names) > keep {
		if err := os.Remove(filepath.Join(dir, names[0])); err != nil {
			return err
		}
		names = names[1:]
	}
	return nil
}
