package account

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// DumpVersion is the version that we write; MinDumpVersion is the oldest that we read.
const (
	DumpVersion    = 17
	MinDumpVersion = 6
)

// MaxDumpBytes is the largest dump that DecodeDump reads unless told otherwise.
const MaxDumpBytes = 1 << 30

// Dump is everything in the store, in the dump format of data-model.md 12. Members that are not in scope
// are null. The kinds that no feature uses yet are kept as they came.
type Dump struct {
	Users        []User            `json:"users"`
	Groups       []Group           `json:"groups"`
	Folders      []Folder          `json:"folders"`
	Admins       []json.RawMessage `json:"admins"`
	APIKeys      []json.RawMessage `json:"api_keys"`
	Shares       []json.RawMessage `json:"shares"`
	EventActions []json.RawMessage `json:"event_actions"`
	EventRules   []json.RawMessage `json:"event_rules"`
	Roles        []json.RawMessage `json:"roles"`
	IPLists      []json.RawMessage `json:"ip_lists"`
	Configs      json.RawMessage   `json:"configs"`
	Version      int               `json:"version"`

	// Unknown are the members that no type here has: they are not kept. At most maxUnknown of them are named.
	Unknown []string `json:"-"`
}

const maxUnknown = 20

// LoadOptions says how a Dump is applied.
type LoadOptions struct {
	Mode     int                   // 0 add and update, 1 add only
	Clean    bool                  // remove what the dump does not hold first
	Progress func(done, total int) // may be nil
}

// DumpKind is one member of a dump beside users, groups and folders.
type DumpKind struct {
	Kind Kind
	Key  string // the JSON member that is the natural key
	List *[]json.RawMessage
}

// Others lists the members that are kept as documents.
func (d *Dump) Others() []DumpKind {
	return []DumpKind{
		{KindRole, "name", &d.Roles}, {KindAdmin, "username", &d.Admins}, {KindAPIKey, "id", &d.APIKeys},
		{KindShare, "id", &d.Shares}, {KindAction, "name", &d.EventActions}, {KindRule, "name", &d.EventRules},
		{KindIPList, "ipornet", &d.IPLists},
	}
}

// RecordKey gives the natural key of a document of kind.
func RecordKey(kind Kind, doc []byte) (string, error) {
	if kind == KindConfig {
		return "configs", nil
	}
	field := "name"
	for _, o := range new(Dump).Others() {
		if o.Kind == kind {
			field = o.Key
		}
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(doc, &m); err != nil {
		return "", &ValidationError{Kind: string(kind), Field: field, Code: "json", Text: "must be a JSON object: " + err.Error()}
	}
	var key string
	if err := json.Unmarshal(m[field], &key); err != nil || key == "" {
		return "", &ValidationError{Kind: string(kind), Field: field, Code: "required", Text: "must be a text and not empty"}
	}
	if kind == KindIPList { // one address may stand in several lists
		var typ int
		json.Unmarshal(m["type"], &typ)
		key = fmt.Sprintf("%d/%s", typ, key)
	}
	return key, nil
}

// DecodeDump reads a dump of at most limit bytes; 0 means MaxDumpBytes. An error says where the JSON is wrong.
func DecodeDump(r io.Reader, limit int64) (*Dump, error) {
	if limit <= 0 {
		limit = MaxDumpBytes
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read dump: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("dump: larger than %d bytes", limit)
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	d := &Dump{}
	if err := json.Unmarshal(data, d); err != nil {
		at := int64(-1)
		if e, ok := errors.AsType[*json.SyntaxError](err); ok {
			at = e.Offset
		} else if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			at = e.Offset
		}
		if at >= 0 && at <= int64(len(data)) {
			line := 1 + bytes.Count(data[:at], []byte("\n"))
			return nil, fmt.Errorf("dump: line %d: %w", line, err)
		}
		return nil, fmt.Errorf("dump: %w", err)
	}
	if err := d.findUnknown(data); err != nil {
		return nil, fmt.Errorf("dump: %w", err)
	}
	if d.Version != 0 && (d.Version < MinDumpVersion || d.Version > DumpVersion) {
		return nil, fmt.Errorf("dump: version %d is not known; versions %d to %d are read", d.Version, MinDumpVersion, DumpVersion)
	}
	return d, nil
}

// findUnknown fills Unknown. Documents keep what is not known.
func (d *Dump) findUnknown(data []byte) error {
	var raw struct {
		Users   []json.RawMessage `json:"users"`
		Groups  []json.RawMessage `json:"groups"`
		Folders []json.RawMessage `json:"folders"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	seen := map[string]bool{}
	look := func(list string, docs []json.RawMessage, record any) {
		for _, doc := range docs {
			for _, m := range UnknownMembers(doc, record) {
				if path := list + "[]." + m; !seen[path] && len(seen) < maxUnknown {
					seen[path] = true
					d.Unknown = append(d.Unknown, path)
				}
			}
		}
	}
	look("users", raw.Users, User{})
	look("groups", raw.Groups, Group{})
	look("folders", raw.Folders, Folder{})
	return nil
}
