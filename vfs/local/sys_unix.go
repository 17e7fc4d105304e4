//go:build unix

package local

import (
	"io/fs"
	"syscall"

	"github.com/gantryhq/gantry/vfs"
)

// openNoWait keeps an open of a pipe from waiting for its other end.
const openNoWait = syscall.O_NONBLOCK | syscall.O_NOCTTY

// sysInfo is what the system knows beyond fs.FileInfo.
func sysInfo(i fs.FileInfo) vfs.FileInfo {
	info := vfs.FileInfo{Name: i.Name(), Size: i.Size(), Mode: i.Mode(), ModTime: i.ModTime()}
	if st, ok := i.Sys().(*syscall.Stat_t); ok {
		info.UID, info.GID, info.Nlink = st.Uid, st.Gid, uint64(st.Nlink)
		info.Dev, info.Ino = uint64(st.Dev), uint64(st.Ino)
		info.AccessTime = atime(st)
	}
	return info
}

// changed is the newest change that a client cannot date back.
func changed(i fs.FileInfo) int64 {
	if st, ok := i.Sys().(*syscall.Stat_t); ok {
		return ctime(st).UnixNano()
	}
	return i.ModTime().UnixNano()
}
