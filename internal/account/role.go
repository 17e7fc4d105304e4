package account

import "context"

// Role confines administrators to the users of the same role.
type Role struct {
	ID          int64    `json:"id"`
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	CreatedAt   int64    `json:"created_at"`
	UpdatedAt   int64    `json:"updated_at"`
	Admins      []string `json:"admins,omitempty"` // output only
	Users       []string `json:"users,omitempty"`  // output only
}

// Kind implements Document.
func (o *Role) Kind() Kind { return KindRole }

// Key implements Document.
func (o *Role) Key() string { return o.Name }

// References implements Document.
func (o *Role) References() []Ref { return nil }

// Normalize implements Document.
func (o *Role) Normalize(_ context.Context, r Rules) error {
	o.Name, o.ID, o.Admins, o.Users = r.Name(o.Name), 0, nil, nil
	c := &checker{kind: string(KindRole), name: o.Name}
	if why := r.CheckName(o.Name); why != "" {
		c.bad("name", "name", "%s", why)
	}
	return c.result()
}
