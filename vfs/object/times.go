package object

import (
	"strconv"
	"strings"
	"time"
)

// TimeOf reads the time of change that an object's metadata tell, in the forms that programs give it: "mtime" in
// seconds (rclone, s3cmd) or as RFC 3339 (rclone), and milliseconds (SFTPGo). Names of metadata have no case. Zero
// if there is none.
func TimeOf(m map[string]string) time.Time {
	for k, s := range m {
		switch strings.ToLower(k) {
		case "mtime":
			if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
				return t
			}
			whole, part, _ := strings.Cut(s, ".")
			sec, err := strconv.ParseInt(whole, 10, 64)
			if err != nil {
				continue
			}
			ns, _ := strconv.ParseInt((part + "000000000")[:9], 10, 64)
			if strings.HasPrefix(whole, "-") {
				ns = -ns
			}
			return time.Unix(sec, ns)
		case "sftpgo_last_modified":
			if ms, err := strconv.ParseInt(s, 10, 64); err == nil {
				return time.UnixMilli(ms)
			}
		}
	}
	return time.Time{}
}
