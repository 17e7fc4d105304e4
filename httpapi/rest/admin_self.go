package rest

import (
	"github.com/valyala/fasthttp"

	"github.com/gantryhq/gantry/internal/admin"
)

// adminSelfRoutes are an administrator's calls on what is their own.
func adminSelfRoutes() []Route {
	return []Route{
		{Method: get, Path: "/admin/profile", Auth: AdminToken, Perm: Any, Run: adminProfile, ID: "getAdminProfile", Of: "administrator's own"},
		{Method: put, Path: "/admin/profile", Auth: AdminToken, Gate: true, Perm: Any, Run: putAdminProfile, ID: "updateAdminProfile", Of: "administrator's own"},
		{Method: put, Path: "/admin/changepwd", Auth: AdminToken, Perm: Any, Run: adminPassword, ID: "changeAdminPassword", Of: "administrator's own"},
		{Method: get, Path: "/admin/totp/configs", Auth: AdminToken, Perm: Any, Run: totpConfigs, ID: "getAdminTOTPConfigs", Of: "administrator's own"},
		{Method: post, Path: "/admin/totp/generate", Auth: AdminToken, Perm: Any, Run: totpGenerate, ID: "generateAdminTOTPSecret", Of: "administrator's own"},
		{Method: post, Path: "/admin/totp/validate", Auth: AdminToken, Perm: Any, Run: totpValidate, ID: "validateAdminTOTPSecret", Of: "administrator's own"},
		{Method: post, Path: "/admin/totp/save", Auth: AdminToken, Perm: Any, Run: adminTOTPSave, ID: "saveAdminTOTPConfig", Of: "administrator's own"},
		{Method: get, Path: "/admin/2fa/recoverycodes", Auth: AdminToken, Perm: Any, Run: adminRecoveryCodes, ID: "getAdminRecoveryCodes", Of: "administrator's own"},
		{Method: post, Path: "/admin/2fa/recoverycodes", Auth: AdminToken, Perm: Any, Run: newAdminRecoveryCodes, ID: "generateAdminRecoveryCodes", Of: "administrator's own"},
	}
}

func adminProfile(q *Request) error {
	return q.JSON(fasthttp.StatusOK, admin.ProfileOf(q.Admin))
}

func putAdminProfile(q *Request) error {
	var p admin.Profile
	if err := q.Decode(&p); err != nil {
		return err
	}
	if err := q.API.Deps.Admin.SetProfile(q.Context(), q.Actor, p); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "profile updated")
}

func adminPassword(q *Request) error {
	var c admin.PasswordChange
	if err := q.Decode(&c); err != nil {
		return err
	}
	if err := q.API.Deps.Admin.ChangePassword(q.Context(), q.Actor, c); err != nil {
		return err
	}
	q.Revoke() // the tokens of the old password have ended anyway
	return q.Message(fasthttp.StatusOK, "password updated")
}

// totpConfigs is the same for administrators and users.
func totpConfigs(q *Request) error {
	return q.JSON(fasthttp.StatusOK, q.API.Deps.Admin.Auth.TOTPConfigs())
}

// owner is who calls, an administrator or a user, in a form that tells them apart.
func (q *Request) owner() (name, unique string) {
	if q.Admin != nil {
		return q.Admin.Username, "admin " + q.Admin.Username
	}
	return q.Login.Username(), "user " + q.Login.Username()
}

// totpGenerate is the same for administrators and users.
func totpGenerate(q *Request) error {
	var r struct {
		ConfigName string `json:"config_name"`
	}
	if err := q.Decode(&r); err != nil {
		return err
	}
	name, _ := q.owner()
	s, err := q.API.Deps.Admin.NewTOTP(r.ConfigName, name)
	if err != nil {
		return err
	}
	return q.JSON(fasthttp.StatusOK, s)
}

// totpValidate is the same for administrators and users.
func totpValidate(q *Request) error {
	var r struct {
		ConfigName string `json:"config_name"`
		Passcode   string `json:"passcode"`
		Secret     string `json:"secret"`
	}
	if err := q.Decode(&r); err != nil {
		return err
	}
	_, unique := q.owner()
	if err := q.API.Deps.Admin.CheckTOTP(r.ConfigName, r.Secret, r.Passcode, unique); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "the code is right")
}

// savedTOTP is the answer to a save. The codes are shown this once: digests are stored.
type savedTOTP struct {
	Message       string   `json:"message"`
	RecoveryCodes []string `json:"recovery_codes,omitempty"`
}

func adminTOTPSave(q *Request) error {
	doc, err := q.ReadAll()
	if err != nil {
		return err
	}
	c, err := admin.UnmarshalTOTP(doc)
	if err == nil {
		err = q.proveAgain(doc)
	}
	if err != nil {
		return err
	}
	codes, err := q.API.Deps.Admin.SaveTOTP(q.Context(), q.Actor, c)
	if err != nil {
		return err
	}
	return q.JSON(fasthttp.StatusOK, savedTOTP{"two-factor configuration saved", codes})
}

func adminRecoveryCodes(q *Request) error {
	if !q.Admin.Filters.TOTPConfig.Enabled {
		return admin.ErrNoTOTP
	}
	return q.JSON(fasthttp.StatusOK, admin.ShownCodes(q.Admin.Filters.RecoveryCodes))
}

func newAdminRecoveryCodes(q *Request) error {
	doc, err := q.ReadAll()
	if err == nil {
		err = q.proveAgain(doc)
	}
	if err != nil {
		return err
	}
	codes, err := q.API.Deps.Admin.ReplaceRecoveryCodes(q.Context(), q.Actor)
	if err != nil {
		return err
	}
	return q.JSON(fasthttp.StatusOK, codes)
}
