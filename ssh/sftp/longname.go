package sftp

import (
	"io/fs"
	"strconv"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// longNames writes the second string of NAME's entries, in the form of ls -l (draft 7). It remembers what the
// time of one entry has in common with the next.
type longNames struct {
	recent, future int64 // Unix seconds: between them a time of day is shown, else a year
	zone           int   // seconds east of Greenwich, of the day that is cached
	from, to       int64 // Unix seconds of the day that is cached
	month, day     int
	year           int
}

func newLongNames(now time.Time) longNames {
	return longNames{recent: now.Unix() - 182*24*3600, future: now.Unix() + 24*3600}
}

// longNameSize is more than a long name has in bytes without the name.
const longNameSize = 10 + 1 + 20 + 1 + 10 + 1 + 10 + 1 + 20 + 1 + 12 + 1

// append appends i's line to dst. Owner and group are numbers.
func (l *longNames) append(dst []byte, i *vfs.FileInfo) []byte {
	dst = appendMode(dst, i.Mode)
	dst = append(dst, ' ')
	dst = appendRight(dst, max(i.Nlink, 1), 4)
	dst = append(dst, ' ')
	dst = appendLeft(dst, uint64(i.UID), 8)
	dst = append(dst, ' ')
	dst = appendLeft(dst, uint64(i.GID), 8)
	dst = append(dst, ' ')
	dst = appendRight(dst, uint64(max(i.Size, 0)), 8)
	dst = append(dst, ' ')
	dst = l.appendTime(dst, i.ModTime)
	dst = append(dst, ' ')
	return append(dst, i.Name...)
}

const months = "JanFebMarAprMayJunJulAugSepOctNovDec"

func (l *longNames) appendTime(dst []byte, t time.Time) []byte {
	var sec int64
	if !t.IsZero() {
		sec = t.Unix()
	}
	if sec < l.from || sec >= l.to {
		local := time.Unix(sec, 0)
		y, m, d := local.Date()
		_, l.zone = local.Zone()
		l.year, l.month, l.day = y, int(m), d
		midnight := sec - int64(local.Hour()*3600+local.Minute()*60+local.Second())
		// An hour at most: the zone may change within the day.
		l.from = sec - (sec-midnight)%3600
		l.to = l.from + 3600
	}
	dst = append(dst, months[(l.month-1)*3:l.month*3]...)
	dst = append(dst, ' ')
	dst = appendRight(dst, uint64(l.day), 2)
	dst = append(dst, ' ')
	if sec < l.recent || sec > l.future {
		return appendRight(dst, uint64(max(l.year, 0)), 5)
	}
	minute := (sec + int64(l.zone)) % (24 * 3600) / 60
	h, m := byte(minute/60), byte(minute%60)
	return append(dst, '0'+h/10, '0'+h%10, ':', '0'+m/10, '0'+m%10)
}

func appendMode(dst []byte, m fs.FileMode) []byte {
	kind := byte('-')
	switch m.Type() {
	case fs.ModeDir:
		kind = 'd'
	case fs.ModeSymlink:
		kind = 'l'
	case fs.ModeNamedPipe:
		kind = 'p'
	case fs.ModeSocket:
		kind = 's'
	case fs.ModeDevice:
		kind = 'b'
	case fs.ModeDevice | fs.ModeCharDevice:
		kind = 'c'
	}
	const rwx = "rwxrwxrwx"
	start := len(dst)
	dst = append(dst, kind)
	for i := range rwx {
		c := byte('-')
		if m&(1<<(8-i)) != 0 {
			c = rwx[i]
		}
		dst = append(dst, c)
	}
	special := func(at int, bit fs.FileMode, c byte) {
		if m&bit == 0 {
			return
		}
		if dst[start+at] != 'x' {
			c -= 'a' - 'A'
		}
		dst[start+at] = c
	}
	special(3, fs.ModeSetuid, 's')
	special(6, fs.ModeSetgid, 's')
	special(9, fs.ModeSticky, 't')
	return dst
}

func appendRight(dst []byte, v uint64, width int) []byte {
	for range width - digits(v) {
		dst = append(dst, ' ')
	}
	return strconv.AppendUint(dst, v, 10)
}

func appendLeft(dst []byte, v uint64, width int) []byte {
	dst = strconv.AppendUint(dst, v, 10)
	for range width - digits(v) {
		dst = append(dst, ' ')
	}
	return dst
}

func digits(v uint64) int {
	n := 1
	for ; v >= 10; v /= 10 {
		n++
	}
	return n
}
