//go:build !linux

package local

import (
	"os"

	"github.com/gantryhq/gantry/vfs"
)

func openTree(root string, _ bool) (tree, error) { return openRootTree(root) }

// fileInfo describes an open file.
func fileInfo(f *os.File) (vfs.FileInfo, error) {
	i, err := f.Stat()
	if err != nil {
		return vfs.FileInfo{}, err
	}
	return sysInfo(i), nil
}
