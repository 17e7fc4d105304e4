package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/guard"
	"github.com/gantryhq/gantry/internal/session"
)

// The kinds of IP lists (data-model.md 9).
const (
	allowList = iota + 1
	defenderList
	rateSafeList
)

// loadLists gives the guard the IP lists of the store.
func (n *node) loadLists(ctx context.Context) error {
	entries := map[int][]guard.Entry{}
	for p := (account.Page{Limit: 10_000}); ; {
		docs, err := n.store.ListRecords(ctx, account.KindIPList, p)
		if err != nil {
			return fmt.Errorf("read the IP lists: %w", err)
		}
		for _, doc := range docs {
			var e account.IPListEntry
			if err := json.Unmarshal(doc, &e); err != nil {
				return fmt.Errorf("read the IP lists: %w", err)
			}
			net, err := netip.ParsePrefix(e.IPOrNet)
			if err != nil {
				return fmt.Errorf("read the IP lists: %w", err)
			}
			entries[e.Type] = append(entries[e.Type], guard.Entry{Net: net, Deny: e.Mode == 2, Protocols: guard.Protocol(e.Protocols)})
			p.After = e.Key()
		}
		if len(docs) < p.Limit {
			break
		}
	}
	n.guard.SetLists(&guard.Lists{
		Allow: guard.NewList(entries[allowList]), Defender: guard.NewList(entries[defenderList]), RateSafe: guard.NewList(entries[rateSafeList]),
	})
	return nil
}

// loginFailed tells the defender.
func (n *node) loginFailed(f session.Failure) {
	e := guard.LoginFailed
	switch {
	case f.NoAuth:
		e = guard.NoLoginTried
	case f.Unknown:
		e = guard.UserNotFound
	}
	n.guard.Event(f.Remote, guard.ProtocolOf(f.Protocol), e)
}
