package logs

import (
	"fmt"
	"log/slog"
	"strings"
	"unicode/utf8"
)

// Bounds of what one value may take in a record, in bytes.
const (
	maxName = 255  // user names, keys
	maxText = 8192 // all else
)

// limitOf gives the bound of a key's value.
func limitOf(key string) int {
	switch key {
	case "username", "user", "login_type", "protocol", "method", "client":
		return maxName
	}
	return maxText
}

// bound cuts s at a rune's start, at most limit bytes long.
func bound(s string, limit int) (string, bool) {
	if len(s) <= limit {
		return s, false
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit], true
}

// decodeRune is utf8.DecodeRuneInString; a byte that is not UTF-8 gives the replacement mark.
func decodeRune(s string) (rune, int) { return utf8.DecodeRuneInString(s) }

// isHarmful reports whether r could act on a terminal or mislead a reader: controls, line separators,
// marks that turn the direction of text or are not seen, and what is not UTF-8.
func isHarmful(r rune) bool {
	switch {
	case r < 0x20, r >= 0x7f && r < 0xa0, r == utf8.RuneError:
		return true
	case r == 0x61c, r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2060 && r <= 0x206f, r == 0xfeff:
		return true
	}
	return false
}

// secretWords are the parts of attribute names whose values never reach a log.
var secretWords = []string{"password", "passphrase", "secret", "token", "private_key", "authorization", "api_key", "cookie"}

// ofTransfers reports whether a key is one of those that every transfer's record has: neither secret nor to be escaped.
func ofTransfers(key string) bool {
	switch key {
	case "local_addr", "remote_addr", "elapsed_ms", "size_bytes", "username", "file_path", "virtual_path", "connection_id", "protocol":
		return true
	}
	return false
}

func isSecret(key string) bool {
	for _, w := range secretWords {
		if strings.Contains(key, w) {
			return true
		}
	}
	return false
}

// clean gives an attribute's text without secrets: no user information and no query of a URL, since share
// ids and signatures stand there.
func clean(a slog.Attr) string {
	s := ""
	switch v := a.Value; v.Kind() {
	case slog.KindString:
		s = v.String()
	case slog.KindDuration:
		return v.Duration().String()
	default:
		if err, ok := v.Any().(error); ok {
			s = errorText(err)
			break
		}
		s = fmt.Sprint(v.Any())
	}
	if a.Key == "uri" || a.Key == "url" {
		if i := strings.IndexByte(s, '?'); i >= 0 {
			s = s[:i] + "?[redacted]"
		}
	}
	return redact(s)
}

// errorText is err.Error() of an error that may be a nil pointer in disguise.
func errorText(err error) (s string) {
	defer func() {
		if recover() != nil {
			s = "error without text"
		}
	}()
	return err.Error()
}

// redact hides the user information and the query of every URL in s.
func redact(s string) string {
	i := strings.Index(s, "://")
	if i < 0 {
		return s
	}
	var b strings.Builder
	for i >= 0 {
		i += len("://")
		b.WriteString(s[:i])
		s = s[i:]
		end := strings.IndexAny(s, " \t\r\n\"'<>")
		if end < 0 {
			end = len(s)
		}
		u := s[:end]
		host := strings.IndexAny(u, "/?#")
		if host < 0 {
			host = len(u)
		}
		if at := strings.LastIndexByte(u[:host], '@'); at >= 0 {
			b.WriteString("[redacted]")
			u = u[at:]
		}
		if q := strings.IndexByte(u, '?'); q >= 0 {
			u = u[:q] + "?[redacted]"
		}
		b.WriteString(u)
		s = s[end:]
		i = strings.Index(s, "://")
	}
	b.WriteString(s)
	return b.String()
}
