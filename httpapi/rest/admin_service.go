package rest

import (
	"github.com/valyala/fasthttp"
)

// serviceRoutes are the calls about the server itself.
func serviceRoutes() []Route {
	return []Route{
		{Method: get, Path: "/healthz", Root: true, Auth: Public, Run: healthz, ID: "healthz", Of: "service"},
		{Method: get, Path: "/version", Auth: Admin, Perm: Any, Run: versionInfo, ID: "getVersion", Of: "service"},
		{Method: get, Path: "/status", Auth: Admin, Perm: "view_status", Gate: true, Run: status, ID: "getStatus", Of: "service"},
		{Method: get, Path: "/nodes", Auth: Admin, Perm: "view_status", Gate: true, Run: nodes, ID: "getNodes", Of: "service"},
		{Method: get, Path: "/token", Auth: BasicAuth, Run: adminToken, ID: "getToken", Of: "tokens"},
		{Method: get, Path: "/logout", Auth: AdminToken, Perm: Any, Run: logout, ID: "logout", Of: "tokens"},
		{Method: post, Path: "/logout", Auth: AdminToken, Perm: Any, Run: logout, ID: "postLogout", Of: "tokens", Body: 256 << 10},
		{Method: post, Path: "/setup", Auth: Public, Run: setup, ID: "setup", Of: "tokens"},
	}
}

func healthz(q *Request) error {
	q.HTTP.SetContentType("text/plain; charset=utf-8")
	q.HTTP.SetBodyString("ok")
	return nil
}

func versionInfo(q *Request) error { return q.JSON(fasthttp.StatusOK, q.API.Version()) }

func status(q *Request) error { return q.JSON(fasthttp.StatusOK, q.API.Status(q.Context())) }

func nodes(q *Request) error {
	list, err := q.API.Deps.Admin.Nodes(q.Context(), q.Actor)
	if err != nil {
		return err
	}
	return WriteList(q, list, len(list))
}

// setupRequest makes the first administrator.
type setupRequest struct {
	Token            string `json:"token"` // of the start's console
	InstallationCode string `json:"installation_code"`
	Username         string `json:"username"`
	Password         string `json:"password"`
}

// setup is POST /setup, which is ours: see the README.
func setup(q *Request) error {
	var r setupRequest
	if err := q.Decode(&r); err != nil {
		return err
	}
	if code := q.API.cfg.Setup.InstallationCode; code != "" && !same(code, r.InstallationCode) {
		return refuse(fasthttp.StatusUnauthorized, "the installation code is wrong")
	}
	a, err := q.API.Deps.Admin.CreateFirstAdmin(q.Context(), r.Token, r.Username, r.Password, q.Remote.Addr())
	if err != nil {
		return err
	}
	q.Created("admins", a.Username)
	return q.Message(fasthttp.StatusCreated, "the administrator was made")
}
