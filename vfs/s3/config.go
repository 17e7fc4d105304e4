// Package s3 is a bucket of Amazon S3, or of a service that speaks its protocol, as a tree (vfs/object). It is the
// only package that imports AWS's SDK.
//
// Checksums: each object and part is sent with its CRC32C, which the service verifies. A service that refuses the
// header is asked without it from then on. Times of change are kept in the metadata key "mtime", as rclone has it;
// listings do not tell metadata, so that they show when the object was stored.
//
// A rename without replace, and an exclusive upload, are one step where the service knows If-None-Match. What is in
// the way of other services is looked for first.
package s3

import (
	"cmp"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/object"
)

// Config says which bucket, and how. Sizes are in MB (MiB), times in seconds; 0 means the default.
type Config struct {
	Bucket, Region, Endpoint string // Endpoint: a URL, or a host for https
	// AccessKey and Secret, with SessionToken for temporary ones; without them the machine's own credentials are
	// used (environment, files, web identity, container and instance roles). RoleARN is assumed with either.
	AccessKey, Secret, SessionToken, RoleARN string
	// SSECustomerKey encrypts at the service: 32 bytes as they are, of any other text its SHA-256.
	SSECustomerKey      string
	StorageClass, ACL   string
	UploadPartSize      int64 // 5
	UploadConcurrency   int   // 5
	UploadPartMaxTime   int
	DownloadPartSize    int64 // 5
	DownloadConcurrency int   // 5
	DownloadPartMaxTime int
	ForcePathStyle      bool
	SkipTLSVerify       bool
	Dial                func(ctx context.Context, network, address string) (net.Conn, error) // judges the address (SSRF-1); nil: any
	Retries             int                                                                  // tries of one request, 5
	HeaderWait          time.Duration                                                        // for an answer once a request is sent, 5 minutes
	STSEndpoint         string                                                               // where RoleARN is assumed, if it is not AWS
}

// New opens the tree of a bucket. Nothing is asked of the service yet.
func New(ctx context.Context, c Config, o object.Options) (vfs.FS, error) {
	settings := c
	settings.Dial = nil
	f, err := o.Pool.Open(object.PoolKey("s3", settings), o, func() (object.Bucket, error) {
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
		return nil, errors.New("s3: a bucket is needed")
	}
	endpoint := c.Endpoint
	if endpoint != "" && !strings.Contains(endpoint, "://") {
		endpoint = "https://" + endpoint
	}
	if endpoint != "" {
		if u, err := url.Parse(endpoint); err != nil || u.Host == "" || u.User != nil {
			return nil, errors.New("s3: the endpoint is not a URL or a host")
		}
	}
	region := c.Region
	if region == "" && endpoint != "" {
		region = "us-east-1"
	}
	transport := &http.Transport{
		DialContext:           c.Dial,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       60 * time.Second,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: cmp.Or(c.HeaderWait, 5*time.Minute),
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true,
		ForceAttemptHTTP2:     false,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.SkipTLSVerify}, //nolint: the key says so
	}
	b := &bucket{
		cfg: c, transport: transport, endpoint: endpoint,
		name: aws.String(c.Bucket), place: cmp.Or(endpoint, "aws:"+region),
	}
	b.checksums.Store(true)
	if k := c.SSECustomerKey; k != "" {
		if strings.HasPrefix(strings.ToLower(endpoint), "http://") {
			return nil, errors.New("s3: sse_customer_key is sent with each request, and the endpoint is one without TLS; set an https endpoint")
		}
		key := []byte(k)
		if len(key) != 32 {
			sum := sha256.Sum256(key)
			key = sum[:]
		}
		sum := md5.Sum(key)
		b.sseAlgorithm = aws.String("AES256")
		b.sseKey = aws.String(base64.StdEncoding.EncodeToString(key))
		b.sseMD5 = aws.String(base64.StdEncoding.EncodeToString(sum[:]))
	}
	client := &http.Client{
		Transport: transport,
		// A redirect is an answer like another: no request goes where the record does not say (SSRF-1).
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	creds, err := c.credentials(ctx, region)
	if err != nil {
		return nil, err
	}
	o := s3.Options{
		Region: region, Credentials: creds, HTTPClient: client, UsePathStyle: c.ForcePathStyle,
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.MaxBackoff = cmp.Or(c.Retries, 5), 8*time.Second
		}),
		DisableLogOutputChecksumValidationSkipped: true,
	}
	if endpoint != "" {
		o.BaseEndpoint = aws.String(endpoint)
	}
	b.client = s3.New(o)
	return b, nil
}

// renewBefore is how long before its end a credential is renewed: a request is signed with one that the service still
// takes when it arrives.
const renewBefore = time.Minute

// credentials finds who we are to the service.
func (c *Config) credentials(ctx context.Context, region string) (aws.CredentialsProvider, error) {
	load := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithRegion(region),
		awsconfig.WithCredentialsCacheOptions(func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = renewBefore }),
	}
	if c.AccessKey != "" {
		fixed := credentials.NewStaticCredentialsProvider(c.AccessKey, c.Secret, c.SessionToken)
		if c.RoleARN == "" {
			return fixed, nil
		}
		load = append(load, awsconfig.WithCredentialsProvider(fixed))
	}
	if c.STSEndpoint != "" {
		load = append(load, awsconfig.WithBaseEndpoint(c.STSEndpoint))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("s3: the machine's own credentials: %w", err)
	}
	own := identity{cfg.Credentials, "access_key is not set, and the machine has no credentials of its own (environment, files, web identity or instance role)"}
	if c.RoleARN == "" {
		return own, nil
	}
	if c.AccessKey == "" {
		cfg.Credentials = own
	}
	role := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), c.RoleARN, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName = "gantry"
	})
	cache := aws.NewCredentialsCache(role, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = renewBefore })
	return identity{cache, fmt.Sprintf("role_arn %q cannot be assumed", c.RoleARN)}, nil
}

// identity is a source of credentials whose errors say what it is.
type identity struct {
	aws.CredentialsProvider
	failure string
}

// Retrieve implements aws.CredentialsProvider.
func (i identity) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := i.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		err = &identityError{i.failure, err}
	}
	return c, err
}

// Limits implements object.Bucket.
func (b *bucket) Limits() object.Limits {
	c := &b.cfg
	return object.Limits{
		PartSize:    int(cmp.Or(c.UploadPartSize, 5)) << 20,
		Concurrency: cmp.Or(c.UploadConcurrency, 5),
		PartTime:    time.Duration(c.UploadPartMaxTime) * time.Second,
		ReadTime:    time.Duration(c.DownloadPartMaxTime) * time.Second,
		ReadSize:    int(cmp.Or(c.DownloadPartSize, 5)) << 20,
		Readers:     cmp.Or(c.DownloadConcurrency, 5),
		MaxParts:    maxParts, MaxSingle: maxSingle, MaxKey: 1024, MaxSize: 5 << 40, Batch: 1000, MarkerSlash: true, Escape: notInXML,
	}
}

// notInXML reports whether the answers of the service, which are XML, could not hold the character of name at i.
func notInXML(name string, i int) bool {
	c := name[i]
	return c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == 0xEF && (strings.HasPrefix(name[i:], "\uFFFE") || strings.HasPrefix(name[i:], "\uFFFF"))
}
