package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/secret"
)

// storageFlags are those of portable that say where the files are. The names are SFTPGo's.
type storageFlags struct {
	provider               string
	s3                     account.S3Config
	gcs                    account.GCSConfig
	az                     account.AzBlobConfig
	sftp                   account.SFTPConfig
	s3Secret, azKey, azSAS string
	gcsFile, passphrase    string
	sftpPassword, sftpKey  string
	sftpKeyPassphrase      string
	http                   account.HTTPConfig
	httpPassword, httpKey  string
}

// providers are the names of portable's storages, by their number.
var providers = []string{"osfs", "s3fs", "gcsfs", "azblobfs", "cryptfs", "sftpfs", "httpfs"}

func (f *storageFlags) add(fs *pflag.FlagSet) {
	fs.StringVarP(&f.provider, "fs-provider", "f", "osfs", "where the files are: "+strings.Join(providers, ", ")+", or their number from 0 to 6")

	fs.StringVar(&f.s3.Bucket, "s3-bucket", "", "bucket")
	fs.StringVar(&f.s3.Region, "s3-region", "", "region; needed without an endpoint")
	fs.StringVar(&f.s3.AccessKey, "s3-access-key", "", "access key; without one the machine's own credentials are used")
	fs.StringVar(&f.s3Secret, "s3-access-secret", "", "its secret")
	fs.StringVar(&f.s3.RoleARN, "s3-role-arn", "", "role to assume")
	fs.StringVar(&f.s3.Endpoint, "s3-endpoint", "", "endpoint of another service than Amazon's")
	fs.StringVar(&f.s3.StorageClass, "s3-storage-class", "", "storage class of new objects")
	fs.StringVar(&f.s3.ACL, "s3-acl", "", "canned ACL of new objects")
	fs.StringVar(&f.s3.KeyPrefix, "s3-key-prefix", "", "serve only keys that begin so")
	fs.Int64Var(&f.s3.UploadPartSize, "s3-upload-part-size", 5, "size of an upload's parts, MB")
	fs.IntVar(&f.s3.UploadConcurrency, "s3-upload-concurrency", 2, "parts of an upload that are sent at once")
	fs.BoolVar(&f.s3.ForcePathStyle, "s3-force-path-style", false, "name the bucket in the path and not in the host")
	fs.BoolVar(&f.s3.SkipTLSVerify, "s3-skip-tls-verify", false, "take any certificate of the endpoint")

	fs.StringVar(&f.gcs.Bucket, "gcs-bucket", "", "bucket")
	fs.StringVar(&f.gcs.StorageClass, "gcs-storage-class", "", "storage class of new objects")
	fs.StringVar(&f.gcs.KeyPrefix, "gcs-key-prefix", "", "serve only keys that begin so")
	fs.StringVar(&f.gcsFile, "gcs-credentials-file", "", "service account's JSON file")
	fs.IntVar(&f.gcs.AutomaticCredentials, "gcs-automatic-credentials", 1, "1 for the machine's own credentials, 0 for the file's")

	fs.StringVar(&f.az.Container, "az-container", "", "container")
	fs.StringVar(&f.az.AccountName, "az-account-name", "", "account")
	fs.StringVar(&f.azKey, "az-account-key", "", "its key")
	fs.StringVar(&f.azSAS, "az-sas-url", "", "shared access signature URL, in place of account and key")
	fs.StringVar(&f.az.Endpoint, "az-endpoint", "", "endpoint, empty for Azure's")
	fs.StringVar(&f.az.AccessTier, "az-access-tier", "", "access tier of new blobs: Archive, Hot or Cool")
	fs.StringVar(&f.az.KeyPrefix, "az-key-prefix", "", "serve only blobs that begin so")
	fs.BoolVar(&f.az.UseEmulator, "az-use-emulator", false, "the endpoint is an emulator")
	fs.Int64Var(&f.az.UploadPartSize, "az-upload-part-size", 5, "size of an upload's blocks, MB")
	fs.IntVar(&f.az.UploadConcurrency, "az-upload-concurrency", 5, "blocks of an upload that are sent at once")
	fs.Int64Var(&f.az.DownloadPartSize, "az-download-part-size", 5, "size of a download's parts, MB")
	fs.IntVar(&f.az.DownloadConcurrency, "az-download-concurrency", 5, "parts of a download that are read at once")

	fs.StringVar(&f.passphrase, "crypto-passphrase", "", "passphrase of cryptfs")

	fs.StringVar(&f.sftp.Endpoint, "sftp-endpoint", "", "another SFTP server, host:port")
	fs.StringVar(&f.sftp.Username, "sftp-username", "", "user there")
	fs.StringVar(&f.sftpPassword, "sftp-password", "", "his password")
	fs.StringVar(&f.sftpKey, "sftp-key-path", "", "his private key, a file")
	fs.StringVar(&f.sftpKeyPassphrase, "sftp-key-passphrase", "", "the key's passphrase")
	fs.StringSliceVar(&f.sftp.Fingerprints, "sftp-fingerprints", nil, "the server's host keys as SHA256:…; none takes any")
	fs.StringVar(&f.sftp.Prefix, "sftp-prefix", "", "directory there to serve")
	fs.BoolVar(&f.sftp.DisableConcurrentReads, "sftp-disable-concurrent-reads", false, "read one request at a time")
	fs.Int64Var(&f.sftp.BufferSize, "sftp-buffer-size", 0, "how much of a file is read ahead or written behind, MB, at most 16; 0 is 2")

	fs.StringVar(&f.http.Endpoint, "http-endpoint", "", "URL of a service that is a storage; http://unix?socket_path=… for a socket")
	fs.StringVar(&f.http.Username, "http-username", "", "user there")
	fs.StringVar(&f.httpPassword, "http-password", "", "his password")
	fs.StringVar(&f.httpKey, "http-api-key", "", "API key, sent as X-API-KEY")
	fs.BoolVar(&f.http.SkipTLSVerify, "http-skip-tls-verify", false, "take any certificate of the service")
}

// config is what the flags say. Its rules are those of every account.
func (f *storageFlags) config() (account.FilesystemConfig, error) {
	var c account.FilesystemConfig
	n := slices.Index(providers, cmp.Or(f.provider, providers[0]))
	if number, err := strconv.Atoi(f.provider); err == nil {
		n = number
	}
	if n < 0 || n >= len(providers) {
		return c, fmt.Errorf("--fs-provider: %q is none of %s", f.provider, strings.Join(providers, ", "))
	}
	c.Provider = account.Provider(n)
	read := func(flag, name string) (secret.Secret, error) {
		if name == "" {
			return secret.Secret{}, nil
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return secret.Secret{}, fmt.Errorf("--%s: %w", flag, err)
		}
		return secret.New(string(b)), nil
	}
	var err error
	switch c.Provider {
	case account.S3Provider:
		c.S3Config = f.s3
		c.S3Config.AccessSecret = secret.New(f.s3Secret)
	case account.GCSProvider:
		c.GCSConfig = f.gcs
		c.GCSConfig.Credentials, err = read("gcs-credentials-file", f.gcsFile)
	case account.AzBlobProvider:
		c.AzBlobConfig = f.az
		c.AzBlobConfig.AccountKey, c.AzBlobConfig.SASURL = secret.New(f.azKey), secret.New(f.azSAS)
	case account.CryptProvider:
		c.CryptConfig.Passphrase = secret.New(f.passphrase)
	case account.SFTPProvider:
		c.SFTPConfig = f.sftp
		c.SFTPConfig.Password, c.SFTPConfig.KeyPassphrase = secret.New(f.sftpPassword), secret.New(f.sftpKeyPassphrase)
		c.SFTPConfig.PrivateKey, err = read("sftp-key-path", f.sftpKey)
	case account.HTTPProvider:
		c.HTTPConfig = f.http
		c.HTTPConfig.Password, c.HTTPConfig.APIKey = secret.New(f.httpPassword), secret.New(f.httpKey)
	}
	return c, err
}
