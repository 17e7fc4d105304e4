package accounttest

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
)

func lock(token, path string, change ...func(*account.Lock)) account.Lock {
	l := account.Lock{Token: token, Storage: "local", Path: path, Exclusive: true, Owner: "<a>é</a>", Timeout: 600_000,
		Expires: time.Now().Add(time.Hour).UnixMilli(), Username: "u"}
	for _, c := range change {
		c(&l)
	}
	return l
}

var wide = account.LockLimits{PerUser: 100, Total: 1000}

func locks(t *testing.T, s account.Store) {
	ctx := t.Context()
	infinite := func(l *account.Lock) { l.Infinite = true }
	shared := func(l *account.Lock) { l.Exclusive = false }
	const strange = "/a/\xff%41\t\r\n é"
	held := []account.Lock{lock("t1", "/a", infinite, shared), lock("t2", "/b/c"), lock("t3", strange, shared)}
	for _, l := range held {
		must(t, s.AddLock(ctx, l, wide))
	}
	got, err := s.ListLocks(ctx)
	must(t, err)
	slices.SortFunc(got, func(a, b account.Lock) int { return strings.Compare(a.Token, b.Token) })
	if !reflect.DeepEqual(got, held) {
		t.Errorf("got  %+v\nwant %+v", got, held)
	}
	for _, l := range []account.Lock{
		lock("x", "/a"), lock("x", "/a/b/c"), lock("x", "/b/c", shared), lock("x", "/b", infinite), lock("x", "", infinite, shared),
	} {
		var c *account.LockConflict
		if err := s.AddLock(ctx, l, wide); !errors.Is(err, account.ErrConflict) || !errors.As(err, &c) || c.With.Token == "" {
			t.Errorf("%+v: got %v, want a LockConflict", l, err)
		}
	}
	for i, l := range []account.Lock{lock("", "/aa"), lock("", "/b"), lock("", "/b/c/d"), lock("", "/a", shared), lock("", ""), lock("", "/a", func(l *account.Lock) { l.Storage = "other" })} {
		l.Token = fmt.Sprint("free", i)
		if err := s.AddLock(ctx, l, wide); err != nil {
			t.Errorf("%+v: %v", l, err)
		}
	}
	if err := s.AddLock(ctx, lock("y", "/y"), account.LockLimits{PerUser: 9, Total: 100}); !errors.Is(err, account.ErrLimit) { // DAV-3
		t.Errorf("a tenth lock of nine: %v", err)
	}
	if err := s.AddLock(ctx, lock("y", "/y", func(l *account.Lock) { l.Username = "v" }), account.LockLimits{PerUser: 9, Total: 9}); !errors.Is(err, account.ErrLimit) {
		t.Errorf("a tenth lock of nine in all: %v", err)
	}

	end := time.Now().Add(2 * time.Hour).UnixMilli()
	must(t, s.RefreshLock(ctx, "t3", 5000, end))
	must(t, s.RemoveLocks(ctx, "t1", "nothing", "t2"))
	if err := s.RefreshLock(ctx, "t1", 1, end); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("refresh of a removed lock: %v", err)
	}
	past := func(l *account.Lock) { l.Expires = time.Now().UnixMilli() - 1 }
	must(t, s.AddLock(ctx, lock("old", "/old", past), wide))
	must(t, s.AddLock(ctx, lock("new", "/old"), wide))
	if err := s.RefreshLock(ctx, "old", 1, end); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("refresh of a lock that is over: %v", err)
	}
	got, err = s.ListLocks(ctx)
	must(t, err)
	var tokens []string
	for _, l := range got {
		tokens = append(tokens, l.Token)
		if l.Token == "t3" && (l.Expires != end || l.Timeout != 5000 || l.Path != strange) {
			t.Errorf("refreshed: %+v", l)
		}
	}
	if slices.Sort(tokens); !slices.Equal(tokens, []string{"free0", "free1", "free2", "free3", "free4", "free5", "new", "t3"}) {
		t.Errorf("got %q", tokens)
	}
	rows, _, err := s.ChangesSince(ctx, 0, 100)
	must(t, err)
	if n := len(slices.DeleteFunc(rows, func(c account.Change) bool { return c.Kind != account.KindLock })); n != 15 {
		t.Errorf("%d changes of locks, want one for each of 11 that were taken, 3 removed and 1 refreshed", n)
	}

	// Of many who want one thing one gets it.
	var wg sync.WaitGroup
	var won, lost int
	var mu sync.Mutex
	for i := range 8 {
		wg.Go(func() {
			err := s.AddLock(ctx, lock(fmt.Sprint("race", i), "/race"), wide)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if errors.Is(err, account.ErrConflict) {
				lost++
			} else {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 || lost != 7 {
		t.Errorf("%d of 8 have an exclusive lock, %d were told of it", won, lost)
	}
}

// lockConflicts: what stands against what, and nothing else (RFC 4918 6.1, 7.4).
func lockConflicts(t *testing.T, s account.Store) {
	ctx := t.Context()
	infinite := func(l *account.Lock) { l.Infinite = true }
	shared := func(l *account.Lock) { l.Exclusive = false }
	deep := "/" + strings.Repeat("é", 300) + strings.Repeat("/d", 300) // longer than any key
	for i, c := range []struct {
		held, asked account.Lock
		conflict    bool
	}{
		{lock("", "/a/b"), lock("", "/a/b"), true},
		{lock("", "/a/b"), lock("", "/a/b", shared), true},
		{lock("", "/a/b", shared), lock("", "/a/b"), true},
		{lock("", "/a/b", shared, infinite), lock("", "/a/b"), true},
		{lock("", "/a/b", shared), lock("", "/a/b", shared), false},
		{lock("", "/a/b"), lock("", "/a/b", func(l *account.Lock) { l.Storage = "other" }), false},
		// above
		{lock("", "/a", infinite), lock("", "/a/b/c", shared), true},
		{lock("", "/a", infinite, shared), lock("", "/a/b/c"), true},
		{lock("", "/a", infinite, shared), lock("", "/a/b/c", shared), false},
		{lock("", "", infinite), lock("", "/a"), true},
		{lock("", "/a"), lock("", "/a/b"), false},
		{lock("", ""), lock("", "/a"), false},
		{lock("", "/a", infinite), lock("", "/ab"), false},
		// below
		{lock("", "/a/b/c"), lock("", "/a", infinite), true},
		{lock("", "/a/b/c"), lock("", "/a", infinite, shared), true},
		{lock("", "/a/b/c", shared), lock("", "/a", infinite), true},
		{lock("", "/a/b/c", shared), lock("", "/a", infinite, shared), false},
		{lock("", "/a"), lock("", "", infinite), true},
		{lock("", "/a/b/c"), lock("", "/a"), false},
		{lock("", "/ab"), lock("", "/a", infinite), false},
		{lock("", "/a.b"), lock("", "/a", infinite), false},
		{lock("", "/a%b/\xff"), lock("", "/a%b", infinite), true},
		{lock("", "/a/\U0010FFFF"), lock("", "/a", infinite), true},
		{lock("", "/a/\U0010FFFFb", infinite), lock("", "/a/\U0010FFFFb/c"), true},
		{lock("", deep+"/a/b"), lock("", deep+"/a", infinite), true},
		{lock("", deep+"/a", infinite), lock("", deep+"/a/b"), true},
		{lock("", deep+"/a"), lock("", "", infinite), true},
		{lock("", deep+"/a"), lock("", deep+"/b", infinite), false},
		{lock("", deep+"/a"), lock("", deep+"/a/b"), false},
	} {
		c.held.Token, c.asked.Token = fmt.Sprint("held", i), fmt.Sprint("asked", i)
		must(t, s.AddLock(ctx, c.held, wide))
		err := s.AddLock(ctx, c.asked, wide)
		var against *account.LockConflict
		switch {
		case !c.conflict && err != nil, c.conflict && !errors.As(err, &against):
			t.Errorf("%+v beside %+v: got %v, conflict %v", c.asked, c.held, err, c.conflict)
		case c.conflict && !reflect.DeepEqual(against.With, c.held):
			t.Errorf("%+v: in conflict with %+v, want %+v", c.asked, against.With, c.held)
		}
		must(t, s.RemoveLocks(ctx, c.held.Token, c.asked.Token))
		must(t, s.AddLock(ctx, c.asked, wide)) // what was removed stands against nothing
		must(t, s.RemoveLocks(ctx, c.asked.Token))
	}
}

// lockLimits: DAV-3. A user, and all, have exactly so many; what is removed or over makes room.
func lockLimits(t *testing.T, s account.Store) {
	ctx := t.Context()
	lim := account.LockLimits{PerUser: 5, Total: 12}
	of := func(user string) func(*account.Lock) { return func(l *account.Lock) { l.Username = user } }
	n := 0
	add := func(want error, change ...func(*account.Lock)) string {
		t.Helper()
		n++
		token := fmt.Sprint("n", n)
		if err := s.AddLock(ctx, lock(token, fmt.Sprint("/", n), change...), lim); !errors.Is(err, want) {
			t.Fatalf("lock %d: got %v, want %v", n, err, want)
		}
		return token
	}
	over := func(l *account.Lock) { l.Expires = time.Now().UnixMilli() - 1 }
	var first string
	for i := range 5 {
		if token := add(nil); i == 0 {
			first = token
		}
	}
	add(account.ErrLimit)
	must(t, s.RefreshLock(ctx, first, 1, time.Now().Add(2*time.Hour).UnixMilli())) // is counted once
	must(t, s.RemoveLocks(ctx, first, first, "none"))
	add(nil, over)
	add(nil) // that one was over
	add(account.ErrLimit)
	for range 5 {
		add(nil, of("u2"))
	}
	add(account.ErrLimit, of("u2"))
	two := add(nil, of("U"))
	three := add(nil, of("u "))
	add(account.ErrLimit, of("u3"))
	must(t, s.RemoveLocks(ctx, two, three))
	add(nil, of("u3"))
	add(nil, of("u3"))
	add(account.ErrLimit, of("u3"))
	got, err := s.ListLocks(ctx)
	must(t, err)
	if len(got) != lim.Total {
		t.Errorf("%d locks, want %d", len(got), lim.Total)
	}
	must(t, s.Reset(ctx))
	for range 5 {
		add(nil)
	}
}

// LockItem is a lock as an item without places.
type LockItem struct {
	Key, Name string
	Doc       []byte
}

// BenchmarkLocks measures adding and removing a lock beside 20,000, which fill stores.
func BenchmarkLocks(b *testing.B, s account.Store, fill func([]LockItem) error) {
	const held = 20_000
	var items []LockItem
	for i := range held {
		doc, err := json.Marshal(lock(fmt.Sprint("held", i), "", func(l *account.Lock) { l.Username = fmt.Sprint("u", i%30) }))
		if err != nil {
			b.Fatal(err)
		}
		items = append(items, LockItem{Key: fmt.Sprint("held", i), Name: fmt.Sprintf("local\t/tree/%d/%d/f", i%100, i), Doc: doc})
	}
	if err := fill(items); err != nil {
		b.Fatal(err)
	}
	lim := account.LockLimits{PerUser: 1000, Total: held + 2}
	add := func(token, path string, change ...func(*account.Lock)) {
		if err := s.AddLock(b.Context(), lock(token, path, change...), lim); err != nil {
			b.Fatal(err)
		}
	}
	add("first", "/first")
	for name, change := range map[string]func(*account.Lock){"file": func(*account.Lock) {}, "tree": func(l *account.Lock) { l.Infinite = true }} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				add("t", "/tree/new/a/b", change)
				if err := s.RemoveLocks(b.Context(), "t"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func props(t *testing.T, s account.Store) {
	ctx := t.Context()
	lim := account.PropLimits{Count: 3, Bytes: 1000, Resources: 20}
	at := func(path string) account.Resource { return account.Resource{Storage: "local", Path: path} }
	p := func(name, xml string) account.Prop {
		return account.Prop{PropName: account.PropName{Space: "urn:x", Local: name}, XML: xml, Lang: "de"}
	}
	show := func(path string) string {
		t.Helper()
		list, err := s.Props(ctx, at(path))
		must(t, err)
		var out []string
		for _, p := range list {
			out = append(out, p.Space+"|"+p.Local+"="+p.XML+"@"+p.Lang)
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	want := func(path, want string) {
		t.Helper()
		if got := show(path); got != want {
			t.Errorf("%q: got %q, want %q", path, got, want)
		}
	}
	const strange = "/a/\xff%41\té"
	must(t, s.PatchProps(ctx, at("/a/f"), []account.Prop{p("x", "<b>1</b>"), p("y", "ü")}, nil, lim))
	must(t, s.PatchProps(ctx, at("/a/f"), []account.Prop{p("x", "2")}, []account.PropName{{Space: "urn:x", Local: "y"}, {Local: "no"}}, lim))
	must(t, s.PatchProps(ctx, at(strange), []account.Prop{{PropName: account.PropName{Local: "plain"}}}, nil, lim))
	must(t, s.PatchProps(ctx, at(""), []account.Prop{p("root", "r")}, nil, lim))
	must(t, s.PatchProps(ctx, at("/a/d/e"), []account.Prop{p("deep", "d")}, nil, lim))
	must(t, s.PatchProps(ctx, at("/ab"), []account.Prop{p("ab", "ab")}, nil, lim))
	want("/a/f", "urn:x|x=2@de")
	want(strange, "|plain=@")
	want("", "urn:x|root=r@de")
	want("/nothing", "")
	if got, err := s.Props(ctx, account.Resource{Storage: "other", Path: "/a/f"}); err != nil || len(got) > 0 {
		t.Errorf("another storage: %v, %v", got, err)
	}

	in, whole, err := s.PropsIn(ctx, at("/a"), 1<<20)
	must(t, err)
	if len(in) != 2 || len(in["f"]) != 1 || len(in[strange[3:]]) != 1 || !whole {
		t.Errorf("in /a: %v", in)
	}
	if in, whole, err = s.PropsIn(ctx, at("/a"), 10); err != nil || whole || len(in) > 0 {
		t.Errorf("with 10 bytes: %v, whole %v, %v", in, whole, err)
	}
	if in, _, err = s.PropsIn(ctx, at(""), 1<<20); err != nil || len(in) != 1 || in["ab"] == nil {
		t.Errorf("in the root: %v, %v", in, err)
	}

	// Too much changes nothing (DAV-1).
	for _, set := range [][]account.Prop{{p("1", ""), p("2", ""), p("3", "")}, {p("big", strings.Repeat("x", 1000))}} {
		if err := s.PatchProps(ctx, at("/a/f"), append(set, p("x", "changed")), nil, lim); !errors.Is(err, account.ErrLimit) {
			t.Errorf("got %v, want ErrLimit", err)
		}
	}
	want("/a/f", "urn:x|x=2@de")

	must(t, s.CopyProps(ctx, at("/a/f"), at("/ab"), lim))
	want("/ab", "urn:x|x=2@de")
	must(t, s.PatchProps(ctx, at("/n/old"), []account.Prop{p("old", "")}, nil, lim))
	must(t, s.MoveProps(ctx, at("/a"), at("/n"), true))
	want("/a/f", "")
	want("/n/f", "urn:x|x=2@de")
	want("/n/d/e", "urn:x|deep=d@de")
	want("/n"+strange[2:], "|plain=@")
	want("/n/old", "")
	want("/ab", "urn:x|x=2@de")
	must(t, s.MoveProps(ctx, at("/n/f"), at("/n/g"), false))
	want("/n/f", "")
	want("/n/g", "urn:x|x=2@de")
	var dirs []string
	must(t, s.PropDirs(ctx, func(d account.Resource) { dirs = append(dirs, d.Path) }))
	slices.Sort(dirs)
	if dirs = slices.Compact(dirs); !slices.Equal(dirs, []string{"", "/n", "/n/d"}) {
		t.Errorf("directories: %q", dirs)
	}
	must(t, s.RemoveProps(ctx, at("/n/g"), false))
	want("/n/g", "")
	must(t, s.RemoveProps(ctx, at("/n"), true))
	want("/n/d/e", "")
	want("/ab", "urn:x|x=2@de")
	must(t, s.PatchProps(ctx, at("/ab"), nil, []account.PropName{{Space: "urn:x", Local: "x"}}, lim))
	want("/ab", "")

	for i := range lim.Resources - 1 { // the root has some
		must(t, s.PatchProps(ctx, at(fmt.Sprint("/many/", i)), []account.Prop{p("x", "")}, nil, lim))
	}
	if err := s.PatchProps(ctx, at("/many/more"), []account.Prop{p("x", "")}, nil, lim); !errors.Is(err, account.ErrLimit) {
		t.Errorf("one resource too many: %v", err)
	}
	must(t, s.PatchProps(ctx, at("/many/1"), []account.Prop{p("y", "")}, nil, lim))

	must(t, s.AddLock(ctx, lock("t", "/l"), wide))
	must(t, s.Reset(ctx))
	want("/many/1", "")
	if l, err := s.ListLocks(ctx); err != nil || len(l) > 0 {
		t.Errorf("after a reset: %v, %v", l, err)
	}
}
