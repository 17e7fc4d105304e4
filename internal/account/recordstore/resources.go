package recordstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gantryhq/gantry/internal/account"
)

// Item is a document that belongs to a file rather than to an account: a lock, or a resource's properties.
type Item struct {
	Key    string // within its kind
	Scope  string // of the storage; items are counted and listed by it
	Parent string // of the directory; items are read by it
	Name   string // text without control bytes, but for one tab
	Doc    []byte // JSON

	// Places are where it is found in one order of bytes: UTF-8 without NUL, of at most 512 bytes each. They are
	// written, and may be missing in what is read.
	Places []string `json:",omitempty"`
}

// IsPlaced reports whether items of a kind have places.
func IsPlaced(kind account.Kind) bool { return kind == account.KindLock }

// hashOf is a key of what may be longer than a database's keys.
func hashOf(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])
}

// escape makes text that every database keeps of any bytes; unescape is the way back.
func escape(s string) string {
	plain := func(r rune) bool { return r >= ' ' && r != 0x7f && r != '%' && r != utf8.MaxRune } // past needs the last one
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || !plain(r) {
			for _, c := range []byte(s[i : i+n]) {
				fmt.Fprintf(&b, "%%%02X", c)
			}
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c, err := hex.DecodeString(s[min(i+1, len(s)):min(i+3, len(s))]); s[i] == '%' && err == nil && len(c) == 1 {
			b.WriteByte(c[0])
			i += 2
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// nameOf and resourceOf write and read a file as an item's name.
func nameOf(r account.Resource) string { return escape(r.Storage) + "\t" + escape(r.Path) }

func resourceOf(name string) account.Resource {
	storage, path, _ := strings.Cut(name, "\t")
	return account.Resource{Storage: unescape(storage), Path: unescape(path)}
}

func dirOf(r account.Resource) account.Resource {
	return account.Resource{Storage: r.Storage, Path: r.Path[:max(0, strings.LastIndexByte(r.Path, '/'))]}
}

// within reports whether path is dir or lies below it, by whole names.
func within(path, dir string) bool {
	return strings.HasPrefix(path, dir) && (len(path) == len(dir) || path[len(dir)] == '/')
}

// lockItem and readLock write and read a lock.
func lockItem(l account.Lock) (Item, error) {
	doc, err := json.Marshal(l)
	r := account.Resource{Storage: l.Storage, Path: l.Path}
	return Item{Key: l.Token, Scope: hashOf(l.Storage), Name: nameOf(r), Doc: doc, Places: lockPlaces(l)}, err
}

// The places of a lock begin with what they are for.
const (
	placeEnd   = "e" // when it is over
	placeUser  = "u" // whose it is
	placeRoot  = "r" // its root
	placeBelow = "b" // its root in the tree, shared ones and exclusive ones apart
)

// maxPlacePath is how many bytes of a path are in a place. Of locks on longer ones all that begin alike are read.
const maxPlacePath = 400

func lockPlaces(l account.Lock) []string {
	tree, _ := placeTree(l.Storage, l.Path, l.Exclusive)
	return []string{placeOver(l.Expires), placeUser + hashOf(l.Username), rootOf(l.Storage, l.Path) + classOf(l.Infinite, l.Exclusive), tree}
}

// placeOver is a place before which locks are over before ms.
func placeOver(ms int64) string { return fmt.Sprintf("%s%016x", placeEnd, max(0, ms)) }

func rootOf(storage, path string) string { return placeRoot + hashOf(storage, path) }

// classOf sorts locks by what they stand against.
func classOf(infinite, exclusive bool) string {
	class := []byte("0s")
	if infinite {
		class[0] = 'i'
	}
	if exclusive {
		class[1] = 'x'
	}
	return string(class)
}

// placeTree is the place of a path among those of its storage; it is whole unless the path is long.
func placeTree(storage, path string, exclusive bool) (place string, whole bool) {
	p := escape(path)
	n := min(len(p), maxPlacePath)
	for n < len(p) && !utf8.RuneStart(p[n]) {
		n--
	}
	return placeBelow + classOf(false, exclusive)[1:] + hashOf(storage) + p[:n], n == len(p)
}

// past comes after every place that begins with prefix: escape leaves no utf8.MaxRune in one.
func past(prefix string) string { return prefix + string(utf8.MaxRune) }

func readLock(it Item) (l account.Lock, err error) {
	if err := json.Unmarshal(it.Doc, &l); err != nil {
		return l, fmt.Errorf("lock %s is damaged: %w", it.Key, err)
	}
	r := resourceOf(it.Name)
	l.Storage, l.Path = r.Storage, r.Path
	return l, nil
}

// locks reads all locks that are not over.
func (t *tx) locks() (live []account.Lock, err error) {
	now := t.now()
	var bad error
	err = t.ItemsIn(account.KindLock, "", func(it Item) bool {
		var l account.Lock
		if l, bad = readLock(it); bad == nil && l.Expires > now {
			live = append(live, l)
		}
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	return live, err
}

// kindPlaced marks that all items of a kind have places: those of an older Gantry have none.
const kindPlaced account.Kind = "placed"

// placeLocks gives places to locks that an older Gantry left.
func (t *tx) placeLocks() error {
	mark := Item{Key: string(account.KindLock), Doc: []byte("{}")}
	if _, ok, err := t.Item(kindPlaced, mark.Key); err != nil || ok {
		return err
	}
	all, err := t.locks()
	if err != nil {
		return err
	}
	if err := t.DeleteItems(account.KindLock); err != nil {
		return err
	}
	for _, l := range all {
		it, err := lockItem(l)
		if err == nil {
			err = t.PutItem(account.KindLock, it)
		}
		if err != nil {
			return err
		}
	}
	return t.PutItem(kindPlaced, mark)
}

// AddLock implements account.Locks. What it reads does not grow with the number of locks, but for the counts, which
// look at an index alone.
func (s *Store) AddLock(ctx context.Context, l account.Lock, lim account.LockLimits) error {
	err := s.write(ctx, func(t *tx) error {
		if err := t.placeLocks(); err != nil {
			return err
		}
		if err := t.DeletePlaced(account.KindLock, placeEnd, placeOver(t.now()+1)); err != nil {
			return err
		}
		if err := t.lockConflict(l); err != nil {
			return err
		}
		mine := placeUser + hashOf(l.Username)
		if n, err := t.CountPlaced(account.KindLock, mine, past(mine)); err != nil {
			return err
		} else if n >= lim.PerUser {
			return account.ErrLimit
		}
		if n, err := t.CountPlaced(account.KindLock, placeEnd, past(placeEnd)); err != nil {
			return err
		} else if n >= lim.Total {
			return account.ErrLimit
		}
		return t.putLock(l)
	})
	if err != nil {
		return fmt.Errorf("add a lock: %w", err)
	}
	return nil
}

// lockConflict gives a *account.LockConflict if a lock stands against l: one of its root, an infinite one above, or,
// if l is infinite, one below (RFC 4918 6.1). Locks that are over must be gone.
func (t *tx) lockConflict(l account.Lock) error {
	against := func(prefix string, limit int) error {
		tokens, err := t.PlacedItems(account.KindLock, prefix, past(prefix), limit)
		for i := 0; err == nil && i < len(tokens); i++ {
			var it Item
			var o account.Lock
			if it, _, err = t.Item(account.KindLock, tokens[i]); err != nil {
				return err
			}
			if o, err = readLock(it); err == nil && (within(l.Path, o.Path) || within(o.Path, l.Path)) {
				err = &account.LockConflict{With: o}
			}
		}
		return err
	}
	// either looks for locks of which exclusive ones count, and shared ones only if l is exclusive.
	either := func(prefixOf func(exclusive bool) string, limit int) error {
		err := against(prefixOf(true), limit)
		if err == nil && l.Exclusive {
			err = against(prefixOf(false), limit)
		}
		return err
	}
	root := rootOf(l.Storage, l.Path)
	if err := either(func(x bool) string { return root + classOf(false, x) }, 1); err != nil {
		return err
	}
	for path := l.Path; ; path = path[:strings.LastIndexByte(path, '/')] {
		root := rootOf(l.Storage, path)
		if err := either(func(x bool) string { return root + classOf(true, x) }, 1); err != nil {
			return err
		}
		if !strings.Contains(path, "/") {
			break
		}
	}
	if !l.Infinite {
		return nil
	}
	limit := 1
	if _, whole := placeTree(l.Storage, l.Path+"/", true); !whole {
		limit = math.MaxInt32
	}
	return either(func(x bool) string {
		below, _ := placeTree(l.Storage, l.Path+"/", x)
		return below
	}, limit)
}

func (t *tx) putLock(l account.Lock) error {
	it, err := lockItem(l)
	if err == nil {
		err = t.PutItem(account.KindLock, it)
	}
	if err != nil {
		return err
	}
	return t.Changed(account.KindLock, l.Token, t.s.cfg.Node)
}

// RefreshLock implements account.Locks.
func (s *Store) RefreshLock(ctx context.Context, token string, timeout, expires int64) error {
	err := s.write(ctx, func(t *tx) error {
		it, ok, err := t.Item(account.KindLock, token)
		if err != nil {
			return err
		}
		if !ok {
			return account.ErrNotFound
		}
		l, err := readLock(it)
		if err != nil {
			return err
		}
		if l.Expires <= t.now() {
			return account.ErrNotFound
		}
		l.Timeout, l.Expires = timeout, expires
		return t.putLock(l)
	})
	if err != nil {
		return fmt.Errorf("refresh a lock: %w", err)
	}
	return nil
}

// RemoveLocks implements account.Locks.
func (s *Store) RemoveLocks(ctx context.Context, tokens ...string) error {
	err := s.write(ctx, func(t *tx) error {
		for _, token := range tokens {
			if err := t.DeleteItem(account.KindLock, token); err != nil {
				return err
			}
			if err := t.Changed(account.KindLock, token, t.s.cfg.Node); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove locks: %w", err)
	}
	return nil
}

// ListLocks implements account.Locks.
func (s *Store) ListLocks(ctx context.Context) ([]account.Lock, error) {
	return one(ctx, s, func(t *tx) ([]account.Lock, error) {
		return t.locks()
	})
}

func propKey(r account.Resource) string { return hashOf(r.Storage, r.Path) }

// propItem makes the item of a resource's properties.
func propItem(r account.Resource, props []account.Prop) (Item, error) {
	doc, err := json.Marshal(props)
	parent := ""
	if r.Path != "" {
		parent = propKey(dirOf(r))
	}
	return Item{Key: propKey(r), Scope: hashOf(r.Storage), Parent: parent, Name: nameOf(r), Doc: doc}, err
}

func readProps(it Item) (props []account.Prop, err error) {
	if err := json.Unmarshal(it.Doc, &props); err != nil {
		return nil, fmt.Errorf("the properties of %s are damaged: %w", it.Name, err)
	}
	return props, nil
}

func (t *tx) props(r account.Resource) ([]account.Prop, error) {
	it, ok, err := t.Item(account.KindProps, propKey(r))
	if err != nil || !ok {
		return nil, err
	}
	return readProps(it)
}

// putProps writes a resource's properties; none is no item.
func (t *tx) putProps(r account.Resource, props []account.Prop, lim account.PropLimits) error {
	if len(props) == 0 {
		return t.DeleteItem(account.KindProps, propKey(r))
	}
	it, err := propItem(r, props)
	if err != nil {
		return err
	}
	if len(props) > lim.Count || len(it.Doc) > lim.Bytes {
		return account.ErrLimit
	}
	_, have, err := t.Item(account.KindProps, it.Key)
	if err != nil {
		return err
	}
	if !have {
		n, err := t.CountItems(account.KindProps, it.Scope)
		if err != nil {
			return err
		}
		if n >= lim.Resources {
			return account.ErrLimit
		}
		if err := t.firstIn(it.Parent); err != nil {
			return err
		}
	}
	return t.PutItem(account.KindProps, it)
}

// firstIn tells the other nodes if a directory gets its first properties.
func (t *tx) firstIn(parent string) error {
	first := true
	err := t.ItemsIn(account.KindProps, parent, func(Item) bool {
		first = false
		return false
	})
	if err != nil || !first {
		return err
	}
	return t.Changed(account.KindProps, parent, t.s.cfg.Node)
}

// Props implements account.Props.
func (s *Store) Props(ctx context.Context, at account.Resource) ([]account.Prop, error) {
	return one(ctx, s, func(t *tx) ([]account.Prop, error) { return t.props(at) })
}

// PropsIn implements account.Props.
func (s *Store) PropsIn(ctx context.Context, dir account.Resource, maxBytes int) (of map[string][]account.Prop, whole bool, err error) {
	of, whole = map[string][]account.Prop{}, true
	err = s.read(ctx, func(t *tx) error {
		var bad error
		err := t.ItemsIn(account.KindProps, propKey(dir), func(it Item) bool {
			if maxBytes -= len(it.Doc) + len(it.Name); maxBytes < 0 {
				whole = false
				return false
			}
			var props []account.Prop
			if props, bad = readProps(it); bad != nil {
				return false
			}
			path := resourceOf(it.Name).Path
			of[path[strings.LastIndexByte(path, '/')+1:]] = props
			return true
		})
		if err == nil {
			err = bad
		}
		return err
	})
	return of, whole, err
}

// PatchProps implements account.Props.
func (s *Store) PatchProps(ctx context.Context, at account.Resource, set []account.Prop, remove []account.PropName, lim account.PropLimits) error {
	err := s.write(ctx, func(t *tx) error {
		props, err := t.props(at)
		if err != nil {
			return err
		}
		props = slices.DeleteFunc(props, func(p account.Prop) bool { return slices.Contains(remove, p.PropName) })
		for _, p := range set {
			if i := slices.IndexFunc(props, func(q account.Prop) bool { return q.PropName == p.PropName }); i >= 0 {
				props[i] = p
			} else {
				props = append(props, p)
			}
		}
		return t.putProps(at, props, lim)
	})
	if err != nil {
		return fmt.Errorf("change properties: %w", err)
	}
	return nil
}

// propsBelow lists at, and with tree what lies below it, as far as they have properties.
func (t *tx) propsBelow(at account.Resource, tree bool) (out []account.Resource, err error) {
	if !tree {
		_, ok, err := t.Item(account.KindProps, propKey(at))
		if ok {
			out = append(out, at)
		}
		return out, err
	}
	err = t.ItemNames(account.KindProps, hashOf(at.Storage), func(name string) bool {
		if r := resourceOf(name); within(r.Path, at.Path) {
			out = append(out, r)
		}
		return true
	})
	return out, err
}

func (t *tx) removeProps(at account.Resource, tree bool) error {
	gone, err := t.propsBelow(at, tree)
	if err != nil {
		return err
	}
	for _, r := range gone {
		if err := t.DeleteItem(account.KindProps, propKey(r)); err != nil {
			return err
		}
	}
	return nil
}

// MoveProps implements account.Props.
func (s *Store) MoveProps(ctx context.Context, from, to account.Resource, tree bool) error {
	err := s.write(ctx, func(t *tx) error {
		if err := t.removeProps(to, tree); err != nil {
			return err
		}
		list, err := t.propsBelow(from, tree)
		if err != nil {
			return err
		}
		for _, r := range list {
			props, err := t.props(r)
			if err != nil {
				return err
			}
			if err := t.DeleteItem(account.KindProps, propKey(r)); err != nil {
				return err
			}
			it, err := propItem(account.Resource{Storage: to.Storage, Path: to.Path + r.Path[len(from.Path):]}, props)
			if err == nil {
				err = t.firstIn(it.Parent)
			}
			if err == nil {
				err = t.PutItem(account.KindProps, it)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("move properties: %w", err)
	}
	return nil
}

// CopyProps implements account.Props.
func (s *Store) CopyProps(ctx context.Context, from, to account.Resource, lim account.PropLimits) error {
	err := s.write(ctx, func(t *tx) error {
		props, err := t.props(from)
		if err != nil {
			return err
		}
		return t.putProps(to, props, lim)
	})
	if err != nil {
		return fmt.Errorf("copy properties: %w", err)
	}
	return nil
}

// RemoveProps implements account.Props.
func (s *Store) RemoveProps(ctx context.Context, at account.Resource, tree bool) error {
	err := s.write(ctx, func(t *tx) error { return t.removeProps(at, tree) })
	if err != nil {
		return fmt.Errorf("remove properties: %w", err)
	}
	return nil
}

// PropDirs implements account.Props.
func (s *Store) PropDirs(ctx context.Context, yield func(dir account.Resource)) error {
	return s.read(ctx, func(t *tx) error {
		var last account.Resource
		first := true
		return t.ItemNames(account.KindProps, "", func(name string) bool {
			if dir := dirOf(resourceOf(name)); first || dir != last {
				first, last = false, dir
				yield(dir)
			}
			return true
		})
	})
}

// clearItems removes every lock and property.
func (t *tx) clearItems() error {
	for _, kind := range []account.Kind{account.KindLock, account.KindProps} {
		if err := t.DeleteItems(kind); err != nil {
			return err
		}
		if err := t.Changed(kind, "", t.s.cfg.Node); err != nil {
			return err
		}
	}
	return nil
}
