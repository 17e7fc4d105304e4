package guard

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// board is a Shared in memory.
type board struct {
	mu    sync.Mutex
	down  bool
	now   int64
	hosts map[string]*HostState
	at    map[string]int64
	told  chan struct{} // one for each successful HostsSince, if there is room
}

var errDown = errors.New("the store is lost")

func (b *board) change(host string, f func(h *HostState)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		return errDown
	}
	h := b.hosts[host]
	if h == nil {
		h = &HostState{Host: netip.MustParseAddr(host)}
		b.hosts[host] = h
	}
	f(h)
	b.now++
	b.at[host] = b.now
	return nil
}

func (b *board) ScoreHost(_ context.Context, host string, points int, _ time.Duration) (total int, err error) {
	err = b.change(host, func(h *HostState) { h.Score += points; total = h.Score })
	return total, err
}

func (b *board) BanHost(_ context.Context, host string, d time.Duration) error {
	return b.change(host, func(h *HostState) { h.Score, h.Ban = 0, max(h.Ban, d) })
}

func (b *board) ExtendBan(_ context.Context, host string, d, _ time.Duration) error {
	return b.change(host, func(h *HostState) { h.Ban += d })
}

func (b *board) FreeHost(_ context.Context, host string) (bool, error) {
	return true, b.change(host, func(h *HostState) { h.Score, h.Ban = 0, 0 })
}

func (b *board) HostsSince(_ context.Context, since int64, _ time.Duration) (list []HostState, now int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		return nil, 0, errDown
	}
	for h, s := range b.hosts {
		if b.at[h] >= since {
			list = append(list, *s)
		}
	}
	select {
	case b.told <- struct{}{}:
	default:
	}
	return list, b.now, nil
}

func (b *board) set(down bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = down
}

// polls waits until the store was read n times from now on, so that all that was told before is known.
func (b *board) polls(t *testing.T, n int) {
	t.Helper()
	for len(b.told) > 0 {
		<-b.told
	}
	for range n {
		select {
		case <-b.told:
		case <-time.After(30 * time.Second):
			t.Fatal("the nodes do not read the store")
		}
	}
}

func TestNodesShareScoresAndBans(t *testing.T) {
	b := &board{hosts: map[string]*HostState{}, at: map[string]int64{}, told: make(chan struct{}, 100)}
	cfg := DefaultConfig()
	cfg.Defender.Enabled, cfg.Defender.Driver, cfg.Defender.Threshold = true, "provider", 10
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	node := func() *Guard {
		g := New(cfg, slog.New(slog.DiscardHandler), nil)
		wg.Go(func() { g.Share(ctx, b) })
		return g
	}
	one, two := node(), node()
	defer wg.Wait()
	defer cancel()
	b.polls(t, 4)
	host, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::7")
	for range 4 { // 4 and 4 points: neither node alone would ban with these
		one.Event(host, SSH, LoginFailed)
		two.Event(host, FTP, LoginFailed)
	}
	b.polls(t, 4)
	if err := two.Knock(host, SSH); err != nil {
		t.Errorf("at 8 of 10 points: %v", err)
	}
	one.Event(host, SSH, UserNotFound) // 10
	b.polls(t, 4)
	for name, g := range map[string]*Guard{"one": one, "two": two} {
		if err := g.Precheck(host, SSH); !errors.Is(err, ErrBanned) {
			t.Errorf("node %s: %v, want ErrBanned", name, err)
		}
	}
	two.Unban(host)
	b.polls(t, 4)
	for name, g := range map[string]*Guard{"one": one, "two": two} {
		if err := g.Precheck(host, SSH); err != nil {
			t.Errorf("node %s after it was freed on the other: %v", name, err)
		}
	}
	// Without the store each goes on by itself; what happened is told when it is back.
	b.set(true)
	for range 2 {
		one.shared.Load().healthy.Store(false) // as the next look would find
		for range 5 {
			one.Event(other, SSH, UserNotFound)
		}
	}
	if err := one.Precheck(other, SSH); !errors.Is(err, ErrBanned) {
		t.Errorf("without the store: %v, want ErrBanned", err)
	}
	b.set(false)
	b.polls(t, 8)
	if err := two.Precheck(other, SSH); !errors.Is(err, ErrBanned) {
		t.Errorf("when the store was back, on the other node: %v, want ErrBanned", err)
	}
}
