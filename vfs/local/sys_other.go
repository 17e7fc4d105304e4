//go:build !unix

package local

import (
	"io/fs"

	"github.com/gantryhq/gantry/vfs"
)

const openNoWait = 0

func sysInfo(i fs.FileInfo) vfs.FileInfo {
	return vfs.FileInfo{Name: i.Name(), Size: i.Size(), Mode: i.Mode(), ModTime: i.ModTime(), AccessTime: i.ModTime(), Nlink: 1}
}

func changed(i fs.FileInfo) int64 { return i.ModTime().UnixNano() }
