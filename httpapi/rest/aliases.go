package rest

import (
	"net/netip"
	"slices"

	"github.com/valyala/fasthttp"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/admin"
)

// adminAliases are calls that version 2.2 of the API had under other names (rest-api.md 6).
func adminAliases() []Route {
	const of = "calls of 2.2"
	return []Route{
		{Method: put, Path: "/changepwd/admin", Auth: AdminToken, Perm: Any, Run: adminPassword, ID: "oldChangeAdminPassword", Of: of},
		{Method: get, Path: "/defender/bantime", Auth: Admin, Gate: true, Perm: "view_defender", Run: oldBanTime, ID: "oldBanTime", Of: of},
		{Method: get, Path: "/defender/score", Auth: Admin, Gate: true, Perm: "view_defender", Run: oldScore, ID: "oldScore", Of: of},
		{Method: post, Path: "/defender/unban", Auth: Admin, Gate: true, Perm: "manage_defender", Run: oldUnban, ID: "oldUnban", Of: of},
		{Method: get, Path: "/quota-scans", Auth: Admin, Gate: true, Perm: "quota_scans", Run: userScans, ID: "oldQuotaScans", Of: of},
		{Method: post, Path: "/quota-scans", Auth: Admin, Gate: true, Perm: "quota_scans", Run: oldUserScan, ID: "oldStartQuotaScan", Of: of},
		{Method: put, Path: "/quota-update", Auth: Admin, Gate: true, Perm: "edit_users", Run: oldUserUsage, ID: "oldQuotaUpdate", Of: of},
		{Method: get, Path: "/folder-quota-scans", Auth: Admin, Gate: true, Perm: "quota_scans", Run: folderScans, ID: "oldFolderQuotaScans", Of: of},
		{Method: post, Path: "/folder-quota-scans", Auth: Admin, Gate: true, Perm: "quota_scans", Run: oldFolderScan, ID: "oldStartFolderQuotaScan", Of: of},
		{Method: put, Path: "/folder-quota-update", Auth: Admin, Gate: true, Perm: "manage_folders", Run: oldFolderUsage, ID: "oldFolderQuotaUpdate", Of: of},
	}
}

// userAliases are those of users.
func userAliases() []Route {
	const of = "calls of 2.2"
	return []Route{
		{Method: get, Path: "/user/folder", Auth: User, Gate: true, Files: true, Run: listDir, ID: "oldUserFolder", Of: of},
		{Method: get, Path: "/user/file", Auth: User, Gate: true, Files: true, Run: download, ID: "oldUserFile", Of: of},
		{Method: get, Path: "/user/publickeys", Auth: UserToken, Denied: noKeyChanges, Run: oldPublicKeys, ID: "oldPublicKeys", Of: of},
		{Method: put, Path: "/user/publickeys", Auth: UserToken, Gate: true, Denied: noKeyChanges, Run: oldSetPublicKeys, ID: "oldSetPublicKeys", Of: of},
	}
}

// noKeyChanges is the web_client option that keeps a user's public keys as they are.
const noKeyChanges = "publickey-change-disabled"

// oldHost finds the host of a query or body.
func (q *Request) oldHost(text string) (h admin.Host, ok bool, err error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return h, false, badRequest("ip must be an address, it is %q", text)
	}
	list, err := q.API.Deps.Admin.Hosts(q.Actor)
	i := slices.IndexFunc(list, func(h admin.Host) bool { return h.Addr == addr.Unmap() })
	if err != nil || i < 0 {
		return admin.Host{Addr: addr.Unmap()}, false, err
	}
	return list[i], true, nil
}

// banTime is null for a host that is not banned.
type banTime struct {
	DateTime *string `json:"date_time"`
}

func oldBanTime(q *Request) error {
	h, _, err := q.oldHost(q.Query("ip"))
	if err != nil {
		return err
	}
	var out banTime
	if t := shownHost(h).BanTime; t != "" {
		out.DateTime = &t
	}
	return q.JSON(fasthttp.StatusOK, out)
}

type hostScore struct {
	Score int `json:"score"`
}

func oldScore(q *Request) error {
	h, _, err := q.oldHost(q.Query("ip"))
	if err != nil {
		return err
	}
	return q.JSON(fasthttp.StatusOK, hostScore{h.Score})
}

type hostIP struct {
	IP string `json:"ip"`
}

func oldUnban(q *Request) error {
	var in hostIP
	if err := q.Decode(&in); err != nil {
		return err
	}
	h, ok, err := q.oldHost(in.IP)
	if err != nil {
		return err
	}
	if !ok {
		return account.ErrNotFound
	}
	if err := q.API.Deps.Admin.Unban(q.Actor, h.Addr); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "OK")
}

// oldUsage is what is read of the user or folder in the body.
type oldUsage struct {
	Username string `json:"username"`
	Name     string `json:"name"`
	usage
}

// oldKey reads whom a call on quota is about.
func (q *Request) oldKey(kind account.Kind) (key account.CounterKey, u usage, err error) {
	var in oldUsage
	if err := q.Decode(&in); err != nil {
		return key, u, err
	}
	key = account.CounterKey{Kind: kind, Name: in.Username}
	if kind == account.KindFolder {
		key.Name = in.Name
	}
	if key.Name == "" {
		return key, u, badRequest("the body must name the %s", kind)
	}
	return key, in.usage, nil
}

func oldUserScan(q *Request) error   { return oldScan(q, account.KindUser) }
func oldFolderScan(q *Request) error { return oldScan(q, account.KindFolder) }

func oldScan(q *Request, kind account.Kind) error {
	key, _, err := q.oldKey(kind)
	if err != nil {
		return err
	}
	if err := q.API.Deps.Admin.StartScan(q.Context(), q.Actor, key); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusAccepted, "scan started")
}

func oldUserUsage(q *Request) error   { return oldSetUsage(q, account.KindUser) }
func oldFolderUsage(q *Request) error { return oldSetUsage(q, account.KindFolder) }

func oldSetUsage(q *Request, kind account.Kind) error {
	add, err := addMode(q)
	if err != nil {
		return err
	}
	key, u, err := q.oldKey(kind)
	if err != nil {
		return err
	}
	if err := q.API.Deps.Admin.SetUsage(q.Context(), q.Actor, key, admin.Usage{Files: u.UsedQuotaFiles, Bytes: u.UsedQuotaSize, Add: add}); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "quota updated")
}

func oldPublicKeys(q *Request) error {
	p, err := q.API.Deps.Admin.UserProfileOf(q.Context(), q.Login.Username())
	if err != nil {
		return err
	}
	if p.PublicKeys == nil {
		p.PublicKeys = []string{}
	}
	return q.JSON(fasthttp.StatusOK, p.PublicKeys)
}

func oldSetPublicKeys(q *Request) error {
	var keys []string
	if err := q.Decode(&keys); err != nil {
		return err
	}
	if err := q.API.Deps.Admin.SetUserKeys(q.Context(), q.userActor(), keys); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "public keys updated")
}
