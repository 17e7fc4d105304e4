//go:build !linux && !darwin && !freebsd

package local

import "github.com/gantryhq/gantry/vfs"

func statFS(int) (vfs.StatFS, error) { return vfs.StatFS{}, vfs.ErrUnsupported }
