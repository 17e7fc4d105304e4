//go:build !nos3

package main

import (
	"context"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/s3"
)

const withS3 = true

func (x *cloud) openS3(ctx context.Context, st session.Storage) (vfs.FS, error) {
	c := &st.Config.S3Config
	o := x.options
	o.Prefix = c.KeyPrefix
	return x.opened(s3.New(ctx, s3.Config{
		Bucket: c.Bucket, Region: c.Region, Endpoint: c.Endpoint,
		AccessKey: c.AccessKey, Secret: c.AccessSecret.Payload, SessionToken: c.SessionToken, RoleARN: c.RoleARN,
		SSECustomerKey: c.SSECustomerKey.Payload, StorageClass: c.StorageClass, ACL: c.ACL,
		UploadPartSize: c.UploadPartSize, UploadConcurrency: c.UploadConcurrency, UploadPartMaxTime: c.UploadPartMaxTime,
		DownloadPartSize: c.DownloadPartSize, DownloadConcurrency: c.DownloadConcurrency, DownloadPartMaxTime: c.DownloadPartMaxTime,
		ForcePathStyle: c.ForcePathStyle, SkipTLSVerify: c.SkipTLSVerify, Dial: x.egress.DialContext,
	}, o))
}
