package account

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Ref is a reference of a record to another one; the store refuses a dangling one.
type Ref struct {
	Kind Kind
	Name string
	At   string // the field, for the error
}

// Document is a typed record that Records keeps as JSON: *Admin, *Role, *APIKey, *Share, *EventAction,
// *EventRule, *IPListEntry and *Configs.
type Document interface {
	Kind() Kind
	Key() string // the natural key; meaningful once normalised
	// Normalize checks the record and brings it to its stored form: passwords hashed, secrets sealed.
	Normalize(ctx context.Context, r Rules) error
	// References lists what must exist.
	References() []Ref
}

// Stamped is a Document with the times (ms) of its making and last change, which the store sets.
type Stamped interface {
	Document
	Stamps() (created, updated *int64)
}

// Stamps implements Stamped.
func (o *Role) Stamps() (created, updated *int64) { return &o.CreatedAt, &o.UpdatedAt }

// Stamps implements Stamped.
func (a *Admin) Stamps() (created, updated *int64) { return &a.CreatedAt, &a.UpdatedAt }

// Stamps implements Stamped.
func (k *APIKey) Stamps() (created, updated *int64) { return &k.CreatedAt, &k.UpdatedAt }

// Stamps implements Stamped.
func (s *Share) Stamps() (created, updated *int64) { return &s.CreatedAt, &s.UpdatedAt }

// Stamps implements Stamped.
func (e *EventRule) Stamps() (created, updated *int64) { return &e.CreatedAt, &e.UpdatedAt }

// Stamps implements Stamped.
func (e *IPListEntry) Stamps() (created, updated *int64) { return &e.CreatedAt, &e.UpdatedAt }

// Numbered reports whether records of kind show the number that the store gave them, as "id". Those whose id is their
// key do not.
func Numbered(kind Kind) bool {
	switch kind {
	case KindAdmin, KindRole, KindAction, KindRule:
		return true
	}
	return false
}

// NewDocument gives an empty record of kind, or nil if kind is not kept as a document.
func NewDocument(kind Kind) Document {
	switch kind {
	case KindAdmin:
		return &Admin{}
	case KindRole:
		return &Role{}
	case KindAPIKey:
		return &APIKey{}
	case KindShare:
		return &Share{}
	case KindAction:
		return &EventAction{}
	case KindRule:
		return &EventRule{}
	case KindIPList:
		return &IPListEntry{}
	case KindConfig:
		return &Configs{}
	}
	return nil
}

// DecodeDocument reads the JSON of a record of kind.
func DecodeDocument(kind Kind, doc []byte) (Document, error) {
	d := NewDocument(kind)
	if d == nil {
		return nil, fmt.Errorf("%s is not kept as a document", kind)
	}
	if err := json.Unmarshal(doc, d); err != nil {
		return nil, &ValidationError{Kind: string(kind), Field: "", Code: "json", Text: err.Error()}
	}
	return d, nil
}

// EncodeDocument gives the stored form of d. Members of original (the JSON that d was read from, or nil)
// that d's type does not know are kept.
func EncodeDocument(d Document, original []byte) ([]byte, error) {
	doc, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode %s %q: %w", d.Kind(), d.Key(), err)
	}
	var old map[string]json.RawMessage
	if json.Unmarshal(original, &old) != nil || len(old) == 0 {
		return doc, nil
	}
	known := jsonFields(reflect.TypeOf(d).Elem())
	var extra map[string]json.RawMessage
	for name, v := range old {
		if _, ok := lookupField(known, name); ok {
			continue
		}
		if extra == nil {
			if err := json.Unmarshal(doc, &extra); err != nil {
				return nil, fmt.Errorf("encode %s %q: %w", d.Kind(), d.Key(), err)
			}
		}
		extra[name] = v
	}
	if extra == nil {
		return doc, nil
	}
	return json.Marshal(extra)
}

// Get reads the typed record with this key: account.Get[account.Admin](ctx, store, "root").
func Get[T any, P interface {
	*T
	Document
}](ctx context.Context, s Records, key string) (T, error) {
	var out T
	doc, err := s.Record(ctx, P(&out).Kind(), key)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(doc, &out); err != nil {
		return out, fmt.Errorf("%s %q is damaged: %w", P(&out).Kind(), key, err)
	}
	return out, nil
}

// Add stores a new record; Update replaces one.
func Add(ctx context.Context, s Records, d Document) error {
	doc, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return s.AddRecord(ctx, d.Kind(), doc)
}

// Update replaces a record. Secrets that are Redacted keep what is stored.
func Update(ctx context.Context, s Records, d Document) error {
	doc, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return s.UpdateRecord(ctx, d.Kind(), doc)
}

// Edit changes the record with this key in one transaction: fn gets what is stored and changes it. An error of fn ends it
// without a change and is given back. The time of the last change stays.
func Edit[T any, P interface {
	*T
	Document
}](ctx context.Context, s Records, key string, fn func(d P) error) error {
	return s.EditRecord(ctx, P(new(T)).Kind(), key, func(doc []byte) ([]byte, error) {
		d := P(new(T))
		if err := json.Unmarshal(doc, d); err != nil {
			return nil, fmt.Errorf("%s %q is damaged: %w", d.Kind(), key, err)
		}
		if err := fn(d); err != nil {
			return nil, err
		}
		if d.Key() != key {
			return nil, fmt.Errorf("edit %s %q: the key cannot change", d.Kind(), key)
		}
		return json.Marshal(d)
	})
}

// UnknownMembers lists the paths of the JSON members of doc that the type of v does not have, sorted.
func UnknownMembers(doc []byte, v any) []string {
	var tree any
	if json.Unmarshal(doc, &tree) != nil {
		return nil
	}
	var out []string
	unknown(tree, reflect.TypeOf(v), "", &out)
	slices.Sort(out)
	return slices.Compact(out)
}

func unknown(tree any, t reflect.Type, at string, out *[]string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch v := tree.(type) {
	case []any:
		if t.Kind() == reflect.Slice {
			for _, e := range v {
				unknown(e, t.Elem(), at+"[]", out)
			}
		}
	case map[string]any:
		if t.Kind() != reflect.Struct {
			return // a map of the administrator's own keys
		}
		known := jsonFields(t)
		for name, e := range v {
			path := strings.TrimPrefix(at+"."+name, ".")
			if ft, ok := lookupField(known, name); ok {
				unknown(e, ft, path, out)
			} else {
				*out = append(*out, path)
			}
		}
	}
}

// jsonFields gives the members of a struct's JSON with their types.
func jsonFields(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-":
		case f.Anonymous && name == "":
			for k, v := range jsonFields(f.Type) {
				out[k] = v
			}
		case name != "":
			out[name] = f.Type
		}
	}
	return out
}

// lookupField finds a member as encoding/json does: exactly, or in another case.
func lookupField(known map[string]reflect.Type, name string) (reflect.Type, bool) {
	if t, ok := known[name]; ok {
		return t, true
	}
	for k, t := range known {
		if strings.EqualFold(k, name) {
			return t, true
		}
	}
	return nil, false
}
