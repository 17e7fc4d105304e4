package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/event/hook"
	"github.com/gantryhq/gantry/internal/life"
)

// loginHooks is the source before the store where external_auth_hook or pre_login_hook is configured: the
// hook gives the account, which is validated and stored as any other and read back from there. Whatever the
// hook proves, the credential is compared with the stored account after it, and Admit judges that.
//
// Secrets leave the server only as the reference has it: the typed password, and the stored hash in the
// user's JSON. What is sealed is shown as there; a hook that gives the mark back keeps what is stored.
type loginHooks struct {
	a *Authenticator

	mu    sync.Mutex // guards saved
	saved map[string]savedAnswer
}

var _ Source = (*loginHooks)(nil)

// savedAnswer is the account as it was stored last, so that the same answer writes nothing.
type savedAnswer struct {
	sum     [sha256.Size]byte
	version int64
}

const maxSaved = 16384

var (
	errRefusedByHook = errors.New("external_auth_hook refuses")
	errOtherName     = errors.New("pre_login_hook: the answer has another username")
)

// Find implements Source.
func (s *loginHooks) Find(ctx context.Context, t *Attempt) (Found, error) {
	h := &s.a.hooks
	stored, err := s.stored(ctx, t.Username)
	if err != nil {
		return Found{}, err
	}
	var switches account.HooksFilter
	var cacheTime int64
	if stored != nil { // with what the groups say
		c, err := s.a.accounts.lookup(ctx, stored.Username)
		if err != nil {
			return Found{}, denied(err)
		}
		switches, cacheTime = c.user.Filters.Hooks, c.user.Filters.ExternalAuthCacheTime
	}
	var u *account.User
	switch {
	case h.External != "" && h.externalCovers(t.Method):
		fresh := stored != nil && cacheTime > 0 && s.a.now().Sub(time.UnixMilli(stored.LastLogin)) < time.Duration(cacheTime)*time.Second
		if switches.ExternalAuthDisabled || fresh {
			return Found{}, ErrPass
		}
		u, err = s.external(ctx, t, stored)
	case h.PreLogin != "" && !switches.PreLoginDisabled:
		u, err = s.preLogin(ctx, t, stored)
	default:
		return Found{}, ErrPass
	}
	if err != nil {
		if d, ok := errors.AsType[*Denied](err); ok {
			return Found{}, d
		}
		s.a.log.Warn("a login hook refuses or fails", "user", t.Username, "method", t.Method, "protocol", t.Protocol, "error", err)
		return Found{}, deny(ReasonHook, err)
	}
	c, err := s.a.accounts.lookup(ctx, u.Username)
	if err != nil {
		return Found{}, denied(err)
	}
	return Found{User: c.user, compiled: c}, nil
}

// stored is the record as it is kept, nil if there is none.
func (s *loginHooks) stored(ctx context.Context, name string) (*account.User, error) {
	ctx, cancel := life.Within(ctx, storeWait)
	defer cancel()
	u, err := s.a.store.User(ctx, name)
	switch {
	case errors.Is(err, account.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, deny(ReasonStore, err)
	case u.Username == "":
		return nil, deny(ReasonStore, errNoAccount)
	}
	return &u, nil
}

// externalCovers reports whether the scope has a method.
func (h *Hooks) externalCovers(method string) bool {
	bits := map[string]int{account.MethodPassword: 1, account.MethodPublicKey: 2, account.MethodKeyboardInteractive: 4, account.MethodTLSCertificate: 8}
	return h.ExternalScope == 0 || h.ExternalScope&bits[method] != 0
}

// shown is the JSON of a stored user for a hook: with the password's hash, as the reference has it, but
// without what is sealed and without recovery codes.
func shown(u *account.User) ([]byte, error) {
	cp, err := clone(u)
	if err != nil {
		return nil, err
	}
	hash := cp.Password
	account.Redact(cp)
	cp.Password, cp.HasPassword = hash, false
	return json.Marshal(cp)
}

// clone is a copy that shares nothing.
func clone(u *account.User) (*account.User, error) {
	b, err := json.Marshal(u)
	if err != nil {
		return nil, err
	}
	var out account.User
	return &out, json.Unmarshal(b, &out)
}

// external asks external_auth_hook (hooks.md 3) and stores the account that it gives.
func (s *loginHooks) external(ctx context.Context, t *Attempt, stored *account.User) (*account.User, error) {
	h := &s.a.hooks
	ask := map[string]any{"username": t.Username, "ip": t.Remote.Unmap().String(), "password": "", "public_key": "", "protocol": t.Protocol,
		"tls_cert": "", "keyboard_interactive": ""}
	var known []byte
	if stored != nil {
		var err error
		if known, err = shown(stored); err != nil {
			return nil, err
		}
		ask["user"] = json.RawMessage(known)
	}
	line := ""
	var key gossh.PublicKey
	switch t.Method {
	case account.MethodPassword:
		ask["password"] = t.Password
	case account.MethodPublicKey:
		k, err := gossh.ParsePublicKey(t.PublicKey)
		if err != nil {
			return nil, deny(ReasonKey, err)
		}
		key, line = k, strings.TrimSpace(string(gossh.MarshalAuthorizedKey(k)))
		ask["public_key"] = line
	case account.MethodKeyboardInteractive:
		ask["keyboard_interactive"] = "1"
	case account.MethodTLSCertificate:
		ask["tls_cert"] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: t.Certificate.Raw}))
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return nil, err
	}
	text := func(k string) string { return ask[k].(string) }
	data, err := h.Asker.Do(ctx, hook.Call{Hook: hook.ExternalAuth, Target: h.External, Body: body, Answer: true, Env: []string{
		"SFTPGO_AUTHD_USERNAME=" + t.Username, "SFTPGO_AUTHD_USER=" + string(known), "SFTPGO_AUTHD_IP=" + text("ip"),
		"SFTPGO_AUTHD_PASSWORD=" + text("password"), "SFTPGO_AUTHD_PUBLIC_KEY=" + line, "SFTPGO_AUTHD_PROTOCOL=" + t.Protocol,
		"SFTPGO_AUTHD_TLS_CERT=" + text("tls_cert"), "SFTPGO_AUTHD_KEYBOARD_INTERACTIVE=" + text("keyboard_interactive")}})
	if err != nil {
		return nil, err
	}
	var u *account.User
	if len(bytes.TrimSpace(data)) == 0 { // accepted without a change
		if stored == nil {
			return nil, &Denied{Reason: ReasonUnknownUser, Unknown: true}
		}
		if u, err = clone(stored); err != nil {
			return nil, err
		}
	} else {
		u = &account.User{}
		if err := json.Unmarshal(data, u); err != nil {
			return nil, errors.New("external_auth_hook: the answer is not the JSON of a user") // the cause may quote it
		}
		if u.Username == "" {
			return nil, errRefusedByHook
		}
		if err := checkUsername(u.Username); err != nil {
			return nil, fmt.Errorf("external_auth_hook: the answer's username: %w", err)
		}
		if fold(u.Username) != fold(t.Username) || stored == nil { // mapped to another account
			if stored, err = s.stored(ctx, u.Username); err != nil {
				return nil, err
			}
		}
	}
	if stored != nil && u.PublicKeys == nil { // other logins of the same account stand on them
		u.PublicKeys = slices.Clone(stored.PublicKeys)
	}
	if t.Prior != nil && t.Prior.id != nil { // the key of the step before is still one of the account (AUTH-2)
		if k, err := gossh.ParsePublicKey([]byte(t.Prior.id.key)); err == nil {
			addKey(u, k)
		}
	}
	if key != nil {
		addKey(u, key)
	}
	plain := u.Password
	if plain == "" && stored != nil {
		plain = stored.Password
	}
	if t.Method == account.MethodPassword {
		plain = t.Password
	}
	if err := s.setPassword(ctx, u, stored, plain, t.Method == account.MethodPassword); err != nil {
		return nil, err
	}
	return s.save(ctx, u, stored)
}

// addKey adds a key that u does not list. A certificate is not one: its authority is trusted, or not.
func addKey(u *account.User, k gossh.PublicKey) {
	if _, ok := k.(*gossh.Certificate); ok {
		return
	}
	for _, line := range u.PublicKeys {
		if had, _, _, _, err := gossh.ParseAuthorizedKey([]byte(line)); err == nil && bytes.Equal(had.Marshal(), k.Marshal()) {
			return
		}
	}
	u.PublicKeys = append(u.PublicKeys, strings.TrimSpace(string(gossh.MarshalAuthorizedKey(k))))
}

// preLogin asks pre_login_hook (hooks.md 4) and stores what it changes.
func (s *loginHooks) preLogin(ctx context.Context, t *Attempt, stored *account.User) (*account.User, error) {
	h := &s.a.hooks
	base := map[string]any{"id": 0, "username": t.Username}
	body, err := json.Marshal(base)
	if stored != nil {
		body, err = shown(stored)
	}
	if err != nil {
		return nil, err
	}
	ip := t.Remote.Unmap().String()
	data, err := h.Asker.Do(ctx, hook.Call{Hook: hook.PreLogin, Target: h.PreLogin, Body: body, Answer: true, NoContent: true, Method: http.MethodPost,
		Query: url.Values{"login_method": {t.Method}, "ip": {ip}, "protocol": {t.Protocol}},
		Env: []string{"SFTPGO_LOGIND_USER=" + string(body), "SFTPGO_LOGIND_METHOD=" + t.Method, "SFTPGO_LOGIND_IP=" + ip,
			"SFTPGO_LOGIND_PROTOCOL=" + t.Protocol}})
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		if stored == nil {
			return nil, &Denied{Reason: ReasonUnknownUser, Unknown: true}
		}
		return stored, nil
	}
	u, err := overlay(body, data)
	if err != nil {
		return nil, errors.New("pre_login_hook: the answer is not the JSON of a user") // the cause may quote it
	}
	if fold(u.Username) != fold(t.Username) {
		return nil, errOtherName
	}
	if stored != nil {
		u.Username = stored.Username
	}
	if err := s.setPassword(ctx, u, stored, u.Password, false); err != nil {
		return nil, err
	}
	return s.save(ctx, u, stored)
}

// overlay lays a partial document over another: objects member by member, everything else, a list, a
// secret and the permissions too, as a whole.
func overlay(base, over []byte) (*account.User, error) {
	var b, o map[string]any
	if err := decodeTree(base, &b); err != nil {
		return nil, err
	}
	if err := decodeTree(over, &o); err != nil {
		return nil, err
	}
	lay(b, o)
	merged, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	u := &account.User{}
	return u, json.Unmarshal(merged, u)
}

func decodeTree(data []byte, v *map[string]any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // a large number stays what it is
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return errors.New("more than one value")
	}
	if *v == nil {
		return errors.New("not an object")
	}
	return nil
}

func lay(base, over map[string]any) {
	for k, v := range over {
		vo, isObject := v.(map[string]any)
		bo, wasObject := base[k].(map[string]any)
		_, isSecret := vo["payload"]
		_, hasStatus := vo["status"]
		if isObject && wasObject && k != "permissions" && !isSecret && !hasStatus {
			lay(bo, vo)
			continue
		}
		base[k] = v
	}
}

// setPassword gives u the stored hash where plain is its password already, so that nothing is written; else a
// typed password gets its hash here: whether it is strong enough is for the hook to say, and one that looks
// like a hash must not be stored as one.
func (s *loginHooks) setPassword(ctx context.Context, u, stored *account.User, plain string, typed bool) error {
	if plain == "" || !typed && account.IsHash(plain) {
		u.Password = plain
		return nil
	}
	if stored != nil && stored.Password != "" {
		ok, err := s.a.check(ctx, stored, plain, func() (bool, error) { return s.a.passwords.Verify(ctx, stored.Password, plain) })
		if errors.Is(err, ErrBusy) {
			return deny(ReasonBusy, err)
		}
		if ok && err == nil {
			u.Password = stored.Password
			return nil
		}
	}
	u.Password = plain
	if h, can := s.a.passwords.(hashing); can && typed {
		hashed, err := h.Hash(ctx, plain)
		if err != nil {
			return deny(ReasonBusy, err)
		}
		u.Password = hashed
	}
	return nil
}

// save stores u with what the server and the user themselves keep of stored, unless it is stored so already.
func (s *loginHooks) save(ctx context.Context, u, stored *account.User) (*account.User, error) {
	u.ID = 0
	if stored != nil {
		u.ID, u.Username, u.CreatedAt, u.UpdatedAt = stored.ID, stored.Username, stored.CreatedAt, stored.UpdatedAt
		u.UsedQuotaSize, u.UsedQuotaFiles, u.LastQuotaUpdate = stored.UsedQuotaSize, stored.UsedQuotaFiles, stored.LastQuotaUpdate
		u.UsedUploadDataTransfer, u.UsedDownloadDataTransfer = stored.UsedUploadDataTransfer, stored.UsedDownloadDataTransfer
		u.LastLogin, u.FirstDownload, u.FirstUpload = stored.LastLogin, stored.FirstDownload, stored.FirstUpload
		u.LastPasswordChange = stored.LastPasswordChange
		u.Filters.TOTPConfig, u.Filters.RecoveryCodes = stored.Filters.TOTPConfig, stored.Filters.RecoveryCodes
	}
	plain := *u // without what changes by itself
	plain.UpdatedAt, plain.LastLogin, plain.UsedQuotaSize, plain.UsedQuotaFiles, plain.LastQuotaUpdate = 0, 0, 0, 0, 0
	plain.UsedUploadDataTransfer, plain.UsedDownloadDataTransfer, plain.FirstDownload, plain.FirstUpload = 0, 0, 0, 0
	b, err := json.Marshal(&plain)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	s.mu.Lock()
	was, known := s.saved[fold(u.Username)]
	s.mu.Unlock()
	if known && stored != nil && was.sum == sum && was.version == stored.Version {
		return u, nil
	}
	ctx, cancel := life.Within(ctx, storeWait)
	defer cancel()
	if err := s.folders(ctx, u.VirtualFolders); err != nil {
		return nil, err
	}
	write := s.a.hooks.Users.UpdateUser
	if stored == nil {
		write = s.a.hooks.Users.AddUser
	}
	err = write(ctx, u)
	if stored == nil && errors.Is(err, account.ErrExists) { // by another login of the same user
		err = s.a.hooks.Users.UpdateUser(ctx, u)
	}
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, deny(ReasonStore, err)
		}
		return nil, fmt.Errorf("the account cannot be stored: %w", err)
	}
	s.a.Forget(account.KindUser, u.Username)
	now, err := s.stored(ctx, u.Username)
	if err != nil {
		return nil, err
	}
	if now == nil {
		return nil, deny(ReasonStore, account.ErrNotFound)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.saved) >= maxSaved {
		clear(s.saved)
	}
	s.saved[fold(u.Username)] = savedAnswer{sum, now.Version}
	return now, nil
}

// folders makes the virtual folders that have a path of their own and are not there yet.
func (s *loginHooks) folders(ctx context.Context, list []account.VirtualFolder) error {
	for i := range list {
		f := list[i].Folder
		if f.Name == "" || f.MappedPath == "" {
			continue
		}
		_, err := s.a.hooks.Folders.Folder(ctx, f.Name)
		if errors.Is(err, account.ErrNotFound) {
			f.ID, f.UsedQuotaSize, f.UsedQuotaFiles, f.LastQuotaUpdate, f.Users, f.Groups = 0, 0, 0, 0, nil, nil
			err = s.a.hooks.Folders.AddFolder(ctx, &f)
			if errors.Is(err, account.ErrExists) {
				err = nil
			}
		}
		if err != nil {
			return fmt.Errorf("the virtual folder %q cannot be stored: %w", f.Name, err)
		}
	}
	return nil
}
