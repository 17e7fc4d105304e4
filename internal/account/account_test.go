package account

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func valid() User {
	return User{Username: "u", Status: 1, HomeDir: "/srv/u", Permissions: map[string][]string{"/": {"*"}}}
}

func TestNormalizeNamesTheWrongField(t *testing.T) {
	for _, c := range []struct {
		field  string
		change func(u *User)
	}{
		{"username", func(u *User) { u.Username = "a/b" }},
		{"username", func(u *User) { u.Username = "a\x00b" }}, // AUTH-6
		{"username", func(u *User) { u.Username = "COM1.txt" }},
		{"username", func(u *User) { u.Username = "__self__" }},
		{"status", func(u *User) { u.Status = 2 }},
		{"home_dir", func(u *User) { u.HomeDir = "rel" }},
		{"home_dir", func(u *User) { u.HomeDir = "" }},
		{"quota_size", func(u *User) { u.QuotaSize = -1 }},
		{"permissions", func(u *User) { u.Permissions = map[string][]string{"/a": {"*"}} }},
		{"permissions", func(u *User) { u.Permissions["/."] = []string{"*"} }},
		{"permissions./", func(u *User) { u.Permissions["/"] = []string{"fly"} }},
		{"filters.allowed_ip", func(u *User) { u.Filters.AllowedIP = []string{"1.2.3.4"} }},
		{"filters.denied_protocols", func(u *User) { u.Filters.DeniedProtocols = []string{"SSH", "FTP", "DAV", "HTTP"} }},
		{"filters.file_patterns[0]", func(u *User) { u.Filters.FilePatterns = []PatternsFilter{{Path: "/", DeniedPatterns: []string{"["}}} }},
		{"filters.access_time[0]", func(u *User) { u.Filters.AccessTime = []TimePeriod{{1, "10:00", "09:00"}} }},
		{"virtual_folders[0].quota_size", func(u *User) {
			u.VirtualFolders = []VirtualFolder{{Folder: Folder{Name: "f"}, VirtualPath: "/f", QuotaSize: -1}}
		}},
		{"filesystem.provider", func(u *User) { u.Filesystem.Provider = 9 }},
		{"filesystem.s3config.bucket", func(u *User) { u.Filesystem.Provider = S3Provider }},
		{"groups", func(u *User) { u.Groups = []GroupMapping{{"a", 1}, {"b", 1}} }},
		{"email", func(u *User) { u.Email = "nobody" }},
		{"password", func(u *User) { u.Password = "plain" }},
	} {
		u := valid()
		c.change(&u)
		ve, ok := errors.AsType[*ValidationError](u.Normalize(t.Context(), DefaultRules()))
		if !ok || ve.Field != c.field {
			t.Errorf("want an error of %s, got %v", c.field, ve)
		}
	}
}

func TestNormalizeBringsToStoredForm(t *testing.T) {
	u := valid()
	u.Username, u.Password = " u ", "plain"
	u.Permissions[`\a\..\b`] = nil
	delete(u.Permissions, `\a\..\b`)
	u.Permissions["/b/../c"] = []string{"list", "*", "list"}
	u.TotalDataTransfer, u.UploadDataTransfer = 5, 7
	u.Filesystem.S3Config.Bucket = "left over"
	r := DefaultRules()
	r.HashPassword = func(context.Context, string) (string, error) { return "$2a$hash", nil }
	if err := u.Normalize(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if u.Username != "u" || u.Password != "$2a$hash" || u.UploadDataTransfer != 0 || u.Filesystem.S3Config.Bucket != "" {
		t.Errorf("got %+v", u)
	}
	if got := u.Permissions["/c"]; len(got) != 1 || got[0] != "*" {
		t.Errorf("permissions: got %v", u.Permissions)
	}
}

func TestMergeFollowsTheTable(t *testing.T) {
	u := valid()
	u.Groups = []GroupMapping{{"p", GroupPrimary}, {"s", GroupSecondary}, {"m", GroupMembership}}
	u.Permissions["/own"] = []string{"list"}
	u.MaxSessions = 0
	u.QuotaFiles = 5
	p := Group{Name: "p", UserSettings: GroupSettings{HomeDir: "/srv/%username%", MaxSessions: 3, QuotaFiles: 9, ExpiresIn: 1,
		Permissions: map[string][]string{"/": {"list"}, "/own": {"*"}, "/g": {"upload"}}}}
	s := Group{Name: "s", UserSettings: GroupSettings{MaxSessions: 8, HomeDir: "/no", Permissions: map[string][]string{"/": {"*"}, "/s": {"list"}},
		Filters: BaseFilters{DeniedProtocols: []string{"FTP"}, FilePatterns: []PatternsFilter{{Path: "/", DeniedPatterns: []string{"*"}}}}}}
	m := Group{Name: "m", UserSettings: GroupSettings{Filters: BaseFilters{DeniedProtocols: []string{"SSH"}}}}
	got, err := Merge(u, []Group{m, s, p})
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(got.Permissions)
	if string(text) != `{"/":["list"],"/g":["upload"],"/own":["list"],"/s":["list"]}` {
		t.Errorf("permissions: got %s", text)
	}
	if got.HomeDir != "/srv/u" || got.MaxSessions != 3 || got.QuotaFiles != 5 || got.ExpirationDate == 0 {
		t.Errorf("got home %s sessions %d files %d expiry %d", got.HomeDir, got.MaxSessions, got.QuotaFiles, got.ExpirationDate)
	}
	if len(got.Filters.DeniedProtocols) != 1 || got.Filters.DeniedProtocols[0] != "FTP" || len(got.Filters.FilePatterns) != 0 {
		t.Errorf("filters: got %+v", got.Filters)
	}
	if len(u.Permissions) != 2 {
		t.Error("Merge changed its input")
	}
	if _, err := Merge(u, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("missing group: got %v", err)
	}
}

func TestDecodeDumpSaysWhereItIsWrong(t *testing.T) {
	_, err := DecodeDump(strings.NewReader("{\n\"users\": [\n{\"username\": 7}]}"), 0)
	if err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("got %v, want line 3", err)
	}
	if _, err := DecodeDump(strings.NewReader(`{"version":99}`), 0); err == nil {
		t.Error("version 99 was read")
	}
	if _, err := DecodeDump(strings.NewReader(`{"users":[]}`), 5); err == nil {
		t.Error("a dump over the limit was read")
	}
}

func FuzzDump(f *testing.F) {
	f.Add(`{"users":[{"username":"u","status":1,"home_dir":"/h","permissions":{"/":["*"]},"filters":{"file_patterns":[{"path":"/","denied_patterns":["*"]}]}}],"version":17}`)
	f.Add(`{"folders":[{"name":"f","mapped_path":"/x"}],"groups":[{"name":"g"}],"version":10}`)
	f.Fuzz(func(t *testing.T, text string) {
		d, err := DecodeDump(strings.NewReader(text), 1<<20)
		if err != nil {
			return
		}
		r := DefaultRules()
		r.HashPassword = func(context.Context, string) (string, error) { return "$2a$x", nil }
		for i := range d.Users {
			u := &d.Users[i]
			if u.Normalize(t.Context(), r) != nil {
				continue
			}
			a, _ := json.Marshal(u)
			if err := u.Normalize(t.Context(), r); err != nil {
				t.Fatalf("the stored form is refused: %v\n%s", err, a)
			}
			if b, _ := json.Marshal(u); string(a) != string(b) {
				t.Fatalf("Normalize is not stable:\n%s\n%s", a, b)
			}
			Merge(*u, d.Groups)
		}
	})
}
