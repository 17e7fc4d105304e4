package session

import (
	"context"
	"fmt"
	"io/fs"
	"slices"

	"github.com/gantryhq/gantry/vfs"
)

// Share confines a session to a part of the account's tree: what others may do there in the account's name.
type Share struct {
	Paths       []vfs.Path // what is shared, with all below
	Read, Write bool
}

// The rights that a share can give. What it does not give at all: to remove, rename, link or change what is there.
const (
	shareReads  = mayList | mayDownload
	shareWrites = mayUpload | mayOverwrite | mayCreateDirs | mayChtimes
)

// OpenShare makes a session for a share of l's account (SHARE-1): the account's rights of the moment, and no more of
// them than the share gives, on the paths as the account sees them. What lies outside the share is not there.
func (s *Server) OpenShare(ctx context.Context, l *Login, c Conn, sh Share) (*Session, error) {
	if len(sh.Paths) == 0 {
		return nil, fmt.Errorf("a share of nothing")
	}
	return s.open(ctx, l, c, &sh)
}

// confine is what v is to the session: itself, or the share's part of it. Server.mu is held: v's references are
// copied with the rest, and mean nothing in the copy.
func (x *Session) confine(v *view) *view {
	if x.share == nil {
		return v
	}
	c := *v
	c.perms = &permTable{exact: v.perms.exact, globs: v.perms.globs, share: x.share}
	p := patternTable{only: x.share.Paths}
	if v.patterns != nil {
		p.filters, p.hides = v.patterns.filters, v.patterns.hides
	}
	c.patterns = &p
	return &c
}

// confined is what a share leaves of the rights held in dir. The directory that holds a shared path is one where
// things may be done to that path; the patterns hide all else there.
func (sh *Share) confined(dir vfs.Path, held rights) rights {
	var given rights
	if sh.Read {
		given |= shareReads
	}
	if sh.Write {
		given |= shareWrites
	}
	if slices.ContainsFunc(sh.Paths, func(p vfs.Path) bool { return dir.Within(p) || dir == p.Dir() }) {
		return held & given
	}
	return 0
}

// unlinked refuses what a visitor of a share reaches through a symbolic link: it may lead out of what is shared
// (SHARE-1, SYM-1).
func (x *Session) unlinked(ctx context.Context, v *view, p vfs.Path) error {
	if x.share == nil {
		return nil
	}
	for q := p; !q.IsRoot() && !slices.Contains(x.share.Paths, q); q = q.Dir() {
		pl := v.place(q)
		if pl.IsMount || pl.LeadsToMount {
			continue
		}
		if i, err := pl.FS.Lstat(ctx, pl.Path); err == nil && i.IsSymlink() {
			return fs.ErrNotExist
		}
	}
	return nil
}

// holds reports whether p is part of what the table shows at all.
func (t *patternTable) holds(p vfs.Path) bool {
	return t.only == nil || slices.ContainsFunc(t.only, p.Within)
}
