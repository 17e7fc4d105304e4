package rest

import (
	"context"
	"encoding/hex"
	"net/netip"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/admin"
	"github.com/gantryhq/gantry/internal/session"
)

type ctxT = context.Context

// workRoutes are the calls on what the server does: connections, bans, lists, counts, dumps.
func workRoutes() []Route {
	return []Route{
		{Method: get, Path: "/connections", Auth: Admin, Gate: true, Perm: "view_conns", Run: connections, ID: "getConnections", Of: "connections"},
		{Method: remove, Path: "/connections/{id}", Auth: Admin, Gate: true, Perm: "close_conns", Run: closeConnection, ID: "closeConnection", Of: "connections"},

		{Method: get, Path: "/defender/hosts", Auth: Admin, Gate: true, Perm: "view_defender", Run: defenderHosts, ID: "getDefenderHosts", Of: "defender"},
		{Method: get, Path: "/defender/hosts/{id}", Auth: Admin, Gate: true, Perm: "view_defender", Run: defenderHost, ID: "getDefenderHost", Of: "defender"},
		{Method: remove, Path: "/defender/hosts/{id}", Auth: Admin, Gate: true, Perm: "manage_defender", Run: unban, ID: "deleteDefenderHost", Of: "defender"},

		{Method: get, Path: "/iplists/{type}", Auth: Admin, Gate: true, Perm: "manage_ip_lists", Run: ipList, ID: "getIPList", Of: "IP lists"},
		{Method: post, Path: "/iplists/{type}", Auth: Admin, Gate: true, Perm: "manage_ip_lists", Run: addIPListEntry, ID: "addIPListEntry", Of: "IP lists"},
		{Method: get, Path: "/iplists/{type}/{ipornet}", Auth: Admin, Gate: true, Perm: "manage_ip_lists", Run: ipListEntry, ID: "getIPListEntry", Of: "IP lists"},
		{Method: put, Path: "/iplists/{type}/{ipornet}", Auth: Admin, Gate: true, Perm: "manage_ip_lists", Run: putIPListEntry, ID: "updateIPListEntry", Of: "IP lists"},
		{Method: remove, Path: "/iplists/{type}/{ipornet}", Auth: Admin, Gate: true, Perm: "manage_ip_lists", Run: dropIPListEntry, ID: "deleteIPListEntry", Of: "IP lists"},

		{Method: get, Path: "/quotas/users/scans", Auth: Admin, Gate: true, Perm: "quota_scans", Run: userScans, ID: "getUserQuotaScans", Of: "quota"},
		{Method: post, Path: "/quotas/users/{name}/scan", Auth: Admin, Gate: true, Perm: "quota_scans", Run: scanUser, ID: "startUserQuotaScan", Of: "quota"},
		{Method: put, Path: "/quotas/users/{name}/usage", Auth: Admin, Gate: true, Perm: "edit_users", Run: userUsage, ID: "updateUserQuotaUsage", Of: "quota"},
		{Method: put, Path: "/quotas/users/{name}/transfer-usage", Auth: Admin, Gate: true, Perm: "edit_users", Run: transferUsage, ID: "updateUserTransferUsage", Of: "quota"},
		{Method: get, Path: "/quotas/folders/scans", Auth: Admin, Gate: true, Perm: "quota_scans", Run: folderScans, ID: "getFolderQuotaScans", Of: "quota"},
		{Method: post, Path: "/quotas/folders/{name}/scan", Auth: Admin, Gate: true, Perm: "quota_scans", Run: scanFolder, ID: "startFolderQuotaScan", Of: "quota"},
		{Method: put, Path: "/quotas/folders/{name}/usage", Auth: Admin, Gate: true, Perm: "manage_folders", Run: folderUsage, ID: "updateFolderQuotaUsage", Of: "quota"},

		{Method: post, Path: "/fs/check", Auth: Admin, Gate: true, Perm: "edit_users|manage_folders", Run: checkFilesystem, ID: "checkFilesystem", Of: "storages"},

		{Method: get, Path: "/dumpdata", Auth: Admin, Gate: true, Perm: PermAny, Run: dumpData, ID: "dumpData", Of: "maintenance"},
		{Method: post, Path: "/dumpdata", Auth: Admin, Gate: true, Perm: PermAny, Run: dumpData, ID: "postDumpData", Of: "maintenance"},
		{Method: get, Path: "/loaddata", Auth: Admin, Gate: true, Perm: PermAny, Run: loadFile, ID: "loadDataFile", Of: "maintenance"},
		{Method: post, Path: "/loaddata", Auth: Admin, Gate: true, Perm: PermAny, Run: loadData, Body: admin.MaxRestore, ID: "loadData", Of: "maintenance"},
	}
}

// transfer is a file on its way.
type transfer struct {
	Operation string `json:"operation_type"`
	Path      string `json:"path"`
	StartTime int64  `json:"start_time"` // ms
	Size      int64  `json:"size"`       // bytes moved
}

// connection is a live session.
type connection struct {
	Username       string     `json:"username"`
	ConnectionID   string     `json:"connection_id"`
	ClientVersion  string     `json:"client_version,omitempty"`
	RemoteAddress  string     `json:"remote_address"`
	ConnectionTime int64      `json:"connection_time"` // ms, as all times
	LastActivity   int64      `json:"last_activity"`
	CurrentTime    int64      `json:"current_time"`
	Protocol       string     `json:"protocol"`
	Transfers      []transfer `json:"active_transfers,omitempty"`
	Command        string     `json:"command,omitempty"`
}

func connections(q *Request) error {
	list, err := q.API.Deps.Admin.Connections(q.Actor)
	if err != nil {
		return err
	}
	now := q.API.Now().UnixMilli()
	out := make([]connection, 0, len(list))
	for _, i := range list {
		out = append(out, shownConnection(i, now))
	}
	return WriteList(q, out, len(out))
}

func shownConnection(i session.Info, now int64) connection {
	c := connection{
		Username: i.Username, ConnectionID: i.ID, ClientVersion: i.Client, RemoteAddress: i.Remote, ConnectionTime: i.Started.UnixMilli(),
		LastActivity: i.LastActivity.UnixMilli(), CurrentTime: now, Protocol: i.Protocol, Command: i.Command,
	}
	for _, t := range i.Transfers {
		c.Transfers = append(c.Transfers, transfer{t.Operation, t.Path, t.Started.UnixMilli(), t.Bytes})
	}
	return c
}

func closeConnection(q *Request) error {
	if err := q.API.Deps.Admin.CloseConnection(q.Actor, q.Param("id")); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "connection closed")
}

// host is an entry of the defender.
type host struct {
	ID      string `json:"id"` // hexadecimal of the address's text
	IP      string `json:"ip"`
	Score   int    `json:"score,omitempty"`
	BanTime string `json:"ban_time,omitempty"`
}

func shownHost(h admin.Host) host {
	ip := h.Addr.String()
	out := host{ID: hex.EncodeToString([]byte(ip)), IP: ip, Score: h.Score}
	if !h.Ban.IsZero() {
		out.BanTime = h.Ban.UTC().Format(time.RFC3339)
	}
	return out
}

func defenderHosts(q *Request) error {
	list, err := q.API.Deps.Admin.Hosts(q.Actor)
	if err != nil {
		return err
	}
	out := make([]host, 0, len(list))
	for _, h := range list {
		out = append(out, shownHost(h))
	}
	return WriteList(q, out, len(out))
}

// hostParam reads the id of a host.
func hostParam(q *Request) (netip.Addr, error) {
	raw, err := hex.DecodeString(q.Param("id"))
	if err != nil {
		return netip.Addr{}, badRequest("the id must be the hexadecimal text of an address")
	}
	a, err := netip.ParseAddr(string(raw))
	if err != nil {
		return netip.Addr{}, badRequest("the id is not that of an address")
	}
	return a.Unmap(), nil
}

func defenderHost(q *Request) error {
	addr, err := hostParam(q)
	if err != nil {
		return err
	}
	list, err := q.API.Deps.Admin.Hosts(q.Actor)
	if err != nil {
		return err
	}
	for _, h := range list {
		if h.Addr == addr {
			return q.JSON(fasthttp.StatusOK, shownHost(h))
		}
	}
	return account.ErrNotFound
}

func unban(q *Request) error {
	addr, err := hostParam(q)
	if err != nil {
		return err
	}
	if err := q.API.Deps.Admin.Unban(q.Actor, addr); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "deleted")
}

// listParam reads the number of an IP list.
func listParam(q *Request) (int, error) {
	switch t := q.Param("type"); t {
	case "1", "2", "3":
		return int(t[0] - '0'), nil
	default:
		return 0, badRequest("there are the IP lists 1 (allow list), 2 (defender) and 3 (rate limiters' safe list), not %q", t)
	}
}

func ipList(q *Request) error {
	n, err := listParam(q)
	if err != nil {
		return err
	}
	p, err := q.Page()
	if err != nil {
		return err
	}
	p.Offset = 0 // these lists are paged by key
	list, total, err := q.API.Deps.Admin.IPList(q.Context(), q.Actor, n, q.Query("from"), q.Query("filter"), p)
	if err != nil {
		return err
	}
	return WriteList(q, list, total)
}

func ipListEntry(q *Request) error {
	n, err := listParam(q)
	if err != nil {
		return err
	}
	e, etag, err := q.API.Deps.Admin.IPListEntry(q.Context(), q.Actor, n, q.Param("ipornet"))
	return q.tagged(fasthttp.StatusOK, e, etag, err)
}

func addIPListEntry(q *Request) error {
	n, err := listParam(q)
	if err != nil {
		return err
	}
	doc, err := q.ReadAll()
	if err != nil {
		return err
	}
	e, err := q.API.Deps.Admin.AddIPListEntry(q.Context(), q.Actor, n, doc)
	if err != nil {
		return err
	}
	q.Created("iplists", q.Param("type"), e.IPOrNet)
	return q.Message(fasthttp.StatusCreated, "added")
}

func putIPListEntry(q *Request) error {
	n, err := listParam(q)
	if err != nil {
		return err
	}
	doc, err := q.ReadAll()
	if err != nil {
		return err
	}
	if err := q.API.Deps.Admin.PutIPListEntry(q.Context(), q.Actor, n, q.Param("ipornet"), doc, admin.Edit{IfMatch: q.Header("If-Match")}); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "updated")
}

func dropIPListEntry(q *Request) error {
	n, err := listParam(q)
	if err != nil {
		return err
	}
	if err := q.API.Deps.Admin.DeleteIPListEntry(q.Context(), q.Actor, n, q.Param("ipornet")); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "deleted")
}

// userScan and folderScan are counts under way.
type userScan struct {
	Username  string `json:"username"`
	StartTime int64  `json:"start_time"`
}

type folderScan struct {
	Name      string `json:"name"`
	StartTime int64  `json:"start_time"`
}

func userScans(q *Request) error {
	list, err := q.API.Deps.Admin.Scans(q.Context(), q.Actor, account.KindUser)
	if err != nil {
		return err
	}
	out := make([]userScan, 0, len(list))
	for _, x := range list {
		out = append(out, userScan{x.Name, x.Started.UnixMilli()})
	}
	return WriteList(q, out, len(out))
}

func folderScans(q *Request) error {
	list, err := q.API.Deps.Admin.Scans(q.Context(), q.Actor, account.KindFolder)
	if err != nil {
		return err
	}
	out := make([]folderScan, 0, len(list))
	for _, x := range list {
		out = append(out, folderScan{x.Name, x.Started.UnixMilli()})
	}
	return WriteList(q, out, len(out))
}

func scanUser(q *Request) error   { return scan(q, account.KindUser) }
func scanFolder(q *Request) error { return scan(q, account.KindFolder) }

func scan(q *Request, kind account.Kind) error {
	if err := q.API.Deps.Admin.StartScan(q.Context(), q.Actor, account.CounterKey{Kind: kind, Name: q.Param("name")}); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusAccepted, "scan started")
}

// addMode reads the mode of a usage call.
func addMode(q *Request) (add bool, err error) {
	switch m := q.Query("mode"); m {
	case "", "reset":
		return false, nil
	case "add":
		return true, nil
	default:
		return false, badRequest("mode must be add or reset, it is %q", m)
	}
}

// usage is the body of the usage calls.
type usage struct {
	UsedQuotaSize  int64 `json:"used_quota_size"`
	UsedQuotaFiles int   `json:"used_quota_files"`
}

func userUsage(q *Request) error   { return setUsage(q, account.KindUser) }
func folderUsage(q *Request) error { return setUsage(q, account.KindFolder) }

func setUsage(q *Request, kind account.Kind) error {
	add, err := addMode(q)
	if err != nil {
		return err
	}
	var u usage
	if err := q.Decode(&u); err != nil {
		return err
	}
	key := account.CounterKey{Kind: kind, Name: q.Param("name")}
	if err := q.API.Deps.Admin.SetUsage(q.Context(), q.Actor, key, admin.Usage{Files: u.UsedQuotaFiles, Bytes: u.UsedQuotaSize, Add: add}); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "quota updated")
}

// transfersUsed is the body of the transfer usage call, in bytes.
type transfersUsed struct {
	Up   int64 `json:"used_upload_data_transfer"`
	Down int64 `json:"used_download_data_transfer"`
}

func transferUsage(q *Request) error {
	add, err := addMode(q)
	if err != nil {
		return err
	}
	var u transfersUsed
	if err := q.Decode(&u); err != nil {
		return err
	}
	if err := q.API.Deps.Admin.SetTransferUsage(q.Context(), q.Actor, q.Param("name"), admin.Usage{Up: u.Up, Down: u.Down, Add: add}); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "quota updated")
}

// checkFilesystem answers 200 also when the storage fails: what was asked for is the report.
func checkFilesystem(q *Request) error {
	var c admin.StorageCheck
	if err := q.Decode(&c); err != nil {
		return err
	}
	out, err := q.API.Deps.Admin.CheckStorage(q.Context(), q.Actor, c)
	if err != nil {
		return err
	}
	return q.JSON(fasthttp.StatusOK, out)
}

func dumpData(q *Request) error {
	var scopes []string
	if text := q.Query("scopes"); text != "" {
		scopes = strings.Split(text, ",")
	}
	if q.Query("output-data") != "1" {
		if err := q.API.Deps.Admin.DumpTo(q.Context(), q.Actor, q.Query("output-file"), q.Query("indent") == "1", scopes); err != nil {
			return err
		}
		return q.Message(fasthttp.StatusOK, "data saved")
	}
	d, err := q.API.Deps.Admin.Dump(q.Context(), q.Actor, scopes)
	if err != nil {
		return err
	}
	q.SetHeader("Content-Disposition", `attachment; filename="gantry-backup.json"`)
	return q.JSON(fasthttp.StatusOK, d)
}

// restore reads how a dump is to be loaded.
func restore(q *Request) (r admin.Restore, err error) {
	if r.Scan, err = q.QueryInt("scan-quota", 0); err != nil {
		return r, err
	}
	r.Mode, err = q.QueryInt("mode", 0)
	return r, err
}

func loadFile(q *Request) error {
	r, err := restore(q)
	if err != nil {
		return err
	}
	if err := q.API.Deps.Admin.LoadFile(q.Context(), q.Actor, q.Query("input-file"), r); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "data restored")
}

// loadData takes a dump, or as POST beside the GET the name of a file.
func loadData(q *Request) error {
	if q.Query("input-file") != "" {
		return loadFile(q)
	}
	r, err := restore(q)
	if err != nil {
		return err
	}
	data, err := q.ReadAll()
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return badRequest("the body is empty, a dump is needed")
	}
	if err := q.API.Deps.Admin.Load(q.Context(), q.Actor, data, r); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "data restored")
}
