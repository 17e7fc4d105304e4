package rest

import (
	"github.com/valyala/fasthttp"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/admin"
)

// recordRoutes are the calls on records: users, folders, groups, roles, administrators, API keys, event actions and rules.
func recordRoutes() []Route {
	var out []Route
	add := func(r ...Route) { out = append(out, r...) }
	add(usersRoutes()...)
	add(
		Route{Method: get, Path: "/folders", Auth: Admin, Gate: true, Perm: "manage_folders", Run: list((*admin.Service).Folders), ID: "getFolders", Of: "folders"},
		Route{Method: post, Path: "/folders", Auth: Admin, Gate: true, Perm: "manage_folders", Run: addFolder, ID: "addFolder", Of: "folders"},
		Route{Method: get, Path: "/folders/{name}", Auth: Admin, Gate: true, Perm: "manage_folders", Run: one((*admin.Service).Folder), ID: "getFolder", Of: "folders"},
		Route{Method: put, Path: "/folders/{name}", Auth: Admin, Gate: true, Perm: "manage_folders", Run: edit((*admin.Service).PutFolder, false), ID: "updateFolder", Of: "folders"},
		Route{Method: patch, Path: "/folders/{name}", Auth: Admin, Gate: true, Perm: "manage_folders", Run: edit((*admin.Service).PutFolder, true), ID: "patchFolder", Of: "folders"},
		Route{Method: remove, Path: "/folders/{name}", Auth: Admin, Gate: true, Perm: "manage_folders", Run: drop((*admin.Service).DeleteFolder), ID: "deleteFolder", Of: "folders"},

		Route{Method: get, Path: "/groups", Auth: Admin, Gate: true, Perm: "manage_groups", Run: list((*admin.Service).Groups), ID: "getGroups", Of: "groups"},
		Route{Method: post, Path: "/groups", Auth: Admin, Gate: true, Perm: "manage_groups", Run: addGroup, ID: "addGroup", Of: "groups"},
		Route{Method: get, Path: "/groups/{name}", Auth: Admin, Gate: true, Perm: "manage_groups", Run: one((*admin.Service).Group), ID: "getGroup", Of: "groups"},
		Route{Method: put, Path: "/groups/{name}", Auth: Admin, Gate: true, Perm: "manage_groups", Run: edit((*admin.Service).PutGroup, false), ID: "updateGroup", Of: "groups"},
		Route{Method: patch, Path: "/groups/{name}", Auth: Admin, Gate: true, Perm: "manage_groups", Run: edit((*admin.Service).PutGroup, true), ID: "patchGroup", Of: "groups"},
		Route{Method: remove, Path: "/groups/{name}", Auth: Admin, Gate: true, Perm: "manage_groups", Run: drop((*admin.Service).DeleteGroup), ID: "deleteGroup", Of: "groups"},

		Route{Method: get, Path: "/roles", Auth: Admin, Gate: true, Perm: "manage_roles", Run: list((*admin.Service).Roles), ID: "getRoles", Of: "roles"},
		Route{Method: post, Path: "/roles", Auth: Admin, Gate: true, Perm: "manage_roles", Run: addRole, ID: "addRole", Of: "roles"},
		Route{Method: get, Path: "/roles/{name}", Auth: Admin, Gate: true, Perm: "manage_roles", Run: open((*admin.Service).Role), ID: "getRole", Of: "roles"},
		Route{Method: put, Path: "/roles/{name}", Auth: Admin, Gate: true, Perm: "manage_roles", Run: edit((*admin.Service).PutRole, false), ID: "updateRole", Of: "roles"},
		Route{Method: remove, Path: "/roles/{name}", Auth: Admin, Gate: true, Perm: "manage_roles", Run: drop((*admin.Service).DeleteRole), ID: "deleteRole", Of: "roles"},

		Route{Method: get, Path: "/admins", Auth: Admin, Gate: true, Perm: "manage_admins", Run: list((*admin.Service).Admins), ID: "getAdmins", Of: "admins"},
		Route{Method: post, Path: "/admins", Auth: Admin, Gate: true, Perm: "manage_admins", Run: addAdmin, ID: "addAdmin", Of: "admins"},
		Route{Method: get, Path: "/admins/{name}", Auth: Admin, Gate: true, Perm: "manage_admins", Run: open((*admin.Service).Admin), ID: "getAdmin", Of: "admins"},
		Route{Method: put, Path: "/admins/{name}", Auth: Admin, Gate: true, Perm: "manage_admins", Run: edit((*admin.Service).PutAdmin, false), ID: "updateAdmin", Of: "admins"},
		Route{Method: remove, Path: "/admins/{name}", Auth: Admin, Gate: true, Perm: "manage_admins", Run: drop((*admin.Service).DeleteAdmin), ID: "deleteAdmin", Of: "admins"},
		Route{Method: put, Path: "/admins/{name}/2fa/disable", Auth: Admin, Gate: true, Perm: "manage_admins", Run: noFactor((*admin.Service).DisableAdminTOTP), ID: "disableAdmin2FA", Of: "admins"},

		Route{Method: get, Path: "/apikeys", Auth: AdminToken, Perm: "manage_apikeys", Run: list((*admin.Service).APIKeys), ID: "getAPIKeys", Of: "API keys"},
		Route{Method: post, Path: "/apikeys", Auth: AdminToken, Perm: "manage_apikeys", Run: addAPIKey, ID: "addAPIKey", Of: "API keys"},
		Route{Method: get, Path: "/apikeys/{name}", Auth: AdminToken, Perm: "manage_apikeys", Run: open((*admin.Service).APIKey), ID: "getAPIKey", Of: "API keys"},
		Route{Method: put, Path: "/apikeys/{name}", Auth: AdminToken, Perm: "manage_apikeys", Run: edit((*admin.Service).PutAPIKey, false), ID: "updateAPIKey", Of: "API keys"},
		Route{Method: remove, Path: "/apikeys/{name}", Auth: AdminToken, Perm: "manage_apikeys", Run: drop((*admin.Service).DeleteAPIKey), ID: "deleteAPIKey", Of: "API keys"},

		Route{Method: get, Path: "/eventactions", Auth: Admin, Gate: true, Perm: "manage_event_rules", Run: list((*admin.Service).EventActions), ID: "getEventActions", Of: "event manager"},
		Route{Method: post, Path: "/eventactions", Auth: Admin, Gate: true, Perm: "manage_event_rules", Run: addEventAction, ID: "addEventAction", Of: "event manager"},
		Route{Method: get, Path: "/eventactions/{name}", Auth: Admin, Gate: true, Perm: "manage_event_rules", Run: one((*admin.Service).EventAction), ID: "getEventAction", Of: "event manager"},
		Route{Method: put, Path: "/eventactions/{name}", Auth: Admin, Gate: true, Perm: "manage_event_rules", Run: edit((*admin.Service).PutEventAction, false), ID: "updateEventAction", Of: "event manager"},
		Route{Method: remove, Path: "/eventactions/{name}", Auth: Admin, Gate: true, Perm: "manage_event_rules", Run: drop((*admin.Service).DeleteEventAction), ID: "deleteEventAction", Of: "event manager"},
		Route{Method: get, Path: "/eventrules", Auth: Admin, Gate: true, Perm: "manage_event_rules", Run: list((*admin.Service).EventRules), ID: "getEventRules", Of: "event manager"},
		Route{Method: post, Path: "/eventrules", Auth: Admin, Gate: true, Perm: "manage_event_rules", Run: addEventRule, ID: "addEventRule", Of: "event manager"},
		Route{Method: get, Path: "/eventrules/{name}", Auth: Admin, Gate: true, Perm: "manage_event_rules", Run: open((*admin.Service).EventRule), ID: "getEventRule", Of: "event manager"},
		Route{Method: put, Path: "/eventrules/{name}", Auth: Admin, Gate: true, Perm: "manage_event_rules", Run: edit((*admin.Service).PutEventRule, false), ID: "updateEventRule", Of: "event manager"},
		Route{Method: remove, Path: "/eventrules/{name}", Auth: Admin, Gate: true, Perm: "manage_event_rules", Run: drop((*admin.Service).DeleteEventRule), ID: "deleteEventRule", Of: "event manager"},
	)
	return out
}

func usersRoutes() []Route {
	return []Route{
		{Method: get, Path: "/users", Auth: Admin, Gate: true, Perm: "view_users", Run: list((*admin.Service).Users), ID: "getUsers", Of: "users"},
		{Method: post, Path: "/users", Auth: Admin, Gate: true, Perm: "add_users", Run: addUser, ID: "addUser", Of: "users"},
		{Method: get, Path: "/users/{name}", Auth: Admin, Gate: true, Perm: "view_users", Run: one((*admin.Service).User), ID: "getUser", Of: "users"},
		{Method: put, Path: "/users/{name}", Auth: Admin, Gate: true, Perm: "edit_users", Run: edit((*admin.Service).PutUser, false), ID: "updateUser", Of: "users"},
		{Method: patch, Path: "/users/{name}", Auth: Admin, Gate: true, Perm: "edit_users", Run: edit((*admin.Service).PutUser, true), ID: "patchUser", Of: "users"},
		{Method: remove, Path: "/users/{name}", Auth: Admin, Gate: true, Perm: "del_users", Run: drop((*admin.Service).DeleteUser), ID: "deleteUser", Of: "users"},
		{Method: put, Path: "/users/{name}/2fa/disable", Auth: Admin, Gate: true, Perm: "disable_mfa", Run: noFactor((*admin.Service).DisableUserTOTP), ID: "disableUser2FA", Of: "users"},
	}
}

// The names of admin's operations. Each handler is made of one.
type (
	lister[T any]  = func(s *admin.Service, ctx ctxT, by *admin.Actor, p account.Page) ([]T, int, error)
	getter[T any]  = func(s *admin.Service, ctx ctxT, by *admin.Actor, name string, confidential bool) (T, string, error)
	opener[T any]  = func(s *admin.Service, ctx ctxT, by *admin.Actor, name string) (T, string, error)
	editor         = func(s *admin.Service, ctx ctxT, by *admin.Actor, name string, doc []byte, e admin.Edit) error
	dropper        = func(s *admin.Service, ctx ctxT, by *admin.Actor, name string) error
	adder[T any]   = func(s *admin.Service, ctx ctxT, by *admin.Actor, doc []byte, confidential bool) (T, string, error)
	adderer[T any] = func(s *admin.Service, ctx ctxT, by *admin.Actor, doc []byte) (T, string, error)
)

// list makes the handler of a list.
func list[T any](op lister[T]) func(q *Request) error {
	return func(q *Request) error {
		p, err := q.Page()
		if err != nil {
			return err
		}
		out, total, err := op(q.API.Deps.Admin, q.Context(), q.Actor, p)
		if err != nil {
			return err
		}
		return WriteList(q, out, total)
	}
}

// one makes the handler of one record that may be shown with its secrets.
func one[T any](op getter[T]) func(q *Request) error {
	return func(q *Request) error {
		v, etag, err := op(q.API.Deps.Admin, q.Context(), q.Actor, q.Param("name"), q.confidential())
		return q.tagged(fasthttp.StatusOK, v, etag, err)
	}
}

// open makes the handler of one record.
func open[T any](op opener[T]) func(q *Request) error {
	return func(q *Request) error {
		v, etag, err := op(q.API.Deps.Admin, q.Context(), q.Actor, q.Param("name"))
		return q.tagged(fasthttp.StatusOK, v, etag, err)
	}
}

// edit makes the handler of a change.
func edit(op editor, merge bool) func(q *Request) error {
	return func(q *Request) error {
		doc, err := q.ReadAll()
		if err != nil {
			return err
		}
		e := admin.Edit{IfMatch: q.Header("If-Match"), Merge: merge, Disconnect: q.Query("disconnect") == "1"}
		if err := op(q.API.Deps.Admin, q.Context(), q.Actor, q.Param("name"), doc, e); err != nil {
			return err
		}
		return q.Message(fasthttp.StatusOK, "updated")
	}
}

// drop makes the handler of a removal.
func drop(op dropper) func(q *Request) error {
	return func(q *Request) error {
		if err := op(q.API.Deps.Admin, q.Context(), q.Actor, q.Param("name")); err != nil {
			return err
		}
		return q.Message(fasthttp.StatusOK, "deleted")
	}
}

// noFactor makes the handler that switches a second factor off.
func noFactor(op dropper) func(q *Request) error {
	return func(q *Request) error {
		if err := op(q.API.Deps.Admin, q.Context(), q.Actor, q.Param("name")); err != nil {
			return err
		}
		return q.Message(fasthttp.StatusOK, "two-factor authentication disabled")
	}
}

// add answers with what was made. path is the collection's, key its name in it.
func add[T any](q *Request, op adder[T], path string, key func(T) string) error {
	doc, err := q.ReadAll()
	if err != nil {
		return err
	}
	v, etag, err := op(q.API.Deps.Admin, q.Context(), q.Actor, doc, q.confidential())
	if err == nil {
		q.Created(path, key(v))
	}
	return q.tagged(fasthttp.StatusCreated, v, etag, err)
}

// plain gives an operation without secrets the form of the others.
func plain[T any](op adderer[T]) adder[T] {
	return func(s *admin.Service, ctx ctxT, by *admin.Actor, doc []byte, _ bool) (T, string, error) {
		return op(s, ctx, by, doc)
	}
}

// confidential reports whether secrets are asked for.
func (q *Request) confidential() bool { return q.Query("confidential_data") == "1" }

// tagged answers with a record and its entity tag. A GET whose If-None-Match has it is answered without the record.
func (q *Request) tagged(status int, v any, etag string, err error) error {
	if err != nil {
		return err
	}
	q.SetHeader("ETag", etag)
	if q.Route.Method == get && q.Header("If-None-Match") == etag {
		q.HTTP.SetStatusCode(fasthttp.StatusNotModified)
		return nil
	}
	return q.JSON(status, v)
}

func addUser(q *Request) error {
	return add(q, (*admin.Service).AddUser, "users", func(u *account.User) string { return u.Username })
}

func addFolder(q *Request) error {
	return add(q, (*admin.Service).AddFolder, "folders", func(f *account.Folder) string { return f.Name })
}

func addGroup(q *Request) error {
	return add(q, (*admin.Service).AddGroup, "groups", func(g *account.Group) string { return g.Name })
}

func addRole(q *Request) error {
	return add(q, plain((*admin.Service).AddRole), "roles", func(r *account.Role) string { return r.Name })
}

func addAdmin(q *Request) error {
	return add(q, plain((*admin.Service).AddAdmin), "admins", func(a *account.Admin) string { return a.Username })
}

func addEventAction(q *Request) error {
	return add(q, (*admin.Service).AddEventAction, "eventactions", func(a *account.EventAction) string { return a.Name })
}

func addEventRule(q *Request) error {
	return add(q, plain((*admin.Service).AddEventRule), "eventrules", func(r *admin.Rule) string { return r.Name })
}

// addAPIKey shows the key this once.
func addAPIKey(q *Request) error {
	doc, err := q.ReadAll()
	if err != nil {
		return err
	}
	k, text, err := q.API.Deps.Admin.AddAPIKey(q.Context(), q.Actor, doc)
	if err != nil {
		return err
	}
	q.Created("apikeys", k.ID)
	q.SetHeader("X-Object-ID", k.ID)
	return q.JSON(fasthttp.StatusCreated, struct {
		Message string `json:"message"`
		Key     string `json:"key"`
	}{"API key created. This is the only time that it is shown", text})
}
