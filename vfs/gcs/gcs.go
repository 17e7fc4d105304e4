// Package gcs is a bucket of Google Cloud Storage as a tree (vfs/object), over the JSON API. It is the only package
// that imports Google's SDK; the server's build tag nogcs leaves it out.
//
// Large uploads go through one resumable session, in chunks, one after the other: nothing of it is visible or paid
// for until its end, and Google forgets what is not finished after a week. A file is continued by an object for the
// new bytes that is composed onto the old one. Everything is sent with its CRC32C, which the service verifies. Times
// of change are kept in the metadata key "mtime", as rclone has it.
package gcs

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"cloud.google.com/go/storage"
	"github.com/googleapis/gax-go/v2"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/object"
)

// Config says which bucket, and how.
type Config struct {
	Bucket            string
	Credentials       string                                                               // the JSON of a service account; "" with Automatic
	Automatic         bool                                                                 // the machine's own credentials
	StorageClass, ACL string                                                               // ACL is a predefined one
	UploadPartSize    int64                                                                // MB (MiB), 16
	UploadPartMaxTime int                                                                  // s, for one chunk with its repetitions, 32
	Endpoint          string                                                               // of an emulator, without credentials
	Dial              func(ctx context.Context, network, address string) (net.Conn, error) // judges the address (SSRF-1); nil: any
	Retries           int                                                                  // tries of one request, 5
	HeaderWait        time.Duration                                                        // for an answer once a request is sent, 5 minutes
}

const (
	callWait = 90 * time.Second
	copyWait = 30 * time.Minute
	partSize = 4 << 20 // of what is handed to the SDK, which sends larger chunks
	dirType  = "inode/directory"
	noteKey  = "gantry-note"
	timeKey  = "mtime"
	markKey  = "gantry-upload"
)

// bucket implements object.Bucket.
type bucket struct {
	cfg       Config // immutable, as the rest
	client    *storage.Client
	transport *http.Transport
	b         *storage.BucketHandle
}

// New opens the tree of a bucket. Nothing is asked of the service yet.
func New(ctx context.Context, c Config, o object.Options) (vfs.FS, error) {
	settings := c
	settings.Dial = nil
	f, err := o.Pool.Open(object.PoolKey("gcs", settings), o, func() (object.Bucket, error) {
		b, err := newBucket(ctx, c)
		if err != nil {
			return nil, err // not a nil *bucket in an interface
		}
		return b, nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

func newBucket(ctx context.Context, c Config) (*bucket, error) {
	if c.Bucket == "" {
		return nil, errors.New("gcs: a bucket is needed")
	}
	transport := &http.Transport{
		DialContext:           c.Dial,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       60 * time.Second,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: cmp.Or(c.HeaderWait, 5*time.Minute),
		DisableCompression:    true,
	}
	// A redirect leads nowhere (SSRF-1), but for 308, with which a resumable upload is answered.
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	source, err := c.source(ctx, client)
	if err != nil {
		return nil, err
	}
	opts := []option.ClientOption{option.WithoutAuthentication(), storage.WithDisabledClientMetrics()}
	if source != nil {
		client.Transport = &oauth2.Transport{Base: transport, Source: source}
	}
	if c.Endpoint != "" {
		opts = append(opts, option.WithEndpoint(strings.TrimSuffix(c.Endpoint, "/")+"/storage/v1/"))
	}
	sc, err := storage.NewClient(context.WithoutCancel(ctx), append(opts, option.WithHTTPClient(client))...)
	if err != nil {
		return nil, failed("open", c.Bucket, err)
	}
	sc.SetRetry(
		storage.WithBackoff(gax.Backoff{Initial: 300 * time.Millisecond, Max: 8 * time.Second, Multiplier: 2}),
		storage.WithMaxAttempts(cmp.Or(c.Retries, 5)),
		storage.WithPolicy(storage.RetryAlways), // each call leaves the same whether it arrives once or twice
	)
	return &bucket{cfg: c, client: sc, transport: transport, b: sc.Bucket(c.Bucket)}, nil
}

// source finds who we are to the service; nil is nobody. The tokens come through client: a service account's JSON
// names where from, and that is judged as every other address.
func (c *Config) source(ctx context.Context, client *http.Client) (oauth2.TokenSource, error) {
	ctx = context.WithoutCancel(ctx) // it outlives the call
	switch {
	case c.Endpoint != "":
		return nil, nil
	case c.Automatic:
		creds, err := google.FindDefaultCredentials(ctx, storage.ScopeFullControl)
		if err != nil {
			return nil, fmt.Errorf("gcs: the machine's own credentials: %w", err)
		}
		return creds.TokenSource, nil
	}
	j, err := google.JWTConfigFromJSON([]byte(c.Credentials), storage.ScopeFullControl)
	if err != nil {
		return nil, errors.New("gcs: the credentials are not the JSON text of a service account's key")
	}
	if !isPrivateKey(j.PrivateKey) { // it would be said with the first request only
		return nil, errors.New("gcs: the private_key in the credentials is none; give the JSON text as Google made it")
	}
	tokens := &http.Client{Transport: client.Transport, CheckRedirect: client.CheckRedirect, Timeout: time.Minute}
	return j.TokenSource(context.WithValue(ctx, oauth2.HTTPClient, tokens)), nil
}

func isPrivateKey(text []byte) bool {
	if block, _ := pem.Decode(text); block != nil {
		text = block.Bytes
	}
	_, err := x509.ParsePKCS8PrivateKey(text)
	if err != nil {
		_, err = x509.ParsePKCS1PrivateKey(text)
	}
	return err == nil
}

// Limits implements object.Bucket.
func (b *bucket) Limits() object.Limits {
	chunk := int(cmp.Or(b.cfg.UploadPartSize, 16)) << 20
	return object.Limits{
		PartSize: partSize, Concurrency: 1, Sequential: true, Overhead: chunk,
		ReadSize: 5 << 20, Readers: 5, MaxSingle: 5 << 40, MaxKey: 1024, MaxSize: 5 << 40, Batch: 256, ListTimes: true, MarkerSlash: true,
		Escape: refused,
	}
}

// refused reports what Google takes for no name, or advises against: control characters.
func refused(name string, i int) bool {
	return name[i] < ' ' || name[i] == 0x7F || name[i] == 0xEF && (strings.HasPrefix(name[i:], "\uFFFE") || strings.HasPrefix(name[i:], "\uFFFF"))
}

// Describe implements object.Bucket.
func (b *bucket) Describe() vfs.Description {
	return vfs.Description{Provider: 2, Bucket: b.cfg.Bucket, Identity: "gcs:" + b.cfg.Endpoint + "/" + b.cfg.Bucket}
}

// Close implements object.Bucket.
func (b *bucket) Close() error {
	b.transport.CloseIdleConnections()
	return b.client.Close()
}

// failed names what was tried, without the URL of the request: that of an upload is a secret.
func failed(op, key string, err error) error {
	if err == nil {
		return nil
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	kind := error(nil)
	if g, ok := errors.AsType[*googleapi.Error](err); ok {
		switch g.Code {
		case http.StatusNotFound:
			if op == "list" { // nothing below a prefix is no error
				return wrap(op, key, nil, fmt.Errorf("there is no such bucket, or the account must not see it; look at bucket: the service answers %d %s", g.Code, clip(g.Message)))
			}
			kind = fs.ErrNotExist
		case http.StatusUnauthorized, http.StatusForbidden:
			kind = fs.ErrPermission
		case http.StatusPreconditionFailed:
			if kind = fs.ErrExist; op == "get" || op == "continue" {
				kind = object.ErrChanged
			}
		case http.StatusRequestEntityTooLarge:
			kind = vfs.ErrTooLarge
		}
		return wrap(op, key, kind, fmt.Errorf("the service answers %d %s", g.Code, clip(g.Message)))
	}
	if errors.Is(err, storage.ErrObjectNotExist) {
		kind = fs.ErrNotExist
	}
	if r, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return wrap(op, key, fs.ErrPermission, fmt.Errorf("no token was given: %s", clip(r.ErrorCode)))
	}
	return wrap(op, key, kind, err)
}

func wrap(op, key string, kind, err error) error {
	if kind == nil {
		return fmt.Errorf("gcs: %s %q: %w", op, key, err)
	}
	return fmt.Errorf("gcs: %s %q: %w: %w", op, key, kind, err)
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

func show(a *storage.ObjectAttrs) object.Object {
	gen := strconv.FormatInt(a.Generation, 10)
	return object.Object{
		Key: a.Name, Size: a.Size, Changed: a.Updated, ModTime: object.TimeOf(a.Metadata), ETag: gen, Version: gen, Type: a.ContentType,
		Class: a.StorageClass, Note: a.Metadata[noteKey],
	}
}

func generation(version string) int64 {
	n, err := strconv.ParseInt(version, 10, 64)
	if err != nil {
		return -1 // what storage takes for the latest
	}
	return n
}

// Head implements object.Bucket.
func (b *bucket) Head(ctx context.Context, key string) (object.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	a, err := b.b.Object(key).Attrs(ctx)
	if err != nil {
		return object.Object{}, failed("head", key, err)
	}
	return show(a), nil
}

// List implements object.Bucket.
func (b *bucket) List(ctx context.Context, q object.Query) (object.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	in := &storage.Query{Prefix: q.Prefix, Projection: storage.ProjectionNoACL}
	if !q.Flat {
		in.Delimiter = "/"
	}
	var page object.Page
	if err := in.SetAttrSelection([]string{"Name", "Size", "Updated", "Generation", "ContentType", "Metadata", "StorageClass"}); err != nil {
		return page, failed("list", q.Prefix, err)
	}
	var list []*storage.ObjectAttrs
	var err error
	page.Token, err = iterator.NewPager(b.b.Objects(ctx, in), cmp.Or(q.Max, 1000), q.Token).NextPage(&list)
	if err != nil {
		return page, failed("list", q.Prefix, err)
	}
	for _, a := range list {
		if a.Prefix != "" {
			page.Prefixes = append(page.Prefixes, a.Prefix)
		} else {
			page.Objects = append(page.Objects, show(a))
		}
	}
	return page, nil
}

// Get implements object.Bucket.
func (b *bucket) Get(ctx context.Context, key string, off, n int64, version string) (io.ReadCloser, object.Object, error) {
	o := b.b.Object(key).ReadCompressed(true)
	if version != "" {
		o = o.Generation(generation(version))
	}
	r, err := o.NewRangeReader(ctx, off, max(n, 1))
	if err != nil {
		if g, ok := errors.AsType[*googleapi.Error](err); ok && g.Code == http.StatusRequestedRangeNotSatisfiable && off == 0 {
			h, err := b.Head(ctx, key)
			return http.NoBody, h, err
		}
		return nil, object.Object{}, failed("get", key, err)
	}
	gen := strconv.FormatInt(r.Attrs.Generation, 10)
	if version != "" && gen != version {
		r.Close()
		return nil, object.Object{}, fmt.Errorf("gcs: get %q: %w", key, object.ErrChanged)
	}
	return limited{io.LimitReader(r, n), r}, object.Object{
		Key: key, Size: r.Attrs.Size, Changed: r.Attrs.LastModified, ModTime: object.TimeOf(r.Metadata()), ETag: gen, Version: gen, Type: r.Attrs.ContentType,
	}, nil
}

type limited struct {
	io.Reader
	io.Closer
}

func metadata(m object.Meta) map[string]string {
	out := map[string]string{}
	if !m.ModTime.IsZero() {
		out[timeKey] = m.ModTime.UTC().Format(time.RFC3339Nano)
	}
	if m.Note != "" {
		out[noteKey] = m.Note
	}
	return out
}

func contentType(m object.Meta) string {
	if m.Dir {
		return dirType
	}
	return cmp.Or(m.Type, "application/octet-stream")
}

// writer makes a writer of an object.
func (b *bucket) writer(ctx context.Context, key string, meta object.Meta, onlyNew bool) *storage.Writer {
	o := b.b.Object(key)
	if onlyNew {
		o = o.If(storage.Conditions{DoesNotExist: true})
	}
	// The SDK bounds how long a chunk may take, but asks for ever where an upload begins.
	var failures atomic.Int64 // since something arrived
	tries := int64(cmp.Or(b.cfg.Retries, 5))
	w := o.Retryer(storage.WithErrorFunc(func(err error) bool { return storage.ShouldRetry(err) && failures.Add(1) < tries })).NewWriter(ctx)
	w.ProgressFunc = func(int64) { failures.Store(0) }
	w.ContentType, w.Metadata = contentType(meta), metadata(meta)
	w.StorageClass, w.PredefinedACL = b.cfg.StorageClass, b.cfg.ACL
	return w
}

// Put implements object.Bucket. The SDK does not send again what it does not hold, so that this does.
func (b *bucket) Put(ctx context.Context, key string, body object.Body, meta object.Meta, onlyNew bool) (object.Object, error) {
	for try := 1; ; try++ {
		a, err := b.put(ctx, key, body, meta, onlyNew)
		if err == nil {
			return show(a), nil
		}
		if g, ok := errors.AsType[*googleapi.Error](err); ok && g.Code == http.StatusPreconditionFailed && onlyNew && try > 1 {
			// The first try may have arrived, and only its answer was lost.
			if a, herr := b.b.Object(key).Attrs(ctx); herr == nil && a.Size == body.Size() && a.CRC32C == body.CRC32C() {
				return show(a), nil
			}
		}
		if try >= cmp.Or(b.cfg.Retries, 5) || !storage.ShouldRetry(err) && !errors.Is(err, io.ErrUnexpectedEOF) || ctx.Err() != nil {
			return object.Object{}, failed("put", key, err)
		}
		t := time.NewTimer(min(150*time.Millisecond<<try, 8*time.Second))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return object.Object{}, failed("put", key, ctx.Err())
		}
	}
}

func (b *bucket) put(ctx context.Context, key string, body object.Body, meta object.Meta, onlyNew bool) (*storage.ObjectAttrs, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := b.writer(ctx, key, meta, onlyNew)
	w.ChunkSize = 0 // nothing is held twice
	w.CRC32C, w.SendCRC32C = body.CRC32C(), true
	r := body.Reader()
	defer r.Close()
	if _, err := io.Copy(w, r); err != nil {
		cancel()
		w.Close()
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return w.Attrs(), nil
}

// parts implements object.Parts by one resumable upload.
type parts struct {
	b      *bucket
	key    string
	temp   string         // where the new bytes go if they are composed onto onto
	onto   *object.Object // nil: none
	meta   object.Meta
	cancel context.CancelFunc
	w      *storage.Writer
	mark   string // what the object's metadata have of this upload alone

	mu   sync.Mutex // guards next: parts come one after the other, each once
	next int
	done bool
}

// Begin implements object.Bucket.
func (b *bucket) Begin(ctx context.Context, key string, meta object.Meta, onto *object.Object, onlyNew bool) (object.Parts, error) {
	p := &parts{b: b, key: key, meta: meta, onto: onto}
	ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx)) // of all parts; Complete and Abort end it
	to := key
	if onto != nil {
		p.temp = key[:strings.LastIndexByte(key, '/')+1] + vfs.NewTempName()
		to, meta, onlyNew = p.temp, object.Meta{}, true
	}
	p.w = b.writer(ctx, to, meta, onlyNew)
	p.mark = rand.Text()
	p.w.Metadata[markKey] = p.mark
	p.w.ChunkSize = int(cmp.Or(b.cfg.UploadPartSize, 16)) << 20
	if s := b.cfg.UploadPartMaxTime; s > 0 {
		p.w.ChunkRetryDeadline = time.Duration(s) * time.Second
	}
	return p, nil
}

// Put implements object.Parts.
func (p *parts) Put(ctx context.Context, n int, body object.Body) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n != p.next {
		return fmt.Errorf("gcs: upload of %q: part %d came after %d", p.key, n, p.next)
	}
	p.next++
	defer context.AfterFunc(ctx, p.cancel)()
	r := body.Reader()
	defer r.Close()
	if _, err := io.Copy(p.w, r); err != nil {
		return failed("upload a part of", p.key, err)
	}
	return nil
}

// Complete implements object.Parts.
func (p *parts) Complete(ctx context.Context, _ int, meta object.Meta, _ bool) (object.Object, error) {
	stop := context.AfterFunc(ctx, p.cancel)
	defer stop()
	err := p.w.Close()
	p.done = true
	defer p.cancel()
	a := p.w.Attrs()
	if err != nil {
		// A try before may have arrived, and only its answer was lost: the object is ours if it has our mark.
		var herr error
		if a, herr = p.b.b.Object(p.w.Name).Attrs(ctx); herr != nil || a.Metadata[markKey] != p.mark {
			return object.Object{}, failed("complete the upload of", p.key, err)
		}
	}
	if p.onto == nil {
		o := show(a)
		if !meta.ModTime.Equal(p.meta.ModTime) { // told after the upload began
			return p.b.setMeta(ctx, o, meta)
		}
		return o, nil
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callWait) // composed or not, it goes
		defer cancel()
		_ = p.b.b.Object(p.temp).Delete(ctx) // else Sweep finds it
	}()
	gen := generation(p.onto.Version)
	c := p.b.b.Object(p.key).If(storage.Conditions{GenerationMatch: gen}).ComposerFrom(p.b.b.Object(p.key).Generation(gen), p.b.b.Object(p.temp).Generation(a.Generation))
	c.ContentType, c.Metadata, c.StorageClass, c.PredefinedACL = contentType(meta), metadata(meta), p.b.cfg.StorageClass, p.b.cfg.ACL
	all, err := c.Run(ctx)
	if err != nil {
		return object.Object{}, failed("continue", p.key, err)
	}
	return show(all), nil
}

// Abort implements object.Parts: the service forgets what was not closed.
func (p *parts) Abort(context.Context) error {
	p.cancel()
	if !p.done {
		p.w.Close() // ends the SDK's goroutine; it fails, as it is cancelled
	}
	return nil
}

// Copy implements object.Bucket.
func (b *bucket) Copy(ctx context.Context, from object.Object, key string, meta *object.Meta, onlyNew bool) (object.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, copyWait)
	defer cancel()
	if meta != nil && from.Key == key {
		return b.setMeta(ctx, from, *meta)
	}
	src, dst := b.b.Object(from.Key), b.b.Object(key)
	if from.Version != "" {
		src = src.Generation(generation(from.Version))
	}
	if onlyNew {
		dst = dst.If(storage.Conditions{DoesNotExist: true})
	}
	c := dst.CopierFrom(src)
	c.PredefinedACL = b.cfg.ACL
	if meta != nil || b.cfg.StorageClass != "" { // then nothing is copied by itself
		a, err := b.b.Object(from.Key).Attrs(ctx)
		if err != nil {
			return object.Object{}, failed("head", from.Key, err)
		}
		c.ContentType, c.Metadata, c.CacheControl, c.ContentDisposition = a.ContentType, a.Metadata, a.CacheControl, a.ContentDisposition
		c.ContentEncoding, c.ContentLanguage = a.ContentEncoding, a.ContentLanguage
		c.StorageClass = b.cfg.StorageClass
		if meta != nil {
			c.Metadata = metadata(*meta)
		}
	}
	a, err := c.Run(ctx)
	if err != nil {
		return object.Object{}, failed("copy", from.Key, err)
	}
	return show(a), nil
}

// setMeta changes the time of change; the other metadata stay.
func (b *bucket) setMeta(ctx context.Context, o object.Object, meta object.Meta) (object.Object, error) {
	a, err := b.b.Object(o.Key).Update(ctx, storage.ObjectAttrsToUpdate{Metadata: map[string]string{timeKey: meta.ModTime.UTC().Format(time.RFC3339Nano)}})
	if err != nil {
		return o, failed("set the time of", o.Key, err)
	}
	return show(a), nil
}

// deletesAtOnce is how many objects of a batch are deleted at once.
const deletesAtOnce = 16

// Delete implements object.Bucket.
func (b *bucket) Delete(ctx context.Context, keys []string) error {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var all sync.WaitGroup
	room := make(chan struct{}, deletesAtOnce)
	for _, k := range keys {
		room <- struct{}{}
		all.Go(func() { // ends with its request
			defer func() { <-room }()
			if err := failed("delete", k, b.b.Object(k).Delete(ctx)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				fail(err)
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// Sweep implements object.Bucket: what remains of continued files.
func (b *bucket) Sweep(ctx context.Context, prefix string, t time.Time) (int, error) {
	n := 0
	it := b.b.Objects(ctx, &storage.Query{Prefix: prefix, MatchGlob: "**" + vfs.TempPrefix + "*", Projection: storage.ProjectionNoACL})
	for {
		a, err := it.Next()
		if errors.Is(err, iterator.Done) {
			return n, nil
		}
		if err != nil {
			return n, failed("list", prefix, err)
		}
		if !vfs.IsTempName(a.Name[strings.LastIndexByte(a.Name, '/')+1:]) || !a.Created.Before(t) {
			continue
		}
		if err := b.b.Object(a.Name).Delete(ctx); err != nil {
			return n, failed("delete", a.Name, err)
		}
		n++
	}
}
