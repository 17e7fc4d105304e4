package objecttest

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/object"
	"github.com/gantryhq/gantry/vfs/s3"
)

// Who we are to the fake of AWS.
const (
	roleARN  = "arn:aws:iam::123456789012:role/transfers"
	machine  = "transfers-of-the-machine" // an instance's role
	jwtOne   = "eyJ.first-token.of-the-file"
	jwtTwo   = "eyJ.second-token.of-the-file"
	fakeFor  = 30 * time.Second // how long credentials are said to last: so little that each request renews them
	longKey  = "testtest-of-the-long-term-key"
	stsSaysN = `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>User is not authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>`
)

// fakeAWS hands out temporary credentials as STS and an instance's metadata do, and stands before a bucket that takes
// only these, and not those that have ended. Its methods may be called from anywhere.
type fakeAWS struct {
	t          testing.TB
	sts, store string // URLs
	lasts      time.Duration

	mu      sync.Mutex // guards the fields below
	said    []string   // by what credentials were asked for
	made    int
	ended   int             // credentials up to this one have ended
	used    map[string]bool // tokens that the bucket saw
	refuse  bool            // STS and metadata
	jwt     string
	onParts func(n int)
	parts   int
}

func newFakeAWS(t testing.TB, lasts time.Duration) *fakeAWS {
	t.Helper()
	a := &fakeAWS{t: t, lasts: lasts, used: map[string]bool{}, jwt: jwtOne}
	target, err := url.Parse(fakeS3(t, "bucket"))
	if err != nil {
		t.Fatal(err)
	}
	to := httputil.NewSingleHostReverseProxy(target)
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if code := a.judge(r); code != "" {
			io.Copy(io.Discard, r.Body)
			s3Refusal(w, http.StatusForbidden, code)
			return
		}
		to.ServeHTTP(w, r)
	}))
	identity := httptest.NewServer(http.HandlerFunc(a.identity))
	t.Cleanup(store.Close)
	t.Cleanup(identity.Close)
	a.sts, a.store = identity.URL, store.URL
	// Nothing of the machine that the tests run on.
	for _, k := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"} {
		t.Setenv(k, "")
	}
	none := filepath.Join(t.TempDir(), "none")
	t.Setenv("AWS_CONFIG_FILE", none)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	return a
}

// judge is the bucket's look at a request; "" lets it pass.
func (a *fakeAWS) judge(r *http.Request) string {
	a.mu.Lock()
	if kind(r) == "PART" {
		a.parts++
		if f := a.onParts; f != nil {
			f(a.parts)
		}
	}
	defer a.mu.Unlock()
	token := r.Header.Get("X-Amz-Security-Token")
	var n int
	if _, err := fmt.Sscanf(token, "token-%d", &n); err != nil || n < 1 || n > a.made {
		return "InvalidToken"
	}
	if !strings.Contains(r.Header.Get("Authorization"), fmt.Sprintf("Credential=ASIA%d/", n)) {
		return "InvalidAccessKeyId"
	}
	if n <= a.ended {
		return "ExpiredToken"
	}
	a.used[token] = true
	return ""
}

// identity answers as STS and as the metadata service.
func (a *fakeAWS) identity(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r.ParseForm()
	const metadata = "/latest/meta-data/iam/security-credentials/"
	until := time.Now().Add(a.lasts).UTC().Format(time.RFC3339)
	switch {
	case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
		fmt.Fprint(w, "of-the-instance")
		return
	case r.Method == http.MethodGet && r.URL.Path == metadata && !a.refuse:
		a.expect(r.Header.Get("X-Aws-Ec2-Metadata-Token"), "of-the-instance")
		fmt.Fprint(w, machine)
		return
	case r.Method == http.MethodGet && r.URL.Path == metadata+machine && !a.refuse:
		a.expect(r.Header.Get("X-Aws-Ec2-Metadata-Token"), "of-the-instance")
		a.said, a.made = append(a.said, "metadata"), a.made+1
		json.NewEncoder(w).Encode(map[string]string{
			"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": fmt.Sprintf("ASIA%d", a.made), "SecretAccessKey": "secret", "Token": fmt.Sprintf("token-%d", a.made),
			"Expiration": until, "LastUpdated": time.Now().UTC().Format(time.RFC3339),
		})
		return
	case r.Method != http.MethodPost || a.refuse:
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, stsSaysN)
		return
	}
	action := r.Form.Get("Action")
	a.expect(r.Form.Get("RoleArn"), roleARN)
	switch action {
	case "AssumeRole":
		a.expect(r.Form.Get("RoleSessionName"), "gantry")
		if !strings.Contains(r.Header.Get("Authorization"), "Credential=longterm/") {
			a.t.Errorf("AssumeRole is signed by %q", r.Header.Get("Authorization"))
		}
	case "AssumeRoleWithWebIdentity":
		a.expect(r.Form.Get("RoleSessionName"), "node-1")
		a.expect(r.Form.Get("WebIdentityToken"), a.jwt)
		if r.Header.Get("Authorization") != "" {
			a.t.Error("AssumeRoleWithWebIdentity is signed")
		}
	default:
		a.t.Errorf("action %q", action)
	}
	a.said, a.made = append(a.said, action), a.made+1
	fmt.Fprintf(w, `<%sResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><%sResult><Credentials><AccessKeyId>ASIA%d</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>token-%d</SessionToken><Expiration>%s</Expiration></Credentials></%sResult></%sResponse>`,
		action, action, a.made, a.made, until, action, action)
}

func (a *fakeAWS) expect(got, want string) {
	if got != want {
		a.t.Errorf("asked with %q, want %q", got, want)
	}
}

// identities are the ways to temporary credentials: what each sets up, and what it is asked by.
func identities(t *testing.T, a *fakeAWS) map[string]struct {
	config s3.Config
	asks   string
	begin  func(t *testing.T)
} {
	base := s3.Config{Bucket: "bucket", Endpoint: a.store, ForcePathStyle: true, STSEndpoint: a.sts, Retries: 2}
	role, own := base, base
	role.AccessKey, role.Secret, role.RoleARN = "longterm", longKey, roleARN
	return map[string]struct {
		config s3.Config
		asks   string
		begin  func(t *testing.T)
	}{
		"role": {role, "AssumeRole", func(*testing.T) {}},
		"web identity": {own, "AssumeRoleWithWebIdentity", func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(file, []byte(jwtOne), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("AWS_ROLE_ARN", roleARN)
			t.Setenv("AWS_ROLE_SESSION_NAME", "node-1")
			t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file)
		}},
		"instance": {own, "metadata", func(t *testing.T) {
			t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
			t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", a.sts)
		}},
	}
}

func openIdentity(t *testing.T, c s3.Config, log *bytes.Buffer) vfs.FS {
	t.Helper()
	f, err := s3.New(t.Context(), c, object.Options{Memory: object.NewMemory(128 << 20), Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestS3TemporaryCredentials: each way to them asks for what it should, and a long upload outlives the credentials that
// it began with.
func TestS3TemporaryCredentials(t *testing.T) {
	for _, name := range []string{"role", "web identity", "instance"} {
		t.Run(name, func(t *testing.T) {
			a := newFakeAWS(t, fakeFor)
			way := identities(t, a)[name]
			way.begin(t)
			if name == "instance" { // these are not renewed before their end
				a.lasts = 0
			}
			way.config.UploadConcurrency = 1 // no part is signed while another one is under way
			var log bytes.Buffer
			f := openIdentity(t, way.config, &log)
			if err := tryPut(t.Context(), f, path(t, "/small"), "content"); err != nil {
				t.Fatal(err)
			}
			first := 0
			a.mu.Lock()
			a.onParts = func(n int) {
				switch n {
				case 1:
					first = a.made
				case 2: // what the upload began with has ended, and the file holds a new token
					a.ended = first
					if file := os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE"); file != "" {
						a.jwt = jwtTwo
						os.WriteFile(file, []byte(jwtTwo), 0o600)
					}
				}
			}
			a.mu.Unlock()
			if err := tryPut(t.Context(), f, path(t, "/big"), big()); err != nil {
				t.Errorf("a long upload: %v", err)
			}
			if got, err := get(t.Context(), f, path(t, "/big")); err != nil || got != big() {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			if len(a.used) < 2 {
				t.Errorf("%d credentials were used", len(a.used))
			}
			for _, s := range a.said {
				if s != way.asks {
					t.Errorf("asked by %s", s)
				}
			}
		})
	}
}

// TestS3TemporaryCredentialsRefused: who is refused learns which setting it was; nothing shows and no secret is told
// (LOG-1).
func TestS3TemporaryCredentialsRefused(t *testing.T) {
	for name, say := range map[string]string{
		"role":         `role_arn "` + roleARN + `" cannot be assumed`,
		"web identity": "the machine has no credentials of its own",
		"instance":     "the machine has no credentials of its own",
	} {
		t.Run(name, func(t *testing.T) {
			a := newFakeAWS(t, time.Hour)
			a.refuse = true
			way := identities(t, a)[name]
			way.begin(t)
			var log bytes.Buffer
			f := openIdentity(t, way.config, &log)
			err := tryPut(t.Context(), f, path(t, "/x"), "content")
			if err == nil || !strings.Contains(err.Error(), say) {
				t.Errorf("refused: %v; want %q", err, say)
			}
			// Ended in the middle, though it was said to last.
			a.mu.Lock()
			a.refuse = false
			a.onParts = func(n int) { a.ended = a.made }
			a.mu.Unlock()
			err2 := tryPut(t.Context(), f, path(t, "/big"), big())
			if !errors.Is(err2, fs.ErrPermission) || !strings.Contains(err2.Error(), "ExpiredToken") {
				t.Errorf("ended in the middle: %v", err2)
			}
			a.mu.Lock()
			a.onParts, a.ended = nil, 0
			a.mu.Unlock()
			if got := names(t, f, "/"); got != "" {
				t.Errorf("%q can be seen", got)
			}
			for _, text := range []string{fmt.Sprint(err), fmt.Sprint(err2), log.String()} {
				for _, s := range []string{longKey, jwtOne, "token-1", "of-the-instance"} {
					if strings.Contains(text, s) {
						t.Errorf("%q is told: %s", s, text)
					}
				}
			}
		})
	}
}

// TestS3CustomerKeyHeaders: the key goes with each request that needs it, over TLS only, and is told nowhere (LOG-1).
func TestS3CustomerKeyHeaders(t *testing.T) {
	const key = "0123456789abcdef0123456789ABCDEF"
	sum := md5.Sum([]byte(key))
	encoded := base64.StdEncoding.EncodeToString([]byte(key))
	want := map[string]string{"Algorithm": "AES256", "Key": encoded, "Key-Md5": base64.StdEncoding.EncodeToString(sum[:])}
	target, err := url.Parse(fakeS3(t, "bucket"))
	if err != nil {
		t.Fatal(err)
	}
	to := httputil.NewSingleHostReverseProxy(target)
	var mu sync.Mutex
	seen := map[string]int{}
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k := kind(r)
		source := r.Header.Get("X-Amz-Copy-Source") != ""
		if source {
			k = "COPY"
		}
		mu.Lock()
		seen[k]++
		for name, value := range want {
			got := r.Header.Get("X-Amz-Server-Side-Encryption-Customer-" + name)
			switch k {
			case "PUT", "PART", "BEGIN", "COMPLETE", "HEAD", "GET", "COPY":
				if got != value {
					t.Errorf("%s %s: %s is %q", k, r.URL.Path, name, got)
				}
			default:
				if got != "" {
					t.Errorf("%s %s is sent %s", k, r.URL.Path, name)
				}
			}
			got = r.Header.Get("X-Amz-Copy-Source-Server-Side-Encryption-Customer-" + name)
			if source && got != value || !source && got != "" {
				t.Errorf("%s %s: the source's %s is %q", k, r.URL.Path, name, got)
			}
		}
		mu.Unlock()
		to.ServeHTTP(w, r)
	}))
	defer srv.Close()
	var log bytes.Buffer
	f := openIdentity(t, s3.Config{
		Bucket: "bucket", Endpoint: srv.URL, ForcePathStyle: true, SkipTLSVerify: true, AccessKey: "test", Secret: "testtest", SSECustomerKey: key,
	}, &log)
	put(t, f, "/small", "content")
	put(t, f, "/big", big())
	if got, err := get(t.Context(), f, path(t, "/big")); err != nil || got != big() {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := f.Rename(t.Context(), path(t, "/big"), path(t, "/moved"), false); err != nil {
		t.Error(err)
	}
	mu.Lock()
	for _, k := range []string{"PUT", "PART", "BEGIN", "COMPLETE", "HEAD", "GET", "COPY", "LIST", "DELETE"} {
		if seen[k] == 0 {
			t.Errorf("no %s was seen", k)
		}
	}
	mu.Unlock()
	if strings.Contains(log.String(), key) || strings.Contains(log.String(), encoded) {
		t.Errorf("the log tells the key:\n%s", &log)
	}
	// Without TLS nothing is opened.
	var plain int
	open := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { plain++ }))
	defer open.Close()
	for _, endpoint := range []string{open.URL, strings.Replace(open.URL, "http", "HTTP", 1)} {
		_, err = s3.New(t.Context(), s3.Config{Bucket: "bucket", Endpoint: endpoint, AccessKey: "test", Secret: "testtest", SSECustomerKey: key}, object.Options{Memory: object.NewMemory(1)})
		if err == nil || !strings.Contains(err.Error(), "TLS") || strings.Contains(err.Error(), key) {
			t.Errorf("a key without TLS: %v", err)
		}
	}
	if plain != 0 {
		t.Errorf("%d requests without TLS", plain)
	}
}
