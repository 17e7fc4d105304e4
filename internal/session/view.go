package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/netip"
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/vfs"
)

// view is what an account's record means, compiled once for each version of it: its tree of open storages,
// permissions, patterns and limits. Immutable but for refs; shared by the sessions of the account.
type view struct {
	user     *account.User
	perms    *permTable
	patterns *patternTable
	tree     *vfs.Tree
	storages []vfs.FS   // closed with the view
	charges  []charge   // by mount index + 1
	roots    []lockRoot // by mount index + 1
	self     account.CounterKey
	network  []network
	// limitsTransfer: upload, download and total of data transfers, in bytes; 0 none.
	upMax, downMax, totalMax int64

	// same is the record that was last found to say what user says: that of the account cache, at each login again.
	same *atomic.Pointer[account.User]

	refs int // guarded by Server.mu
}

// of reports whether v is what a view of u would be.
func (v *view) of(u *account.User) bool {
	if u == v.same.Load() {
		return true
	}
	if !sameAccount(v.user, u) {
		return false
	}
	v.same.Store(u)
	return true
}

// charge says which account a mount's files count in, with the limits of this user.
type charge struct {
	key   account.CounterKey
	files int64 // 0 none
	bytes int64 // 0 none
	// tracked: the account's use is counted at all.
	tracked bool
}

func (c *charge) limited() bool { return c.tracked && (c.files > 0 || c.bytes > 0) }

// network is one of bandwidth_limits, compiled.
type network struct {
	prefixes []netip.Prefix
	up, down int64 // bytes/s, 0 none
}

// newView compiles u and opens its storages. On an error nothing stays open.
func (s *Server) newView(ctx context.Context, u *account.User) (*view, error) {
	v := &view{user: u, same: new(atomic.Pointer[account.User]), self: account.CounterKey{Kind: account.KindUser, Name: u.Username}}
	var err error
	if v.perms, err = newPermTable(u.Permissions); err != nil {
		return nil, err
	}
	if v.patterns, err = newPatternTable(u.Filters.FilePatterns); err != nil {
		return nil, err
	}
	if err := v.compileLimits(s.cfg.TrackQuota); err != nil {
		return nil, err
	}
	if err := s.openTree(ctx, v); err != nil {
		v.close()
		return nil, err
	}
	return v, nil
}

func (v *view) compileLimits(track int) error {
	u := v.user
	if track != TrackNone {
		v.upMax, v.downMax, v.totalMax = u.UploadDataTransfer<<20, u.DownloadDataTransfer<<20, u.TotalDataTransfer<<20
		if v.totalMax > 0 {
			v.upMax, v.downMax = 0, 0
		}
	}
	own := charge{key: v.self, files: int64(u.QuotaFiles), bytes: u.QuotaSize}
	own.tracked = track == TrackAll || track == TrackLimited && (own.files > 0 || own.bytes > 0)
	v.charges = []charge{own}
	for i := range u.VirtualFolders {
		m := &u.VirtualFolders[i]
		if m.InUserQuota() {
			v.charges = append(v.charges, own)
			continue
		}
		v.charges = append(v.charges, charge{
			key:   account.CounterKey{Kind: account.KindFolder, Name: m.Name},
			files: int64(m.QuotaFiles), bytes: m.QuotaSize, tracked: track != TrackNone,
		})
	}
	for _, b := range u.Filters.BandwidthLimits {
		n := network{up: b.UploadBandwidth << 10, down: b.DownloadBandwidth << 10}
		for _, text := range b.Sources {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return fmt.Errorf("bandwidth_limits: %w", err)
			}
			n.prefixes = append(n.prefixes, p.Masked())
		}
		v.network = append(v.network, n)
	}
	return nil
}

// openTree opens the home and the folders. A home that cannot be opened refuses the login, unless the
// account's checks are off; a folder that cannot is there, and every use of it tells why.
func (s *Server) openTree(ctx context.Context, v *view) error {
	u := v.user
	create := !u.Filters.DisableFsChecks
	open := func(name string, cfg *account.FilesystemConfig, root string) (vfs.FS, error) {
		f, err := s.deps.NewFS(ctx, Storage{Config: cfg, Name: name, Root: root, UID: u.UID, GID: u.GID, Create: create})
		if err == nil {
			v.storages = append(v.storages, f)
		}
		return f, err
	}
	home, err := open(u.Username, &u.Filesystem, u.HomeDir)
	if err != nil {
		if create {
			return fmt.Errorf("open the home of %q: %w", u.Username, err)
		}
		home = &brokenFS{err}
	}
	mounts := make([]vfs.Mount, 0, len(u.VirtualFolders))
	for i := range u.VirtualFolders {
		m, err := s.openMount(ctx, &u.VirtualFolders[i], create, open, func(f vfs.FS) { v.storages = append(v.storages, f) })
		if err != nil {
			return err
		}
		mounts = append(mounts, m)
	}
	if v.tree, err = vfs.NewTree(home, mounts); err != nil {
		return fmt.Errorf("mounts of %q: %w", u.Username, err)
	}
	v.roots = []lockRoot{lockRootOf(home, v.tree.IdentityAt(-1), u.Username)}
	for i := range mounts {
		v.roots = append(v.roots, lockRootOf(mounts[i].FS, v.tree.IdentityAt(i), u.Username))
	}
	if create {
		s.makeDirs(ctx, v)
	}
	return nil
}

// openMount opens the storage of one mapping. keep is given what is opened beside open's.
func (s *Server) openMount(ctx context.Context, f *account.VirtualFolder, create bool, open func(string, *account.FilesystemConfig, string) (vfs.FS, error), keep func(vfs.FS)) (vfs.Mount, error) {
	at, err := vfs.ParseConfigPath(f.VirtualPath)
	if err != nil {
		return vfs.Mount{}, fmt.Errorf("virtual folder %q: %w", f.Name, err)
	}
	root, base, err := folderRoot(f)
	if err != nil {
		return vfs.Mount{}, err
	}
	m := vfs.Mount{Path: at, Base: base}
	if m.FS, err = open(f.Name, &f.Filesystem, root); err == nil && !base.IsRoot() {
		if sub, ok := vfs.As[vfs.Subber](m.FS); ok {
			if m.FS, err = openSub(ctx, m.FS, sub, base, create); err == nil {
				keep(m.FS)
			}
			m.Base = vfs.Root
		}
	}
	if err != nil {
		s.log.Warn("virtual folder cannot be opened", "folder", f.Name, "virtual_path", at.String(), "error", err)
		m.FS = &brokenFS{fmt.Errorf("virtual folder %q: %w", f.Name, err)}
	}
	return m, nil
}

// openSub opens the directory at base as a tree of its own, made if it is missing. It is found beneath the
// folder's root: whoever has the whole folder may have left a link there (SYM-1).
func openSub(ctx context.Context, root vfs.FS, sub vfs.Subber, base vfs.Path, create bool) (vfs.FS, error) {
	f, err := sub.Sub(ctx, base)
	if !errors.Is(err, fs.ErrNotExist) || !create {
		return f, err
	}
	var steps []vfs.Path
	for p := base; !p.IsRoot(); p = p.Dir() {
		steps = append(steps, p)
	}
	for _, p := range slices.Backward(steps) {
		if err := root.Mkdir(ctx, p, vfs.Attr{}); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return sub.Sub(ctx, base)
}

// folderRoot says where the storage of a mapping begins, and the part of it that is mounted.
func folderRoot(f *account.VirtualFolder) (root string, base vfs.Path, err error) {
	sub, err := vfs.ParseConfigPath(f.Subpath)
	if err != nil {
		return "", base, fmt.Errorf("virtual folder %q: subpath: %w", f.Name, err)
	}
	return f.MappedPath, sub, nil
}

// makeDirs makes the directories that lead to mounts, and the start directory, in the storages where they
// belong. Best effort: the tree shows the former anyway.
func (s *Server) makeDirs(ctx context.Context, v *view) {
	attr := vfs.Attr{}
	if v.user.UID > 0 || v.user.GID > 0 {
		attr = vfs.Attr{Set: vfs.AttrOwner, UID: ownerOf(v.user.UID), GID: ownerOf(v.user.GID)}
	}
	make := func(dir vfs.Path, remote bool) {
		var steps []vfs.Path
		for ; !dir.IsRoot(); dir = dir.Dir() {
			steps = append(steps, dir)
		}
		for i := len(steps) - 1; i >= 0; i-- {
			if r := v.tree.Resolve(steps[i]); !r.IsMount && !r.Path.IsRoot() {
				if pl := v.place(steps[i]); !remote && pl.describe().Remote {
					continue // a login does not wait for what the tree shows anyway
				}
				if err := r.FS.Mkdir(ctx, r.Path, attr); err != nil && !errors.Is(err, fs.ErrExist) {
					return
				}
			}
		}
	}
	for _, m := range v.tree.Mounts() {
		make(m.Path.Dir(), false)
	}
	if start, err := vfs.ParseConfigPath(v.user.Filters.StartDirectory); err == nil {
		make(start, true)
	}
}

// ownerOf is a record's uid or gid as storages take it.
func ownerOf(id int) int {
	if id <= 0 {
		return -1
	}
	return id
}

func (v *view) close() {
	for _, f := range v.storages {
		f.Close()
	}
}

// bandwidth is the rate in bytes/s of a direction for a client, and which entry it comes from (-1: the user's own).
func (v *view) bandwidth(ip netip.Addr, up bool) (rate int64, entry int) {
	ip = ip.Unmap()
	rate, entry = v.user.DownloadBandwidth<<10, -1
	if up {
		rate = v.user.UploadBandwidth << 10
	}
	for i, n := range v.network {
		for _, p := range n.prefixes {
			if p.Contains(ip) {
				if up {
					return n.up, i
				}
				return n.down, i
			}
		}
	}
	return rate, entry
}

// sameAccount reports whether two records say the same, counters aside.
func sameAccount(a, b *account.User) bool {
	if a == b {
		return true
	}
	return reflect.DeepEqual(lasting(a), lasting(b))
}

// lasting is u without what the server counts.
func lasting(u *account.User) account.User {
	c := *u
	c.UsedQuotaSize, c.UsedQuotaFiles, c.LastQuotaUpdate = 0, 0, 0
	c.UsedUploadDataTransfer, c.UsedDownloadDataTransfer = 0, 0
	c.LastLogin, c.FirstDownload, c.FirstUpload = 0, 0, 0
	c.VirtualFolders = append([]account.VirtualFolder(nil), c.VirtualFolders...)
	for i := range c.VirtualFolders {
		f := &c.VirtualFolders[i]
		f.UsedQuotaSize, f.UsedQuotaFiles, f.LastQuotaUpdate, f.Users, f.Groups = 0, 0, 0, nil, nil
	}
	return c
}

// brokenFS stands for a storage that could not be opened.
type brokenFS struct{ err error }

var _ vfs.FS = (*brokenFS)(nil)

func (b *brokenFS) Stat(context.Context, vfs.Path) (vfs.FileInfo, error) {
	return vfs.FileInfo{}, b.err
}
func (b *brokenFS) Lstat(context.Context, vfs.Path) (vfs.FileInfo, error) {
	return vfs.FileInfo{}, b.err
}
func (b *brokenFS) List(context.Context, vfs.Path) iter.Seq2[vfs.FileInfo, error] {
	return func(yield func(vfs.FileInfo, error) bool) { yield(vfs.FileInfo{}, b.err) }
}
func (b *brokenFS) Open(context.Context, vfs.Path) (vfs.File, error) { return nil, b.err }
func (b *brokenFS) Create(context.Context, vfs.Path, vfs.OpenMode) (vfs.Upload, error) {
	return nil, b.err
}
func (b *brokenFS) Mkdir(context.Context, vfs.Path, vfs.Attr) error { return b.err }
func (b *brokenFS) Remove(context.Context, vfs.Path) error          { return b.err }
func (b *brokenFS) Rename(context.Context, vfs.Path, vfs.Path, bool) error {
	return b.err
}
func (b *brokenFS) Close() error { return nil }
