package account

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/gantryhq/gantry/internal/secret"
)

// plant makes every list, pointer and secret of v non-empty, with canaries in what must not leave.
func plant(v reflect.Value, n *int) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.Type().Elem().Kind() == reflect.Struct {
			v.Set(reflect.New(v.Type().Elem()))
			plant(v.Elem(), n)
		}
	case reflect.Struct:
		if v.Type() == secretType {
			*n++
			v.Set(reflect.ValueOf(secret.Secret{Status: secret.Secretbox, Payload: "canary-payload", Key: "canary-key", AdditionalData: "canary-data"}))
			return
		}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.Type.Kind() == reflect.String && (f.Name == "Password" || f.Name == "Hash") {
				*n++
				v.Field(i).SetString("canary-hash")
				continue
			}
			plant(v.Field(i), n)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Struct {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			plant(v.Index(0), n)
		}
	}
}

// CRY-3, LOG-1: what leaves carries no secret and no hash, whatever field of whatever kind holds it; and an
// update with what was shown keeps all of it.
func TestNothingSecretLeavesAndComesBack(t *testing.T) {
	records := []any{&User{}, &Group{}, &Folder{}, &Admin{}, &Role{}, &APIKey{}, &Share{}, &EventAction{}, &EventRule{}, &IPListEntry{}, &Configs{}}
	total := 0
	for _, r := range records {
		n := 0
		plant(reflect.ValueOf(r).Elem(), &n)
		total += n
		stored := reflect.New(reflect.TypeOf(r).Elem())
		plant(stored.Elem(), new(int))
		want, _ := json.Marshal(stored.Interface())
		Redact(r)
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "canary") {
			t.Errorf("%T shows a secret: %s", r, text)
		}
		MergeSecrets(r, stored.Interface())
		if u, ok := r.(*User); ok {
			u.HasPassword = false // output only
			stored.Interface().(*User).HasPassword = false
			want, _ = json.Marshal(stored.Interface())
		}
		if got, _ := json.Marshal(r); string(got) != string(want) {
			t.Errorf("%T: an update with what was shown lost something:\n%s\n%s", r, got, want)
		}
	}
	if total < 40 {
		t.Fatalf("only %d secrets were planted: the walk misses some", total)
	}
}

func TestSealedSecretsOpenAgain(t *testing.T) {
	box, err := secret.NewBox("master", secret.Empty)
	if err != nil {
		t.Fatal(err)
	}
	r := DefaultRules()
	r.Box = box
	f := Folder{Name: "f", MappedPath: "/srv/f", Filesystem: FilesystemConfig{Provider: CryptProvider, CryptConfig: CryptConfig{Passphrase: secret.New("canary")}}}
	if err := f.Normalize(r); err != nil {
		t.Fatal(err)
	}
	s := f.Filesystem.CryptConfig.Passphrase
	if !s.IsSealed() || s.Mode != 1 || s.AdditionalData != "folder_f" || strings.Contains(fmt.Sprint(s.Payload), "canary") {
		t.Errorf("sealed as status %s mode %d for %q", s.Status, s.Mode, s.AdditionalData)
	}
	if err := OpenSecrets(box, &f); err != nil || f.Filesystem.CryptConfig.Passphrase.Payload != "canary" {
		t.Errorf("opening: %v", err)
	}
}

// TestSessionTokensAreNotShown: an S3 session token is text in the record, yet as secret as the key it goes with.
func TestSessionTokensAreNotShown(t *testing.T) {
	stored := Folder{Name: "f", Filesystem: FilesystemConfig{Provider: S3Provider, S3Config: S3Config{Bucket: "b", AccessKey: "k", AccessSecret: secret.New("s"), SessionToken: "canary"}}}
	shown := stored
	Redact(&shown)
	if shown.Filesystem.S3Config.SessionToken != "" {
		t.Error("the token is shown")
	}
	next := shown
	MergeSecrets(&next, &stored)
	if got := next.Filesystem.S3Config; got.SessionToken != "canary" || got.AccessSecret.Payload != "s" {
		t.Errorf("an update of what was shown loses the token or the secret: %q", got.SessionToken)
	}
	other := shown
	other.Filesystem.S3Config.AccessKey = "another"
	MergeSecrets(&other, &stored)
	if other.Filesystem.S3Config.SessionToken != "" {
		t.Error("the token of another key was kept")
	}
}
