//go:build !linux

package systemd

// monotonic is never asked for: there is no systemd here.
func monotonic() int64 { return 0 }
