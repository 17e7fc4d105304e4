package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gantryhq/gantry/internal/account"
)

// Edit says how a record is changed.
type Edit struct {
	// IfMatch are the entity tags of which the record must have one, as in If-Match; "" is any. Without it a change that
	// comes between is no loss: the document replaces what there is.
	IfMatch string
	// Merge takes the document for a JSON merge patch (RFC 7396) of the record as it is shown.
	Merge bool
	// Disconnect ends the live sessions of a user.
	Disconnect bool
}

// tries is how often a change without IfMatch begins anew when another one came between.
const tries = 10

// Tag is the entity tag of a stored version.
func tag(id, version int64) string {
	return `"` + strconv.FormatInt(id, 36) + "-" + strconv.FormatInt(version, 36) + `"`
}

// docTag is the entity tag of a document.
func docTag(doc []byte) string {
	sum := sha256.Sum256(doc)
	return `"` + hex.EncodeToString(sum[:10]) + `"`
}

// matches reports whether one of an If-Match header's tags is the record's. Weak tags match nothing (RFC 9110 13.1.1).
func (e Edit) matches(have string) error {
	if e.IfMatch == "" {
		return nil
	}
	for _, t := range strings.Split(e.IfMatch, ",") {
		if t = strings.TrimSpace(t); t == "*" || t == have {
			return nil
		}
	}
	return account.ErrChanged
}

// again reports whether a change should begin anew.
func (e Edit) again(err error, try int) bool {
	return errors.Is(err, account.ErrChanged) && e.IfMatch == "" && try < tries
}

// decode reads a record's JSON: unknown members are passed over.
func decode(doc []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(doc))
	if err := d.Decode(v); err != nil {
		if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return invalid("the member %q cannot be a JSON %s", t.Field, t.Value)
		}
		return invalid("the body is not the JSON of a record: %v", err)
	}
	return nil
}

// given reports whether a JSON object has a member, whatever it is.
func given(doc []byte, member string) bool {
	var m map[string]json.RawMessage
	if json.Unmarshal(doc, &m) != nil {
		return false
	}
	for k := range m {
		if strings.EqualFold(k, member) {
			return true
		}
	}
	return false
}

// mergePatch applies a JSON merge patch (RFC 7396) to shown, a record as it is shown, and gives the whole document.
func mergePatch(shown any, patch []byte) ([]byte, error) {
	old, err := json.Marshal(shown)
	if err != nil {
		return nil, err
	}
	var target, change any
	if err := json.Unmarshal(old, &target); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(patch))
	d.UseNumber()
	if err := d.Decode(&change); err != nil {
		return nil, invalid("the body is not JSON: %v", err)
	}
	if _, ok := change.(map[string]any); !ok {
		return nil, invalid("a merge patch must be a JSON object")
	}
	return json.Marshal(mergeJSON(target, change))
}

// mergeJSON is MergePatch of RFC 7396 2. A member of another case names the same member, as it does in a whole document.
func mergeJSON(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	t, ok := target.(map[string]any)
	if !ok {
		t = map[string]any{}
	}
	for k, v := range p {
		if _, ok := t[k]; !ok {
			for old := range t {
				if strings.EqualFold(old, k) {
					k = old
				}
			}
		}
		if v == nil {
			delete(t, k)
		} else {
			t[k] = mergeJSON(t[k], v)
		}
	}
	return t
}

// document is a pointer to a record that is kept as a document.
type document[T any] interface {
	*T
	account.Document
}

// getDoc reads a document with its entity tag.
func getDoc[T any, P document[T]](ctx context.Context, s *Service, key string) (P, string, error) {
	d := P(new(T))
	doc, err := s.Store.Record(ctx, d.Kind(), key)
	if err != nil {
		return nil, "", err
	}
	if err := json.Unmarshal(doc, d); err != nil {
		return nil, "", fmt.Errorf("%s %q is damaged: %w", d.Kind(), key, err)
	}
	return d, docTag(doc), nil
}

// listDocs reads a page of documents, without their secrets, and counts them all.
func listDocs[T any, P document[T]](ctx context.Context, s *Service, p account.Page) ([]T, int, error) {
	kind := P(new(T)).Kind()
	total, err := s.Store.Count(ctx, kind, p)
	if err != nil || p.Limit == 0 {
		return nil, total, err
	}
	docs, err := s.Store.ListRecords(ctx, kind, p)
	if err != nil {
		return nil, 0, err
	}
	out := make([]T, len(docs))
	for i, doc := range docs {
		if err := json.Unmarshal(doc, P(&out[i])); err != nil {
			return nil, 0, fmt.Errorf("a %s is damaged: %w", kind, err)
		}
		account.Redact(P(&out[i]))
	}
	return out, total, nil
}

// addDoc stores a new document and gives it as it is stored.
func addDoc[T any, P document[T]](ctx context.Context, s *Service, by *Actor, d P) (P, string, error) {
	if err := account.Add(ctx, s.Store, d); err != nil {
		return nil, "", err
	}
	if err := d.Normalize(ctx, s.Rules); err != nil { // for its key
		return nil, "", err
	}
	stored, etag, err := getDoc[T, P](ctx, s, d.Key())
	if err != nil {
		return nil, "", err
	}
	told := *stored
	s.changed(by, "add", d.Kind(), d.Key(), P(&told))
	return stored, etag, nil
}

// putDoc changes a document: fn gets what is stored and makes the new one of it, which may be the same pointer.
func putDoc[T any, P document[T]](ctx context.Context, s *Service, by *Actor, key string, e Edit, fn func(cur P) (P, error)) (P, error) {
	var next P
	kind := next.Kind()
	err := s.Store.EditRecord(ctx, kind, key, func(doc []byte) ([]byte, error) {
		if err := e.matches(docTag(doc)); err != nil {
			return nil, fmt.Errorf("%s %q: %w", kind, key, err)
		}
		cur := P(new(T))
		if err := json.Unmarshal(doc, cur); err != nil {
			return nil, fmt.Errorf("%s %q is damaged: %w", kind, key, err)
		}
		var created int64
		if c, ok := account.Document(cur).(account.Stamped); ok {
			at, _ := c.Stamps()
			created = *at
		}
		var err error
		if next, err = fn(cur); err != nil {
			return nil, err
		}
		if n, ok := account.Document(next).(account.Stamped); ok {
			at, updated := n.Stamps()
			*at, *updated = created, s.Now().UnixMilli()
		}
		return json.Marshal(next)
	})
	if err != nil {
		return nil, err
	}
	s.changed(by, "update", kind, key, copyOf[T, P](ctx, s, key, next))
	return next, nil
}

// copyOf is the record as it is stored now, for those who are told; or what was to be stored, if it went meanwhile.
func copyOf[T any, P document[T]](ctx context.Context, s *Service, key string, fallback P) P {
	if d, _, err := getDoc[T, P](ctx, s, key); err == nil {
		return d
	}
	return fallback
}

// deleteDoc removes a document.
func deleteDoc[T any, P document[T]](ctx context.Context, s *Service, by *Actor, key string) error {
	d, _, err := getDoc[T, P](ctx, s, key)
	if err != nil {
		return err
	}
	if err := s.Store.DeleteRecord(ctx, d.Kind(), key); err != nil {
		return err
	}
	s.changed(by, "delete", d.Kind(), key, d)
	return nil
}

// namesOf lists those of kind who refer to a record.
func (s *Service) namesOf(ctx context.Context, kind account.Kind, of account.Ref) ([]string, error) {
	return s.Store.Names(ctx, kind, account.Page{Of: of, Limit: 10_000})
}

// covers reports whether an actor holds every one of permissions: nobody grants, or acts for, more than that (ADM-1).
func (a *Actor) covers(permissions []string) bool {
	return !slices.ContainsFunc(permissions, func(p string) bool { return !a.May(p) })
}
