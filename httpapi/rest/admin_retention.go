package rest

import (
	"github.com/valyala/fasthttp"

	"github.com/gantryhq/gantry/internal/account"
)

// retentionRoutes are the calls on the removal of old files.
func retentionRoutes() []Route {
	return []Route{
		{Method: get, Path: "/retention/users/checks", Auth: Admin, Gate: true, Perm: "retention_checks", Run: retentionChecks, ID: "getRetentionChecks", Of: "retention"},
		{Method: post, Path: "/retention/users/{name}/check", Auth: Admin, Gate: true, Perm: "retention_checks", Run: startRetention, ID: "startRetentionCheck", Of: "retention"},
	}
}

// retentionCheck is one under way.
type retentionCheck struct {
	Username  string                    `json:"username"`
	Folders   []account.FolderRetention `json:"folders"`
	StartTime int64                     `json:"start_time"`
}

func retentionChecks(q *Request) error {
	list, err := q.API.Deps.Admin.RetentionChecks(q.Context(), q.Actor)
	if err != nil {
		return err
	}
	out := make([]retentionCheck, 0, len(list))
	for _, c := range list {
		out = append(out, retentionCheck{c.Username, c.Folders, c.Started.UnixMilli()})
	}
	return WriteList(q, out, len(out))
}

func startRetention(q *Request) error {
	if q.Query("notifications") != "" {
		return badRequest("notifications of retention checks are not built; look for the end of the check in the list of checks and in the log")
	}
	var folders []account.FolderRetention
	if err := q.Decode(&folders); err != nil {
		return err
	}
	if err := q.API.Deps.Admin.StartRetention(q.Context(), q.Actor, q.Param("name"), folders); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusAccepted, "check started")
}
