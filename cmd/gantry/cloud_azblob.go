//go:build !noazblob

package main

import (
	"context"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/azblob"
)

const withAzBlob = true

func (x *cloud) openAzBlob(_ context.Context, st session.Storage) (vfs.FS, error) {
	c := &st.Config.AzBlobConfig
	o := x.options
	o.Prefix = c.KeyPrefix
	return x.opened(azblob.New(azblob.Config{
		Container: c.Container, AccountName: c.AccountName, AccountKey: c.AccountKey.Payload, SASURL: c.SASURL.Payload,
		Endpoint: c.Endpoint, Emulator: c.UseEmulator, AccessTier: c.AccessTier,
		UploadPartSize: c.UploadPartSize, UploadConcurrency: c.UploadConcurrency,
		DownloadPartSize: c.DownloadPartSize, DownloadConcurrency: c.DownloadConcurrency, Dial: x.egress.DialContext,
	}, o))
}
