// Package azblob is a container of Azure Blob Storage as a tree (vfs/object). It is the only package that imports
// Azure's SDK.
//
// Blocks that were never committed cannot be removed by a client; Azure drops them after a week, and nobody sees
// them until then. Blocks and blobs are sent with their CRC-64, which the service verifies. Times of change are kept
// in the metadata key "mtime", as rclone has it; a directory is an empty blob with the metadata "hdi_isfolder".
package azblob

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/object"
)

// Config says which container, and how. Sizes are in MB (MiB); 0 means the default.
type Config struct {
	Container               string
	AccountName, AccountKey string
	SASURL                  string // in place of account and key; it may name the container
	Endpoint                string // host, or a URL; blob.core.windows.net
	Emulator                bool   // the account stands in the path
	AccessTier              string // Hot, Cool, Archive; "" is the account's
	UploadPartSize          int64  // 5
	UploadConcurrency       int    // 5
	DownloadPartSize        int64  // 5
	DownloadConcurrency     int    // 5

	Dial       func(ctx context.Context, network, address string) (net.Conn, error) // judges the address (SSRF-1); nil: any
	Retries    int                                                                  // tries of one request, 5
	HeaderWait time.Duration                                                        // for an answer once a request is sent, 5 minutes
}

// The service's bounds.
const (
	maxBlocks = 50_000
	maxSingle = 5000 << 20 // bytes of one Put Blob
	maxBlob   = maxBlocks * (4000 << 20)
)

// The account of the emulator that Microsoft publishes.
const (
	emulatorAccount = "devstoreaccount1"
	emulatorKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// New opens the tree of a container. Nothing is asked of the service yet.
func New(c Config, o object.Options) (vfs.FS, error) {
	settings := c
	settings.Dial = nil
	f, err := o.Pool.Open(object.PoolKey("azblob", settings), o, func() (object.Bucket, error) {
		b, err := newBucket(c)
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

func newBucket(c Config) (*bucket, error) {
	transport := &http.Transport{
		DialContext:           c.Dial,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       60 * time.Second,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: cmp.Or(c.HeaderWait, 5*time.Minute),
		DisableCompression:    true,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	opts := &container.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: &http.Client{
			Transport: transport,
			// No request goes where the record does not say (SSRF-1).
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Retry:     policy.RetryOptions{MaxRetries: int32(cmp.Or(c.Retries, 5) - 1), RetryDelay: 300 * time.Millisecond, MaxRetryDelay: 8 * time.Second},
		Telemetry: policy.TelemetryOptions{Disabled: true},
	}}
	b := &bucket{cfg: c, transport: transport}
	var err error
	if c.SASURL != "" {
		b.client, err = b.withSAS(opts)
	} else {
		b.client, err = b.withKey(opts)
	}
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(b.client.URL())
	if err != nil {
		return nil, errors.New("azblob: the container's URL cannot be read")
	}
	b.place = u.Host + u.Path
	return b, nil
}

// withSAS uses the URL alone. It is a secret: no error holds it.
func (b *bucket) withSAS(opts *container.ClientOptions) (*container.Client, error) {
	u, err := url.Parse(b.cfg.SASURL)
	if err != nil || u.Host == "" {
		return nil, errors.New("azblob: sas_url is not a URL")
	}
	parts, err := blob.ParseURL(b.cfg.SASURL)
	if err != nil {
		return nil, errors.New("azblob: sas_url is not the URL of an account or a container")
	}
	switch name := parts.ContainerName; {
	case name != "" && b.cfg.Container != "" && name != b.cfg.Container:
		return nil, fmt.Errorf("azblob: sas_url is for the container %q, not for %q", name, b.cfg.Container)
	case name != "":
		b.cfg.Container = name
	case b.cfg.Container == "":
		return nil, errors.New("azblob: neither container nor sas_url names a container")
	}
	parts.ContainerName, b.sas = b.cfg.Container, parts.SAS
	client, err := container.NewClientWithNoCredential(parts.String(), opts)
	if err != nil {
		return nil, errors.New("azblob: sas_url cannot be used")
	}
	return client, nil
}

func (b *bucket) withKey(opts *container.ClientOptions) (*container.Client, error) {
	c := &b.cfg
	if c.Emulator {
		c.Endpoint = cmp.Or(c.Endpoint, "http://127.0.0.1:10000")
		c.AccountName = cmp.Or(c.AccountName, emulatorAccount)
		if c.AccountKey == "" && c.AccountName == emulatorAccount {
			c.AccountKey = emulatorKey
		}
	}
	if c.Container == "" || c.AccountName == "" || c.AccountKey == "" {
		return nil, errors.New("azblob: container, account_name and account_key are needed, or sas_url")
	}
	cred, err := blob.NewSharedKeyCredential(c.AccountName, c.AccountKey)
	if err != nil {
		return nil, errors.New("azblob: account_key is not base64, as Azure shows it")
	}
	endpoint := cmp.Or(c.Endpoint, "blob.core.windows.net")
	if !strings.Contains(endpoint, "://") {
		endpoint = "https://" + endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.User != nil {
		return nil, errors.New("azblob: the endpoint is not a URL or a host")
	}
	if c.Emulator {
		u = u.JoinPath(c.AccountName)
	} else if !strings.HasPrefix(u.Host, c.AccountName+".") {
		u.Host = c.AccountName + "." + u.Host
	}
	client, err := container.NewClientWithSharedKeyCredential(u.JoinPath(c.Container).String(), cred, opts)
	if err != nil {
		return nil, fmt.Errorf("azblob: %w", err)
	}
	return client, nil
}

// Limits implements object.Bucket.
func (b *bucket) Limits() object.Limits {
	c := &b.cfg
	return object.Limits{
		PartSize:    int(cmp.Or(c.UploadPartSize, 5)) << 20,
		Concurrency: cmp.Or(c.UploadConcurrency, 5),
		ReadSize:    int(cmp.Or(c.DownloadPartSize, 5)) << 20,
		Readers:     cmp.Or(c.DownloadConcurrency, 5),
		MaxParts:    maxBlocks, MaxSingle: maxSingle, MaxKey: 1024, MaxSize: maxBlob, Batch: 256, ListTimes: true, Escape: refused,
	}
}

// refused reports what Azure takes for something else: "\" is its slash, a name must not end with a dot, and control
// characters are refused.
func refused(name string, i int) bool {
	switch c := name[i]; {
	case c < ' ', c == '\\', c == 0x7F:
		return true
	case c == '.':
		return i == len(name)-1
	case c == 0xC2:
		return i+1 < len(name) && name[i+1] >= 0x80 && name[i+1] <= 0x9F
	case c == 0xEF:
		return strings.HasPrefix(name[i:], "\uFFFE") || strings.HasPrefix(name[i:], "\uFFFF")
	}
	return false
}
