package admin

import (
	"context"
	"net/netip"
	"strconv"
	"strings"

	"github.com/gantryhq/gantry/internal/account"
)

// EventActions lists actions without their secrets, and counts them all.
func (s *Service) EventActions(ctx context.Context, by *Actor, p account.Page) ([]account.EventAction, int, error) {
	if err := by.need(manageRules); err != nil {
		return nil, 0, err
	}
	list, total, err := listDocs[account.EventAction](ctx, s, p)
	for i := range list {
		if list[i].Rules, err = s.namesOf(ctx, account.KindRule, account.Ref{Kind: account.KindAction, Name: list[i].Name}); err != nil {
			return nil, 0, err
		}
	}
	return list, total, err
}

// EventAction reads one action with its entity tag.
func (s *Service) EventAction(ctx context.Context, by *Actor, name string, confidential bool) (*account.EventAction, string, error) {
	if err := by.need(manageRules); err != nil {
		return nil, "", err
	}
	a, etag, err := getDoc[account.EventAction](ctx, s, s.Rules.Name(name))
	if err != nil {
		return nil, "", err
	}
	if !confidential || !by.May(account.PermAny) {
		account.Redact(a)
	}
	a.Rules, err = s.namesOf(ctx, account.KindRule, account.Ref{Kind: account.KindAction, Name: a.Name})
	return a, etag, err
}

// AddEventAction makes an action of its JSON.
func (s *Service) AddEventAction(ctx context.Context, by *Actor, doc []byte, confidential bool) (*account.EventAction, string, error) {
	if err := by.need(manageRules); err != nil {
		return nil, "", err
	}
	var a account.EventAction
	if err := decode(doc, &a); err != nil {
		return nil, "", err
	}
	stored, _, err := addDoc(ctx, s, by, &a)
	if err != nil {
		return nil, "", err
	}
	return s.EventAction(ctx, by, stored.Name, confidential)
}

// PutEventAction replaces an action by the JSON in doc.
func (s *Service) PutEventAction(ctx context.Context, by *Actor, name string, doc []byte, e Edit) error {
	if err := by.need(manageRules); err != nil {
		return err
	}
	var next account.EventAction
	if err := decode(doc, &next); err != nil {
		return err
	}
	_, err := putDoc(ctx, s, by, s.Rules.Name(name), e, func(cur *account.EventAction) (*account.EventAction, error) {
		next.Name = cur.Name
		return &next, nil
	})
	return err
}

// DeleteEventAction removes an action that no rule names.
func (s *Service) DeleteEventAction(ctx context.Context, by *Actor, name string) error {
	if err := by.need(manageRules); err != nil {
		return err
	}
	return deleteDoc[account.EventAction](ctx, s, by, s.Rules.Name(name))
}

// Rule is a rule as it is shown: with its actions in full.
type Rule struct {
	account.EventRule
	Actions []ruleAction `json:"actions"`
}

type ruleAction struct {
	account.EventAction
	Order   int                     `json:"order,omitempty"`
	Options account.RelationOptions `json:"relation_options"`
}

// shownAction keeps the action's own options apart from how the rule uses it.
func (s *Service) shownRule(ctx context.Context, r *account.EventRule) (*Rule, error) {
	out := &Rule{EventRule: *r, Actions: []ruleAction{}}
	for _, a := range r.Actions {
		full, _, err := getDoc[account.EventAction](ctx, s, a.Name)
		if err != nil {
			return nil, err
		}
		account.Redact(full)
		out.Actions = append(out.Actions, ruleAction{*full, a.Order, a.Options})
	}
	return out, nil
}

// EventRules lists rules, and counts them all.
func (s *Service) EventRules(ctx context.Context, by *Actor, p account.Page) ([]*Rule, int, error) {
	if err := by.need(manageRules); err != nil {
		return nil, 0, err
	}
	list, total, err := listDocs[account.EventRule](ctx, s, p)
	var out []*Rule
	for i := range list {
		r, err := s.shownRule(ctx, &list[i])
		if err != nil {
			return nil, 0, err
		}
		out = append(out, r)
	}
	return out, total, err
}

// EventRule reads one rule with its entity tag.
func (s *Service) EventRule(ctx context.Context, by *Actor, name string) (*Rule, string, error) {
	if err := by.need(manageRules); err != nil {
		return nil, "", err
	}
	r, etag, err := getDoc[account.EventRule](ctx, s, s.Rules.Name(name))
	if err != nil {
		return nil, "", err
	}
	out, err := s.shownRule(ctx, r)
	return out, etag, err
}

// AddEventRule makes a rule of its JSON.
func (s *Service) AddEventRule(ctx context.Context, by *Actor, doc []byte) (*Rule, string, error) {
	if err := by.need(manageRules); err != nil {
		return nil, "", err
	}
	var r account.EventRule
	if err := decode(doc, &r); err != nil {
		return nil, "", err
	}
	stored, _, err := addDoc(ctx, s, by, &r)
	if err != nil {
		return nil, "", err
	}
	return s.EventRule(ctx, by, stored.Name)
}

// PutEventRule replaces a rule by the JSON in doc.
func (s *Service) PutEventRule(ctx context.Context, by *Actor, name string, doc []byte, e Edit) error {
	if err := by.need(manageRules); err != nil {
		return err
	}
	var next account.EventRule
	if err := decode(doc, &next); err != nil {
		return err
	}
	_, err := putDoc(ctx, s, by, s.Rules.Name(name), e, func(cur *account.EventRule) (*account.EventRule, error) {
		next.Name = cur.Name
		return &next, nil
	})
	return err
}

// DeleteEventRule removes a rule.
func (s *Service) DeleteEventRule(ctx context.Context, by *Actor, name string) error {
	if err := by.need(manageRules); err != nil {
		return err
	}
	return deleteDoc[account.EventRule](ctx, s, by, s.Rules.Name(name))
}

// listPrefix begins the keys of an IP list's entries.
func listPrefix(list int) (string, error) {
	if list < 1 || list > 3 {
		return "", invalid("there are the IP lists 1 (allow list), 2 (defender) and 3 (rate limiters' safe list)")
	}
	return strconv.Itoa(list) + "/", nil
}

// IPList lists the entries of one list whose text begins with filter, after from (in p's order), and counts them all.
func (s *Service) IPList(ctx context.Context, by *Actor, list int, from, filter string, p account.Page) ([]account.IPListEntry, int, error) {
	if err := by.need(manageLists); err != nil {
		return nil, 0, err
	}
	prefix, err := listPrefix(list)
	if err != nil {
		return nil, 0, err
	}
	if strings.Trim(filter, "0123456789abcdefABCDEF.:/") != "" { // no entry begins so
		return nil, 0, nil
	}
	p.Prefix = prefix + filter
	if from != "" {
		p.After = prefix + from
	}
	return listDocs[account.IPListEntry](ctx, s, p)
}

// IPListEntry reads one entry with its entity tag.
func (s *Service) IPListEntry(ctx context.Context, by *Actor, list int, net string) (*account.IPListEntry, string, error) {
	if err := by.need(manageLists); err != nil {
		return nil, "", err
	}
	prefix, err := listPrefix(list)
	if err != nil {
		return nil, "", err
	}
	return getDoc[account.IPListEntry](ctx, s, prefix+net)
}

// AddIPListEntry makes an entry of a list of its JSON, which may leave the list's number out.
func (s *Service) AddIPListEntry(ctx context.Context, by *Actor, list int, doc []byte) (*account.IPListEntry, error) {
	if err := by.need(manageLists); err != nil {
		return nil, err
	}
	if _, err := listPrefix(list); err != nil {
		return nil, err
	}
	var e account.IPListEntry
	if err := decode(doc, &e); err != nil {
		return nil, err
	}
	if e.Type == 0 && !given(doc, "type") {
		e.Type = list
	}
	if e.Type != list {
		return nil, invalid("the entry is of list %d, the path of list %d", e.Type, list)
	}
	stored, _, err := addDoc(ctx, s, by, &e)
	return stored, err
}

// PutIPListEntry replaces an entry by the JSON in doc; its network and list stay.
func (s *Service) PutIPListEntry(ctx context.Context, by *Actor, list int, net string, doc []byte, e Edit) error {
	if err := by.need(manageLists); err != nil {
		return err
	}
	prefix, err := listPrefix(list)
	if err != nil {
		return err
	}
	var next account.IPListEntry
	if err := decode(doc, &next); err != nil {
		return err
	}
	_, err = putDoc(ctx, s, by, prefix+net, e, func(cur *account.IPListEntry) (*account.IPListEntry, error) {
		next.IPOrNet, next.Type = cur.IPOrNet, cur.Type
		return &next, nil
	})
	return err
}

// DeleteIPListEntry removes an entry.
func (s *Service) DeleteIPListEntry(ctx context.Context, by *Actor, list int, net string) error {
	if err := by.need(manageLists); err != nil {
		return err
	}
	prefix, err := listPrefix(list)
	if err != nil {
		return err
	}
	return deleteDoc[account.IPListEntry](ctx, s, by, prefix+net)
}

// Hosts lists who has a score or a ban.
func (s *Service) Hosts(by *Actor) ([]Host, error) {
	if err := by.need("view_defender"); err != nil {
		return nil, err
	}
	list := s.Guard.Hosts()
	out := make([]Host, 0, len(list))
	for _, h := range list {
		out = append(out, Host{Addr: h.Addr, Score: h.Score, Ban: h.Ban})
	}
	return out, nil
}

// Unban forgets what is known of an address; it may be a host of a shared ban too.
func (s *Service) Unban(by *Actor, addr netip.Addr) error {
	if err := by.need("manage_defender"); err != nil {
		return err
	}
	if !s.Guard.Unban(addr) {
		return account.ErrNotFound
	}
	s.Log.Info("host unbanned", "host", addr.String(), "by", by.Name)
	return nil
}
