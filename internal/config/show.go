package config

import (
	"encoding"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
)

// hidden is what people see of a secret.
const hidden = "[hidden]"

// secretWords are parts of key names whose values are never shown.
var secretWords = []string{"password", "passphrase", "secret", "token", "master_key", "connection_string", "installation_code", "api_key"}

// secretKeys are whole last parts of keys that may carry secrets in a list.
var secretKeys = map[string]bool{"env": true, "args": true, "value": true}

// isSecret reports whether key's value must be hidden. Names of files and numbers are not secret.
func isSecret(key string) bool {
	last := key[strings.LastIndexByte(key, '.')+1:]
	last, _, _ = strings.Cut(last, "[")
	if strings.HasSuffix(last, "_file") || strings.HasSuffix(last, "_path") || secretNot[last] {
		return false
	}
	if secretKeys[last] {
		return true
	}
	for _, w := range secretWords {
		if strings.Contains(last, w) {
			return true
		}
	}
	return false
}

// secretNot are keys whose names sound secret and whose values are not.
var secretNot = map[string]bool{
	"password_authentication": true, "password_caching": true, "password_failed": true,
	"check_password_scope": true, "check_password_hook": true, "secret_min_entropy": true, "token_validation": true,
	"password_hashing": true, "password_validation": true, "installation_code_hint": true,
}

// hide drops the value of a secret key from an error.
func hide(key, text string, err error) error {
	if isSecret(key) && text != "" && strings.Contains(err.Error(), text) {
		return errors.New("the value does not fit (hidden)")
	}
	return err
}

// show gives a value's text, with a secret or the password of a URL hidden.
func show(key, text string) string {
	if text != "" && isSecret(key) {
		return hidden
	}
	if strings.Contains(text, "://") {
		u, err := url.Parse(text)
		if err != nil {
			return hidden
		}
		if u.User != nil {
			if _, has := u.User.Password(); has {
				u.User = url.UserPassword(u.User.Username(), "x")
				return strings.Replace(u.String(), ":x@", ":"+hidden+"@", 1)
			}
		}
	}
	return text
}

// values lists every effective value in the order of the structure.
func (l *loader) values(key string, v reflect.Value) {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			l.value(key, "")
			return
		}
		v = v.Elem()
	}
	switch {
	case isStruct(v.Type()):
		for _, f := range fieldsOf(v.Type()) {
			l.values(join(key, f.name), v.FieldByIndex(f.index))
		}
	case v.Kind() == reflect.Slice && isStruct(v.Type().Elem()):
		if v.Len() == 0 {
			l.value(key, "[]")
		}
		for i := range v.Len() {
			l.values(fmt.Sprintf("%s[%d]", key, i), v.Index(i))
		}
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = show(key, textOf(v.Index(i)))
		}
		l.value(key, "["+strings.Join(parts, ", ")+"]")
	default:
		text := textOf(v)
		if v.Kind() == reflect.String {
			text = fmt.Sprintf("%q", show(key, text))
		}
		l.value(key, text)
	}
}

func textOf(v reflect.Value) string {
	if v.CanInterface() {
		if m, ok := v.Interface().(encoding.TextMarshaler); ok {
			if b, err := m.MarshalText(); err == nil {
				return string(b)
			}
		}
	}
	return fmt.Sprint(v.Interface())
}

func (l *loader) value(key, text string) {
	if l.shown[key] { // the same key in another inlined structure
		return
	}
	l.shown[key] = true
	source := l.sources[key]
	// An element of a list that was replaced, or a key that it left out, has the default value.
	if source == "" {
		source = Default
	}
	l.rep.Values = append(l.rep.Values, Value{Key: key, Text: text, Source: source})
}
