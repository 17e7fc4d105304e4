package vfs

import (
	"fmt"
	"strings"
)

// CheckLinkTarget judges the text of a new symbolic link before it is stored: ErrEscape if it is absolute
// or climbs above the root from link's directory, ErrInvalidPath if it is no path, fs.ErrPermission (as
// ErrEscape) if it names a temporary file. The storage checks again whenever the link is followed, since
// directories move (SYM-1).
func CheckLinkTarget(target string, link Path) error {
	if target == "" || len(target) >= MaxPathBytes || strings.IndexByte(target, 0) >= 0 {
		return fmt.Errorf("%w: link target", ErrInvalidPath)
	}
	if target[0] == '/' {
		return ErrEscape
	}
	depth := link.Dir().Depth()
	for part := range strings.SplitSeq(target, "/") {
		switch {
		case part == "" || part == ".":
		case part == "..":
			if depth--; depth < 0 {
				return ErrEscape
			}
		case IsTempName(part):
			return ErrEscape
		default:
			depth++
		}
	}
	return nil
}
