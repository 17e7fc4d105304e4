//go:build !windows

package vfs

// hostNames says that names are checked by windowsTakes; elsewhere any byte but "/" and NUL is data.
const hostNames = false
