package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// LinkOptions of RunLink.
type LinkOptions struct {
	Size     int64 // bytes
	Repeat   int
	RTT      time.Duration
	InFlight int // bytes that the link holds in one direction
}

// RunLink measures a download and an upload over a long link.
func RunLink(ctx context.Context, e *Env, peers []Peer, o LinkOptions) (*Table, error) {
	source := filepath.Join(e.Data, "source")
	if _, err := makeSource(source, o.Size); err != nil {
		return nil, err
	}
	defer os.Remove(source)
	servers, err := startAll(ctx, e, peers)
	if err != nil {
		return nil, err
	}
	defer stopAll(servers)
	t := newTable(servers)
	relays := make([]*Relay, len(servers))
	for i, s := range servers {
		os.Remove(filepath.Join(s.Root, "source"))
		if err := os.Link(source, filepath.Join(s.Root, "source")); err != nil {
			return nil, err
		}
		if relays[i], err = NewRelay(s.Addr, o.RTT/2, o.InFlight); err != nil {
			return nil, err
		}
		defer relays[i].Close()
	}
	for range o.Repeat {
		for _, put := range []bool{false, true} {
			for i, s := range servers {
				b := Bulk{Put: put}
				r, err := runBulk(ctx, e, s, relays[i].Addr(), b, source, o.Size)
				if err != nil {
					return t, err
				}
				fmt.Fprintf(e.Log, "link %v %-8s %-30s %7.1f MB/s %6.2f CPU s/GB, load %s .. %s\n", o.RTT, s.Peer, b, r.MBps, r.CPUPerGB, r.LoadBefore, r.LoadAfter)
				t.add(fmt.Sprintf("%s, RTT %v", b, o.RTT), s.Peer, r)
			}
		}
	}
	return t, nil
}
