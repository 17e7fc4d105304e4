package account

import (
	"reflect"

	"github.com/gantryhq/gantry/internal/secret"
)

// RedactedPassword stands for a stored password hash where a member must be there.
const RedactedPassword = "[**redacted**]"

var secretType = reflect.TypeFor[secret.Secret]()

// Redact changes *record, a pointer to a record of any kind, to what may leave the server: no password
// hash, no key, no secret's payload. Whoever shows a record calls it on a copy of their own; the pointers
// and lists inside must not be shared (a record from a store is not).
func Redact(record any) {
	eachSecret(reflect.ValueOf(record), func(s *secret.Secret) { *s = s.Hide() })
	if f := filesystemOf(record); f != nil {
		f.S3Config.SessionToken = "" // clear text, beside the secrets that it belongs to
	}
	switch r := record.(type) {
	case *User:
		r.HasPassword, r.Password = r.Password != "", ""
		r.Filters.RecoveryCodes = nil
	case *Admin:
		r.Password, r.Filters.RecoveryCodes = "", nil
	case *Share:
		if r.Password != "" {
			r.Password = RedactedPassword
		}
	case *APIKey:
		r.Hash = ""
	}
}

// filesystemOf is the storage of a record that has one, else nil.
func filesystemOf(record any) *FilesystemConfig {
	switch r := record.(type) {
	case *User:
		return &r.Filesystem
	case *Folder:
		return &r.Filesystem
	case *Group:
		return &r.UserSettings.Filesystem
	}
	return nil
}

// MergeSecrets prepares an update that came from outside: where next, a pointer to a record, asks to keep
// what is stored (a Redacted secret, an empty or redacted password, recovery codes that were not shown), it
// gets it from stored, a pointer to a record of the same type.
func MergeSecrets(next, stored any) {
	KeepSecrets(next, stored)
	if f := filesystemOf(next); f != nil {
		if s, o := &f.S3Config, &filesystemOf(stored).S3Config; s.SessionToken == "" && s.AccessKey == o.AccessKey {
			s.SessionToken = o.SessionToken
		}
	}
	switch n := next.(type) {
	case *User:
		o := stored.(*User)
		if n.Password == "" || n.Password == RedactedPassword {
			n.Password = o.Password
		}
		if n.Filters.RecoveryCodes == nil {
			n.Filters.RecoveryCodes = o.Filters.RecoveryCodes
		}
	case *Admin:
		o := stored.(*Admin)
		if n.Password == "" || n.Password == RedactedPassword {
			n.Password = o.Password
		}
		if n.Filters.RecoveryCodes == nil {
			n.Filters.RecoveryCodes = o.Filters.RecoveryCodes
		}
	case *Share:
		if n.Password == RedactedPassword {
			n.Password = stored.(*Share).Password
		}
	case *APIKey:
		n.Hash = stored.(*APIKey).Hash
	}
}

// KeepSecrets does the secrets' part of MergeSecrets.
func KeepSecrets(next, stored any) { keep(reflect.ValueOf(next), reflect.ValueOf(stored)) }

func keep(n, o reflect.Value) {
	switch n.Kind() {
	case reflect.Pointer:
		if n.IsNil() {
			return
		}
		if !o.IsValid() || o.IsNil() {
			o = reflect.New(n.Type().Elem())
		}
		keep(n.Elem(), o.Elem())
	case reflect.Struct:
		if n.Type() == secretType {
			s := n.Addr().Interface().(*secret.Secret)
			if stored := o.Interface().(secret.Secret); s.Status != secret.Redacted || !stored.IsEmpty() {
				*s = s.Keep(stored)
			} // else Unkept finds it
			return
		}
		for i := range n.NumField() {
			if n.Type().Field(i).IsExported() {
				keep(n.Field(i), o.Field(i))
			}
		}
	case reflect.Slice:
		for i := range n.Len() {
			if i < o.Len() {
				keep(n.Index(i), o.Index(i))
			} else {
				keep(n.Index(i), reflect.Zero(n.Type().Elem()))
			}
		}
	}
}

// SealSecrets seals every Plain secret of *record, bound to context (data-model.md 10). A nil box has no
// master key.
func SealSecrets(box *secret.Box, record any, context string) error {
	var first error
	eachSecret(reflect.ValueOf(record), func(s *secret.Secret) {
		sealed, err := box.Seal(*s, context)
		if err != nil {
			first = err
			return
		}
		*s = sealed
	})
	return first
}

// OpenSecrets makes every secret of *record Plain, for use. Its errors are those of secret.Box.Open.
func OpenSecrets(box *secret.Box, record any) error {
	var first error
	eachSecret(reflect.ValueOf(record), func(s *secret.Secret) {
		text, err := box.Open(*s)
		if err != nil && first == nil {
			first = err
		}
		*s = secret.New(text)
	})
	return first
}

// EachSecret calls f with every secret that *record has.
func EachSecret(record any, f func(s secret.Secret)) {
	eachSecret(reflect.ValueOf(record), func(s *secret.Secret) {
		if !s.IsEmpty() {
			f(*s)
		}
	})
}

// eachSecret calls f with every secret within v.
func eachSecret(v reflect.Value, f func(*secret.Secret)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			eachSecret(v.Elem(), f)
		}
	case reflect.Struct:
		if v.Type() == secretType {
			f(v.Addr().Interface().(*secret.Secret))
			return
		}
		for i := range v.NumField() {
			if x := v.Field(i); x.CanInterface() { // it is exported; the type's field would cost more than all else
				eachSecret(x, f)
			}
		}
	case reflect.Slice:
		if k := v.Type().Elem().Kind(); k != reflect.Struct && k != reflect.Pointer && k != reflect.Slice {
			return
		}
		for i := range v.Len() {
			eachSecret(v.Index(i), f)
		}
	}
}

// seal seals the record's secrets, and refuses the mark of one that came without its payload.
func (c *checker) seal(r Rules, record any, context string) {
	if c.err != nil {
		return
	}
	if err := SealSecrets(r.Box, record, context); err != nil {
		c.bad("secret", "seal", "%v", err)
	}
}

// Unkept reports whether *record holds a Redacted secret: after KeepSecrets, one that has nothing stored.
func Unkept(record any) bool {
	found := false
	eachSecret(reflect.ValueOf(record), func(s *secret.Secret) { found = found || s.Status == secret.Redacted })
	return found
}

// ReopenSecrets makes every sealed secret of *record Plain, to be sealed anew when the record is stored. Secrets of key
// services are left as they are. had says whether there was one to open. Its errors are those of secret.Box.Open.
func ReopenSecrets(box *secret.Box, record any) (had bool, err error) {
	eachSecret(reflect.ValueOf(record), func(s *secret.Secret) {
		if !s.IsSealed() || s.Status != secret.Secretbox && s.Status != secret.AES256GCM || err != nil {
			return
		}
		text, e := box.Open(*s)
		if e != nil {
			err = e
			return
		}
		*s, had = secret.New(text), true
	})
	return had, err
}
