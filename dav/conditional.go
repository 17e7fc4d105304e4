package dav

import (
	"strconv"
	"strings"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// etag is the entity tag of what info describes, in quotes: the storage's, or one made of time, size and file number.
func (r *request) etag(info vfs.FileInfo) string {
	var room [64]byte
	return string(appendETag(room[:0], &info))
}

func appendETag(b []byte, info *vfs.FileInfo) []byte {
	b = append(b, '"')
	if info.ETag != "" && !strings.ContainsAny(info.ETag, "\"\r\n") {
		b = append(b, info.ETag...)
	} else {
		b = strconv.AppendInt(b, info.ModTime.UnixNano(), 36)
		b = append(b, '-')
		b = strconv.AppendInt(b, info.Size, 36)
		if info.Ino != 0 {
			// A file that replaces another in the same tick of the clock is another one all the same.
			b = append(b, '-')
			b = strconv.AppendUint(b, info.Ino, 36)
		}
	}
	return append(b, '"')
}

// httpTime is t as a header field has it (RFC 9110 5.6.7).
func httpTime(t time.Time) string {
	var room [32]byte
	return string(appendHTTPTime(room[:0], t))
}

// appendHTTPTime writes t in timeFormat, at a third of what the time package takes for a format that it reads each time.
func appendHTTPTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.AppendFormat(b, timeFormat)
	}
	hour, minute, second := t.Clock()
	weekday := int(t.Weekday())
	b = append(b, "SunMonTueWedThuFriSat"[3*weekday:3*weekday+3]...)
	b = append(b, ',', ' ', byte('0'+day/10), byte('0'+day%10), ' ')
	b = append(b, "JanFebMarAprMayJunJulAugSepOctNovDec"[3*month-3:3*month]...)
	b = append(b, ' ', byte('0'+year/1000), byte('0'+year/100%10), byte('0'+year/10%10), byte('0'+year%10), ' ',
		byte('0'+hour/10), byte('0'+hour%10), ':', byte('0'+minute/10), byte('0'+minute%10), ':', byte('0'+second/10), byte('0'+second%10))
	return append(b, " GMT"...)
}

const timeFormat = "Mon, 02 Jan 2006 15:04:05 GMT"

// parseTime reads one of the three forms of a date.
func parseTime(s string) (time.Time, bool) {
	for _, f := range []string{timeFormat, "Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC} {
		if t, err := time.Parse(f, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// conditional reports whether the request has a precondition that preconditions would look at.
func (r *request) conditional() bool {
	return r.header("If-Match") != "" || r.header("If-None-Match") != "" ||
		r.header("If-Modified-Since") != "" || r.header("If-Unmodified-Since") != ""
}

// preconditions evaluates the conditions of a request on what stands at its path, nil for nothing, in the order of
// RFC 9110 13.2.2. The error is errPrecondition, or errNotModified of a GET or HEAD.
func (r *request) preconditions(info *vfs.FileInfo) error {
	reads := r.method == "GET" || r.method == "HEAD"
	tag := ""
	if info != nil {
		tag = r.etag(*info)
	}
	if m := r.header("If-Match"); m != "" {
		if !matches(m, tag, info != nil, true) {
			return errPrecondition
		}
	} else if t, ok := parseTime(r.header("If-Unmodified-Since")); ok {
		if info == nil || info.ModTime.Truncate(time.Second).After(t) {
			return errPrecondition
		}
	}
	if m := r.header("If-None-Match"); m != "" {
		if matches(m, tag, info != nil, false) {
			if reads {
				return errNotModified
			}
			return errPrecondition
		}
	} else if reads && info != nil {
		if t, ok := parseTime(r.header("If-Modified-Since")); ok && !info.ModTime.Truncate(time.Second).After(t) {
			return errNotModified
		}
	}
	return nil
}

// matches looks for tag in a list of entity tags, or "*". A weak tag never matches where strong ones are asked for.
func matches(list, tag string, exists, strong bool) bool {
	for list = strings.TrimLeft(list, " \t,"); list != ""; list = strings.TrimLeft(list, " \t,") {
		if list[0] == '*' {
			return exists
		}
		weak := false
		if rest, ok := strings.CutPrefix(list, "W/"); ok {
			weak, list = true, rest
		}
		if list == "" || list[0] != '"' {
			return false // no list of entity tags
		}
		end := strings.IndexByte(list[1:], '"')
		if end < 0 {
			return false
		}
		one := list[:end+2]
		list = list[end+2:]
		if exists && one == tag && !(weak && strong) {
			return true
		}
	}
	return false
}
