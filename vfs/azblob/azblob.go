package azblob

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/object"
)

// callWait bounds a request that moves no content, its repetitions included; copyWait a copy by the service.
const (
	callWait = 90 * time.Second
	copyWait = 30 * time.Minute
)

const (
	dirType   = "inode/directory"
	folderKey = "hdi_isfolder"
	noteKey   = "gantry_note"
)

// bucket implements object.Bucket.
type bucket struct {
	cfg       Config // immutable, as the rest
	client    *container.Client
	transport *http.Transport
	place     string
	sas       sas.QueryParameters // of sas_url
}

// Describe implements object.Bucket.
func (b *bucket) Describe() vfs.Description {
	return vfs.Description{Provider: 3, Bucket: b.cfg.Container, Endpoint: b.cfg.Endpoint, Identity: "azblob:" + b.place}
}

// Close implements object.Bucket.
func (b *bucket) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}

// failed names what was tried, without the URL of the request, whose query may be a secret.
func (b *bucket) failed(op, key string, err error) error {
	if err == nil {
		return nil
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	r, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		return fmt.Errorf("azblob: %s %q: %w", op, key, err)
	}
	text := fmt.Sprintf("azblob: %s %q: the service answers %d %s", op, key, r.StatusCode, r.ErrorCode)
	var kind error
	switch bloberror.Code(r.ErrorCode) {
	case bloberror.BlobAlreadyExists:
		kind = fs.ErrExist
	case bloberror.ConditionNotMet:
		if kind = fs.ErrExist; op == "get" || op == "continue" {
			kind = object.ErrChanged
		}
	case bloberror.ContainerNotFound, bloberror.ContainerBeingDeleted:
		return fmt.Errorf("%s: there is no container %q; look at container and the account", text, b.cfg.Container)
	case bloberror.InvalidBlockList:
		kind = object.ErrGone
	case bloberror.BlobArchived, bloberror.InvalidBlobType, bloberror.BlobImmutableDueToPolicy:
		kind = vfs.ErrUnsupported
	case bloberror.RequestBodyTooLarge, bloberror.BlockCountExceedsLimit:
		kind = vfs.ErrTooLarge
	case bloberror.InvalidURI, bloberror.OutOfRangeInput:
		kind = vfs.ErrInvalidPath
	default:
		switch r.StatusCode {
		case http.StatusNotFound:
			kind = fs.ErrNotExist
		case http.StatusForbidden, http.StatusUnauthorized:
			kind = fs.ErrPermission
		case http.StatusPreconditionFailed:
			kind = fs.ErrExist
		}
	}
	switch kind {
	case nil:
		return errors.New(text)
	case fs.ErrPermission:
		text += " (" + b.grant() + ")"
	}
	return fmt.Errorf("%s: %w", text, kind)
}

// grant says what the service was shown, for one who was refused. Of a SAS that is what it permits, not the signature.
func (b *bucket) grant() string {
	q := b.sas
	switch {
	case b.cfg.SASURL == "":
		return "look whether account_key is one of account_name, and at the account's network rules"
	case q.Identifier() != "":
		return fmt.Sprintf("look at the container's access policy %q, which the SAS of sas_url names", q.Identifier())
	case !q.ExpiryTime().IsZero() && q.ExpiryTime().Before(time.Now()):
		return "the SAS of sas_url expired at " + q.ExpiryTime().UTC().Format(time.RFC3339)
	case q.StartTime().After(time.Now()):
		return "the SAS of sas_url begins at " + q.StartTime().UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("the SAS of sas_url permits %q until %s; reading needs r and l, writing a, c and w, to move and remove d", q.Permissions(), q.ExpiryTime().UTC().Format(time.RFC3339))
}

func text(m map[string]*string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		if v != nil {
			out[k] = *v
		}
	}
	return out
}

// value finds a metadata key, whose case the service changes.
func value(m map[string]*string, key string) string {
	for k, v := range m {
		if v != nil && len(k) == len(key) && http.CanonicalHeaderKey(k) == http.CanonicalHeaderKey(key) {
			return *v
		}
	}
	return ""
}

func deref[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}

// Head implements object.Bucket.
func (b *bucket) Head(ctx context.Context, key string) (object.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	p, err := b.client.NewBlobClient(key).GetProperties(ctx, nil)
	if err != nil {
		return object.Object{}, b.failed("head", key, err)
	}
	return object.Object{
		Key: key, Size: deref(p.ContentLength), Changed: deref(p.LastModified), ModTime: object.TimeOf(text(p.Metadata)),
		ETag: unquote(p.ETag), Version: string(deref(p.ETag)), Type: deref(p.ContentType), Class: deref(p.AccessTier),
		Dir: value(p.Metadata, folderKey) == "true", Note: value(p.Metadata, noteKey),
	}, nil
}

func unquote(e *azcore.ETag) string {
	s := string(deref(e))
	if len(s) > 1 && s[0] == '"' {
		s = s[1 : len(s)-1]
	}
	return s
}

// List implements object.Bucket.
func (b *bucket) List(ctx context.Context, q object.Query) (object.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	var marker *string
	if q.Token != "" {
		marker = &q.Token
	}
	var limit *int32
	if q.Max > 0 {
		limit = to.Ptr(int32(q.Max))
	}
	var page object.Page
	add := func(items []*container.BlobItem) {
		for _, i := range items {
			if i == nil || i.Name == nil || i.Properties == nil {
				continue
			}
			p := i.Properties
			page.Objects = append(page.Objects, object.Object{
				Key: *i.Name, Size: deref(p.ContentLength), Changed: deref(p.LastModified), ModTime: object.TimeOf(text(i.Metadata)),
				ETag: unquote(p.ETag), Version: string(deref(p.ETag)), Type: deref(p.ContentType), Class: string(deref(p.AccessTier)),
				Dir: value(i.Metadata, folderKey) == "true",
			})
		}
	}
	include := container.ListBlobsInclude{Metadata: true}
	if q.Flat {
		r, err := b.client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &q.Prefix, Marker: marker, MaxResults: limit, Include: include}).NextPage(ctx)
		if err != nil {
			return page, b.failed("list", q.Prefix, err)
		}
		if r.Segment != nil {
			add(r.Segment.BlobItems)
		}
		page.Token = deref(r.NextMarker)
		return page, nil
	}
	r, err := b.client.NewListBlobsHierarchyPager("/", &container.ListBlobsHierarchyOptions{Prefix: &q.Prefix, Marker: marker, MaxResults: limit, Include: include}).NextPage(ctx)
	if err != nil {
		return page, b.failed("list", q.Prefix, err)
	}
	if r.Segment != nil {
		add(r.Segment.BlobItems)
		for _, p := range r.Segment.BlobPrefixes {
			page.Prefixes = append(page.Prefixes, deref(p.Name))
		}
	}
	page.Token = deref(r.NextMarker)
	return page, nil
}

// Get implements object.Bucket.
func (b *bucket) Get(ctx context.Context, key string, off, n int64, version string) (io.ReadCloser, object.Object, error) {
	in := &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: off, Count: max(n, 1)}}
	if version != "" {
		in.AccessConditions = &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: to.Ptr(azcore.ETag(version))}}
	}
	p, err := b.client.NewBlobClient(key).DownloadStream(ctx, in)
	if err != nil {
		if r, ok := errors.AsType[*azcore.ResponseError](err); ok && r.StatusCode == http.StatusRequestedRangeNotSatisfiable && off == 0 {
			o, err := b.Head(ctx, key)
			return http.NoBody, o, err
		}
		return nil, object.Object{}, b.failed("get", key, err)
	}
	o := object.Object{
		Key: key, Size: deref(p.ContentLength), Changed: deref(p.LastModified), ModTime: object.TimeOf(text(p.Metadata)),
		ETag: unquote(p.ETag), Version: string(deref(p.ETag)), Type: deref(p.ContentType), Dir: value(p.Metadata, folderKey) == "true",
	}
	if r := deref(p.ContentRange); r != "" { // bytes 0-9/100
		var from, last int64
		if _, err := fmt.Sscanf(r, "bytes %d-%d/%d", &from, &last, &o.Size); err != nil || from != off {
			p.Body.Close()
			return nil, o, fmt.Errorf("azblob: get %q: the service answers with the range %q", key, r)
		}
	} else if off > 0 {
		p.Body.Close()
		return nil, o, fmt.Errorf("azblob: get %q: the service does not know ranges", key)
	}
	return limited{io.LimitReader(p.Body, n), p.Body}, o, nil
}

type limited struct {
	io.Reader
	io.Closer
}

func metadata(m object.Meta) map[string]*string {
	out := map[string]*string{}
	if !m.ModTime.IsZero() {
		out["mtime"] = to.Ptr(m.ModTime.UTC().Format(time.RFC3339Nano))
	}
	if m.Dir {
		out[folderKey] = to.Ptr("true")
	}
	if m.Note != "" {
		out[noteKey] = &m.Note
	}
	return out
}

func headers(m object.Meta) *blob.HTTPHeaders {
	t := m.Type
	switch {
	case m.Dir:
		t = dirType
	case t == "":
		t = "application/octet-stream"
	}
	return &blob.HTTPHeaders{BlobContentType: &t}
}

func (b *bucket) tier(m object.Meta) *blob.AccessTier {
	if b.cfg.AccessTier == "" || m.Dir {
		return nil
	}
	return to.Ptr(blob.AccessTier(b.cfg.AccessTier))
}

// ifNew is the condition that there is nothing.
func ifNew(on bool) *blob.AccessConditions {
	if !on {
		return nil
	}
	return &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)}}
}

// sum is the content's CRC-64 as Azure computes it, or its MD5, which the emulator knows alone.
func (b *bucket) sum(body object.Body) blob.TransferValidationType {
	r := body.Reader()
	defer r.Close()
	if b.cfg.Emulator {
		h := md5.New()
		io.Copy(h, r) // from memory
		return blob.TransferValidationTypeMD5(h.Sum(nil))
	}
	h := crc64.New(crc64.MakeTable(azurePoly))
	io.Copy(h, r)
	return blob.TransferValidationTypeCRC64(h.Sum64())
}

// azurePoly is the polynomial of the service's CRC-64, reflected (NVM Express).
const azurePoly = 0x9A6C9329AC4BC9B5

// markKey is the metadata key of what tells a blob of our upload from one of another's.
const markKey = "gantry_upload"

// Put implements object.Bucket.
func (b *bucket) Put(ctx context.Context, key string, body object.Body, meta object.Meta, onlyNew bool) (object.Object, error) {
	r := body.Reader()
	defer r.Close()
	about := metadata(meta)
	mark := ""
	if onlyNew {
		mark = rand.Text()
		about[markKey] = &mark
	}
	client := b.client.NewBlockBlobClient(key)
	out, err := client.Upload(ctx, r, &blockblob.UploadOptions{
		Metadata: about, HTTPHeaders: headers(meta), Tier: b.tier(meta), AccessConditions: ifNew(onlyNew),
		TransactionalValidation: b.sum(body),
	})
	if err = b.failed("put", key, err); onlyNew && errors.Is(err, fs.ErrExist) {
		// The first try may have arrived, and only its answer was lost.
		if p, perr := client.GetProperties(ctx, nil); perr == nil && value(p.Metadata, markKey) == mark {
			return made(key, body.Size(), p.ETag, p.LastModified, meta), nil
		}
	}
	if err != nil {
		return object.Object{}, err
	}
	return made(key, body.Size(), out.ETag, out.LastModified, meta), nil
}

func made(key string, size int64, etag *azcore.ETag, changed *time.Time, meta object.Meta) object.Object {
	return object.Object{
		Key: key, Size: size, Changed: deref(changed), ModTime: meta.ModTime, ETag: unquote(etag), Version: string(deref(etag)),
		Type: *headers(meta).BlobContentType, Dir: meta.Dir,
	}
}

// parts implements object.Parts by blocks.
type parts struct {
	b      *bucket
	client *blockblob.Client
	key    string
	id     [8]byte
	head   []string // blocks of the old blob
	onto   *object.Object

	mu   sync.Mutex // guards size
	size int64
}

// block is the name of block n: all of a blob must be of one length.
func (p *parts) block(n int) string {
	var b [12]byte
	copy(b[:], p.id[:])
	binary.BigEndian.PutUint32(b[8:], uint32(n))
	return base64.StdEncoding.EncodeToString(b[:])
}

// Begin implements object.Bucket. A blob is continued by its own blocks, if their names are as long as ours.
func (b *bucket) Begin(ctx context.Context, key string, _ object.Meta, onto *object.Object, _ bool) (object.Parts, error) {
	p := &parts{b: b, client: b.client.NewBlockBlobClient(key), key: key, onto: onto}
	rand.Read(p.id[:]) // never fails
	if onto == nil {
		return p, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	list, err := p.client.GetBlockList(ctx, blockblob.BlockListTypeCommitted, nil)
	if err != nil {
		return nil, b.failed("continue", key, err)
	}
	for _, x := range list.CommittedBlocks {
		if len(deref(x.Name)) != len(p.block(0)) {
			return nil, fmt.Errorf("azblob: continue %q: %w: another program stored it in its own way", key, vfs.ErrUnsupported)
		}
		p.head = append(p.head, *x.Name)
		p.size += deref(x.Size)
	}
	if p.size != onto.Size {
		return nil, fmt.Errorf("azblob: continue %q: %w: it was stored in one piece", key, vfs.ErrUnsupported)
	}
	return p, nil
}

// Put implements object.Parts.
func (p *parts) Put(ctx context.Context, n int, body object.Body) error {
	if len(p.head)+n >= maxBlocks {
		return fmt.Errorf("azblob: %q: %w: a blob has at most %d blocks; set a larger upload_part_size", p.key, vfs.ErrTooLarge, maxBlocks)
	}
	r := body.Reader()
	defer r.Close()
	_, err := p.client.StageBlock(ctx, p.block(n), r, &blockblob.StageBlockOptions{TransactionalValidation: p.b.sum(body)})
	if err != nil {
		return p.b.failed("upload a block of", p.key, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size += body.Size()
	return nil
}

// Complete implements object.Parts. If the answer to it is lost and it is sent again, the blocks are found committed.
func (p *parts) Complete(ctx context.Context, n int, meta object.Meta, onlyNew bool) (object.Object, error) {
	list := p.head[:len(p.head):len(p.head)]
	for i := range n {
		list = append(list, p.block(i))
	}
	cond := ifNew(onlyNew)
	if p.onto != nil {
		cond = &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: to.Ptr(azcore.ETag(p.onto.Version))}}
	}
	out, err := p.client.CommitBlockList(ctx, list, &blockblob.CommitBlockListOptions{
		Metadata: metadata(meta), HTTPHeaders: headers(meta), Tier: p.b.tier(meta), AccessConditions: cond,
	})
	if err != nil {
		if o, ok := p.committed(ctx, list, meta); ok {
			return o, nil
		}
		return object.Object{}, p.b.failed("complete the upload of", p.key, err)
	}
	return made(p.key, p.size, out.ETag, out.LastModified, meta), nil
}

// committed reports whether the blob consists of our blocks: their names are unique.
func (p *parts) committed(ctx context.Context, list []string, meta object.Meta) (object.Object, bool) {
	got, err := p.client.GetBlockList(ctx, blockblob.BlockListTypeCommitted, nil)
	if err != nil || len(got.CommittedBlocks) != len(list) {
		return object.Object{}, false
	}
	for i, x := range got.CommittedBlocks {
		if deref(x.Name) != list[i] {
			return object.Object{}, false
		}
	}
	return made(p.key, p.size, got.ETag, got.LastModified, meta), true
}

// Abort implements object.Parts: what was not committed is nobody's, and the service drops it.
func (p *parts) Abort(context.Context) error { return nil }

// Copy implements object.Bucket.
func (b *bucket) Copy(ctx context.Context, from object.Object, key string, meta *object.Meta, onlyNew bool) (object.Object, error) {
	src, dst := b.client.NewBlobClient(from.Key), b.client.NewBlobClient(key)
	ctx, cancel := context.WithTimeout(ctx, copyWait)
	defer cancel()
	if meta != nil && from.Key == key {
		return b.setMeta(ctx, dst, from, *meta)
	}
	in := &blob.StartCopyFromURLOptions{AccessConditions: ifNew(onlyNew)}
	if meta != nil {
		in.Metadata = metadata(*meta)
	}
	if from.Version != "" {
		in.SourceModifiedAccessConditions = &blob.SourceModifiedAccessConditions{SourceIfMatch: to.Ptr(azcore.ETag(from.Version))}
	}
	if b.cfg.AccessTier != "" && !from.Dir {
		in.Tier = to.Ptr(blob.AccessTier(b.cfg.AccessTier))
	}
	out, err := dst.StartCopyFromURL(ctx, src.URL(), in)
	if err != nil {
		return object.Object{}, b.failed("copy", from.Key, err)
	}
	for wait := 10 * time.Millisecond; deref(out.CopyStatus) == blob.CopyStatusTypePending; wait = min(2*wait, 5*time.Second) {
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			c, cancel := context.WithTimeout(context.WithoutCancel(ctx), callWait) // the service must not go on alone
			defer cancel()
			_, _ = dst.AbortCopyFromURL(c, deref(out.CopyID), nil) // it may just have ended
			return object.Object{}, b.failed("copy", from.Key, ctx.Err())
		}
		p, err := dst.GetProperties(ctx, nil)
		if err != nil {
			return object.Object{}, b.failed("copy", from.Key, err)
		}
		out.CopyStatus, out.ETag, out.LastModified = p.CopyStatus, p.ETag, p.LastModified
	}
	if s := deref(out.CopyStatus); s != blob.CopyStatusTypeSuccess && s != "" {
		return object.Object{}, fmt.Errorf("azblob: copy %q: the service's copy ended as %s", from.Key, s)
	}
	o := from
	o.Key, o.Changed, o.ETag, o.Version = key, deref(out.LastModified), unquote(out.ETag), string(deref(out.ETag))
	if meta != nil {
		o.ModTime = meta.ModTime
	}
	return o, nil
}

// setMeta changes the time of change; the other metadata stay.
func (b *bucket) setMeta(ctx context.Context, c *blob.Client, o object.Object, meta object.Meta) (object.Object, error) {
	p, err := c.GetProperties(ctx, nil)
	if err != nil {
		return o, b.failed("head", o.Key, err)
	}
	all := metadata(meta)
	for k, v := range p.Metadata {
		if http.CanonicalHeaderKey(k) != "Mtime" && http.CanonicalHeaderKey(k) != "Sftpgo_last_modified" {
			all[k] = v
		}
	}
	out, err := c.SetMetadata(ctx, all, nil)
	if err != nil {
		return o, b.failed("set the time of", o.Key, err)
	}
	o.ModTime, o.Changed, o.ETag, o.Version = meta.ModTime, deref(out.LastModified), unquote(out.ETag), string(deref(out.ETag))
	return o, nil
}

// deletesAtOnce is how many blobs of a batch are deleted at once.
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
			_, err := b.client.NewBlobClient(k).Delete(ctx, &blob.DeleteOptions{DeleteSnapshots: to.Ptr(blob.DeleteSnapshotsOptionTypeInclude)})
			if err = b.failed("delete", k, err); err != nil && !errors.Is(err, fs.ErrNotExist) {
				fail(err)
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// Sweep implements object.Bucket. There is nothing that a client could remove.
func (b *bucket) Sweep(context.Context, string, time.Time) (int, error) { return 0, nil }
