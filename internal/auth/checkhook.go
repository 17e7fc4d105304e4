package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gantryhq/gantry/internal/account"
)

// Asker asks a hook: a *hook.Runner.
type Asker interface {
	Ask(ctx context.Context, target string, env []string, body []byte) ([]byte, error)
}

// CheckHook is data_provider.check_password_hook (hooks.md 9).
type CheckHook struct {
	Target string // "" is none
	Scope  int    // bits 1 SSH, 2 FTP, 4 WebDAV; 0 is all
	Asker  Asker
}

// asks reports whether the hook is asked about a password of u over protocol.
func (h CheckHook) asks(u *account.User, protocol string) bool {
	bits := map[string]int{account.ProtocolSSH: 1, account.ProtocolFTP: 2, account.ProtocolDAV: 4}
	return h.Target != "" && !u.Filters.Hooks.CheckPasswordDisabled && (h.Scope == 0 || h.Scope&bits[protocol] != 0)
}

// ask gives what to compare with the stored password; accepted says that nothing is to be compared.
func (h CheckHook) ask(ctx context.Context, u *account.User, plain string, t *Attempt) (verify string, accepted bool, err error) {
	ip := t.Remote.Unmap().String()
	body, err := json.Marshal(map[string]string{"username": u.Username, "password": plain, "ip": ip, "protocol": t.Protocol})
	if err != nil {
		return "", false, err
	}
	data, err := h.Asker.Ask(ctx, h.Target, []string{"SFTPGO_AUTHD_USERNAME=" + u.Username, "SFTPGO_AUTHD_PASSWORD=" + plain,
		"SFTPGO_AUTHD_IP=" + ip, "SFTPGO_AUTHD_PROTOCOL=" + t.Protocol}, body)
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
