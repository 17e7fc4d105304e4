package convert

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// shadowEntry is what counts here of a shadow line (shadow(5)).
type shadowEntry struct {
	hash    string
	expires int64 // ms since 1970, 0 never
}

// readShadow reads name:password:changed:min:max:warn:inactive:expire:reserved.
func (c *conversion) readShadow(r io.Reader) error {
	c.shadow = map[string]shadowEntry{}
	err := eachLine(r, func(n int, line string) error {
		f := strings.Split(line, ":")
		if len(f) != 9 {
			return fmt.Errorf("line %d has %d fields between colons, a shadow line has 9", n, len(f))
		}
		if _, ok := c.shadow[f[0]]; ok {
			return nil // the first one counts, as for the system
		}
		if len(c.shadow) >= maxUsers {
			return fmt.Errorf("there are more than %d users", maxUsers)
		}
		e := shadowEntry{hash: f[1]}
		if f[7] != "" {
			days, err := strconv.ParseInt(f[7], 10, 32)
			if err != nil || days < 0 || days > 3_000_000 {
				return fmt.Errorf("line %d: the day of expiry %q is not a number of days since 1970", n, f[7])
			}
			e.expires = max(days*24*3600*1000, 1) // day 0 has passed; 0 would mean never
		}
		c.shadow[f[0]] = e
		return nil
	})
	if err != nil {
		return fmt.Errorf("shadow file: %w", err)
	}
	return nil
}
