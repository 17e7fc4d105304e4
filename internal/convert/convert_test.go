package convert

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/account"
)

func options() Options {
	return Options{MinUID: 0, MaxUID: 1<<32 - 2, UID: -1, GID: -1, Rules: account.DefaultRules()}
}

const sha512crypt = "$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/"

func TestPasswdWithShadow(t *testing.T) {
	passwd := strings.Join([]string{
		"root:x:0:0:root:/root:/bin/bash",
		"# a comment",
		"alice:x:1000:1000:Alice A,Room 1,,:/home/alice:/bin/bash",
		"bob:x:1001:100::/home/bob:/usr/sbin/nologin",
		"carol:x:1002:100::/home/carol:/bin/sh",
		"dave:x:1003:100::relative:/bin/sh",
		"erin:x:1004:100::/:/bin/sh",
		"frank:x:1005:100::/home/frank:/bin/sh",
		"alice:x:1009:1000::/home/other:/bin/sh",
		"+::::::",
	}, "\n")
	shadow := strings.Join([]string{
		"root:" + sha512crypt + ":19000:0:99999:7:::",
		"alice:" + sha512crypt + ":19000:0:99999:7::20000:",
		"bob:!:19000:0:99999:7:::",
		"carol:ab01FAX.bQRSU:19000:0:99999:7:::", // DES
		"dave:" + sha512crypt + ":19000:0:99999:7:::",
		"erin:" + sha512crypt + ":19000:0:99999:7:::",
	}, "\n")
	opt := options()
	opt.MinUID, opt.MaxUID = 1000, 60000
	r, err := File("passwd", strings.NewReader(passwd), strings.NewReader(shadow), opt)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, u := range r.Users {
		got[u.Username] = fmt.Sprintf("%d uid=%d gid=%d home=%s hash=%v %q expires=%d", u.Status, u.UID, u.GID, u.HomeDir, u.Password != "", u.Description, u.ExpirationDate)
	}
	want := map[string]string{
		"alice": `1 uid=1000 gid=1000 home=/home/alice hash=true "Alice A" expires=1728000000000`,
		"bob":   `0 uid=1001 gid=100 home=/home/bob hash=false "" expires=0`,
		"carol": `0 uid=1002 gid=100 home=/home/carol hash=false "" expires=0`,
		"frank": `0 uid=1005 gid=100 home=/home/frank hash=false "" expires=0`,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("users:\n%v\nwant\n%v", got, want)
	}
	notes := ""
	for _, n := range r.Notes {
		notes += n.String() + "\n"
	}
	for _, s := range []string{
		`user "bob": has no usable password`, `user "carol": its password has a form that cannot be checked (traditional DES crypt)`,
		`user "dave": left out: the home "relative"`, `user "erin": left out: its home is /`,
		`user "frank": its password is in a shadow file`, `line 9, user "alice": left out: line 3 has the same name`,
	} {
		if !strings.Contains(notes, s) {
			t.Errorf("no note with %q in\n%s", s, notes)
		}
	}
	if strings.Contains(notes, "ab01FAX") { // LOG-1
		t.Error("a hash stands in a note")
	}
}

// A hash in an unknown form must never become a plain password: whoever knows the hash could log in.
func TestUnknownHashIsNoPassword(t *testing.T) { // AUTH-5
	for _, hash := range []string{"ab01FAX.bQRSU", "$7$abc$def", "x", "_J9..abcdefghijkl", "{SSHA}abcd", "plain"} {
		r, err := File("proftpd", strings.NewReader("u:"+hash+":1000:1000::/home/u:/bin/sh\n"), nil, options())
		if err != nil || len(r.Users) != 1 {
			t.Fatalf("%s: %v, %v", hash, r.Users, err)
		}
		if u := r.Users[0]; u.Password != "" || u.Status != 0 {
			t.Errorf("%s became a user with status %d and password %q", hash, u.Status, u.Password)
		}
	}
}

func TestPureFTPd(t *testing.T) {
	line := "joe:" + sha512crypt + ":500:501:Joe:/srv/joe/./in:10240:1:1:2:3:1000:5000000:::10.0.0.0/8,192.168.1.7::0900-1730"
	r, err := File("pureftpd", strings.NewReader(line), nil, options())
	if err != nil || len(r.Users) != 1 {
		t.Fatal(r, err)
	}
	u := r.Users[0]
	if u.Status != 1 || u.HomeDir != "/srv/joe" || u.Filters.StartDirectory != "/in" || u.UploadBandwidth != 10 || u.DownloadBandwidth != 1 ||
		u.MaxSessions != 3 || u.QuotaFiles != 1000 || u.QuotaSize != 5000000 || u.UID != 500 || u.GID != 501 {
		t.Errorf("user: %+v", u)
	}
	if want := []string{"10.0.0.0/8", "192.168.1.7/32"}; !reflect.DeepEqual(u.Filters.AllowedIP, want) {
		t.Errorf("allowed: %v", u.Filters.AllowedIP)
	}
	if len(u.Filters.AccessTime) != 7 || u.Filters.AccessTime[0].From != "09:00" || u.Filters.AccessTime[0].To != "17:30" {
		t.Errorf("times: %v", u.Filters.AccessTime)
	}

	// What cannot be held as strictly as before switches the user off.
	for _, rest := range []string{"::host.example::", "::10.0.0.0/8:10.1.0.0/16:", "::::nine-five"} {
		r, err := File("pureftpd", strings.NewReader("joe:"+sha512crypt+":500:501::/srv/joe::::::::"+rest), nil, options())
		if err != nil || len(r.Users) != 1 || r.Users[0].Status != 0 {
			t.Errorf("%s: %+v, %v", rest, r, err)
		}
	}
}

func TestChoice(t *testing.T) {
	file := "a1:" + sha512crypt + ":1:10::/h/a1:\na2:" + sha512crypt + ":2:20::/h/a2:\nb1:" + sha512crypt + ":3:20::/h/b1:\n"
	for _, tt := range []struct {
		name string
		set  func(*Options)
		want string
	}{
		{"all", func(*Options) {}, "a1 a2 b1"},
		{"uid", func(o *Options) { o.MinUID, o.MaxUID = 2, 2 }, "a2"},
		{"group", func(o *Options) { o.GIDs = []int{20} }, "a2 b1"},
		{"glob", func(o *Options) { o.Users = []string{"a*"} }, "a1 a2"},
		{"both", func(o *Options) { o.Users, o.GIDs = []string{"a*"}, []int{20} }, "a2"},
	} {
		opt := options()
		tt.set(&opt)
		r, err := File("proftpd", strings.NewReader(file), nil, opt)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, u := range r.Users {
			got = append(got, u.Username)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, got, tt.want)
		}
	}
	opt := options()
	opt.UID, opt.GID = 0, 77
	if r, _ := File("proftpd", strings.NewReader(file), nil, opt); r.Users[0].UID != 0 || r.Users[0].GID != 77 {
		t.Errorf("forced ids: %+v", r.Users[0])
	}
}

func TestKeysOfTheHome(t *testing.T) {
	pub, err := ssh.NewPublicKey(ed25519.PublicKey(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	key := "ssh-ed25519 " + base64.StdEncoding.EncodeToString(pub.Marshal()) + " joe@host"
	opt := options()
	opt.Keys = func(home string) ([]string, error) {
		if home != "/h/joe" {
			return nil, os.ErrPermission
		}
		return []string{"", "# mine", key, `command="ls" ` + key, "ssh-ed25519 broken"}, nil
	}
	r, err := File("passwd", strings.NewReader("joe:*:1:1::/h/joe:\nann:*:2:2::/h/ann:\n"), nil, opt)
	if err != nil || len(r.Users) != 2 {
		t.Fatal(r, err)
	}
	if u := r.Users[0]; u.Status != 1 || len(u.PublicKeys) != 1 || u.Password != "" {
		t.Errorf("joe: %+v", u)
	}
	if r.Users[1].Status != 0 || len(r.Notes) != 4 {
		t.Errorf("ann: %+v, notes %v", r.Users[1], r.Notes)
	}
}

func TestMistakesNameTheLine(t *testing.T) {
	for _, tt := range []struct{ format, file, shadow, want string }{
		{"passwd", "a:b:c", "", "passwd file: line 1: has 3 fields"},
		{"passwd", "\na:x:-1:0::/h:/s", "", `line 2: the uid "-1"`},
		{"proftpd", "a:x:0:4294967295::/h:/s", "", `the gid "4294967295"`},
		{"pureftpd", "a:x:0:0::/h:many", "", `field 7, "many"`},
		{"passwd", "", "a:b", "shadow file: line 1 has 2 fields"},
		{"passwd", "", "a:b:::::: soon:", "the day of expiry"},
		{"passwd", strings.Repeat("a", maxLine+1), "", "line 1 is longer than"}, // RES-1
		{"ini", "", "", "unknown; use one of: passwd"},
	} {
		var err error
		if tt.shadow != "" {
			_, err = File(tt.format, strings.NewReader(tt.file), strings.NewReader(tt.shadow), options())
		} else {
			_, err = File(tt.format, strings.NewReader(tt.file), nil, options())
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %.20q: %v, want %q", tt.format, tt.file, err, tt.want)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add("alice:x:1000:1000:A,,:/home/alice:/bin/sh\n", "alice:"+sha512crypt+":1:0:9:7::20000:\n")
	f.Add("joe:"+sha512crypt+":500:501:J:/srv/./in:1:1:1:2:3:4:5:::10.0.0.0/8::2200-0600", "")
	f.Add("a:$1$:0:0::/h:\r\n#\n\n-:::::", ":::::::9999999:")
	f.Fuzz(func(t *testing.T, users, shadow string) {
		for _, format := range Formats() {
			r, err := File(format, strings.NewReader(users), nil, options())
			if format == "passwd" {
				r, err = File(format, strings.NewReader(users), strings.NewReader(shadow), options())
			}
			if err != nil {
				continue
			}
			for _, u := range r.Users {
				if u.Password != "" && !account.IsHash(u.Password) {
					t.Fatalf("%q became a plain password", u.Password)
				}
				if u.Status == 1 && u.Password == "" && len(u.PublicKeys) == 0 {
					t.Fatalf("%q is on without a way to log in", u.Username)
				}
				if u.HomeDir == "/" || u.HomeDir == "" {
					t.Fatalf("%q has the home %q", u.Username, u.HomeDir)
				}
			}
		}
	})
}
