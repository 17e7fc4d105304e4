//go:build !nogcs

package main

import (
	"context"
	"os"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/gcs"
)

const withGCS = true

func (x *cloud) openGCS(ctx context.Context, st session.Storage) (vfs.FS, error) {
	c := &st.Config.GCSConfig
	o := x.options
	o.Prefix = c.KeyPrefix
	endpoint := os.Getenv("STORAGE_EMULATOR_HOST") // what Google's own clients take for an emulator
	if endpoint != "" && !hasScheme(endpoint) {
		endpoint = "http://" + endpoint
	}
	return x.opened(gcs.New(ctx, gcs.Config{
		Bucket: c.Bucket, Credentials: c.Credentials.Payload, Automatic: c.AutomaticCredentials == 1,
		StorageClass: c.StorageClass, ACL: c.ACL, UploadPartSize: c.UploadPartSize, UploadPartMaxTime: c.UploadPartMaxTime,
		Endpoint: endpoint, Dial: x.egress.DialContext,
	}, o))
}

func hasScheme(s string) bool {
	return len(s) > 7 && (s[:7] == "http://" || s[:7] == "https:/")
}
