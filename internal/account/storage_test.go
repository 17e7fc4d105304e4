package account

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/secret"
)

func pemKey(t *testing.T, key any, passphrase string) string {
	t.Helper()
	var b *pem.Block
	var err error
	switch {
	case passphrase != "":
		b, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	default:
		b, err = ssh.MarshalPrivateKey(key, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(b))
}

// weakRSA is a key of 1024 bits, which no function of this Go makes any more without a word.
func weakRSA(t *testing.T) string {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	k, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}))
}

// TestStorageSettings is data-model.md 6: what each provider asks for, and the field that an error names.
func TestStorageSettings(t *testing.T) {
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	plainKey, lockedKey, weak := pemKey(t, key, ""), pemKey(t, key, "open it"), weakRSA(t)
	s3 := func(change func(*S3Config)) FilesystemConfig {
		s := S3Config{Bucket: "b", Region: "r"}
		change(&s)
		return FilesystemConfig{Provider: S3Provider, S3Config: s}
	}
	gcs := func(change func(*GCSConfig)) FilesystemConfig {
		g := GCSConfig{Bucket: "b", AutomaticCredentials: 1}
		change(&g)
		return FilesystemConfig{Provider: GCSProvider, GCSConfig: g}
	}
	az := func(change func(*AzBlobConfig)) FilesystemConfig {
		a := AzBlobConfig{Container: "c", AccountName: "a", AccountKey: secret.New("a2V5")}
		change(&a)
		return FilesystemConfig{Provider: AzBlobProvider, AzBlobConfig: a}
	}
	sftp := func(change func(*SFTPConfig)) FilesystemConfig {
		s := SFTPConfig{Endpoint: "h", Username: "u", Password: secret.New("p")}
		change(&s)
		return FilesystemConfig{Provider: SFTPProvider, SFTPConfig: s}
	}
	web := func(endpoint string) FilesystemConfig {
		return FilesystemConfig{Provider: HTTPProvider, HTTPConfig: HTTPConfig{Endpoint: endpoint}}
	}
	crypt := func(passphrase string) FilesystemConfig {
		return FilesystemConfig{Provider: CryptProvider, CryptConfig: CryptConfig{Passphrase: secret.New(passphrase)}}
	}
	rules := Rules{CheckSecret: func(s string) error {
		if len(s) < 5 {
			return errors.New("too short")
		}
		return nil
	}}
	for name, c := range map[string]struct {
		in    FilesystemConfig
		field string // of the error; "" if it is good
		check func(FilesystemConfig) bool
	}{
		"no provider":      {in: FilesystemConfig{Provider: 7}, field: "provider"},
		"local":            {in: FilesystemConfig{OSConfig: OSConfig{ReadBufferSize: 10}}},
		"local, buffer":    {in: FilesystemConfig{OSConfig: OSConfig{WriteBufferSize: 11}}, field: "osconfig.write_buffer_size"},
		"others are taken": {in: FilesystemConfig{S3Config: S3Config{Bucket: "b"}}, check: func(f FilesystemConfig) bool { return f.S3Config.Bucket == "" }},

		"s3":              {in: s3(func(s *S3Config) {})},
		"s3, bucket":      {in: s3(func(s *S3Config) { s.Bucket = "" }), field: "s3config.bucket"},
		"s3, region":      {in: s3(func(s *S3Config) { s.Region = "" }), field: "s3config.region"},
		"s3, endpoint":    {in: s3(func(s *S3Config) { s.Region, s.Endpoint = "", "http://h:9000" })},
		"s3, bad URL":     {in: s3(func(s *S3Config) { s.Endpoint = "ftp://h" }), field: "s3config.endpoint"},
		"s3, half a key":  {in: s3(func(s *S3Config) { s.AccessKey = "k" }), field: "s3config.access_key"},
		"s3, other half":  {in: s3(func(s *S3Config) { s.AccessSecret = secret.New("k") }), field: "s3config.access_key"},
		"s3, kept secret": {in: s3(func(s *S3Config) { s.AccessKey, s.AccessSecret = "k", secret.Secret{Status: secret.Redacted} })},
		"s3, prefix":      {in: s3(func(s *S3Config) { s.KeyPrefix = "/a//b" }), check: func(f FilesystemConfig) bool { return f.S3Config.KeyPrefix == "a/b/" }},
		"s3, root prefix": {in: s3(func(s *S3Config) { s.KeyPrefix = "a/.." }), field: "s3config.key_prefix"},
		"s3, part":        {in: s3(func(s *S3Config) { s.UploadPartSize = 4 }), field: "s3config.upload_part_size"},
		"s3, concurrency": {in: s3(func(s *S3Config) { s.DownloadConcurrency = 65 }), field: "s3config.download_concurrency"},
		"s3, class":       {in: s3(func(s *S3Config) { s.StorageClass = " COLD " }), check: func(f FilesystemConfig) bool { return f.S3Config.StorageClass == "COLD" }},
		"s3, plain key": {in: s3(func(s *S3Config) {
			s.SSECustomerKey, s.Endpoint = secret.New("a passphrase that nobody guesses 4711"), "http://h"
		}), field: "s3config.sse_customer_key"},
		"s3, weak key": {in: s3(func(s *S3Config) { s.SSECustomerKey = secret.New("abc") }), field: "s3config.sse_customer_key"},

		"gcs":               {in: gcs(func(g *GCSConfig) { g.Credentials = secret.New("{}") }), check: func(f FilesystemConfig) bool { return f.GCSConfig.Credentials.IsEmpty() }},
		"gcs, bucket":       {in: gcs(func(g *GCSConfig) { g.Bucket = "" }), field: "gcsconfig.bucket"},
		"gcs, credentials":  {in: gcs(func(g *GCSConfig) { g.AutomaticCredentials = 0 }), field: "gcsconfig.credentials"},
		"gcs, no JSON":      {in: gcs(func(g *GCSConfig) { g.AutomaticCredentials, g.Credentials = 0, secret.New("{") }), field: "gcsconfig.credentials"},
		"gcs, large a part": {in: gcs(func(g *GCSConfig) { g.UploadPartSize = 5000 }), check: func(f FilesystemConfig) bool { return f.GCSConfig.UploadPartSize == 0 }},

		"azure":              {in: az(func(a *AzBlobConfig) { a.KeyPrefix = "p" }), check: func(f FilesystemConfig) bool { return f.AzBlobConfig.KeyPrefix == "p/" }},
		"azure, container":   {in: az(func(a *AzBlobConfig) { a.Container = "" }), field: "azblobconfig.container"},
		"azure, account":     {in: az(func(a *AzBlobConfig) { a.AccountName = "" }), field: "azblobconfig.account_name"},
		"azure, key":         {in: az(func(a *AzBlobConfig) { a.AccountKey = secret.New("%") }), field: "azblobconfig.account_key"},
		"azure, SAS alone":   {in: az(func(a *AzBlobConfig) { *a = AzBlobConfig{SASURL: secret.New("https://h/c?sig=x")} })},
		"azure, no SAS URL":  {in: az(func(a *AzBlobConfig) { a.SASURL = secret.New("canary") }), field: "azblobconfig.sas_url"},
		"azure, tier":        {in: az(func(a *AzBlobConfig) { a.AccessTier = "hot" }), field: "azblobconfig.access_tier"},
		"azure, large parts": {in: az(func(a *AzBlobConfig) { a.DownloadPartSize = 2001 }), field: "azblobconfig.download_part_size"},

		"crypt":          {in: crypt("  a phrase "), check: func(f FilesystemConfig) bool { return f.CryptConfig.Passphrase.Payload == "a phrase" }},
		"crypt, none":    {in: crypt("   "), field: "cryptconfig.passphrase"},
		"crypt, weak":    {in: crypt("abcd"), field: "cryptconfig.passphrase"},
		"crypt, buffers": {in: FilesystemConfig{Provider: CryptProvider, CryptConfig: CryptConfig{OSConfig: OSConfig{ReadBufferSize: -1}, Passphrase: secret.New("a phrase")}}, field: "cryptconfig.read_buffer_size"},

		"sftp":                {in: sftp(func(s *SFTPConfig) {}), check: func(f FilesystemConfig) bool { return f.SFTPConfig.Endpoint == "h:22" && f.SFTPConfig.Prefix == "/" }},
		"sftp, IPv6":          {in: sftp(func(s *SFTPConfig) { s.Endpoint = "[::1]" }), check: func(f FilesystemConfig) bool { return f.SFTPConfig.Endpoint == "[::1]:22" }},
		"sftp, bare IPv6":     {in: sftp(func(s *SFTPConfig) { s.Endpoint = "::1" }), field: "sftpconfig.endpoint"},
		"sftp, no endpoint":   {in: sftp(func(s *SFTPConfig) { s.Endpoint = " " }), field: "sftpconfig.endpoint"},
		"sftp, port":          {in: sftp(func(s *SFTPConfig) { s.Endpoint = "h:0" }), field: "sftpconfig.endpoint"},
		"sftp, user":          {in: sftp(func(s *SFTPConfig) { s.Username = "" }), field: "sftpconfig.username"},
		"sftp, no credential": {in: sftp(func(s *SFTPConfig) { s.Password = secret.Secret{} }), field: "sftpconfig.password"},
		"sftp, key":           {in: sftp(func(s *SFTPConfig) { s.PrivateKey = secret.New(plainKey) })},
		"sftp, no key":        {in: sftp(func(s *SFTPConfig) { s.PrivateKey = secret.New("canary") }), field: "sftpconfig.private_key"},
		"sftp, locked":        {in: sftp(func(s *SFTPConfig) { s.PrivateKey = secret.New(lockedKey) }), field: "sftpconfig.private_key"},
		"sftp, unlocked":      {in: sftp(func(s *SFTPConfig) { s.PrivateKey, s.KeyPassphrase = secret.New(lockedKey), secret.New("open it") })},
		"sftp, wrong phrase":  {in: sftp(func(s *SFTPConfig) { s.PrivateKey, s.KeyPassphrase = secret.New(lockedKey), secret.New("no") }), field: "sftpconfig.private_key"},
		"sftp, kept phrase": {in: sftp(func(s *SFTPConfig) {
			s.PrivateKey, s.KeyPassphrase = secret.New(lockedKey), secret.Secret{Status: secret.Redacted}
		})},
		"sftp, weak key": {in: sftp(func(s *SFTPConfig) { s.PrivateKey = secret.New(weak) }), field: "sftpconfig.private_key"},
		"sftp, fingerprints": {in: sftp(func(s *SFTPConfig) {
			s.Fingerprints = []string{" SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU ", ""}
		}), check: func(f FilesystemConfig) bool {
			return len(f.SFTPConfig.Fingerprints) == 1 && f.SFTPConfig.Fingerprints[0][0] == 'S'
		}},
		"sftp, no fingerprint": {in: sftp(func(s *SFTPConfig) { s.Fingerprints = []string{"MD5:00"} }), field: "sftpconfig.fingerprints"},
		"sftp, prefix":         {in: sftp(func(s *SFTPConfig) { s.Prefix = `a\b/..` }), check: func(f FilesystemConfig) bool { return f.SFTPConfig.Prefix == "/a" }},
		"sftp, buffer":         {in: sftp(func(s *SFTPConfig) { s.BufferSize = 17 }), field: "sftpconfig.buffer_size"},

		"http":            {in: web("https://h/fs/"), check: func(f FilesystemConfig) bool { return f.HTTPConfig.Endpoint == "https://h/fs" }},
		"http, secret":    {in: web("http://user:pw@h/fs"), field: "httpconfig.endpoint"},
		"http, no URL":    {in: web("httpx"), field: "httpconfig.endpoint"},
		"http, socket":    {in: web("http://unix?socket_path=/run/x"), check: func(f FilesystemConfig) bool { return strings.HasSuffix(f.HTTPConfig.Endpoint, "/run/x") }},
		"http, no socket": {in: web("http://unix?socket_path=x"), field: "httpconfig.endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			chk := &checker{kind: "folder", name: "f"}
			chk.filesystem(rules, "filesystem", &c.in)
			switch err := chk.err; {
			case c.field == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.field != "" && (err == nil || err.Field != "filesystem."+c.field):
				t.Errorf("error %v, want one of filesystem.%s", err, c.field)
			case err != nil && strings.Contains(err.Error(), "canary"): // LOG-1
				t.Errorf("the error shows a secret: %v", err)
			case c.check != nil && !c.check(c.in):
				t.Errorf("stored as %+v", c.in)
			}
		})
	}
}
