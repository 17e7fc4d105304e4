package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/accounttest"
	"github.com/gantryhq/gantry/internal/account/kvstore"
	"github.com/gantryhq/gantry/internal/account/recordstore"
	"github.com/gantryhq/gantry/internal/logs"
)

func TestBackupSchedule(t *testing.T) {
	at := func(day, hour int) time.Time { return time.Date(2026, 11, 22+day, hour, 30, 0, 0, time.Local) } // the 22nd is a Sunday
	for _, x := range []struct {
		hour, day string
		at        time.Time
		want      bool
	}{
		{"0", "*", at(0, 0), true}, {"0", "*", at(0, 1), false}, {"*", "*", at(3, 17), true}, {"*/6", "*", at(1, 18), true}, {"*/6", "*", at(1, 19), false},
		{"1-3", "1-5", at(5, 3), true}, {"1-3", "1-5", at(6, 3), false}, {"0,12", "0", at(0, 12), true}, {"8/8", "*", at(0, 16), true}, {"8/8", "*", at(0, 0), false},
	} {
		if got := (AutoBackup{Enabled: true, Hour: x.hour, DayOfWeek: x.day}).due(x.at); got != x.want {
			t.Errorf("hour %s day %s at %s: %v", x.hour, x.day, x.at, got)
		}
	}
	if (AutoBackup{Hour: "*", DayOfWeek: "*"}).due(at(0, 0)) {
		t.Error("a backup that is off is due")
	}
	for _, bad := range []AutoBackup{{Hour: "24", DayOfWeek: "*"}, {Hour: "*", DayOfWeek: "7"}, {Hour: "", DayOfWeek: "*"}, {Hour: "5-1", DayOfWeek: "*"}, {Hour: "*/0", DayOfWeek: "*"}, {Hour: "x", DayOfWeek: "*"}, {Hour: "0", DayOfWeek: "*", Keep: -1}} {
		if bad.Validate() == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

func TestBackupsAreMadeOnceAndTheOldestGo(t *testing.T) {
	dir := t.TempDir()
	s := &settings{Config: defaultConfig(), dir: dir}
	s.DataProvider.AutoBackup.Keep = 3
	log, err := logs.Open(logs.Config{Level: "error"}, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{s: s, log: log, store: kvstore.Memory(recordstore.Config{Rules: account.DefaultRules()})}
	u := accounttest.User("a")
	if err := n.store.AddUser(t.Context(), &u); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.Local)
	backups := filepath.Join(dir, "backups")
	os.MkdirAll(backups, 0o700)
	os.WriteFile(filepath.Join(backups, "gantry-backup-mine.json"), nil, 0o600)
	for i := range 5 {
		for range 2 {
			if err := n.backup(context.Background(), at.AddDate(0, 0, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var got []string
	entries, _ := os.ReadDir(backups)
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if want := []string{"gantry-backup-20260103-00.json", "gantry-backup-20260104-00.json", "gantry-backup-20260105-00.json", "gantry-backup-mine.json"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	f, err := os.Open(filepath.Join(backups, got[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if st, _ := f.Stat(); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: it holds password hashes", st.Mode())
	}
	if d, err := account.DecodeDump(f, 0); err != nil || len(d.Users) != 1 {
		t.Errorf("the dump: %v, %v", d, err)
	}
}
