package account

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/secret"
)

// filesystem checks the selected provider's settings (data-model.md 6), brings them to their stored form and
// empties the others.
func (c *checker) filesystem(r Rules, field string, f *FilesystemConfig) {
	keep := FilesystemConfig{Provider: f.Provider}
	switch f.Provider {
	case LocalProvider:
		keep.OSConfig = f.OSConfig
		c.buffers(field+".osconfig", keep.OSConfig)
	case S3Provider:
		keep.S3Config = f.S3Config
		c.s3(r, field+".s3config", &keep.S3Config)
	case GCSProvider:
		keep.GCSConfig = f.GCSConfig
		c.gcs(field+".gcsconfig", &keep.GCSConfig)
	case AzBlobProvider:
		keep.AzBlobConfig = f.AzBlobConfig
		c.azblob(field+".azblobconfig", &keep.AzBlobConfig)
	case CryptProvider:
		keep.CryptConfig = f.CryptConfig
		c.crypt(r, field+".cryptconfig", &keep.CryptConfig)
	case SFTPProvider:
		keep.SFTPConfig = f.SFTPConfig
		c.sftp(field+".sftpconfig", &keep.SFTPConfig)
	case HTTPProvider:
		keep.HTTPConfig = f.HTTPConfig
		c.http(field+".httpconfig", &keep.HTTPConfig)
	default:
		c.bad(field+".provider", "range", "%d is not a provider; 0 to 6 are", f.Provider)
	}
	*f = keep
}

// within checks that v is 0, which means the default def, or from low to high.
func within[T int | int64](c *checker, field string, v, low, high T, def string) {
	if v != 0 && (v < low || v > high) {
		c.bad(field, "range", "must be 0 (%s) or from %d to %d, it is %d", def, low, high, v)
	}
}

func (c *checker) buffers(field string, o OSConfig) {
	within(c, field+".read_buffer_size", o.ReadBufferSize, 1, 10, "off")
	within(c, field+".write_buffer_size", o.WriteBufferSize, 1, 10, "off")
}

// keyPrefix is a prefix of object keys in its stored form: without a slash before it and with one after it.
func (c *checker) keyPrefix(field, prefix string) string {
	if prefix == "" {
		return ""
	}
	clean := strings.TrimPrefix(path.Clean("/"+prefix), "/")
	if clean == "" {
		c.bad(field, "root", "%q is the whole bucket; leave it empty for that", prefix)
		return ""
	}
	if strings.ContainsRune(clean, 0) {
		c.bad(field, "path", "holds a NUL byte")
	}
	return clean + "/"
}

func (c *checker) s3(r Rules, field string, s *S3Config) {
	if s.Bucket == "" {
		c.bad(field+".bucket", "required", "is needed")
	}
	if s.Region == "" && s.Endpoint == "" {
		c.bad(field+".region", "required", "is needed where no endpoint is set")
	}
	s.AccessKey = strings.TrimSpace(s.AccessKey)
	if (s.AccessKey == "") != s.AccessSecret.IsEmpty() {
		c.bad(field+".access_key", "pair", "access_key and access_secret go together: set both, or neither to use the machine's own credentials")
	}
	if s.Endpoint = strings.TrimSpace(s.Endpoint); strings.Contains(s.Endpoint, "://") {
		c.webURL(field+".endpoint", s.Endpoint)
	}
	s.StorageClass, s.ACL = strings.TrimSpace(s.StorageClass), strings.TrimSpace(s.ACL)
	s.KeyPrefix = c.keyPrefix(field+".key_prefix", s.KeyPrefix)
	// 5000 was the limit of older records; no part of S3 may be larger.
	within(c, field+".upload_part_size", s.UploadPartSize, 5, 5000, "5 MB")
	within(c, field+".download_part_size", s.DownloadPartSize, 5, 5000, "5 MB")
	within(c, field+".upload_concurrency", s.UploadConcurrency, 1, 64, "5")
	within(c, field+".download_concurrency", s.DownloadConcurrency, 1, 64, "5")
	nonNegative(c, field+".upload_part_max_time", s.UploadPartMaxTime)
	nonNegative(c, field+".download_part_max_time", s.DownloadPartMaxTime)
	c.strong(r, field+".sse_customer_key", s.SSECustomerKey)
	if !s.SSECustomerKey.IsEmpty() && strings.HasPrefix(strings.ToLower(s.Endpoint), "http://") {
		c.bad(field+".sse_customer_key", "tls", "is sent with each request, and the endpoint is one without TLS; set an https endpoint")
	}
}

func (c *checker) gcs(field string, g *GCSConfig) {
	if g.Bucket == "" {
		c.bad(field+".bucket", "required", "is needed")
	}
	switch g.AutomaticCredentials {
	case 0:
		if g.Credentials.IsEmpty() {
			c.bad(field+".credentials", "required", "are needed where automatic_credentials is 0")
		} else if g.Credentials.IsPlain() && !json.Valid([]byte(g.Credentials.Payload)) {
			c.bad(field+".credentials", "json", "are not the JSON text of a service account")
		}
	case 1:
		g.Credentials = secret.Secret{}
	default:
		c.bad(field+".automatic_credentials", "range", "must be 0 or 1")
	}
	g.StorageClass, g.ACL = strings.TrimSpace(g.StorageClass), strings.TrimSpace(g.ACL)
	g.KeyPrefix = c.keyPrefix(field+".key_prefix", g.KeyPrefix)
	if g.UploadPartSize < 0 || g.UploadPartSize > 2000 {
		g.UploadPartSize = 0
	}
	if g.UploadPartMaxTime < 0 {
		g.UploadPartMaxTime = 0
	}
}

func (c *checker) azblob(field string, a *AzBlobConfig) {
	if a.SASURL.IsPlain() {
		c.webURL(field+".sas_url", a.SASURL.Payload)
	}
	if a.SASURL.IsEmpty() {
		if a.Container == "" {
			c.bad(field+".container", "required", "is needed where no sas_url is set")
		}
		if a.AccountName == "" {
			c.bad(field+".account_name", "required", "is needed where no sas_url is set")
		}
	}
	if a.AccountKey.IsPlain() {
		if _, err := base64.StdEncoding.DecodeString(a.AccountKey.Payload); err != nil {
			c.bad(field+".account_key", "base64", "is not base64, as Azure shows it")
		}
	}
	if a.Endpoint = strings.TrimSpace(a.Endpoint); strings.Contains(a.Endpoint, "://") {
		c.webURL(field+".endpoint", a.Endpoint)
	}
	a.KeyPrefix = c.keyPrefix(field+".key_prefix", a.KeyPrefix)
	within(c, field+".upload_part_size", a.UploadPartSize, 1, 2000, "5 MB")
	within(c, field+".download_part_size", a.DownloadPartSize, 1, 2000, "5 MB")
	within(c, field+".upload_concurrency", a.UploadConcurrency, 1, 64, "5")
	within(c, field+".download_concurrency", a.DownloadConcurrency, 1, 64, "5")
	if tiers := []string{"", "Archive", "Hot", "Cool"}; !slices.Contains(tiers, a.AccessTier) {
		c.bad(field+".access_tier", "unknown", "must be empty, Archive, Hot or Cool")
	}
}

func (c *checker) crypt(r Rules, field string, s *CryptConfig) {
	c.buffers(field, s.OSConfig)
	if s.Passphrase.Status == secret.Plain {
		s.Passphrase = secret.New(strings.TrimSpace(s.Passphrase.Payload))
	}
	if s.Passphrase.IsEmpty() {
		c.bad(field+".passphrase", "required", "is needed")
	}
	c.strong(r, field+".passphrase", s.Passphrase)
}

// strong refuses a plain secret that is easy to guess.
func (c *checker) strong(r Rules, field string, s secret.Secret) {
	if r.CheckSecret == nil || !s.IsPlain() {
		return
	}
	if err := r.CheckSecret(s.Payload); err != nil {
		c.bad(field, "weak", "%v (common.secret_min_entropy)", err)
	}
}

func (c *checker) sftp(field string, s *SFTPConfig) {
	endpoint, ok := hostPort(s.Endpoint)
	switch {
	case strings.TrimSpace(s.Endpoint) == "":
		c.bad(field+".endpoint", "required", "is needed, as host or host:port")
	case !ok:
		c.bad(field+".endpoint", "address", "%q is not host or host:port; an IPv6 address with a port stands in brackets", s.Endpoint)
	default:
		s.Endpoint = endpoint
	}
	if s.Username == "" {
		c.bad(field+".username", "required", "is needed")
	}
	if s.Password.IsEmpty() && s.PrivateKey.IsEmpty() {
		c.bad(field+".password", "required", "a password or a private_key is needed")
	}
	if why := badPrivateKey(s.PrivateKey, s.KeyPassphrase); why != "" {
		c.bad(field+".private_key", "key", "%s", why)
	}
	var prints []string
	for _, p := range s.Fingerprints {
		if p = strings.TrimSpace(p); p == "" {
			continue
		}
		b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimPrefix(p, "SHA256:"), "="))
		if err != nil || len(b) != sha256.Size || !strings.HasPrefix(p, "SHA256:") {
			c.bad(field+".fingerprints", "fingerprint", "%q is not a host key's fingerprint as ssh-keygen -l shows it, SHA256:…", p)
		}
		prints = append(prints, p)
	}
	s.Fingerprints = dedup(prints)
	s.Prefix = CleanPath(s.Prefix)
	within(c, field+".buffer_size", s.BufferSize, 1, 16, "off")
}

// hostPort is an address with its port, 22 if it has none.
func hostPort(s string) (string, bool) {
	s = strings.TrimSpace(s)
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = s, "22"
		if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
			host = s[1 : len(s)-1]
		} else if strings.Contains(s, ":") {
			return "", false
		}
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535 || host == "" || strings.ContainsAny(host, "/@[] \t\r\n\x00") {
		return "", false
	}
	return net.JoinHostPort(host, port), true
}

// badPrivateKey says what is wrong with a key that can be looked at, "" if nothing is.
func badPrivateKey(key, passphrase secret.Secret) string {
	if !key.IsPlain() {
		return ""
	}
	signer, err := ParsePrivateKey(key, passphrase)
	var missing *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &missing) && !passphrase.IsEmpty():
		return "" // the passphrase is sealed: it is tried when the key is used
	case errors.As(err, &missing):
		return "is protected by a passphrase; set key_passphrase"
	case err != nil:
		return "is no private key, or key_passphrase is not its own"
	}
	if k, ok := signer.PublicKey().(ssh.CryptoPublicKey); ok {
		if r, ok := k.CryptoPublicKey().(*rsa.PublicKey); ok && r.N.BitLen() < minRSABits {
			return "is an RSA key of fewer than 2048 bits, which is too weak; use ed25519"
		}
	}
	return ""
}

// ParsePrivateKey reads a Plain private key, with its passphrase if that is Plain too.
func ParsePrivateKey(key, passphrase secret.Secret) (ssh.Signer, error) {
	signer, err := ssh.ParsePrivateKey([]byte(key.Payload))
	var missing *ssh.PassphraseMissingError
	if errors.As(err, &missing) && passphrase.IsPlain() {
		return ssh.ParsePrivateKeyWithPassphrase([]byte(key.Payload), []byte(passphrase.Payload))
	}
	return signer, err
}

func (c *checker) http(field string, h *HTTPConfig) {
	h.Endpoint = strings.TrimRight(strings.TrimSpace(h.Endpoint), "/")
	u := c.webURL(field+".endpoint", h.Endpoint)
	if u != nil && u.User != nil { // an endpoint is shown
		c.bad(field+".endpoint", "secret", "must not hold a user and a password; set username and password")
	}
	if u != nil && u.Host == "unix" && !filepath.IsAbs(u.Query().Get("socket_path")) {
		c.bad(field+".endpoint", "socket", "http://unix needs an absolute socket_path in its query")
	}
}

// webURL checks an http or https URL. Its text may hold a secret, so no error shows it.
func (c *checker) webURL(field, text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		c.bad(field, "url", "must be an http or https URL")
		return nil
	}
	return u
}
