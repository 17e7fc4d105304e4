package rest

import (
	"encoding/json"

	"github.com/valyala/fasthttp"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/admin"
)

// userSelfRoutes are a user's calls on their own account and shares.
func userSelfRoutes() []Route {
	own := func(method, path, denied string, run func(*Request) error, id string) Route {
		return Route{Method: method, Path: "/user/" + path, Auth: UserToken, Denied: denied, Run: run, ID: id, Of: "user's own"}
	}
	const mfa = "mfa-disabled"
	profile := own(put, "profile", "", putUserProfile, "updateUserProfile")
	profile.Gate = true
	rows := []Route{
		own(put, "changepwd", "password-change-disabled", userPassword, "changeUserPassword"),
		own(get, "profile", "", userProfile, "getUserProfile"),
		profile,
		own(get, "totp/configs", mfa, totpConfigs, "getUserTOTPConfigs"),
		own(post, "totp/generate", mfa, totpGenerate, "generateUserTOTPSecret"),
		own(post, "totp/validate", mfa, totpValidate, "validateUserTOTPSecret"),
		own(post, "totp/save", mfa, userTOTPSave, "saveUserTOTPConfig"),
		own(get, "2fa/recoverycodes", mfa, userRecoveryCodes, "getUserRecoveryCodes"),
		own(post, "2fa/recoverycodes", mfa, newUserRecoveryCodes, "generateUserRecoveryCodes"),
	}
	share := func(method, path string, run func(*Request) error, id string) {
		rows = append(rows, Route{Method: method, Path: "/user/shares" + path, Auth: User, Gate: true, Denied: "shares-disabled", Run: run, ID: id, Of: "shares"})
	}
	share(get, "", listShares, "getUserShares")
	share(post, "", addShare, "addShare")
	share(get, "/{id}", getShare, "getUserShareByID")
	share(put, "/{id}", putShare, "updateShare")
	share(remove, "/{id}", deleteShare, "deleteUserShare")
	return rows
}

// userActor is the user who calls, for the record of what they change.
func (q *Request) userActor() *admin.Actor { return admin.UserActor(q.Login.User(), q.Remote.Addr()) }

func userProfile(q *Request) error {
	p, err := q.API.Deps.Admin.UserProfileOf(q.Context(), q.Login.Username())
	if err != nil {
		return err
	}
	return q.JSON(fasthttp.StatusOK, p)
}

func putUserProfile(q *Request) error {
	var p admin.UserProfile
	if err := q.Decode(&p); err != nil {
		return err
	}
	if err := q.API.Deps.Admin.SetUserProfile(q.Context(), q.userActor(), q.Login.User(), p); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "profile updated")
}

func userPassword(q *Request) error {
	var c admin.PasswordChange
	if err := q.Decode(&c); err != nil {
		return err
	}
	if err := q.API.Deps.Admin.ChangeUserPassword(q.Context(), q.userActor(), q.Login.User(), c); err != nil {
		return err
	}
	q.Revoke() // the tokens of the old password have ended anyway
	return q.Message(fasthttp.StatusOK, "password updated")
}

func userTOTPSave(q *Request) error {
	doc, err := q.ReadAll()
	if err != nil {
		return err
	}
	var c account.UserTOTPConfig
	if err := json.Unmarshal(doc, &c); err != nil {
		return badRequest("the body is not the JSON of a TOTP configuration")
	}
	if err := q.proveAgain(doc); err != nil {
		return err
	}
	codes, err := q.API.Deps.Admin.SaveUserTOTP(q.Context(), q.userActor(), q.Login.User(), c)
	if err != nil {
		return err
	}
	return q.JSON(fasthttp.StatusOK, savedTOTP{"two-factor configuration saved", codes})
}

func userRecoveryCodes(q *Request) error {
	codes, err := q.API.Deps.Admin.UserCodes(q.Context(), q.Login.Username())
	if err != nil {
		return err
	}
	return q.JSON(fasthttp.StatusOK, codes)
}

func newUserRecoveryCodes(q *Request) error {
	doc, err := q.ReadAll()
	if err == nil {
		err = q.proveAgain(doc)
	}
	if err != nil {
		return err
	}
	codes, err := q.API.Deps.Admin.ReplaceUserCodes(q.Context(), q.userActor())
	if err != nil {
		return err
	}
	return q.JSON(fasthttp.StatusOK, codes)
}

func listShares(q *Request) error {
	p, err := q.Page()
	if err != nil {
		return err
	}
	list, total, err := q.API.Deps.Admin.Shares(q.Context(), q.Login.User(), p)
	if err != nil {
		return err
	}
	return WriteList(q, list, total)
}

func addShare(q *Request) error {
	doc, err := q.ReadAll()
	if err != nil {
		return err
	}
	sh, err := q.API.Deps.Admin.AddShare(q.Context(), q.userActor(), q.Login.User(), doc)
	if err != nil {
		return err
	}
	q.Created("user", "shares", sh.ID)
	q.SetHeader("X-Object-ID", sh.ID)
	return q.Message(fasthttp.StatusCreated, "share created")
}

func getShare(q *Request) error {
	sh, etag, err := q.API.Deps.Admin.Share(q.Context(), q.Login.User(), q.Param("id"))
	if err != nil {
		return err
	}
	q.SetHeader("ETag", etag)
	return q.JSON(fasthttp.StatusOK, sh)
}

func putShare(q *Request) error {
	doc, err := q.ReadAll()
	if err != nil {
		return err
	}
	e := admin.Edit{IfMatch: q.Header("If-Match")}
	if err := q.API.Deps.Admin.PutShare(q.Context(), q.userActor(), q.Login.User(), q.Param("id"), doc, e); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "share updated")
}

func deleteShare(q *Request) error {
	if err := q.API.Deps.Admin.DeleteShare(q.Context(), q.userActor(), q.Login.User(), q.Param("id")); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "share deleted")
}
