package account

import "github.com/gantryhq/gantry/internal/secret"

// Provider is the number of a storage backend in a FilesystemConfig.
type Provider int

// The storage backends.
const (
	LocalProvider Provider = iota
	S3Provider
	GCSProvider
	AzBlobProvider
	CryptProvider
	SFTPProvider
	HTTPProvider
)

// FilesystemConfig says where an account's or a folder's files live. On save every sub-object but the
// selected provider's is emptied.
type FilesystemConfig struct {
	Provider     Provider     `json:"provider"`
	OSConfig     OSConfig     `json:"osconfig"`
	S3Config     S3Config     `json:"s3config"`
	GCSConfig    GCSConfig    `json:"gcsconfig"`
	AzBlobConfig AzBlobConfig `json:"azblobconfig"`
	CryptConfig  CryptConfig  `json:"cryptconfig"`
	SFTPConfig   SFTPConfig   `json:"sftpconfig"`
	HTTPConfig   HTTPConfig   `json:"httpconfig"`
}

// OSConfig is the local backend's settings.
type OSConfig struct {
	ReadBufferSize  int `json:"read_buffer_size,omitempty"` // MB
	WriteBufferSize int `json:"write_buffer_size,omitempty"`
}

// S3Config is an S3 bucket.
type S3Config struct {
	Bucket              string        `json:"bucket,omitempty"`
	KeyPrefix           string        `json:"key_prefix,omitempty"`
	Region              string        `json:"region,omitempty"`
	AccessKey           string        `json:"access_key,omitempty"`
	AccessSecret        secret.Secret `json:"access_secret,omitzero"`
	SSECustomerKey      secret.Secret `json:"sse_customer_key,omitzero"`
	RoleARN             string        `json:"role_arn,omitempty"`
	SessionToken        string        `json:"session_token,omitempty"`
	Endpoint            string        `json:"endpoint,omitempty"`
	StorageClass        string        `json:"storage_class,omitempty"`
	ACL                 string        `json:"acl,omitempty"`
	UploadPartSize      int64         `json:"upload_part_size,omitempty"` // MB
	UploadConcurrency   int           `json:"upload_concurrency,omitempty"`
	DownloadPartSize    int64         `json:"download_part_size,omitempty"`
	UploadPartMaxTime   int           `json:"upload_part_max_time,omitempty"` // s
	DownloadConcurrency int           `json:"download_concurrency,omitempty"`
	DownloadPartMaxTime int           `json:"download_part_max_time,omitempty"`
	ForcePathStyle      bool          `json:"force_path_style,omitempty"`
	SkipTLSVerify       bool          `json:"skip_tls_verify,omitempty"`
}

// GCSConfig is a Google Cloud Storage bucket.
type GCSConfig struct {
	Bucket               string        `json:"bucket,omitempty"`
	KeyPrefix            string        `json:"key_prefix,omitempty"`
	Credentials          secret.Secret `json:"credentials,omitzero"`
	AutomaticCredentials int           `json:"automatic_credentials,omitempty"`
	StorageClass         string        `json:"storage_class,omitempty"`
	ACL                  string        `json:"acl,omitempty"`
	UploadPartSize       int64         `json:"upload_part_size,omitempty"` // MB
	UploadPartMaxTime    int           `json:"upload_part_max_time,omitempty"`
}

// AzBlobConfig is an Azure Blob container.
type AzBlobConfig struct {
	Container           string        `json:"container,omitempty"`
	AccountName         string        `json:"account_name,omitempty"`
	AccountKey          secret.Secret `json:"account_key,omitzero"`
	SASURL              secret.Secret `json:"sas_url,omitzero"`
	Endpoint            string        `json:"endpoint,omitempty"`
	KeyPrefix           string        `json:"key_prefix,omitempty"`
	UseEmulator         bool          `json:"use_emulator,omitempty"`
	UploadPartSize      int64         `json:"upload_part_size,omitempty"` // MB
	UploadConcurrency   int           `json:"upload_concurrency,omitempty"`
	DownloadPartSize    int64         `json:"download_part_size,omitempty"`
	DownloadConcurrency int           `json:"download_concurrency,omitempty"`
	AccessTier          string        `json:"access_tier,omitempty"`
}

// CryptConfig is local storage, encrypted at rest.
type CryptConfig struct {
	OSConfig
	Passphrase secret.Secret `json:"passphrase,omitzero"`
}

// SFTPConfig is another SFTP server.
type SFTPConfig struct {
	Endpoint               string        `json:"endpoint,omitempty"`
	Username               string        `json:"username,omitempty"`
	Password               secret.Secret `json:"password,omitzero"`
	PrivateKey             secret.Secret `json:"private_key,omitzero"`
	KeyPassphrase          secret.Secret `json:"key_passphrase,omitzero"`
	Fingerprints           []string      `json:"fingerprints,omitempty"`
	Prefix                 string        `json:"prefix,omitempty"`
	DisableConcurrentReads bool          `json:"disable_concurrent_reads,omitempty"`
	BufferSize             int64         `json:"buffer_size,omitempty"` // MB
	EqualityCheckMode      int           `json:"equality_check_mode,omitempty"`
}

// HTTPConfig is the REST file system.
type HTTPConfig struct {
	Endpoint          string        `json:"endpoint,omitempty"`
	Username          string        `json:"username,omitempty"`
	Password          secret.Secret `json:"password,omitzero"`
	APIKey            secret.Secret `json:"api_key,omitzero"`
	SkipTLSVerify     bool          `json:"skip_tls_verify,omitempty"`
	EqualityCheckMode int           `json:"equality_check_mode,omitempty"`
}
