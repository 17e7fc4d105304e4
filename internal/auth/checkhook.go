package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/event/hook"
)

// Asker asks a hook: a *hook.Runner.
type Asker interface {
	Do(ctx context.Context, c hook.Call) ([]byte, error)
	Talk(ctx context.Context, c hook.Call) (*hook.Dialogue, error)
}

// Hooks are the hooks of a login. Each is a URL, the absolute path of a program, or "" for none.
type Hooks struct {
	Asker Asker

	CheckPassword      string // data_provider.check_password_hook
	CheckPasswordScope int    // bits 1 SSH, 2 FTP, 4 WebDAV; 0 is all
	External           string // data_provider.external_auth_hook
	ExternalScope      int    // bits 1 password, 2 public key, 4 keyboard-interactive, 8 TLS certificate; 0 is all
	PreLogin           string // data_provider.pre_login_hook
	Interactive        string // sftpd.keyboard_interactive_auth_hook

	// Users keeps what external authentication and the pre-login hook answer; Folders the virtual folders in it.
	Users   Users
	Folders Folders
}

// Users writes accounts.
type Users interface {
	AddUser(ctx context.Context, u *account.User) error
	UpdateUser(ctx context.Context, u *account.User) error
}

// Folders finds and makes virtual folders.
type Folders interface {
	Folder(ctx context.Context, name string) (account.Folder, error)
	AddFolder(ctx context.Context, f *account.Folder) error
}

func (h *Hooks) check() error {
	if h.Asker == nil && (h.CheckPassword != "" || h.External != "" || h.PreLogin != "" || h.Interactive != "") {
		return errors.New("auth: a hook needs who asks it")
	}
	if (h.External != "" || h.PreLogin != "") && (h.Users == nil || h.Folders == nil) {
		return errors.New("auth: external_auth_hook and pre_login_hook need a store that keeps their answers")
	}
	return nil
}

// checks reports whether check_password_hook is asked about a password of u over protocol.
func (h *Hooks) checks(u *account.User, protocol string) bool {
	bits := map[string]int{account.ProtocolSSH: 1, account.ProtocolFTP: 2, account.ProtocolDAV: 4}
	return h.CheckPassword != "" && !u.Filters.Hooks.CheckPasswordDisabled && (h.CheckPasswordScope == 0 || h.CheckPasswordScope&bits[protocol] != 0)
}

// checkPassword gives what to compare with the stored password; accepted says that nothing is to be compared
// (hooks.md 9).
func (h *Hooks) checkPassword(ctx context.Context, u *account.User, plain string, t *Attempt) (verify string, accepted bool, err error) {
	ip := t.Remote.Unmap().String()
	body, err := json.Marshal(map[string]string{"username": u.Username, "password": plain, "ip": ip, "protocol": t.Protocol})
	if err != nil {
		return "", false, err
	}
	data, err := h.Asker.Do(ctx, hook.Call{Hook: hook.CheckPassword, Target: h.CheckPassword, Body: body, Answer: true, Env: []string{
		"SFTPGO_AUTHD_USERNAME=" + u.Username, "SFTPGO_AUTHD_PASSWORD=" + plain, "SFTPGO_AUTHD_IP=" + ip, "SFTPGO_AUTHD_PROTOCOL=" + t.Protocol}})
	if err != nil {
		return "", false, err
	}
	var answer struct {
		Status   *int   `json:"status"`
		ToVerify string `json:"to_verify"`
	}
	if json.Unmarshal(data, &answer) != nil || answer.Status == nil {
		return "", false, errors.New("check_password_hook: the answer is not JSON with a status")
	}
	switch *answer.Status {
	case 0:
		return "", false, errHookRefused
	case 1:
		return "", true, nil
	case 2:
		return answer.ToVerify, false, checkPassword(answer.ToVerify)
	}
	return "", false, fmt.Errorf("check_password_hook: status %d is not 0, 1 or 2", *answer.Status)
}

var errHookRefused = errors.New("check_password_hook refuses")
