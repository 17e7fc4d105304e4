package httpfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/object"
)

// Bounds of answers, in bytes.
const (
	maxAnswer = 64 << 10 // one object, and one entry of a listing
	maxWords  = 200      // of a failure, as it is logged
)

// info is an object on the wire. Mode has the bits of Go's fs.FileMode.
type info struct {
	Name         string    `json:"name"`
	Size         int64     `json:"size"`
	Mode         uint32    `json:"mode"`
	LastModified time.Time `json:"last_modified"`
	LastAccessed time.Time `json:"last_accessed"`
}

// show is i as entries are shown. name is what was asked for; "" takes the answer's.
func (i *info) show(name string) vfs.FileInfo {
	if name == "" {
		name = object.UnescapeName(i.Name)
	}
	m := fs.FileMode(i.Mode) & (fs.ModeType | fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
	out := vfs.FileInfo{Name: name, Size: max(i.Size, 0), Mode: m, ModTime: i.LastModified, AccessTime: i.LastModified, Nlink: 1}
	if !i.LastAccessed.IsZero() {
		out.AccessTime = i.LastAccessed
	}
	if m.IsDir() {
		out.Size = 0
	}
	return out
}

// statusError is a service's refusal. It holds what the service said, never what we sent.
type statusError struct {
	status int
	words  string
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("the service answers %d", e.status)
	if e.status == http.StatusUnauthorized {
		text += " (look at username, password and api_key)"
	}
	if e.words != "" {
		text += ": " + e.words
	}
	return text
}

// Is has errors.Is find what the status means.
func (e *statusError) Is(target error) bool {
	switch e.status {
	case http.StatusNotFound, http.StatusGone:
		return target == fs.ErrNotExist
	case http.StatusForbidden, http.StatusUnauthorized:
		return target == fs.ErrPermission
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return target == vfs.ErrUnsupported
	case http.StatusRequestEntityTooLarge:
		return target == vfs.ErrTooLarge || target == vfs.ErrQuota
	case http.StatusInsufficientStorage:
		return target == vfs.ErrQuota
	}
	return false
}

// statusOf is the status of a refusal, or 0.
func statusOf(err error) int {
	if s, ok := errors.AsType[*statusError](err); ok {
		return s.status
	}
	return 0
}

// refused makes an error of an answer that is no success.
func refused(resp *http.Response) error {
	e := &statusError{status: resp.StatusCode}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	var said struct{ Message, Error string }
	if json.Unmarshal(b, &said) == nil {
		e.words = said.Message
		if said.Error != "" {
			e.words = strings.TrimPrefix(e.words+": "+said.Error, ": ")
		}
	}
	e.words = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, e.words)
	if len(e.words) > maxWords {
		e.words = strings.ToValidUTF8(e.words[:maxWords], "") + "…"
	}
	return e
}

// request makes a call: op and the escaped name are two segments of its path.
func (r *remote) request(ctx context.Context, method, op, name string, query url.Values, body io.Reader) (*http.Request, error) {
	u := *r.base
	at := "/" + op + "/"
	name = object.EscapeName(name, nil) // JSON has no other bytes
	u.Path = r.base.Path + at + name
	u.RawPath = r.base.EscapedPath() + at + url.PathEscape(name)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, errors.New("the URL of a call cannot be made") // without its text
	}
	if r.cfg.Username != "" || r.cfg.Password != "" {
		req.SetBasicAuth(r.cfg.Username, r.cfg.Password)
	}
	if r.cfg.APIKey != "" {
		req.Header.Set("X-API-KEY", r.cfg.APIKey)
	}
	req.Header.Set("User-Agent", "Gantry")
	return req, nil
}

// send makes a call and gives its answer, which is a success and whose body the caller closes. It is sent once.
func (r *remote) send(ctx context.Context, method, op, name string, query url.Values, body io.Reader) (*http.Response, error) {
	req, err := r.request(ctx, method, op, name, query, body)
	if err != nil {
		return nil, err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok { // its text has the URL
			err = u.Err
		}
		if c := context.Cause(ctx); c != nil && ctx.Err() != nil {
			err = c
		}
		return nil, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		defer resp.Body.Close()
		return nil, refused(resp)
	}
	return resp, nil
}

// passing reports whether a failure may be gone a moment later.
func passing(err error) bool {
	switch statusOf(err) {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusTooManyRequests, http.StatusInternalServerError:
		return true
	case 0:
	default:
		return false
	}
	var n net.Error
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &n) && n.Timeout()
}

// ask runs a call that changes nothing, again after a failure that may pass, with back-off.
func (r *remote) ask(ctx context.Context, call func(ctx context.Context) error) error {
	for try := 1; ; try++ {
		one, cancel := context.WithTimeout(ctx, r.pool.o.Wait)
		err := call(one)
		cancel()
		if err == nil || try >= r.pool.o.Tries || ctx.Err() != nil || !passing(err) {
			return err
		}
		t := time.NewTimer(100 * time.Millisecond << try)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}

// do runs a call that changes something, once: who sends it again does not know what the first one did.
func (r *remote) do(ctx context.Context, method, op, name string, query url.Values) error {
	ctx, cancel := context.WithTimeout(ctx, r.pool.o.Wait)
	defer cancel()
	resp, err := r.send(ctx, method, op, name, query, nil)
	if err != nil {
		return err
	}
	drain(resp)
	return nil
}

// drain reads what is left of a short answer, so that its connection serves again.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer) // else it is closed, no more
	resp.Body.Close()
}

// object asks for one JSON object.
func (r *remote) object(ctx context.Context, op, name string, into any) error {
	return r.ask(ctx, func(ctx context.Context) error {
		resp, err := r.send(ctx, http.MethodGet, op, name, nil, nil)
		if err != nil {
			return err
		}
		defer drain(resp)
		b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
		switch {
		case err != nil:
			return err
		case len(b) > maxAnswer:
			return errTooLong
		}
		if err := json.Unmarshal(b, into); err != nil {
			return fmt.Errorf("%w: %w", errMalformed, err)
		}
		return nil
	})
}

var (
	errMalformed = errors.New("the service's answer is not what its operation gives")
	errTooLong   = fmt.Errorf("%w: it is too long", errMalformed)
)

func (r *remote) stat(ctx context.Context, name vfs.Path) (vfs.FileInfo, error) {
	return r.statText(ctx, name.String(), name.Base())
}

func (r *remote) statText(ctx context.Context, path, base string) (vfs.FileInfo, error) {
	var i info
	if err := r.object(ctx, "stat", path, &i); err != nil {
		return vfs.FileInfo{}, err
	}
	return i.show(base), nil
}

// entries streams a listing: one JSON array. Each entry is bounded, and so is the time between two.
func (r *remote) entries(ctx context.Context, dir string, show func(info) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	shown := false
	return r.askStream(ctx, func(ctx context.Context, alive func()) error {
		resp, err := r.send(ctx, http.MethodGet, "readdir", dir, nil, nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		in := &bounded{r: resp.Body, left: maxAnswer}
		d := json.NewDecoder(in)
		if t, err := d.Token(); err != nil || t != json.Delim('[') {
			if t == nil && err == nil { // null: some languages' empty list
				return nil
			}
			return broken(err, in)
		}
		for d.More() {
			var i info
			if err := d.Decode(&i); err != nil {
				return broken(err, in)
			}
			in.left = maxAnswer
			alive()
			shown = true
			if !show(i) {
				return nil
			}
		}
		if _, err := d.Token(); err != nil {
			return broken(err, in)
		}
		return nil
	}, &shown)
}

// broken is the error of an answer that ends too early or is no listing.
func broken(err error, in *bounded) error {
	switch {
	case in.left <= 0:
		return errTooLong
	case err == nil:
		return errMalformed
	case in.err != nil && in.err != io.EOF:
		return in.err
	}
	return fmt.Errorf("%w: %w", errMalformed, err)
}

// bounded reads as long as left is not used up; the reader of entries sets it anew after each.
type bounded struct {
	r    io.Reader
	left int
	err  error
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	n, err := b.r.Read(p[:min(len(p), b.left, 16<<10)])
	b.left -= n
	if err != nil {
		b.err = err
	}
	return n, err
}

// askStream is ask for a call whose answer streams: it ends when it stands still for a while. Once something was shown
// it is not sent again.
func (r *remote) askStream(ctx context.Context, call func(ctx context.Context, alive func()) error, shown *bool) error {
	for try := 1; ; try++ {
		one, cancel := context.WithCancelCause(ctx)
		t := time.AfterFunc(r.pool.o.Wait, func() { cancel(errSilent) })
		err := call(one, func() { t.Reset(r.pool.o.Wait) })
		t.Stop()
		if c := context.Cause(one); err != nil && c != nil {
			err = c
		}
		cancel(nil)
		if err == nil || *shown || try >= r.pool.o.Tries || ctx.Err() != nil || !passing(err) {
			return err
		}
		wait := time.NewTimer(100 * time.Millisecond << try)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return err
		}
	}
}

// errSilent says that the service stood still. It is a timeout.
var errSilent error = &silentError{}

type silentError struct{}

func (*silentError) Error() string   { return "the service does not go on" }
func (*silentError) Timeout() bool   { return true }
func (*silentError) Temporary() bool { return true }
