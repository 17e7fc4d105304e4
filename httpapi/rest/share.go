package rest

import (
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/admin"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// shareRoutes are the rows of public shares. Each handler gets its files by enterShare and in no other way (SHARE-1).
func shareRoutes() []Route {
	row := func(method, path string, body int64, run func(*Request, *visit) error, read, write bool, id string) Route {
		return Route{Method: method, Path: "/shares/{id}" + path, Auth: SharePublic, Body: body, ID: id, Of: "public shares",
			Run: func(q *Request) error {
				v, err := q.enterShare(read, write)
				if err != nil {
					return q.unreadBody(err)
				}
				return run(q, v)
			}}
	}
	return []Route{
		row(get, "", 0, shareDownload, true, false, "getShare"),
		row(post, "", -1, shareUpload, false, true, "uploadToShare"),
		row(get, "/files", 0, shareFile, true, false, "downloadShareFile"),
		row(get, "/dirs", 0, shareDir, true, false, "getShareDirContents"),
		row(post, "/{fileName}", -1, shareUploadOne, false, true, "uploadSingleToShare"),
	}
}

// unreadBody ends the connection of a refused upload.
func (q *Request) unreadBody(err error) error {
	if q.Route.Body < 0 {
		q.HTTP.SetConnectionClose()
	}
	return err
}

// visit is somebody who was let in to a share.
type visit struct {
	share *account.Share
	paths []vfs.Path
}

// enterShare is the one way into a share, for every call: its own gate, then the owner's account through Admit as it is
// now, then a session that has no more than the share and the owner's rights of the moment. read and write say what
// the call does.
func (q *Request) enterShare(read, write bool) (*visit, error) {
	svc := q.API.Deps.Admin
	use := admin.ShareUse{ID: q.Param("id"), Read: read, Write: write, Remote: q.Remote.Addr()}
	_, use.Password, use.HasPassword = visitor(q)
	sh, err := svc.EnterShare(q.Context(), use)
	if err != nil {
		if errors.Is(err, admin.ErrCredentials) {
			q.SetHeader("WWW-Authenticate", `Basic realm="share", charset="UTF-8"`)
		}
		return nil, err
	}
	attempt := &session.Attempt{
		Protocol: account.ProtocolHTTP, Method: account.MethodPassword, Username: sh.Username,
		Remote: q.Remote.Addr(), Local: q.Local, ConnID: q.ID, Client: clientOf(q), Secure: q.Secure,
	}
	l, err := q.API.Sessions.Vouch(q.Context(), session.Vouched{Username: sh.Username, Method: account.MethodPassword, Factor: true}, attempt)
	if err != nil {
		switch session.DenialOf(err) {
		case session.DeniedForNow:
			return nil, loginError(err)
		case session.DeniedByRule:
			return nil, &Error{Status: fasthttp.StatusForbidden, Text: "the share cannot be used from here", Err: err}
		}
		return nil, &Error{Status: fasthttp.StatusNotFound, Err: err} // a disabled owner's share is as good as gone
	}
	if err := admin.ShareOwner(l.User(), sh); err != nil {
		return nil, err
	}
	if password, factor := l.Owes(q.API.Now()); password || factor {
		return nil, refuse(fasthttp.StatusForbidden, "the owner's account is not ready for shares")
	}
	v := &visit{share: sh}
	for _, text := range sh.Paths {
		p, err := vfs.ParseConfigPath(text)
		if err != nil {
			return nil, &Error{Status: fasthttp.StatusNotFound, Err: err}
		}
		v.paths = append(v.paths, p)
	}
	s, err := q.API.Sessions.OpenShare(q.Context(), l, session.Conn{
		ID: q.ID, Protocol: "HTTPShare", Remote: q.Remote, Local: q.Local, Client: clientOf(q), Kill: q.Kill,
	}, session.Share{Paths: v.paths, Read: read, Write: write})
	if err != nil {
		return nil, err
	}
	q.OnDone(func() { s.Close() })
	q.Login, q.Session = l, s
	return v, nil
}

// visitor reads the Basic credentials of a visitor. Any user name will do.
func visitor(q *Request) (name, password string, ok bool) {
	scheme, text, _ := strings.Cut(q.Header("Authorization"), " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(raw), ":")
}

// spend takes a use of the share for a download, and gives it back if nothing of it was sent. Who has got a part has
// used it: else a visitor who cuts each answer before its last byte would come as often as they like. A HEAD costs
// nothing.
func (q *Request) spend(v *visit) error {
	if q.HTTP.IsHead() {
		return nil
	}
	back, err := q.API.Deps.Admin.SpendShare(q.Context(), v.share.ID)
	if err != nil {
		return err
	}
	q.OnDone(func() { // after what the answer itself has to end
		if d := q.download; d != nil && (d.Sent() > 0 || d.Left() == 0) || q.zipped != nil && q.zipped.n > 0 {
			return
		}
		back()
	})
	return nil
}

// shareDownload is GET /shares/{id}: an archive, or the one file that is shared. Given paths, relative to the one
// directory that is shared, it is an archive of these.
func shareDownload(q *Request, v *visit) error {
	if some := q.HTTP.QueryArgs().PeekMulti("path"); len(some) > 0 {
		return q.shareZip(v, some)
	}
	if q.Query("compress") == "false" && len(v.paths) == 1 {
		i, err := q.Session.Stat(q.Context(), v.paths[0])
		if err != nil {
			return err
		}
		if i.Mode.IsRegular() {
			if err := q.spend(v); err != nil {
				return err
			}
			return q.serveFile(v.paths[0])
		}
	}
	if err := q.spend(v); err != nil {
		return err
	}
	return q.zip(v.paths, "share-"+v.share.Name+".zip")
}

// inside is a path of a visitor, who sees the share's one directory as the root.
func (q *Request) inside(v *visit, text string) (vfs.Path, error) {
	if len(v.paths) != 1 {
		return vfs.Path{}, badRequest("the share has several paths: it can only be had whole")
	}
	base := v.paths[0]
	i, err := q.Session.Stat(q.Context(), base)
	switch {
	case errors.Is(err, fs.ErrPermission): // it may be written without being looked at
	case err != nil:
		return base, err
	case !i.IsDir():
		return base, badRequest("the share is not of a directory")
	}
	rel, err := pathOf(text, vfs.Root)
	if err != nil {
		return base, err
	}
	p := base.Join(rel)
	if !p.Within(base) { // it cannot be otherwise
		return base, refuse(fasthttp.StatusForbidden, "the path is not in the share")
	}
	return p, nil
}

// shareFile is GET /shares/{id}/files.
func shareFile(q *Request, v *visit) error {
	p, err := q.inside(v, q.Query("path"))
	if err != nil {
		return err
	}
	if i, err := q.Session.Stat(q.Context(), p); err != nil {
		return err
	} else if i.IsDir() {
		return badRequest("it is a directory")
	}
	if err := q.spend(v); err != nil {
		return err
	}
	return q.serveFile(p)
}

// shareDir is GET /shares/{id}/dirs. It costs no use.
func shareDir(q *Request, v *visit) error {
	p, err := q.inside(v, q.Query("path"))
	if err != nil {
		return err
	}
	return q.list(p, func(i vfs.FileInfo) bool { return i.IsDir() || i.Mode.IsRegular() })
}

// shareZip answers with an archive of some of a shared directory.
func (q *Request) shareZip(v *visit, some [][]byte) error {
	names := make([]string, len(some))
	for i, n := range some {
		names[i] = string(n)
	}
	rel, err := zipPaths(names, vfs.Root)
	if err != nil {
		return err
	}
	var paths []vfs.Path
	for _, r := range rel {
		p, err := q.inside(v, r.String())
		if err != nil {
			return err
		}
		paths = append(paths, p)
	}
	if err := q.spend(v); err != nil {
		return err
	}
	return q.zip(paths, "share-"+v.share.Name+".zip")
}

// shareStore stores one file of a visitor, for one use of the share.
func (q *Request) shareStore(v *visit, p vfs.Path, r io.Reader, size int64, modified time.Time) error {
	back, err := q.API.Deps.Admin.SpendShare(q.Context(), v.share.ID)
	if err != nil {
		if errors.Is(err, account.ErrNotFound) {
			return &Error{Status: fasthttp.StatusBadRequest, Text: "the share takes no more files", Err: err}
		}
		return err
	}
	if err := q.store(p, r, size, modified); err != nil {
		back()
		return err
	}
	return nil
}

// shareUpload is POST /shares/{id}.
func shareUpload(q *Request, v *visit) error {
	dir, err := q.inside(v, "")
	if err != nil {
		return q.unread(err)
	}
	n, err := q.eachFile(func(name string, r io.Reader) error {
		p, err := dir.Child(name)
		if err != nil {
			return badRequest("%v", err)
		}
		return q.shareStore(v, p, r, -1, time.Time{})
	})
	if err != nil {
		return q.unread(err)
	}
	if n == 0 {
		return badRequest("the body has no file in a field named filenames")
	}
	return q.Message(fasthttp.StatusCreated, "upload completed")
}

// shareUploadOne is POST /shares/{id}/{fileName}, in which an encoded "/" leads deeper into the share.
func shareUploadOne(q *Request, v *visit) error {
	p, err := q.inside(v, q.Param("fileName"))
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok && strings.Contains(q.Param("fileName"), "..") {
			err = refuse(fasthttp.StatusForbidden, "%s", e.Text) // it would leave the share
		}
		return q.unread(err)
	}
	body, err := q.uploadBody()
	if err != nil {
		return err
	}
	if q.QueryBool("mkdir_parents") && p.Dir().Within(v.paths[0]) {
		if err := makeParents(q.Context(), q.Session, p.Dir()); err != nil {
			return q.unread(err)
		}
	}
	if err := q.shareStore(v, p, body, q.ContentLength(), q.mtimeOf()); err != nil {
		return q.unread(err)
	}
	return q.Message(fasthttp.StatusCreated, "upload completed")
}
