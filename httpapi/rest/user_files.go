package rest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"mime"
	"mime/multipart"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"github.com/gantryhq/gantry/httpapi"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// noWrites is the web_client option that refuses every change of files.
const noWrites = "write-disabled"

// fileRoutes are a user's calls on files. Bodies of uploads are bounded by max_upload_file_size alone, as they come.
func fileRoutes() []Route {
	const dirs, files, actions = "/user/dirs", "/user/files", "/user/file-actions"
	row := func(method, path string, run func(*Request) error, id string) Route {
		r := Route{Method: method, Path: path, Auth: User, Gate: true, Files: true, Run: run, ID: id, Of: "files"}
		if method != get {
			r.Denied = noWrites
		}
		return r
	}
	upload := row(post, files, uploadFiles, "createUserFiles")
	one := row(post, files+"/upload", uploadFile, "createUserFile")
	upload.Body, one.Body = -1, -1
	zip := row(post, "/user/streamzip", userZip, "streamZip")
	zip.Denied = ""
	return []Route{
		row(get, dirs, listDir, "getUserDirContents"),
		row(post, dirs, makeDir, "createUserDir"),
		row(patch, dirs, move, "renameUserDir"),
		row(remove, dirs, deleteDir, "deleteUserDir"),
		row(get, files, download, "downloadUserFile"),
		upload,
		row(patch, files, move, "renameUserFile"),
		row(remove, files, deleteFile, "deleteUserFile"),
		one,
		row(patch, files+"/metadata", setMetadata, "setUserFileMetadata"),
		row(post, actions+"/move", move, "moveUserFile"),
		row(post, actions+"/copy", copyFile, "copyUserFile"),
		zip,
	}
}

// pathOf makes a path of a query parameter, from where relative ones begin. ".." is refused, as everywhere in HTTP
// (PATH-2); the text was decoded once.
func pathOf(text string, from vfs.Path) (vfs.Path, error) {
	for name := range strings.SplitSeq(text, "/") {
		if name == ".." {
			return vfs.Path{}, badRequest("the path must not have .. in it")
		}
	}
	p, err := from.Resolve(text)
	if err != nil {
		return p, badRequest("%v", err)
	}
	return p, nil
}

// Path is the path that a query parameter names.
func (q *Request) Path(param string) (vfs.Path, error) {
	text := q.Query(param)
	if text == "" {
		return vfs.Path{}, badRequest("%s is needed", param)
	}
	return pathOf(text, q.Session.StartDir())
}

// dirEntry is one line of a listing.
type dirEntry struct {
	name     string
	size     int64
	mode     fs.FileMode
	modified time.Time
}

// appendTo writes e as JSON. A byte of a name that is no UTF-8 becomes the lone surrogate U+DC80 to U+DCFF, so that no
// two names look the same.
func (e *dirEntry) appendTo(b []byte) []byte {
	b = append(b, `{"name":`...)
	b = appendText(b, e.name)
	if e.mode.IsRegular() {
		b = strconv.AppendInt(append(b, `,"size":`...), e.size, 10)
	}
	b = strconv.AppendUint(append(b, `,"mode":`...), uint64(e.mode), 10)
	b = append(b, `,"last_modified":"`...)
	b = e.modified.UTC().AppendFormat(b, time.RFC3339)
	return append(b, `"}`...)
}

func appendText(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b = append(b, '\\', 'u', 'd', 'c', hex[c>>4], hex[c&15])
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return append(b, '"')
}

// listing streams entries as a JSON array. Closing it ends the listing.
type listing struct {
	next func() (vfs.FileInfo, error, bool)
	stop func()
	buf  []byte
	more bool // there may be more entries
	any  bool
}

// newListing begins to list: an error here is the call's, one later cuts the answer.
func newListing(entries iter.Seq2[vfs.FileInfo, error]) (*listing, error) {
	l := &listing{buf: append(make([]byte, 0, 8<<10), '['), more: true}
	l.next, l.stop = iter.Pull2(entries)
	if err := l.step(); err != nil {
		l.stop()
		return nil, err
	}
	return l, nil
}

// step takes one entry. One that cannot be read is left out.
func (l *listing) step() error {
	i, err, ok := l.next()
	switch {
	case !ok:
		l.buf, l.more = append(l.buf, ']'), false
	case err != nil && i.Name == "":
		return err
	case err == nil:
		if l.any {
			l.buf = append(l.buf, ',')
		}
		l.any = true
		e := dirEntry{i.Name, i.Size, i.Mode, i.ModTime}
		l.buf = e.appendTo(l.buf)
	}
	return nil
}

// Read implements io.Reader.
func (l *listing) Read(p []byte) (int, error) {
	for l.more && len(l.buf) < len(p) {
		if err := l.step(); err != nil {
			return 0, err
		}
	}
	if len(l.buf) == 0 {
		return 0, io.EOF
	}
	n := copy(p, l.buf)
	l.buf = l.buf[:copy(l.buf, l.buf[n:])]
	return n, nil
}

// Close implements io.Closer.
func (l *listing) Close() error {
	l.stop()
	return nil
}

func listDir(q *Request) error {
	dir, err := pathOf(q.Query("path"), q.Session.StartDir())
	if err != nil {
		return err
	}
	return q.list(dir, func(vfs.FileInfo) bool { return true })
}

// list answers with the entries of dir that keep accepts.
func (q *Request) list(dir vfs.Path, keep func(vfs.FileInfo) bool) error {
	l, err := newListing(func(yield func(vfs.FileInfo, error) bool) {
		for i, err := range q.Session.List(q.Context(), dir) {
			if (err != nil || keep(i)) && !yield(i, err) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	q.HTTP.SetContentType(jsonType)
	if q.takesGzip() {
		q.SetHeader(fasthttp.HeaderContentEncoding, "gzip")
		q.HTTP.SetBodyStream(newZippedList(l), -1)
		return nil
	}
	q.HTTP.SetBodyStream(l, -1)
	return nil
}

// makeParents makes the directories that lead to dir, and dir.
func makeParents(ctx context.Context, s *session.Session, dir vfs.Path) error {
	if i, err := s.Stat(ctx, dir); err == nil {
		if !i.IsDir() {
			return vfs.ErrNotDir
		}
		return nil
	}
	if dir.IsRoot() {
		return nil
	}
	err := s.Mkdir(ctx, dir, vfs.Attr{})
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeParents(ctx, s, dir.Dir()); err == nil {
			err = s.Mkdir(ctx, dir, vfs.Attr{})
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func makeDir(q *Request) error {
	p, err := q.Path("path")
	if err != nil {
		return err
	}
	if q.QueryBool("mkdir_parents") && !p.IsRoot() {
		if err := makeParents(q.Context(), q.Session, p.Dir()); err != nil {
			return err
		}
	}
	if err := q.Session.Mkdir(q.Context(), p, vfs.Attr{}); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusCreated, "directory created")
}

func deleteDir(q *Request) error {
	p, err := q.Path("path")
	if err != nil {
		return err
	}
	if err := q.Session.RemoveAll(q.Context(), p); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "deleted")
}

func deleteFile(q *Request) error {
	p, err := q.Path("path")
	if err != nil {
		return err
	}
	if err := q.Session.Remove(q.Context(), p); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "deleted")
}

// ends reads the two paths of a move or a copy.
func (q *Request) ends() (from, to vfs.Path, err error) {
	if from, err = q.Path("path"); err == nil {
		to, err = q.Path("target")
	}
	return from, to, err
}

// move is a rename; between storages of different kinds it is a copy and a removal, which is not atomic.
func move(q *Request) error {
	from, to, err := q.ends()
	if err != nil {
		return err
	}
	err = q.Session.Rename(q.Context(), from, to, true)
	if errors.Is(err, session.ErrOtherStorage) {
		if err = q.Session.Copy(q.Context(), from, to, true); err == nil {
			err = q.Session.RemoveAll(q.Context(), from)
		}
	}
	if err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "moved")
}

// copyFile copies a file or a tree. "/" at the end of the source means what is in it, at the end of the target that the
// copy goes into it.
func copyFile(q *Request) error {
	from, to, err := q.ends()
	if err != nil {
		return err
	}
	contents := strings.HasSuffix(q.Query("path"), "/") && !from.IsRoot()
	if strings.HasSuffix(q.Query("target"), "/") && !contents {
		if to, err = to.Child(from.Base()); err != nil {
			return badRequest("%v", err)
		}
	}
	if err := makeParents(q.Context(), q.Session, to.Dir()); err != nil {
		return err
	}
	if contents {
		err = q.copyContents(from, to)
	} else {
		err = q.Session.Copy(q.Context(), from, to, true)
	}
	if err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "copied")
}

func (q *Request) copyContents(from, to vfs.Path) error {
	if to == from || to.Within(from) {
		return vfs.ErrUnsupported
	}
	if err := makeParents(q.Context(), q.Session, to); err != nil {
		return err
	}
	for i, err := range q.Session.List(q.Context(), from) {
		if err != nil {
			return err
		}
		f, err := from.Child(i.Name)
		if err != nil {
			return err
		}
		t, err := to.Child(i.Name)
		if err != nil {
			return err
		}
		if !i.IsDir() && !i.Mode.IsRegular() {
			continue
		}
		if err := q.Session.Copy(q.Context(), f, t, true); err != nil {
			return err
		}
	}
	return nil
}

func setMetadata(q *Request) error {
	p, err := q.Path("path")
	if err != nil {
		return err
	}
	var m struct {
		Modified int64 `json:"modification_time"`
	}
	if err := q.Decode(&m); err != nil {
		return err
	}
	if m.Modified == 0 {
		return badRequest("modification_time is needed")
	}
	at := time.UnixMilli(m.Modified)
	if err := q.Session.SetAttr(q.Context(), p, vfs.Attr{Set: vfs.AttrTimes, Atime: at, Mtime: at}, true); err != nil {
		return err
	}
	return q.Message(fasthttp.StatusOK, "OK")
}

func download(q *Request) error {
	p, err := q.Path("path")
	if err != nil {
		return err
	}
	return q.serveFile(p)
}

// span is a part of a file.
type span struct{ off, size int64 }

// errUnsent is why a file was opened and nothing of it sent.
var errUnsent = errors.New("nothing of the file was asked for")

// errRange is a Range that cannot be given: several, or none of the file.
var errRange = errors.New("the range cannot be given")

// rangeOf reads a Range header of one range (RFC 9110 14.1.2). Without one, or with a unit that is not known, it is the
// whole.
func rangeOf(header string, size int64) (s span, partial bool, err error) {
	s = span{0, size}
	text, ok := strings.CutPrefix(header, "bytes=")
	if !ok {
		return s, false, nil
	}
	first, last, ok := strings.Cut(strings.TrimSpace(text), "-")
	if !ok || strings.Contains(last, ",") {
		return s, false, errRange // WEB-4: several are not given
	}
	number := func(t string) (int64, bool) {
		n, err := strconv.ParseUint(strings.TrimSpace(t), 10, 63)
		return int64(n), err == nil && !strings.ContainsAny(t, "+_")
	}
	if first == "" { // the last so many
		n, ok := number(last)
		if !ok || n == 0 || size == 0 {
			return s, false, errRange
		}
		n = min(n, size)
		return span{size - n, n}, true, nil
	}
	off, ok := number(first)
	if !ok || off >= size {
		return s, false, errRange
	}
	end := size - 1
	if last != "" {
		n, ok := number(last)
		if !ok || n < off {
			return s, false, errRange
		}
		end = min(end, n)
	}
	return span{off, end - off + 1}, true, nil
}

// unchanged reports whether a date of a header is that of the file or a later one; ok says that it is a date.
func unchanged(header string, modified time.Time) (since, ok bool) {
	t, err := http.ParseTime(header)
	return err == nil && !modified.Truncate(time.Second).After(t), err == nil
}

// serveFile answers with a file or a range of it. What a user uploaded is never shown in place (WEB-2).
func (q *Request) serveFile(p vfs.Path) error {
	s := q.Session
	var f *session.Handle
	i, err := s.Stat(q.Context(), p)
	if errors.Is(err, fs.ErrPermission) && !q.HTTP.IsHead() { // who may not list may download all the same
		if f, err = s.OpenFile(q.Context(), p, session.Flags{Read: true}); err == nil {
			if i, err = f.Stat(q.Context()); err != nil {
				f.Abort(q.Context(), err)
			}
		}
	}
	if err != nil {
		return err
	}
	if i.IsDir() {
		return badRequest("it is a directory")
	}
	drop := func(err error) error {
		if f != nil {
			f.Abort(q.Context(), errUnsent)
		}
		return err
	}
	h := &q.HTTP.Response.Header
	h.Set("Last-Modified", i.ModTime.UTC().Format(http.TimeFormat))
	if t := q.Header("If-Unmodified-Since"); t != "" {
		if since, ok := unchanged(t, i.ModTime); ok && !since {
			return drop(refuse(fasthttp.StatusPreconditionFailed, "the file has changed"))
		}
	} else if t := q.Header("If-Modified-Since"); t != "" {
		if since, ok := unchanged(t, i.ModTime); ok && since {
			q.HTTP.Response.ResetBody()
			q.HTTP.SetStatusCode(fasthttp.StatusNotModified)
			return drop(nil)
		}
	}
	header := q.Header("Range")
	if t := q.Header("If-Range"); t != "" {
		if at, err := http.ParseTime(t); err != nil || !i.ModTime.Truncate(time.Second).Equal(at) {
			header = ""
		}
	}
	h.Set("Accept-Ranges", "bytes")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("Content-Disposition", attachment(p.Base()))
	kind := mime.TypeByExtension(path.Ext(p.Base()))
	if kind == "" {
		kind = "application/octet-stream"
	}
	if q.HTTP.IsHead() {
		part, partial, err := rangeOf(header, i.Size)
		if err != nil {
			return q.noRange(i.Size)
		}
		q.HTTP.SetContentType(kind)
		q.ranged(part, partial, i.Size)
		q.HTTP.Response.SkipBody = true
		h.SetContentLength(int(part.size))
		return nil
	}
	if f == nil {
		if f, err = s.OpenFile(q.Context(), p, session.Flags{Read: true}); err != nil {
			return err
		}
	}
	// What is open is what counts: it may be another file by now.
	if i, err = f.Stat(q.Context()); err != nil {
		return drop(err)
	}
	part, partial, err := rangeOf(header, i.Size)
	if err != nil {
		return drop(q.noRange(i.Size))
	}
	q.HTTP.SetContentType(kind)
	q.ranged(part, partial, i.Size)
	d := &downloading{FileBody: httpapi.NewFileBody(f, part.off, part.size), h: f}
	q.OnDone(func() { d.end(context.Cause(q.Context())) })
	q.HTTP.SetBodyStream(d.FileBody, int(part.size))
	q.download = d
	return nil
}

func (q *Request) noRange(size int64) error {
	q.SetHeader("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
	return refuse(fasthttp.StatusRequestedRangeNotSatisfiable, "one range of the file can be given")
}

func (q *Request) ranged(s span, partial bool, size int64) {
	if !partial {
		return
	}
	q.HTTP.SetStatusCode(fasthttp.StatusPartialContent)
	q.SetHeader("Content-Range", "bytes "+strconv.FormatInt(s.off, 10)+"-"+strconv.FormatInt(s.off+s.size-1, 10)+"/"+strconv.FormatInt(size, 10))
}

// attachment names a file for saving, in both forms of RFC 6266.
func attachment(name string) string {
	plain := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || strings.ContainsRune(`"\/<>`, r) {
			return '_'
		}
		return r
	}, name)
	var b strings.Builder
	const hex = "0123456789ABCDEF"
	for i := range len(name) {
		if c := name[i]; c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_' {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return `attachment; filename="` + plain + `"; filename*=UTF-8''` + b.String()
}

// downloading is a file whose bytes are an answer.
type downloading struct {
	*httpapi.FileBody
	h    *session.Handle
	once sync.Once
}

// end closes the file; the download is complete if all of its bytes were written.
func (d *downloading) end(cause error) {
	d.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // the request is over
		defer cancel()
		if d.Left() > 0 {
			if cause == nil {
				cause = errors.New("the client has gone")
			}
			d.h.Abort(ctx, cause)
			return
		}
		d.h.Close(ctx)
	})
}

// uploadBuffers are what uploads copy with.
var uploadBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// store writes what r gives to p: all of it, or nothing. size is the announced one, or -1.
func (q *Request) store(p vfs.Path, r io.Reader, size int64, modified time.Time) error {
	f := session.Flags{Write: true, Create: true, Truncate: true, Whole: true, Size: size}
	if !modified.IsZero() {
		f.Attr = vfs.Attr{Set: vfs.AttrTimes, Atime: modified, Mtime: modified}
	}
	h, err := q.Session.OpenFile(q.Context(), p, f)
	if err != nil {
		return err
	}
	buf := uploadBuffers.Get().(*[]byte)
	defer uploadBuffers.Put(buf)
	var off int64
	for {
		n, err := r.Read(*buf)
		if n > 0 {
			if _, werr := h.WriteAt((*buf)[:n], off); werr != nil {
				h.Abort(q.Context(), werr)
				return werr
			}
			off += int64(n)
		}
		if err == io.EOF {
			return h.Close(q.Context())
		}
		if err != nil {
			h.Abort(q.Context(), err)
			if errors.Is(err, httpapi.ErrBodyTooLarge) {
				return err
			}
			return &Error{Status: fasthttp.StatusBadRequest, Text: "the body ended too soon", Err: err}
		}
	}
}

// uploadBody is the body of an upload, bounded by max_upload_file_size.
func (q *Request) uploadBody() (io.Reader, error) { return q.Body(q.API.cfg.MaxUploadFileSize) }

// mtimeOf reads X-SFTPGO-MTIME; what is no time is no reason to refuse a file.
func (q *Request) mtimeOf() time.Time {
	ms, err := strconv.ParseInt(q.Header("X-SFTPGO-MTIME"), 10, 64)
	if err != nil || ms <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// uploadFile is a raw body.
func uploadFile(q *Request) error {
	p, err := q.Path("path")
	if err != nil {
		return err
	}
	return q.uploadTo(p)
}

func (q *Request) uploadTo(p vfs.Path) error {
	body, err := q.uploadBody()
	if err != nil {
		return err
	}
	if q.QueryBool("mkdir_parents") {
		if err := makeParents(q.Context(), q.Session, p.Dir()); err != nil {
			return q.unread(err)
		}
	}
	if err := q.store(p, body, q.ContentLength(), q.mtimeOf()); err != nil {
		return q.unread(err)
	}
	return q.Message(fasthttp.StatusCreated, "upload completed")
}

// unread ends the connection after the answer: what is left of a body is not read.
func (q *Request) unread(err error) error {
	q.HTTP.SetConnectionClose()
	return err
}

// uploadFiles is a multipart body, whose files go to one directory as they come: nothing is kept in memory or in a
// temporary file. It stops at the first that fails; those before stay.
func uploadFiles(q *Request) error {
	dir, err := pathOf(q.Query("path"), q.Session.StartDir())
	if err != nil {
		return err
	}
	if q.QueryBool("mkdir_parents") {
		if err := makeParents(q.Context(), q.Session, dir); err != nil {
			return q.unread(err)
		}
	}
	n, err := q.eachFile(func(name string, r io.Reader) error {
		p, err := dir.Child(name)
		if err != nil {
			return badRequest("%v", err)
		}
		return q.store(p, r, -1, time.Time{})
	})
	if err != nil {
		return q.unread(err)
	}
	if n == 0 {
		return badRequest("the body has no file in a field named filenames")
	}
	return q.Message(fasthttp.StatusCreated, "upload completed")
}

// eachFile gives the files of a multipart body as they come, by the base of their names.
func (q *Request) eachFile(fn func(name string, r io.Reader) error) (n int, err error) {
	kind, params, err := mime.ParseMediaType(q.Header("Content-Type"))
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return 0, badRequest("the body must be multipart/form-data")
	}
	body, err := q.uploadBody()
	if err != nil {
		return 0, err
	}
	parts := multipart.NewReader(body, params["boundary"])
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			if errors.Is(err, httpapi.ErrBodyTooLarge) {
				return n, err
			}
			return n, &Error{Status: fasthttp.StatusBadRequest, Text: "the body is not valid multipart/form-data", Err: err}
		}
		if part.FormName() != "filenames" {
			continue // it is read over, and bounded as the whole is
		}
		name := baseOf(part)
		if name == "" {
			return n, badRequest("a file has no name")
		}
		n++
		if err := fn(name, part); err != nil {
			return n, err
		}
	}
}

// baseOf is the last part of a file's name, whatever system its client runs on; "" if it is none.
func baseOf(part *multipart.Part) string {
	name := part.FileName()
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	if name == "." || name == ".." {
		return ""
	}
	return name
}
