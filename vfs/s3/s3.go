package s3

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/object"
)

// The service's bounds.
const (
	maxParts   = 10_000
	maxSingle  = 5 << 30 // bytes of one Put, part or copy
	copyPart   = 512 << 20
	copyAtOnce = 8
)

// callWait bounds a request that moves no content, its repetitions included.
const callWait = 90 * time.Second

// dirType is the content type of a directory's marker.
const dirType = "application/x-directory"

// bucket implements object.Bucket.
type bucket struct {
	cfg       Config // immutable, as all up to sse
	client    *s3.Client
	transport *http.Transport
	name      *string
	endpoint  string
	place     string // for the identity

	sseAlgorithm, sseKey, sseMD5 *string

	checksums atomic.Bool // the service takes them
}

// Describe implements object.Bucket.
func (b *bucket) Describe() vfs.Description {
	return vfs.Description{Provider: 1, Bucket: b.cfg.Bucket, Endpoint: b.cfg.Endpoint, Identity: "s3:" + b.place + "/" + b.cfg.Bucket}
}

// Close implements object.Bucket.
func (b *bucket) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}

func (b *bucket) acl() types.ObjectCannedACL       { return types.ObjectCannedACL(b.cfg.ACL) }
func (b *bucket) storageClass() types.StorageClass { return types.StorageClass(b.cfg.StorageClass) }

// Head implements object.Bucket.
func (b *bucket) Head(ctx context.Context, key string) (object.Object, error) {
	out, err := b.head(ctx, key)
	if err != nil {
		return object.Object{}, err
	}
	return object.Object{
		Key: key, Size: aws.ToInt64(out.ContentLength), Changed: aws.ToTime(out.LastModified), ModTime: object.TimeOf(out.Metadata),
		ETag: unquote(out.ETag), Version: aws.ToString(out.ETag), Type: aws.ToString(out.ContentType), Class: string(out.StorageClass),
		Note: out.Metadata[noteKey],
	}, nil
}

// noteKey is the metadata key of object.Meta's Note.
const noteKey = "gantry-note"

func (b *bucket) head(ctx context.Context, key string) (*s3.HeadObjectOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: b.name, Key: &key, ChecksumMode: types.ChecksumModeEnabled,
		SSECustomerAlgorithm: b.sseAlgorithm, SSECustomerKey: b.sseKey, SSECustomerKeyMD5: b.sseMD5,
	})
	return out, failed("head", key, err)
}

func unquote(etag *string) string { return strings.Trim(aws.ToString(etag), `"`) }

// metadata is what an object carries.
func metadata(m object.Meta) map[string]string {
	out := map[string]string{}
	if m.Note != "" {
		out[noteKey] = m.Note
	}
	if m.ModTime.IsZero() {
		return out
	}
	sec, ns := m.ModTime.Unix(), m.ModTime.Nanosecond()
	sign := ""
	if sec < 0 { // -1.5 s is -2 s and a half
		if sign, sec = "-", -sec; ns > 0 {
			sec, ns = sec-1, 1e9-ns
		}
	}
	out["mtime"] = strings.TrimRight(strings.TrimRight(fmt.Sprintf("%s%d.%09d", sign, sec, ns), "0"), ".")
	return out
}

func contentType(m object.Meta) *string {
	switch {
	case m.Dir:
		return aws.String(dirType)
	case m.Type == "":
		return aws.String("application/octet-stream")
	}
	return aws.String(m.Type)
}

// List implements object.Bucket.
func (b *bucket) List(ctx context.Context, q object.Query) (object.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	in := &s3.ListObjectsV2Input{Bucket: b.name, Prefix: aws.String(q.Prefix), EncodingType: types.EncodingTypeUrl}
	if !q.Flat {
		in.Delimiter = aws.String("/")
	}
	if q.Token != "" {
		in.ContinuationToken = aws.String(q.Token)
	}
	if q.Max > 0 {
		in.MaxKeys = aws.Int32(int32(q.Max))
	}
	out, err := b.client.ListObjectsV2(ctx, in)
	if err != nil {
		return object.Page{}, failed("list", q.Prefix, err)
	}
	decode := func(s *string) string {
		if out.EncodingType == types.EncodingTypeUrl {
			if d, err := url.QueryUnescape(aws.ToString(s)); err == nil {
				return d
			}
		}
		return aws.ToString(s)
	}
	p := object.Page{Objects: make([]object.Object, 0, len(out.Contents)), Prefixes: make([]string, 0, len(out.CommonPrefixes))}
	for i := range out.Contents {
		o := &out.Contents[i]
		p.Objects = append(p.Objects, object.Object{
			Key: decode(o.Key), Size: aws.ToInt64(o.Size), Changed: aws.ToTime(o.LastModified),
			ETag: unquote(o.ETag), Version: aws.ToString(o.ETag), Class: string(o.StorageClass),
		})
	}
	for _, c := range out.CommonPrefixes {
		p.Prefixes = append(p.Prefixes, decode(c.Prefix))
	}
	if aws.ToBool(out.IsTruncated) {
		p.Token = aws.ToString(out.NextContinuationToken)
	}
	return p, nil
}

// Get implements object.Bucket.
func (b *bucket) Get(ctx context.Context, key string, off, n int64, version string) (io.ReadCloser, object.Object, error) {
	in := &s3.GetObjectInput{
		Bucket: b.name, Key: &key, Range: aws.String(fmt.Sprintf("bytes=%d-%d", off, off+max(n, 1)-1)),
		SSECustomerAlgorithm: b.sseAlgorithm, SSECustomerKey: b.sseKey, SSECustomerKeyMD5: b.sseMD5,
	}
	if version != "" {
		in.IfMatch = aws.String(version)
	}
	out, err := b.client.GetObject(ctx, in)
	if err != nil {
		if status(err) == http.StatusRequestedRangeNotSatisfiable && off == 0 {
			o, err := b.Head(ctx, key)
			return http.NoBody, o, err
		}
		return nil, object.Object{}, failedGet(key, err)
	}
	o := object.Object{
		Key: key, Size: aws.ToInt64(out.ContentLength), Changed: aws.ToTime(out.LastModified), ModTime: object.TimeOf(out.Metadata),
		ETag: unquote(out.ETag), Version: aws.ToString(out.ETag), Type: aws.ToString(out.ContentType), Class: string(out.StorageClass),
	}
	if r := aws.ToString(out.ContentRange); r != "" { // bytes 0-9/100
		var from int64
		_, total, _ := strings.Cut(r, "/")
		size, perr := strconv.ParseInt(total, 10, 64)
		if _, serr := fmt.Sscanf(r, "bytes %d-", &from); serr != nil || perr != nil || from != off {
			out.Body.Close()
			return nil, o, fmt.Errorf("s3: get %q: the service answers with the range %q", key, r)
		}
		o.Size = size
	} else if off > 0 {
		out.Body.Close()
		return nil, o, fmt.Errorf("s3: get %q: the service does not know ranges", key)
	}
	return limited{io.LimitReader(out.Body, n), out.Body}, o, nil
}

type limited struct {
	io.Reader
	io.Closer
}

func crc(body object.Body) *string {
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], body.CRC32C())
	return aws.String(base64.StdEncoding.EncodeToString(sum[:]))
}

// summed runs a request with the content's checksum, or without where the service refuses it.
func (b *bucket) summed(run func(with bool) error) error {
	with := b.checksums.Load()
	err := run(with)
	if with && refusesChecksums(err) {
		if err = run(false); err == nil {
			b.checksums.Store(false)
		}
	}
	return err
}

// unsigned leaves the content out of the signature where TLS protects it: its hash would cost more than TLS does.
func (b *bucket) unsigned(o *s3.Options) {
	if b.endpoint == "" || strings.HasPrefix(b.endpoint, "https://") {
		o.APIOptions = append(o.APIOptions, swapUnsigned)
	}
}

// Put implements object.Bucket.
func (b *bucket) Put(ctx context.Context, key string, body object.Body, meta object.Meta, onlyNew bool) (object.Object, error) {
	var sent tries
	var out *s3.PutObjectOutput
	about, mark := metadata(meta), ""
	if onlyNew {
		mark = newMark()
		about[markKey] = mark
	}
	err := b.summed(func(with bool) (err error) {
		r := body.Reader()
		defer r.Close()
		in := &s3.PutObjectInput{
			Bucket: b.name, Key: &key, Body: r, ContentLength: aws.Int64(body.Size()), ContentType: contentType(meta),
			Metadata: about, ACL: b.acl(), StorageClass: b.storageClass(),
			SSECustomerAlgorithm: b.sseAlgorithm, SSECustomerKey: b.sseKey, SSECustomerKeyMD5: b.sseMD5,
		}
		if with {
			in.ChecksumCRC32C = crc(body)
		}
		if onlyNew {
			in.IfNoneMatch = aws.String("*")
		}
		out, err = b.client.PutObject(ctx, in, b.unsigned, sent.count)
		return err
	})
	if err != nil {
		if onlyNew && exists(err) && sent.repeated() {
			// The first try may have arrived, and only its answer was lost.
			if h, herr := b.head(ctx, key); herr == nil && h.Metadata[markKey] == mark {
				return b.made(key, body.Size(), h.ETag, meta), nil
			}
		}
		return object.Object{}, failed("put", key, err)
	}
	return b.made(key, body.Size(), out.ETag, meta), nil
}

// made describes an object that was just stored.
func (b *bucket) made(key string, size int64, etag *string, meta object.Meta) object.Object {
	return object.Object{
		Key: key, Size: size, Changed: time.Now(), ModTime: meta.ModTime, ETag: unquote(etag), Version: aws.ToString(etag),
		Type: aws.ToString(contentType(meta)), Class: b.cfg.StorageClass,
	}
}

// parts implements object.Parts.
type parts struct {
	b    *bucket
	key  string
	id   *string
	meta object.Meta
	with bool // checksums
	mark string
	head int // parts that were copied of the old object

	mu   sync.Mutex // guards the fields below
	done map[int32]types.CompletedPart
	size int64
}

// markKey is the metadata key of what tells an object of our upload from one of another's.
const markKey = "gantry-upload"

func newMark() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// marked is the metadata of the object, with a mark that only this upload has.
func (p *parts) marked(m object.Meta) map[string]string {
	p.mark = newMark()
	out := metadata(m)
	out[markKey] = p.mark
	return out
}

// Begin implements object.Bucket.
func (b *bucket) Begin(ctx context.Context, key string, meta object.Meta, onto *object.Object, _ bool) (object.Parts, error) {
	p := &parts{b: b, key: key, meta: meta, done: map[int32]types.CompletedPart{}}
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	err := b.summed(func(with bool) error {
		in := &s3.CreateMultipartUploadInput{
			Bucket: b.name, Key: &key, ContentType: contentType(meta), Metadata: p.marked(meta), ACL: b.acl(), StorageClass: b.storageClass(),
			SSECustomerAlgorithm: b.sseAlgorithm, SSECustomerKey: b.sseKey, SSECustomerKeyMD5: b.sseMD5,
		}
		if with = with && onto == nil; with { // what is copied in has none that every service tells
			in.ChecksumAlgorithm = types.ChecksumAlgorithmCrc32c
		}
		out, err := b.client.CreateMultipartUpload(ctx, in)
		if err == nil {
			p.id, p.with = out.UploadId, with
		}
		return err
	})
	if err != nil {
		return nil, failed("begin the upload of", key, err)
	}
	if onto != nil {
		if p.head, err = p.copyParts(ctx, onto); err != nil {
			p.Abort(context.WithoutCancel(ctx))
			return nil, failed("continue", key, err)
		}
	}
	return p, nil
}

// copyParts makes the object's content the first parts.
func (p *parts) copyParts(ctx context.Context, o *object.Object) (int, error) {
	n := int((o.Size + copyPart - 1) / copyPart)
	piece := (o.Size + int64(n) - 1) / int64(n) // even ones: the last must not be too small
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	room := make(chan struct{}, copyAtOnce)
	for i := range n {
		room <- struct{}{}
		all.Go(func() { // ends with its request
			defer func() { <-room }()
			from := int64(i) * piece
			num := int32(i + 1)
			out, err := p.b.client.UploadPartCopy(ctx, &s3.UploadPartCopyInput{
				Bucket: p.b.name, Key: &p.key, UploadId: p.id, PartNumber: &num, CopySource: p.b.source(o.Key),
				CopySourceRange: aws.String(fmt.Sprintf("bytes=%d-%d", from, min(o.Size, from+piece)-1)), CopySourceIfMatch: aws.String(o.Version),
				SSECustomerAlgorithm: p.b.sseAlgorithm, SSECustomerKey: p.b.sseKey, SSECustomerKeyMD5: p.b.sseMD5,
				CopySourceSSECustomerAlgorithm: p.b.sseAlgorithm, CopySourceSSECustomerKey: p.b.sseKey, CopySourceSSECustomerKeyMD5: p.b.sseMD5,
			})
			if err != nil {
				cancel(err)
				return
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			done := types.CompletedPart{PartNumber: &num, ETag: out.CopyPartResult.ETag}
			if sum := out.CopyPartResult.ChecksumCRC32C; aws.ToString(sum) != "" {
				done.ChecksumCRC32C = sum
			}
			p.done[num] = done
		})
	}
	all.Wait()
	p.size += o.Size
	return n, context.Cause(ctx)
}

// Put implements object.Parts.
func (p *parts) Put(ctx context.Context, n int, body object.Body) error {
	r := body.Reader()
	defer r.Close()
	num := int32(p.head + n + 1)
	if num > maxParts {
		return fmt.Errorf("s3: %q: %w: an object has at most %d parts; set a larger upload_part_size", p.key, vfs.ErrTooLarge, maxParts)
	}
	in := &s3.UploadPartInput{
		Bucket: p.b.name, Key: &p.key, UploadId: p.id, PartNumber: &num, Body: r, ContentLength: aws.Int64(body.Size()),
		SSECustomerAlgorithm: p.b.sseAlgorithm, SSECustomerKey: p.b.sseKey, SSECustomerKeyMD5: p.b.sseMD5,
	}
	if p.with {
		in.ChecksumCRC32C = crc(body)
	}
	out, err := p.b.client.UploadPart(ctx, in, p.b.unsigned)
	if err != nil {
		return failed("upload a part of", p.key, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done[num] = types.CompletedPart{PartNumber: &num, ETag: out.ETag, ChecksumCRC32C: in.ChecksumCRC32C}
	p.size += body.Size()
	return nil
}

// Complete implements object.Parts.
func (p *parts) Complete(ctx context.Context, n int, meta object.Meta, onlyNew bool) (object.Object, error) {
	list := make([]types.CompletedPart, 0, p.head+n)
	p.mu.Lock()
	size := p.size
	for i := range p.head + n {
		list = append(list, p.done[int32(i+1)])
	}
	p.mu.Unlock()
	in := &s3.CompleteMultipartUploadInput{
		Bucket: p.b.name, Key: &p.key, UploadId: p.id, MultipartUpload: &types.CompletedMultipartUpload{Parts: list},
		SSECustomerAlgorithm: p.b.sseAlgorithm, SSECustomerKey: p.b.sseKey, SSECustomerKeyMD5: p.b.sseMD5,
	}
	if onlyNew {
		in.IfNoneMatch = aws.String("*")
	}
	var etag *string
	var sent tries
	out, err := p.b.client.CompleteMultipartUpload(ctx, in, sent.count)
	switch {
	case err == nil:
		etag = out.ETag
	case sent.repeated() && (gone(err) || exists(err)):
		// A try before may have arrived, and only its answer was lost: the object is ours if it has our mark.
		h, herr := p.b.head(ctx, p.key)
		if herr != nil || aws.ToInt64(h.ContentLength) != size || h.Metadata[markKey] != p.mark {
			return object.Object{}, failed("complete the upload of", p.key, err)
		}
		etag = h.ETag
	default:
		return object.Object{}, failed("complete the upload of", p.key, err)
	}
	o := p.b.made(p.key, size, etag, meta)
	if !meta.ModTime.Equal(p.meta.ModTime) && size <= maxSingle { // told after the upload began
		return p.b.Copy(ctx, o, p.key, &meta, false)
	}
	return o, nil
}

// Abort implements object.Parts.
func (p *parts) Abort(ctx context.Context) error {
	_, err := p.b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: p.b.name, Key: &p.key, UploadId: p.id})
	return failed("abort the upload of", p.key, err)
}

// source is an object as the header of a copy names it.
func (b *bucket) source(key string) *string {
	const hex = "0123456789ABCDEF"
	var s strings.Builder
	s.WriteString(b.cfg.Bucket + "/")
	for i := range len(key) {
		switch c := key[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~/", c) >= 0:
			s.WriteByte(c)
		default:
			s.WriteByte('%')
			s.WriteByte(hex[c>>4])
			s.WriteByte(hex[c&15])
		}
	}
	return aws.String(s.String())
}

// Copy implements object.Bucket. What is larger than one copy may be goes in parts.
func (b *bucket) Copy(ctx context.Context, from object.Object, to string, meta *object.Meta, onlyNew bool) (object.Object, error) {
	if from.Size > copyPart && from.Key != to || from.Size > maxSingle {
		return b.copyLarge(ctx, from, to, meta, onlyNew)
	}
	in := &s3.CopyObjectInput{
		Bucket: b.name, Key: &to, CopySource: b.source(from.Key), ACL: b.acl(), StorageClass: b.storageClass(),
		SSECustomerAlgorithm: b.sseAlgorithm, SSECustomerKey: b.sseKey, SSECustomerKeyMD5: b.sseMD5,
		CopySourceSSECustomerAlgorithm: b.sseAlgorithm, CopySourceSSECustomerKey: b.sseKey, CopySourceSSECustomerKeyMD5: b.sseMD5,
	}
	if in.StorageClass == "" {
		in.StorageClass = types.StorageClass(from.Class)
	}
	if from.Version != "" {
		in.CopySourceIfMatch = aws.String(from.Version)
	}
	if meta != nil { // the other metadata stay
		h, err := b.head(ctx, from.Key)
		if err != nil {
			return object.Object{}, err
		}
		in.MetadataDirective = types.MetadataDirectiveReplace
		in.Metadata = maps.Clone(h.Metadata)
		if in.Metadata == nil {
			in.Metadata = map[string]string{}
		}
		delete(in.Metadata, "mtime")
		maps.Copy(in.Metadata, metadata(*meta))
		in.ContentType, in.CacheControl, in.ContentDisposition = h.ContentType, h.CacheControl, h.ContentDisposition
		in.ContentEncoding, in.ContentLanguage = h.ContentEncoding, h.ContentLanguage
		if in.StorageClass == "" {
			in.StorageClass = h.StorageClass
		}
	}
	if onlyNew {
		in.IfNoneMatch = aws.String("*")
	}
	var sent tries
	out, err := b.client.CopyObject(ctx, in, sent.count)
	if err != nil {
		if onlyNew && exists(err) && sent.repeated() {
			if h, herr := b.head(ctx, to); herr == nil && unquote(h.ETag) == from.ETag {
				return b.Head(ctx, to)
			}
		}
		return object.Object{}, failed("copy", from.Key, err)
	}
	o := from
	o.Key, o.Changed = to, time.Now()
	if out.CopyObjectResult != nil {
		o.ETag, o.Version = unquote(out.CopyObjectResult.ETag), aws.ToString(out.CopyObjectResult.ETag)
	}
	if meta != nil {
		o.ModTime = meta.ModTime
	}
	return o, nil
}

func (b *bucket) copyLarge(ctx context.Context, from object.Object, to string, meta *object.Meta, onlyNew bool) (object.Object, error) {
	h, err := b.Head(ctx, from.Key)
	if err != nil {
		return h, err
	}
	if meta == nil {
		meta = &object.Meta{Type: h.Type, ModTime: h.ModTime}
	}
	p := &parts{b: b, key: to, meta: *meta, done: map[int32]types.CompletedPart{}}
	class := b.storageClass()
	if class == "" {
		class = types.StorageClass(h.Class)
	}
	out, err := b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: b.name, Key: &to, ContentType: contentType(*meta), Metadata: p.marked(*meta), ACL: b.acl(), StorageClass: class,
		SSECustomerAlgorithm: b.sseAlgorithm, SSECustomerKey: b.sseKey, SSECustomerKeyMD5: b.sseMD5,
	})
	if err != nil {
		return h, failed("copy", from.Key, err)
	}
	p.id = out.UploadId
	if p.head, err = p.copyParts(ctx, &h); err == nil {
		h, err = p.Complete(ctx, 0, *meta, onlyNew)
	} else {
		err = failed("copy", from.Key, err)
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callWait) // what was begun must be cleared
		defer cancel()
		p.Abort(ctx)
	}
	return h, err
}

// Delete implements object.Bucket.
func (b *bucket) Delete(ctx context.Context, keys []string) error {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	var batch []types.ObjectIdentifier
	for _, k := range keys {
		if len(keys) > 1 && !hasControl(k) {
			batch = append(batch, types.ObjectIdentifier{Key: aws.String(k)})
			continue
		}
		if _, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b.name, Key: aws.String(k)}); err != nil && status(err) != http.StatusNotFound {
			return failed("delete", k, err)
		}
	}
	if len(batch) == 0 {
		return nil
	}
	out, err := b.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: b.name, Delete: &types.Delete{Objects: batch, Quiet: aws.Bool(true)}})
	if err != nil {
		return failed("delete", keys[0], err)
	}
	for _, e := range out.Errors {
		if aws.ToString(e.Code) != "NoSuchKey" {
			return failed("delete", aws.ToString(e.Key), &answer{code: aws.ToString(e.Code), text: aws.ToString(e.Message)})
		}
	}
	return nil
}

// hasControl reports whether XML cannot hold the key.
func hasControl(key string) bool {
	return strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0xFFFE || r == 0xFFFF })
}

// Sweep implements object.Bucket.
func (b *bucket) Sweep(ctx context.Context, prefix string, t time.Time) (int, error) {
	in := &s3.ListMultipartUploadsInput{Bucket: b.name, Prefix: aws.String(prefix)}
	for n := 0; ; {
		out, err := b.client.ListMultipartUploads(ctx, in)
		if gone(err) { // some services say so where there are none
			return n, nil
		}
		if err != nil {
			return n, failed("list the uploads below", prefix, err)
		}
		for _, u := range out.Uploads {
			if !aws.ToTime(u.Initiated).Before(t) || !strings.HasPrefix(aws.ToString(u.Key), prefix) {
				continue
			}
			p := &parts{b: b, key: aws.ToString(u.Key), id: u.UploadId}
			switch err := p.Abort(ctx); {
			case err == nil:
				n++
			case !isGone(err):
				return n, err
			}
		}
		if !aws.ToBool(out.IsTruncated) {
			return n, nil
		}
		in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
	}
}
