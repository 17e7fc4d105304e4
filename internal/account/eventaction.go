package account

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gantryhq/gantry/internal/secret"
)

// EventAction is something that an EventRule does.
type EventAction struct {
	ID          int64         `json:"id"`
	Name        string        `json:"name"`
	Description string        `json:"description,omitempty"`
	Type        int           `json:"type"`
	Options     ActionOptions `json:"options"`
	Rules       []string      `json:"rules,omitempty"` // output only
}

// Types of an EventAction.
const (
	ActionHTTP = iota + 1
	ActionCommand
	ActionEmail
	ActionBackup
	ActionUserQuotaReset
	ActionFolderQuotaReset
	ActionTransferQuotaReset
	ActionRetentionCheck
	ActionFilesystem
	_
	ActionPasswordExpirationCheck
	ActionUserExpirationCheck
	ActionIDPAccountCheck
	ActionUserInactivityCheck
	ActionRotateLog
)

// ActionOptions hold the settings of every type; those of other types are emptied on save.
type ActionOptions struct {
	HTTPConfig           HTTPAction           `json:"http_config"`
	CmdConfig            CommandAction        `json:"cmd_config"`
	EmailConfig          EmailAction          `json:"email_config"`
	RetentionConfig      RetentionAction      `json:"retention_config"`
	FsConfig             FsAction             `json:"fs_config"`
	PwdExpirationConfig  PwdExpirationAction  `json:"pwd_expiration_config"`
	UserInactivityConfig UserInactivityAction `json:"user_inactivity_config"`
	IDPConfig            IDPAction            `json:"idp_config"`
}

// KeyValue is a name with a value.
type KeyValue struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// HTTPAction is an HTTP request.
type HTTPAction struct {
	Endpoint        string        `json:"endpoint,omitempty"`
	Username        string        `json:"username,omitempty"`
	Password        secret.Secret `json:"password,omitzero"`
	Headers         []KeyValue    `json:"headers,omitempty"`
	Timeout         int           `json:"timeout,omitempty"` // s
	SkipTLSVerify   bool          `json:"skip_tls_verify,omitempty"`
	Method          string        `json:"method,omitempty"`
	QueryParameters []KeyValue    `json:"query_parameters,omitempty"`
	Body            string        `json:"body,omitempty"`
	Parts           []HTTPPart    `json:"parts,omitempty"`
}

// HTTPPart is one part of a multipart body.
type HTTPPart struct {
	Name     string     `json:"name,omitempty"`
	Filepath string     `json:"filepath,omitempty"`
	Headers  []KeyValue `json:"headers,omitempty"`
	Body     string     `json:"body,omitempty"`
}

// CommandAction is a program.
type CommandAction struct {
	Cmd     string     `json:"cmd,omitempty"`
	Args    []string   `json:"args,omitempty"`
	Timeout int        `json:"timeout,omitempty"` // s
	EnvVars []KeyValue `json:"env_vars,omitempty"`
}

// EmailAction is a mail.
type EmailAction struct {
	Recipients  []string `json:"recipients,omitempty"`
	Bcc         []string `json:"bcc,omitempty"`
	Subject     string   `json:"subject,omitempty"`
	Body        string   `json:"body,omitempty"`
	ContentType int      `json:"content_type,omitempty"` // 0 text, 1 HTML
	Attachments []string `json:"attachments,omitempty"`
}

// RetentionAction removes old files.
type RetentionAction struct {
	Folders []FolderRetention `json:"folders,omitempty"`
}

// FolderRetention says how long files below Path stay; 0 excludes it.
type FolderRetention struct {
	Path            string `json:"path"`
	Retention       int    `json:"retention"` // hours
	DeleteEmptyDirs bool   `json:"delete_empty_dirs,omitempty"`
}

// FsAction changes files: type 1 rename, 2 delete, 3 mkdirs, 4 exist, 5 compress, 6 copy.
type FsAction struct {
	Type     int        `json:"type,omitempty"`
	Renames  []FsRename `json:"renames,omitempty"`
	MkDirs   []string   `json:"mkdirs,omitempty"`
	Deletes  []string   `json:"deletes,omitempty"`
	Exist    []string   `json:"exist,omitempty"`
	Copy     []KeyValue `json:"copy,omitempty"`
	Compress FsCompress `json:"compress"`
}

// FsRename moves Key to Value.
type FsRename struct {
	KeyValue
	UpdateModTime bool `json:"update_modtime,omitempty"`
}

// FsCompress packs Paths into Name.
type FsCompress struct {
	Name  string   `json:"name,omitempty"`
	Paths []string `json:"paths,omitempty"`
}

// PwdExpirationAction warns of passwords that expire within Threshold days.
type PwdExpirationAction struct {
	Threshold int `json:"threshold,omitempty"`
}

// UserInactivityAction acts on users that did not log in for so many days.
type UserInactivityAction struct {
	DisableThreshold int `json:"disable_threshold,omitempty"`
	DeleteThreshold  int `json:"delete_threshold,omitempty"`
}

// IDPAction makes accounts for people that an identity provider knows.
type IDPAction struct {
	Mode          int    `json:"mode,omitempty"` // 0 create and update, 1 create only
	TemplateUser  string `json:"template_user,omitempty"`
	TemplateAdmin string `json:"template_admin,omitempty"`
}

// Kind implements Document.
func (a *EventAction) Kind() Kind { return KindAction }

// Key implements Document.
func (a *EventAction) Key() string { return a.Name }

// References implements Document.
func (a *EventAction) References() []Ref { return nil }

// Normalize implements Document. Whether a command is enabled is the configuration's to say when it runs.
func (a *EventAction) Normalize(_ context.Context, r Rules) error {
	a.Name, a.ID, a.Rules = r.Name(a.Name), 0, nil
	c := &checker{kind: string(KindAction), name: a.Name}
	if why := r.CheckName(a.Name); why != "" {
		c.bad("name", "name", "%s", why)
	}
	if a.Type < ActionHTTP || a.Type > ActionRotateLog || a.Type == 10 {
		c.bad("type", "range", "%d is not an action", a.Type)
	}
	o, keep := a.Options, ActionOptions{}
	need := func(ok bool, field, text string) {
		if !ok {
			c.bad("options."+field, "required", "%s", text)
		}
	}
	switch a.Type {
	case ActionHTTP:
		h := o.HTTPConfig
		keep.HTTPConfig = h
		need(strings.HasPrefix(h.Endpoint, "http://") || strings.HasPrefix(h.Endpoint, "https://"), "http_config.endpoint", "must be an http or https URL")
		need(slices.Contains([]string{"GET", "POST", "PUT", "DELETE"}, h.Method), "http_config.method", "must be GET, POST, PUT or DELETE")
		files := slices.ContainsFunc(h.Parts, func(p HTTPPart) bool { return p.Filepath != "" })
		need(files || h.Timeout >= 1 && h.Timeout <= 180, "http_config.timeout", "must be 1 to 180 seconds")
		need(len(h.Parts) == 0 || h.Body == "", "http_config.body", "cannot stand beside parts")
		for _, p := range h.Parts {
			need(p.Name != "" && (p.Filepath == "") != (p.Body == ""), "http_config.parts", "a part needs a name and either a filepath or a body")
		}
	case ActionCommand:
		keep.CmdConfig = o.CmdConfig
		need(filepath.IsAbs(o.CmdConfig.Cmd), "cmd_config.cmd", "must be an absolute path")
		need(o.CmdConfig.Timeout >= 1 && o.CmdConfig.Timeout <= 120, "cmd_config.timeout", "must be 1 to 120 seconds")
	case ActionEmail:
		keep.EmailConfig = o.EmailConfig
		need(len(o.EmailConfig.Recipients) > 0, "email_config.recipients", "at least one is needed")
		need(o.EmailConfig.Subject != "", "email_config.subject", "is needed")
		need(o.EmailConfig.ContentType == 0 || o.EmailConfig.ContentType == 1, "email_config.content_type", "must be 0 (text) or 1 (HTML)")
	case ActionRetentionCheck:
		keep.RetentionConfig = o.RetentionConfig
		some := false
		for _, f := range o.RetentionConfig.Folders {
			need(f.Retention >= 0, "retention_config.folders", "retention must be 0 or more hours")
			some = some || f.Retention > 0
		}
		need(some, "retention_config.folders", "at least one needs a retention above 0")
	case ActionFilesystem:
		keep.FsConfig = c.fsAction(o.FsConfig)
	case ActionPasswordExpirationCheck:
		keep.PwdExpirationConfig = o.PwdExpirationConfig
		need(o.PwdExpirationConfig.Threshold > 0, "pwd_expiration_config.threshold", "must be above 0 days")
	case ActionUserInactivityCheck:
		u := o.UserInactivityConfig
		keep.UserInactivityConfig = u
		need(u.DisableThreshold >= 0 && u.DeleteThreshold >= 0 && u.DisableThreshold+u.DeleteThreshold > 0, "user_inactivity_config", "needs a threshold above 0 days")
		need(u.DeleteThreshold == 0 || u.DeleteThreshold > u.DisableThreshold, "user_inactivity_config.delete_threshold", "must be above disable_threshold")
	case ActionIDPAccountCheck:
		keep.IDPConfig = o.IDPConfig
		need(o.IDPConfig.TemplateUser != "" || o.IDPConfig.TemplateAdmin != "", "idp_config", "needs a template of a user or of an administrator")
		need(o.IDPConfig.Mode == 0 || o.IDPConfig.Mode == 1, "idp_config.mode", "must be 0 or 1")
	}
	a.Options = keep
	c.seal(r, a, a.Name)
	return c.result()
}

func (c *checker) fsAction(f FsAction) FsAction {
	const at = "options.fs_config"
	keep := FsAction{Type: f.Type}
	pair := func(kv *KeyValue) {
		kv.Key, kv.Value = CleanPath(kv.Key), CleanPath(kv.Value)
		if kv.Key == "/" || kv.Value == "/" || kv.Key == kv.Value {
			c.bad(at, "path", "source and target must differ and not be /")
		}
	}
	n := 0
	switch f.Type {
	case 1:
		keep.Renames, n = f.Renames, len(f.Renames)
		for i := range keep.Renames {
			pair(&keep.Renames[i].KeyValue)
		}
	case 2:
		keep.Deletes, n = f.Deletes, len(f.Deletes)
	case 3:
		keep.MkDirs, n = f.MkDirs, len(f.MkDirs)
	case 4:
		keep.Exist, n = f.Exist, len(f.Exist)
	case 5:
		if keep.Compress, n = f.Compress, len(f.Compress.Paths); f.Compress.Name == "" {
			c.bad(at+".compress.name", "required", "is needed")
		}
	case 6:
		keep.Copy, n = f.Copy, len(f.Copy)
		for i := range keep.Copy {
			pair(&keep.Copy[i])
		}
	default:
		c.bad(at+".type", "range", "must be 1 to 6")
	}
	if n == 0 {
		c.bad(at, "required", "at least one path is needed")
	}
	return keep
}
