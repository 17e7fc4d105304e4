package account

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// EventRule says which actions follow which event.
type EventRule struct {
	ID          int64          `json:"id"`
	Name        string         `json:"name"`
	Status      int            `json:"status"`
	Description string         `json:"description,omitempty"`
	CreatedAt   int64          `json:"created_at"`
	UpdatedAt   int64          `json:"updated_at"`
	Trigger     int            `json:"trigger"`
	Conditions  RuleConditions `json:"conditions"`
	Actions     []RuleAction   `json:"actions"`
}

// Triggers of an EventRule.
const (
	TriggerFilesystem = iota + 1
	TriggerProvider
	TriggerSchedule
	TriggerIPBlocked
	TriggerCertificate
	TriggerOnDemand
	TriggerIDPLogin
)

// RuleConditions say which events count.
type RuleConditions struct {
	FsEvents       []string       `json:"fs_events,omitempty"`
	ProviderEvents []string       `json:"provider_events,omitempty"`
	Schedules      []RuleSchedule `json:"schedules,omitempty"`
	IDPLoginEvent  int            `json:"idp_login_event,omitempty"`
	Options        RuleOptions    `json:"options"`
}

// RuleSchedule holds cron fields; the minute is 0.
type RuleSchedule struct {
	Hour       string `json:"hour"`
	DayOfWeek  string `json:"day_of_week"`
	DayOfMonth string `json:"day_of_month"`
	Month      string `json:"month"`
}

// RuleOptions narrow the conditions.
type RuleOptions struct {
	Names               []RulePattern `json:"names,omitempty"`
	GroupNames          []RulePattern `json:"group_names,omitempty"`
	RoleNames           []RulePattern `json:"role_names,omitempty"`
	FsPaths             []RulePattern `json:"fs_paths,omitempty"`
	Protocols           []string      `json:"protocols,omitempty"`
	ProviderObjects     []string      `json:"provider_objects,omitempty"`
	MinSize             int64         `json:"min_size,omitempty"` // bytes
	MaxSize             int64         `json:"max_size,omitempty"`
	EventStatuses       []int         `json:"event_statuses,omitempty"`
	ConcurrentExecution bool          `json:"concurrent_execution,omitempty"`
}

// RulePattern is a glob.
type RulePattern struct {
	Pattern      string `json:"pattern,omitempty"`
	InverseMatch bool   `json:"inverse_match,omitempty"`
}

// RuleAction is an action of a rule. Other members of the action are output only.
type RuleAction struct {
	Name    string          `json:"name"`
	Order   int             `json:"order,omitempty"`
	Options RelationOptions `json:"relation_options"`
}

// RelationOptions say when the action runs.
type RelationOptions struct {
	IsFailureAction bool `json:"is_failure_action"`
	StopOnFailure   bool `json:"stop_on_failure"`
	ExecuteSync     bool `json:"execute_sync"`
}

var knownFsEvents = []string{"upload", "pre-upload", "first-upload", "download", "pre-download", "first-download", "delete", "pre-delete",
	"rename", "mkdir", "rmdir", "copy", "ssh_cmd"}

// Kind implements Document.
func (e *EventRule) Kind() Kind { return KindRule }

// Key implements Document.
func (e *EventRule) Key() string { return e.Name }

// References implements Document.
func (e *EventRule) References() []Ref {
	var out []Ref
	for i, a := range e.Actions {
		out = append(out, Ref{KindAction, a.Name, fmt.Sprintf("actions[%d].name", i)})
	}
	return out
}

// Normalize implements Document.
func (e *EventRule) Normalize(_ context.Context, r Rules) error {
	e.Name, e.ID = r.Name(e.Name), 0
	c := &checker{kind: string(KindRule), name: e.Name}
	if why := r.CheckName(e.Name); why != "" {
		c.bad("name", "name", "%s", why)
	}
	c.status(e.Status)
	o := &e.Conditions
	pre, syncable := false, e.Trigger == TriggerIDPLogin
	switch e.Trigger {
	case TriggerFilesystem:
		o.FsEvents = c.oneOf("conditions.fs_events", o.FsEvents, knownFsEvents)
		for _, ev := range o.FsEvents {
			pre = pre || strings.HasPrefix(ev, "pre-")
			syncable = syncable || ev == "upload" || strings.HasPrefix(ev, "pre-")
		}
		c.some("conditions.fs_events", len(o.FsEvents))
	case TriggerProvider:
		o.ProviderEvents = c.oneOf("conditions.provider_events", o.ProviderEvents, []string{"add", "update", "delete"})
		c.some("conditions.provider_events", len(o.ProviderEvents))
	case TriggerSchedule:
		c.some("conditions.schedules", len(o.Schedules))
	case TriggerIPBlocked, TriggerCertificate, TriggerOnDemand:
	case TriggerIDPLogin:
		if o.IDPLoginEvent < 0 || o.IDPLoginEvent > 2 {
			c.bad("conditions.idp_login_event", "range", "must be 0, 1 or 2")
		}
	default:
		c.bad("trigger", "range", "must be 1 to 7")
	}
	if o.Options.MaxSize > 0 && o.Options.MaxSize < o.Options.MinSize {
		c.bad("conditions.options.max_size", "range", "must not be below min_size")
	}
	for _, s := range o.Options.EventStatuses {
		if s < 0 || s > 3 {
			c.bad("conditions.options.event_statuses", "range", "must be 0 to 3")
		}
	}
	c.some("actions", len(e.Actions))
	var names []string
	var orders []int
	failures, syncs := 0, 0
	for i := range e.Actions {
		a := &e.Actions[i]
		a.Name = r.Name(a.Name)
		at := fmt.Sprintf("actions[%d]", i)
		if slices.Contains(names, a.Name) || slices.Contains(orders, a.Order) {
			c.bad(at, "duplicate", "names and orders must be unique")
		}
		names, orders = append(names, a.Name), append(orders, a.Order)
		if a.Options.IsFailureAction {
			failures++
		}
		if a.Options.ExecuteSync {
			if syncs++; !syncable || a.Options.IsFailureAction {
				c.bad(at+".relation_options.execute_sync", "conflict", "is for upload, pre-* and identity provider events, and not for failure actions")
			}
		}
	}
	if len(e.Actions) > 0 && failures == len(e.Actions) {
		c.bad("actions", "required", "at least one action must not be a failure action")
	}
	if pre && syncs == 0 {
		c.bad("actions", "required", "a pre-* event needs an action with execute_sync")
	}
	return c.result()
}

func (c *checker) some(field string, n int) {
	if n == 0 {
		c.bad(field, "required", "at least one is needed")
	}
}
