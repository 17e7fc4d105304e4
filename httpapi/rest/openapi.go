package rest

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"
	"go.yaml.in/yaml/v3"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/admin"
)

// openapiYAML is the document. A test holds it against the routes and the types that handlers read and write, and writes
// it anew when asked to (see TestDocument).
//
//go:embed openapi.yaml
var openapiYAML []byte

// operation is what the document says of a route beside what its row says.
type operation struct {
	what   string // one line
	more   string
	query  []param
	header []param
	in     any    // a value of the body's type, or rawBody; nil for none
	out    any    // of the answer's; nil for the envelope
	status int    // of success; 0 is 200
	also   []int  // statuses of failure beside those that every call of its kind has
	kind   string // media type of out where that is not JSON
}

// rawBody is a body that is no JSON.
type rawBody struct{ kind, what string }

// param is a parameter of the query or a header.
type param struct {
	name, kind, what string
	values           []any
	required         bool
}

// The parameters of lists.
func pages() []param {
	return []param{
		{name: "offset", kind: "integer", what: "records to pass over"},
		{name: "limit", kind: "integer", what: "records at most, 100 unless given; 500 is the most that is ever given"},
		{name: "order", kind: "string", what: "by the natural key", values: []any{"ASC", "DESC"}},
	}
}

func confidentialData() param {
	return param{name: "confidential_data", kind: "integer", what: "1 gives password hashes and what opens secrets too, to administrators that hold every permission", values: []any{0, 1}}
}

func ifMatch() param {
	return param{name: "If-Match", kind: "string", what: "entity tags of which the record must have one; 412 if it has another"}
}

const usageMode = "add adds to the counters, reset, which is the default, replaces them"

const proveMore = "The body carries the account's password as current_password too, unless the token was given less than five minutes ago."

func modes() param {
	return param{name: "mode", kind: "string", what: usageMode, values: []any{"add", "reset"}}
}

func otp() param {
	return param{name: otpHeader, kind: "string", what: "the code of the second factor, where one is set up"}
}

func restoreParams() []param {
	return []param{
		{name: "scan-quota", kind: "integer", what: "1 counts what every restored user and folder holds, 2 users with a limit and folders", values: []any{0, 1, 2}},
		{name: "mode", kind: "integer", what: "0 adds and updates, 1 only adds, 2 also disconnects restored users", values: []any{0, 1, 2}},
	}
}

func dumpParams() []param {
	return []param{
		{name: "output-data", kind: "integer", what: "1 gives the dump as the answer", values: []any{0, 1}},
		{name: "output-file", kind: "string", what: "relative path below backups_path; needed unless output-data is 1"},
		{name: "indent", kind: "integer", what: "1 indents the file", values: []any{0, 1}},
		{name: "scopes", kind: "string", what: "members of the dump, divided by commas; all unless given"},
	}
}

func pathParam(what string) param { return param{name: "path", kind: "string", what: what} }
func target() param {
	return param{name: "target", kind: "string", what: "the new path", required: true}
}
func mkdirParents() param {
	return param{name: "mkdir_parents", kind: "boolean", what: "true makes missing parent directories"}
}
func mtime() param {
	return param{name: "X-SFTPGO-MTIME", kind: "integer", what: "modification time of the file, in milliseconds since 1970"}
}

// crud documents the calls on one kind of record. make gives an empty one.
func crud(ops map[string]operation, list, add, read, change, patch, drop, noun string, secrets bool, record, answer any) {
	var conf []param
	if secrets {
		conf = []param{confidentialData()}
	}
	slice := reflect.New(reflect.SliceOf(reflect.TypeOf(answer))).Elem().Interface()
	ops[list] = operation{what: "List " + noun + "s", query: pages(), out: slice}
	ops[add] = operation{what: "Add a " + noun, query: conf, in: record, out: answer, status: 201, also: []int{409}}
	ops[read] = operation{what: "Read a " + noun, query: conf, out: answer, also: []int{404}}
	ops[change] = operation{what: "Replace a " + noun, more: "The whole record is given: what is left out becomes empty. What the server keeps by itself stays, and secrets whose status is Redacted.",
		header: []param{ifMatch()}, in: record, also: []int{404, 412}}
	if patch != "" {
		ops[patch] = operation{what: "Change a " + noun, more: "A JSON merge patch (RFC 7396): members that are given replace, null removes, others stay.",
			header: []param{ifMatch()}, in: rawBody{"application/merge-patch+json", "object"}, also: []int{404, 412}}
	}
	ops[drop] = operation{what: "Delete a " + noun, also: []int{404}}
}

// operations documents every route by its ID.
func operations() map[string]operation {
	oldIP := param{name: "ip", kind: "string", what: "the host's address", required: true}
	ops := map[string]operation{
		"healthz":    {what: "Whether the server answers", kind: "text/plain"},
		"openapi":    {what: "This document as a page", kind: "text/html"},
		"openapiDoc": {what: "This document", kind: "application/yaml"},
		"getVersion": {what: "Version and features", out: map[string]any{}},
		"getStatus":  {what: "What the server serves", out: map[string]any{}},
		"getToken":   {what: "Get an administrator's token", header: []param{otp()}, out: tokenAnswer{}},
		"logout":     {what: "End the token"}, "postLogout": {what: "End the token"},
		"setup": {what: "Make the first administrator", more: "The token is printed when the server starts and there is no administrator. It is good once, and until the next start.",
			in: setupRequest{}, status: 201, also: []int{401, 403}},
		"getUserToken": {what: "Get a user's token", header: []param{otp()}, out: tokenAnswer{}, also: []int{403}},
		"userLogout":   {what: "End the token"}, "postUserLogout": {what: "End the token"},

		"disableUser2FA":  {what: "Switch a user's second factor off", also: []int{404}},
		"disableAdmin2FA": {what: "Switch an administrator's second factor off", also: []int{404}},

		"getConnections":     {what: "List live sessions", out: []connection{}},
		"closeConnection":    {what: "End a live session", also: []int{404}},
		"getDefenderHosts":   {what: "List hosts with a score or a ban", out: []host{}},
		"getDefenderHost":    {what: "Read a host", out: host{}, also: []int{404}},
		"deleteDefenderHost": {what: "Forget a host's score or ban", also: []int{404}},
		"getIPList": {what: "List the entries of an IP list", out: []account.IPListEntry{}, query: []param{
			{name: "filter", kind: "string", what: "the beginning of the entries"}, {name: "from", kind: "string", what: "entries after this one"}, pages()[1], pages()[2]}},
		"addIPListEntry":    {what: "Add an entry to an IP list", in: account.IPListEntry{}, status: 201, also: []int{409}},
		"getIPListEntry":    {what: "Read an entry", out: account.IPListEntry{}, also: []int{404}},
		"updateIPListEntry": {what: "Replace an entry", header: []param{ifMatch()}, in: account.IPListEntry{}, also: []int{404, 412}},
		"deleteIPListEntry": {what: "Delete an entry", also: []int{404}},

		"getUserQuotaScans":       {what: "List scans of users under way", out: []userScan{}},
		"startUserQuotaScan":      {what: "Count what a user holds", status: 202, also: []int{404, 409}},
		"updateUserQuotaUsage":    {what: "Set a user's counters", query: []param{modes()}, in: usage{}, also: []int{404, 409}},
		"updateUserTransferUsage": {what: "Set a user's totals of transfers", query: []param{modes()}, in: transfersUsed{}, also: []int{404}},
		"getFolderQuotaScans":     {what: "List scans of folders under way", out: []folderScan{}},
		"startFolderQuotaScan":    {what: "Count what a folder holds", status: 202, also: []int{404, 409}},
		"updateFolderQuotaUsage":  {what: "Set a folder's counters", query: []param{modes()}, in: usage{}, also: []int{404, 409}},

		"getNodes": {what: "List the living nodes of a shared database", more: "The list is empty where the database is not shared.", out: []account.Node{}},

		"oldChangeAdminPassword":  {what: "Change one's own password", more: "As PUT /admin/changepwd.", in: admin.PasswordChange{}},
		"oldBanTime":              {what: "When a host's ban ends", query: []param{oldIP}, out: banTime{}},
		"oldScore":                {what: "A host's score", query: []param{oldIP}, out: hostScore{}},
		"oldUnban":                {what: "End a host's ban", in: hostIP{}, also: []int{404}},
		"oldQuotaScans":           {what: "List scans of users under way", out: []userScan{}},
		"oldStartQuotaScan":       {what: "Count what a user holds", more: "The body names the user.", in: oldUsage{}, status: 202, also: []int{404, 409}},
		"oldQuotaUpdate":          {what: "Set a user's counters", query: []param{modes()}, in: oldUsage{}, also: []int{404, 409}},
		"oldFolderQuotaScans":     {what: "List scans of folders under way", out: []folderScan{}},
		"oldStartFolderQuotaScan": {what: "Count what a folder holds", more: "The body names the folder.", in: oldUsage{}, status: 202, also: []int{404, 409}},
		"oldFolderQuotaUpdate":    {what: "Set a folder's counters", query: []param{modes()}, in: oldUsage{}, also: []int{404, 409}},

		"checkFilesystem": {what: "Try a storage", more: "It is opened and listed; a small file is written, read back and removed. The steps end with the first that failed, and say why. " +
			"Give a user, a folder, a filesystem as it is in them, or a user or folder and the filesystem that it is to have: secrets that are Redacted are then the stored ones.",
			in: admin.StorageCheck{}, out: admin.CheckedStorage{}, also: []int{404}},

		"getRetentionChecks":  {what: "List retention checks under way", out: []retentionCheck{}},
		"startRetentionCheck": {what: "Remove a user's old files", in: []account.FolderRetention{}, status: 202, also: []int{404, 409}},

		"dumpData":     {what: "Write everything to a file or to the answer", query: dumpParams(), out: account.Dump{}},
		"postDumpData": {what: "Write everything to a file or to the answer", query: dumpParams(), out: account.Dump{}},
		"loadDataFile": {what: "Restore a dump of the server's own files", more: "All of it is restored, or nothing if there is a mistake in it.",
			query: append([]param{{name: "input-file", kind: "string", what: "absolute path", required: true}}, restoreParams()...)},
		"loadData": {what: "Restore a dump", more: "All of it is restored, or nothing if there is a mistake in it. With input-file it is the same as the GET.",
			query: append([]param{{name: "input-file", kind: "string", what: "absolute path"}}, restoreParams()...), in: account.Dump{}},

		"getAdminProfile":            {what: "Read one's own profile", out: admin.Profile{}},
		"updateAdminProfile":         {what: "Replace one's own profile", in: admin.Profile{}},
		"changeAdminPassword":        {what: "Change one's own password", more: "Every token that was given before ends.", in: admin.PasswordChange{}},
		"getAdminTOTPConfigs":        {what: "List the kinds of one-time codes", out: []map[string]any{}},
		"generateAdminTOTPSecret":    {what: "Make a secret for a second factor", more: "Nothing is stored.", in: map[string]any{}, out: admin.TOTPSecret{}},
		"validateAdminTOTPSecret":    {what: "Check a code of such a secret", in: map[string]any{}},
		"saveAdminTOTPConfig":        {what: "Switch one's own second factor on or off", more: proveMore, in: account.AdminTOTPConfig{}, out: savedTOTP{}},
		"getAdminRecoveryCodes":      {what: "List which recovery codes were used", more: "What is stored of a code is a digest, so that the code itself is never shown again.", out: []admin.ShownCode{}},
		"generateAdminRecoveryCodes": {what: "Make new recovery codes", more: "They are shown this once and replace all others. " + proveMore, out: []string{}},

		"addAPIKey": {what: "Add an API key", more: "The answer shows the key, this once.", in: account.APIKey{}, out: map[string]any{}, status: 201},
	}
	crud(ops, "getUsers", "addUser", "getUser", "updateUser", "patchUser", "deleteUser", "user", true, account.User{}, account.User{})
	for _, id := range []string{"updateUser", "patchUser"} {
		op := ops[id]
		op.query = []param{{name: "disconnect", kind: "integer", what: "1 ends the user's live sessions", values: []any{0, 1}}}
		ops[id] = op
	}
	crud(ops, "getFolders", "addFolder", "getFolder", "updateFolder", "patchFolder", "deleteFolder", "folder", true, account.Folder{}, account.Folder{})
	crud(ops, "getGroups", "addGroup", "getGroup", "updateGroup", "patchGroup", "deleteGroup", "group", true, account.Group{}, account.Group{})
	crud(ops, "getRoles", "addRole", "getRole", "updateRole", "", "deleteRole", "role", false, account.Role{}, account.Role{})
	crud(ops, "getAdmins", "addAdmin", "getAdmin", "updateAdmin", "", "deleteAdmin", "administrator", false, account.Admin{}, account.Admin{})
	key := ops["addAPIKey"]
	crud(ops, "getAPIKeys", "addAPIKey", "getAPIKey", "updateAPIKey", "", "deleteAPIKey", "API key", false, account.APIKey{}, account.APIKey{})
	ops["addAPIKey"] = key
	crud(ops, "getEventActions", "addEventAction", "getEventAction", "updateEventAction", "", "deleteEventAction", "event action", true, account.EventAction{}, account.EventAction{})
	crud(ops, "getEventRules", "addEventRule", "getEventRule", "updateEventRule", "", "deleteEventRule", "event rule", false, account.EventRule{}, admin.Rule{})
	for id, op := range userOperations() {
		ops[id] = op
	}
	return ops
}

// userOperations documents users' calls and those of public shares.
func userOperations() map[string]operation {
	type dirEntry struct {
		Name         string `json:"name"`
		Size         int64  `json:"size"`
		Mode         uint32 `json:"mode"`
		LastModified string `json:"last_modified"`
	}
	type profile struct {
		Email            string   `json:"email"`
		AdditionalEmails []string `json:"additional_emails"`
		Description      string   `json:"description"`
		AllowAPIKeyAuth  bool     `json:"allow_api_key_auth"`
		PublicKeys       []string `json:"public_keys"`
		TLSCerts         []string `json:"tls_certs"`
	}
	type mtimeBody struct {
		ModificationTime int64 `json:"modification_time"` // ms
	}
	multipart := rawBody{"multipart/form-data", "files in parts named filenames"}
	raw := rawBody{"application/octet-stream", "the file"}
	needed := func(p param) param { p.required = true; return p }
	dir := pathParam("a directory; the account's start directory unless given")
	file := needed(pathParam("a file"))
	return map[string]operation{
		"getUserDirContents":  {what: "List a directory", query: []param{dir}, out: []dirEntry{}, also: []int{404}},
		"createUserDir":       {what: "Make a directory", query: []param{needed(pathParam("the directory")), mkdirParents()}, status: 201},
		"renameUserDir":       {what: "Move a directory", query: []param{needed(pathParam("the directory")), target()}, also: []int{404}},
		"deleteUserDir":       {what: "Delete a directory with all in it", query: []param{needed(pathParam("the directory"))}, also: []int{404}},
		"oldUserFolder":       {what: "List a directory", more: "As GET /user/dirs.", query: []param{dir}, out: []dirEntry{}, also: []int{404}},
		"oldUserFile":         {what: "Download a file", more: "As GET /user/files.", query: []param{file}, kind: "application/octet-stream", also: []int{206, 304, 404, 412, 416}},
		"oldPublicKeys":       {what: "List one's own public keys", out: []string{}},
		"oldSetPublicKeys":    {what: "Replace one's own public keys", in: []string{}},
		"downloadUserFile":    {what: "Download a file", query: []param{file}, kind: "application/octet-stream", also: []int{206, 304, 404, 412, 416}},
		"createUserFiles":     {what: "Upload files", query: []param{dir, mkdirParents()}, in: multipart, status: 201, also: []int{413}},
		"renameUserFile":      {what: "Move a file", query: []param{file, target()}, also: []int{404}},
		"deleteUserFile":      {what: "Delete a file", query: []param{file}, also: []int{404}},
		"createUserFile":      {what: "Upload a file", query: []param{file, mkdirParents()}, header: []param{mtime()}, in: raw, status: 201, also: []int{413}},
		"setUserFileMetadata": {what: "Set a file's modification time", query: []param{file}, in: mtimeBody{}, also: []int{404}},
		"moveUserFile":        {what: "Move a file or a directory", query: []param{file, target()}, also: []int{404}},
		"copyUserFile":        {what: "Copy a file or a directory", query: []param{file, target()}, also: []int{404}},
		"streamZip":           {what: "Download files and directories as a zip file", in: []string{}, kind: "application/zip"},

		"getUserProfile": {what: "Read one's own profile", out: profile{}}, "updateUserProfile": {what: "Replace one's own profile", in: profile{}},
		"changeUserPassword":     {what: "Change one's own password", more: "Every token that was given before ends.", in: admin.PasswordChange{}},
		"getUserTOTPConfigs":     {what: "List the kinds of one-time codes", out: []map[string]any{}},
		"generateUserTOTPSecret": {what: "Make a secret for a second factor", more: "Nothing is stored.", in: map[string]any{}, out: admin.TOTPSecret{}},
		"validateUserTOTPSecret": {what: "Check a code of such a secret", in: map[string]any{}},
		"saveUserTOTPConfig":     {what: "Switch one's own second factor on or off", more: proveMore, in: account.UserTOTPConfig{}, out: savedTOTP{}},
		"getUserRecoveryCodes":   {what: "List which recovery codes were used", out: []admin.ShownCode{}}, "generateUserRecoveryCodes": {what: "Make new recovery codes", more: proveMore, out: []string{}},

		"getUserShares": {what: "List one's own shares", query: pages(), out: []account.Share{}}, "addShare": {what: "Add a share", in: account.Share{}, status: 201},
		"getUserShareByID": {what: "Read a share", out: account.Share{}, also: []int{404}}, "updateShare": {what: "Replace a share", header: []param{ifMatch()}, in: account.Share{}, also: []int{404, 412}},
		"deleteUserShare": {what: "Delete a share", also: []int{404}},

		"getShare":            {what: "Download a share", query: []param{{name: "compress", kind: "boolean", what: "false gives the file itself, where the share is one file"}}, kind: "application/zip", also: []int{403, 404}},
		"uploadToShare":       {what: "Upload files to a share", in: multipart, status: 201, also: []int{403, 404, 413}},
		"downloadShareFile":   {what: "Download a file of a share", query: []param{pathParam("below the share")}, kind: "application/octet-stream", also: []int{206, 304, 403, 404, 412, 416}},
		"getShareDirContents": {what: "List a directory of a share", query: []param{pathParam("below the share")}, out: []dirEntry{}, also: []int{403, 404}},
		"uploadSingleToShare": {what: "Upload a file to a share", query: []param{mkdirParents()}, header: []param{mtime()}, in: raw, status: 201, also: []int{403, 404, 413}},
	}
}

// document is the OpenAPI document in the order in which it is written.
type document struct {
	OpenAPI string                    `yaml:"openapi"`
	Info    map[string]string         `yaml:"info"`
	Servers []map[string]string       `yaml:"servers"`
	Tags    []map[string]string       `yaml:"tags"`
	Paths   map[string]map[string]any `yaml:"paths"`
	Comp    struct {
		SecuritySchemes map[string]any `yaml:"securitySchemes"`
		Responses       map[string]any `yaml:"responses"`
		Schemas         map[string]any `yaml:"schemas"`
	} `yaml:"components"`
}

var pathParams = regexp.MustCompile(`\{(\w+)\}`)

// makeDocument writes the document of routes.
func makeDocument(routes []Route) ([]byte, error) {
	d := document{OpenAPI: "3.0.3", Paths: map[string]map[string]any{}}
	d.Info = map[string]string{"title": "Gantry REST API", "version": "2.0", "description": "Accounts, what the server does, and users' files over HTTP. " +
		"Errors, and successes that have nothing to show, are an envelope with message and error; the status says what happened, the texts are for people."}
	d.Servers = []map[string]string{{"url": "/"}}
	d.Comp.SecuritySchemes = map[string]any{
		"basic": map[string]string{"type": "http", "scheme": "basic"}, "bearer": map[string]string{"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
		"apiKey": map[string]string{"type": "apiKey", "in": "header", "name": keyHeader, "description": "id and secret, and the name of an account where the key stands for none"},
	}
	schemas := &schemaSet{all: map[string]any{}}
	schemas.of(reflect.TypeFor[envelope]())
	d.Comp.Responses = map[string]any{}
	for _, status := range []int{400, 401, 403, 404, 409, 412, 413, 416, 429, 500} {
		d.Comp.Responses["E"+strconv.Itoa(status)] = map[string]any{"description": http.StatusText(status), "content": map[string]any{"application/json": map[string]any{"schema": ref("envelope")}}}
	}
	ops := operations()
	tags := []string{}
	for _, r := range routes {
		if !slices.Contains(tags, r.Of) {
			tags = append(tags, r.Of)
			d.Tags = append(d.Tags, map[string]string{"name": r.Of})
		}
		if d.Paths[r.FullPath()] == nil {
			d.Paths[r.FullPath()] = map[string]any{}
		}
		d.Paths[r.FullPath()][strings.ToLower(r.Method)] = describe(&r, ops[r.ID], schemas)
	}
	d.Comp.Schemas = schemas.all
	return yaml.Marshal(d)
}

// describe makes one operation object.
func describe(r *Route, op operation, schemas *schemaSet) map[string]any {
	out := map[string]any{"operationId": r.ID, "summary": op.what, "tags": []string{r.Of}}
	text := op.more
	switch r.Auth {
	case Public:
	case BasicAuth:
		out["security"] = []map[string][]string{{"basic": {}}}
	case Admin, User:
		out["security"] = []map[string][]string{{"bearer": {}}, {"apiKey": {}}}
	case AdminToken, UserToken:
		out["security"] = []map[string][]string{{"bearer": {}}}
	case SharePublic:
		out["security"] = []map[string][]string{{}, {"basic": {}}}
	}
	if r.Perm != "" && r.Perm != Any {
		text = strings.TrimSpace(text + " Needs the permission " + strings.ReplaceAll(r.Perm, "|", " or ") + ".")
		out["x-permission"] = r.Perm
	}
	if r.Denied != "" {
		text = strings.TrimSpace(text + " Refused to accounts with the web_client option " + r.Denied + ".")
	}
	if text != "" {
		out["description"] = text
	}
	var params []any
	for _, m := range pathParams.FindAllStringSubmatch(r.Path, -1) {
		params = append(params, map[string]any{"name": m[1], "in": "path", "required": true, "schema": map[string]any{"type": "string"}})
	}
	add := func(in string, list []param) {
		for _, p := range list {
			s := map[string]any{"type": p.kind}
			if p.values != nil {
				s["enum"] = p.values
			}
			x := map[string]any{"name": p.name, "in": in, "description": p.what, "schema": s}
			if p.required {
				x["required"] = true
			}
			params = append(params, x)
		}
	}
	add("query", op.query)
	add("header", op.header)
	if params != nil {
		out["parameters"] = params
	}
	if op.in != nil {
		out["requestBody"] = map[string]any{"required": true, "content": content(op.in, schemas)}
	}
	status := op.status
	if status == 0 {
		status = 200
	}
	answer := map[string]any{"description": http.StatusText(status)}
	switch {
	case op.kind == "application/octet-stream" || op.kind == "application/zip":
		answer["content"] = map[string]any{op.kind: map[string]any{"schema": map[string]any{"type": "string", "format": "binary"}}}
	case op.kind != "":
		answer["content"] = map[string]any{op.kind: map[string]any{"schema": map[string]any{"type": "string"}}}
	case op.out != nil:
		answer["content"] = content(op.out, schemas)
	default:
		answer["content"] = content(envelope{}, schemas)
	}
	responses := map[string]any{strconv.Itoa(status): answer}
	fail := op.also
	switch r.Auth {
	case Public:
	default:
		fail = append(slices.Clone(fail), 401, 403)
	}
	for _, s := range append(slices.Clone(fail), 400, 429, 500) {
		if s < 400 {
			responses[strconv.Itoa(s)] = map[string]any{"description": http.StatusText(s)}
			continue
		}
		responses[strconv.Itoa(s)] = map[string]any{"$ref": "#/components/responses/E" + strconv.Itoa(s)}
	}
	out["responses"] = responses
	return out
}

func content(v any, schemas *schemaSet) map[string]any {
	if raw, ok := v.(rawBody); ok {
		s := map[string]any{"type": "string", "format": "binary", "description": raw.what}
		switch raw.kind {
		case "application/merge-patch+json":
			s = map[string]any{"type": "object"}
		case "multipart/form-data":
			s = map[string]any{"type": "object", "properties": map[string]any{"filenames": map[string]any{"type": "array", "items": map[string]any{"type": "string", "format": "binary"}}}}
		}
		return map[string]any{raw.kind: map[string]any{"schema": s}}
	}
	return map[string]any{"application/json": map[string]any{"schema": schemas.of(reflect.TypeOf(v))}}
}

func ref(name string) map[string]any { return map[string]any{"$ref": "#/components/schemas/" + name} }

// schemaSet gathers the schemas of types.
type schemaSet struct{ all map[string]any }

// of is the schema of a type's JSON.
func (s *schemaSet) of(t reflect.Type) any {
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return map[string]any{"type": "integer"}
	case reflect.Int64, reflect.Uint64:
		return map[string]any{"type": "integer", "format": "int64"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.String:
		if t.Name() == "Status" && strings.HasSuffix(t.PkgPath(), "/secret") {
			return map[string]any{"type": "string", "enum": []any{"Plain", "Redacted", "Secretbox", "AES-256-GCM", "AWS", "GCP", "VaultTransit", "AzureKeyVault", "OracleKeyVault"}}
		}
		return map[string]any{"type": "string"}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			if t.Name() == "RawMessage" {
				return map[string]any{"type": "object"}
			}
			return map[string]any{"type": "string", "format": "byte"}
		}
		return map[string]any{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		if t.Elem().Kind() == reflect.Interface {
			return map[string]any{"type": "object"}
		}
		return map[string]any{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		name := t.Name()
		if _, ok := s.all[name]; !ok {
			props := map[string]any{}
			s.all[name] = map[string]any{"type": "object", "properties": props} // before its members, which may need it
			s.members(t, props)
		}
		return ref(name)
	}
	return map[string]any{}
}

func (s *schemaSet) members(t reflect.Type, props map[string]any) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-":
		case f.Anonymous && name == "":
			ft := f.Type
			if ft.Kind() == reflect.Pointer {
				ft = ft.Elem()
			}
			s.members(ft, props)
		case name != "":
			props[name] = s.of(f.Type)
		}
	}
}

// openapiRoutes serve the document and a page that shows it.
func openapiRoutes() []Route {
	return []Route{
		{Method: get, Path: "/openapi", Root: true, Auth: Public, Run: openapiPage, ID: "openapi", Of: "service"},
		{Method: get, Path: "/openapi/openapi.yaml", Root: true, Auth: Public, Run: openapiDoc, ID: "openapiDoc", Of: "service"},
	}
}

func openapiDoc(q *Request) error {
	if !q.Config().RenderOpenAPI {
		return refuse(fasthttp.StatusNotFound, "")
	}
	q.HTTP.SetContentType("application/yaml; charset=utf-8")
	q.HTTP.SetBody(openapiYAML)
	return nil
}

// openapiPage shows the document without scripts and without anything from elsewhere.
func openapiPage(q *Request) error {
	if !q.Config().RenderOpenAPI {
		return refuse(fasthttp.StatusNotFound, "")
	}
	q.HTTP.SetContentType("text/html; charset=utf-8")
	q.SetHeader("Content-Security-Policy", "default-src 'none'; style-src '"+styleHash()+"'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	q.HTTP.SetBodyString(renderPage(q.API.routes, q.API.cfg.WebRoot))
	return nil
}

// styleHash lets the page's own style in, and no other.
func styleHash() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// page writes HTML; text is escaped where it goes in (WEB-1).
type page struct{ strings.Builder }

func (p *page) tag(name, class, text string) {
	if class != "" {
		class = ` class="` + class + `"`
	}
	p.WriteString("<" + name + class + ">" + html.EscapeString(text) + "</" + name + ">")
}

// renderPage is the page's HTML.
func renderPage(routes []Route, root string) string {
	ops := operations()
	var p page
	p.WriteString(`<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Gantry REST API</title><style>` + pageStyle + `</style></head><body>`)
	p.tag("h1", "", "Gantry REST API")
	p.WriteString(`<p>The document: <a href="` + html.EscapeString(root) + `/openapi/openapi.yaml">openapi.yaml</a>. Ask for a token with Basic authentication at <code>/api/v2/token</code>, then send it as <code>Authorization: Bearer</code>.</p>`)
	schemas := &schemaSet{all: map[string]any{}}
	var tags []string
	for _, r := range routes {
		if !slices.Contains(tags, r.Of) {
			tags = append(tags, r.Of)
		}
	}
	for _, t := range tags {
		p.tag("h2", "", t)
		for _, r := range routes {
			if r.Of != t {
				continue
			}
			op := ops[r.ID]
			p.WriteString("<details><summary>")
			p.tag("b", "m "+strings.ToLower(r.Method), r.Method)
			p.WriteString(" ")
			p.tag("code", "", root+r.FullPath())
			p.WriteString(" ")
			p.tag("span", "", op.what)
			p.WriteString("</summary>")
			d := describe(&r, op, schemas)
			if text, ok := d["description"].(string); ok {
				p.tag("p", "", text)
			}
			if params, ok := d["parameters"].([]any); ok {
				p.WriteString("<table><tr><th>parameter</th><th>in</th><th>type</th><th></th></tr>")
				for _, x := range params {
					m := x.(map[string]any)
					s := m["schema"].(map[string]any)
					what, _ := m["description"].(string)
					p.WriteString("<tr>")
					for _, cell := range []string{m["name"].(string), m["in"].(string), s["type"].(string), what} {
						p.tag("td", "", cell)
					}
					p.WriteString("</tr>")
				}
				p.WriteString("</table>")
			}
			if body, ok := d["requestBody"].(map[string]any); ok {
				p.tag("h4", "", "Body")
				p.media(body["content"].(map[string]any))
			}
			responses := d["responses"].(map[string]any)
			var codes []string
			for c := range responses {
				codes = append(codes, c)
			}
			slices.Sort(codes)
			p.tag("h4", "", "Answers: "+strings.Join(codes, ", "))
			for _, c := range codes {
				if m, ok := responses[c].(map[string]any)["content"].(map[string]any); ok {
					p.media(m)
				}
			}
			p.WriteString("</details>\n")
		}
	}
	p.tag("h2", "", "Objects")
	var names []string
	for n := range schemas.all {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		p.WriteString(`<details id="s-` + html.EscapeString(n) + `"><summary>`)
		p.tag("code", "", n)
		p.WriteString("</summary><table>")
		props := schemas.all[n].(map[string]any)["properties"].(map[string]any)
		var members []string
		for m := range props {
			members = append(members, m)
		}
		slices.Sort(members)
		for _, m := range members {
			p.WriteString("<tr>")
			p.tag("td", "", m)
			p.WriteString("<td>")
			p.schema(props[m])
			p.WriteString("</td></tr>")
		}
		p.WriteString("</table></details>\n")
	}
	p.WriteString("</body></html>\n")
	return p.String()
}

func (p *page) media(m map[string]any) {
	for kind, x := range m {
		p.WriteString("<p>")
		p.tag("code", "", kind)
		p.WriteString(" ")
		p.schema(x.(map[string]any)["schema"])
		p.WriteString("</p>")
	}
}

func (p *page) schema(x any) {
	m, ok := x.(map[string]any)
	if !ok {
		return
	}
	if r, ok := m["$ref"].(string); ok {
		n := html.EscapeString(strings.TrimPrefix(r, "#/components/schemas/"))
		p.WriteString(`<a href="#s-` + n + `">` + n + `</a>`)
		return
	}
	kind, _ := m["type"].(string)
	p.WriteString(html.EscapeString(kind))
	if items, ok := m["items"]; ok {
		p.WriteString(" of ")
		p.schema(items)
	}
	if more, ok := m["additionalProperties"]; ok {
		p.WriteString(" of ")
		p.schema(more)
	}
}

const pageStyle = `body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b2430;background:#fff}` +
	`details{border-bottom:1px solid #d8dee6;padding:.4rem 0}summary{cursor:pointer}table{border-collapse:collapse}td,th{text-align:left;padding:.15rem 1rem .15rem 0;vertical-align:top}` +
	`.m{display:inline-block;min-width:4.5rem}.get{color:#0a5a9c}.post{color:#1a6b32}.put,.patch{color:#8a5300}.delete{color:#a3201d}code{font-family:ui-monospace,monospace}` +
	`@media(prefers-color-scheme:dark){body{color:#dde3ea;background:#14181d}details{border-color:#333c46}a{color:#7db7f0}.get{color:#7db7f0}.post{color:#79d493}.put,.patch{color:#e6b566}.delete{color:#f2928f}}`
