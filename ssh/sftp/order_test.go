package sftp_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/ssh/sftp"
	"github.com/gantryhq/gantry/vfs/mem"
)

// gate holds operations of a storage back until they are let go. A verb that has no gate passes.
type gate map[string]*struct{ entered, let chan struct{} }

func newGate(verbs ...string) gate {
	g := gate{}
	for _, v := range verbs {
		g[v] = &struct{ entered, let chan struct{} }{make(chan struct{}, 100), make(chan struct{})}
	}
	return g
}

func (g gate) fault(op mem.Op) error {
	if x := g[op.Verb]; x != nil {
		x.entered <- struct{}{}
		<-x.let
	}
	return nil
}

func newGated(t *testing.T, verbs ...string) (*raw, gate) {
	g := newGate(verbs...)
	s := sessiontest.NewSession(t, sessiontest.Options{Mem: func(string) mem.Options { return mem.Options{Fault: g.fault} }}, sessiontest.User("u"))
	return newRaw(t, s), g
}

// order gives the ids of the next n replies as they come.
func (c *raw) order(n int) (ids []uint32) {
	c.t.Helper()
	for range n {
		p := c.read()
		ids = append(ids, p.ID)
		c.late[p.ID] = p
	}
	return ids
}

// Requests on one handle act as if in order, whatever one of them waits for (draft 6.1).
func TestSlowRequestKeepsTheOrderOfItsHandle(t *testing.T) {
	c, g := newGated(t, "sync")
	h := c.open("/f", sftp.FlagRead|sftp.FlagWrite|sftp.FlagCreate)
	c.make("/other", "other")
	ids := c.send(
		writeTo(h, 0, "first"),
		extended("fsync@openssh.com", sftp.Packet{Handle: h}),
		writeTo(h, 0, "later"),
		&sftp.Packet{Type: sftp.TypeRead, Handle: h, Length: 5},
		&sftp.Packet{Type: sftp.TypeFstat, Handle: h},
		&sftp.Packet{Type: sftp.TypeClose, Handle: h},
		&sftp.Packet{Type: sftp.TypeStat, Path: []byte("/other")},
	)
	<-g["sync"].entered
	// What has nothing to do with the file goes on.
	if got := c.order(2); !slices.Equal(got, []uint32{ids[0], ids[6]}) {
		t.Errorf("while the sync waits the replies are %v of %v", got, ids)
	}
	if got := c.content("/other"); got != "other" {
		t.Errorf("another file reads %q", got)
	}
	close(g["sync"].let)
	got := c.order(5)
	slices.Sort(got[2:4]) // the read and the fstat change nothing: they run side by side
	if !slices.Equal(got, ids[1:6]) {
		t.Errorf("replies in the order %v, want %v", got, ids[1:6])
	}
	for i, want := range []string{3: "later"} {
		if r := c.reply(ids[i]); want != "" && string(r.Data) != want {
			t.Errorf("got %q, want %q", r.Data, want)
		}
	}
	if got := c.content("/f"); got != "later" {
		t.Errorf("at last the file holds %q", got)
	}
}

// What changes the name of a file waits for what is under way on it, and what comes after waits for that.
func TestPathRequestsWaitForTheHandle(t *testing.T) {
	c, g := newGated(t, "sync")
	c.ok(&sftp.Packet{Type: sftp.TypeMkdir, Path: []byte("/d")})
	h := c.open("/d/f", sftp.FlagWrite|sftp.FlagCreate)
	ids := c.send(
		extended("fsync@openssh.com", sftp.Packet{Handle: h}),
		&sftp.Packet{Type: sftp.TypeClose, Handle: h},
		&sftp.Packet{Type: sftp.TypeRename, Path: []byte("/d/f"), Path2: []byte("/d/g")},
		&sftp.Packet{Type: sftp.TypeStat, Path: []byte("/d/g")},
		&sftp.Packet{Type: sftp.TypeRename, Path: []byte("/d"), Path2: []byte("/e")},
		&sftp.Packet{Type: sftp.TypeStat, Path: []byte("/e/g")},
	)
	<-g["sync"].entered
	close(g["sync"].let)
	if got := c.order(len(ids)); !slices.Equal(got, ids) {
		t.Errorf("replies in the order %v, want %v", got, ids)
	}
	for _, i := range []int{3, 5} {
		if r := c.reply(ids[i]); r.Type != sftp.TypeAttrs {
			t.Errorf("stat: %s %d %q", r.Type, r.Code, r.Message)
		}
	}
}

// A thousand writes on their way, then fsync and close: nothing is lost and each is answered once.
func TestOutstandingWritesEndBeforeTheirClose(t *testing.T) {
	c, _ := newGated(t)
	const n, size = 1000, 3000
	h := c.open("/f", sftp.FlagWrite|sftp.FlagCreate)
	var ps []*sftp.Packet
	want := ""
	for i := range n {
		part := strings.Repeat(fmt.Sprint(i%10), size)
		want += part
		ps = append(ps, writeTo(h, uint64(i*size), part))
		if i%100 == 99 {
			ps = append(ps, extended("fsync@openssh.com", sftp.Packet{Handle: h}))
		}
	}
	ps = append(ps, &sftp.Packet{Type: sftp.TypeClose, Handle: h})
	ids := c.send(ps...)
	var got []uint32
	for range ps {
		p := c.read()
		if p.Type != sftp.TypeStatus || p.Code != 0 {
			t.Fatalf("%d: %s %d %q", p.ID, p.Type, p.Code, p.Message)
		}
		got = append(got, p.ID)
	}
	if !slices.Equal(got, ids) {
		t.Error("the replies on one handle are not in the order of the requests")
	}
	if got := c.content("/f"); got != want {
		t.Errorf("%d bytes that differ from the %d sent", len(got), len(want))
	}
}

// Reads and metadata go on while many slow requests wait; the loop is held up only when no more fit.
func TestParallelRequestsAreAnsweredWhileOthersWait(t *testing.T) {
	c, g := newGated(t, "sync")
	var hs [][]byte
	for i := range 40 {
		hs = append(hs, c.open(fmt.Sprintf("/f%d", i), sftp.FlagWrite|sftp.FlagCreate))
	}
	var slow []uint32
	for _, h := range hs {
		slow = append(slow, c.send(extended("fsync@openssh.com", sftp.Packet{Handle: h}))...)
	}
	for i := range 100 {
		if r := c.ask(&sftp.Packet{Type: sftp.TypeRealpath, Path: fmt.Appendf(nil, "/%d", i)}); r.Type != sftp.TypeName {
			t.Fatalf("%s %d", r.Type, r.Code)
		}
	}
	close(g["sync"].let)
	for _, id := range slow {
		if r := c.reply(id); r.Code != 0 {
			t.Errorf("fsync: %d %q", r.Code, r.Message)
		}
	}
}

// The peer leaves while a request waits: the session ends when that has ended, and the upload is put right.
func TestPeerLeavesWhileARequestWaits(t *testing.T) {
	c, g := newGated(t, "sync")
	h := c.open("/f", sftp.FlagWrite|sftp.FlagCreate)
	c.send(extended("fsync@openssh.com", sftp.Packet{Handle: h}))
	<-g["sync"].entered
	c.conn.Close()
	close(g["sync"].let)
	<-c.done
	c.done <- nil // for the cleanup
}
