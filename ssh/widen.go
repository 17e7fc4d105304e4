//go:build !nowiden

package ssh

import (
	"reflect"
	"unsafe"

	gossh "golang.org/x/crypto/ssh"
)

// The receive window of a channel is fixed at 2 MiB in x/crypto, which caps an upload at 2 MiB per round
// trip. Its own method can raise it. The build tag nowiden leaves this file out; TestWindowIsWidened fails
// if a new x/crypto changes what the method does.
//
//go:linkname adjustWindow golang.org/x/crypto/ssh.(*channel).adjustWindow
func adjustWindow(ch unsafe.Pointer, bytes uint32) error

// widen gives the peer extra bytes of window on an accepted channel and reports whether it could.
func widen(ch gossh.Channel, extra uint32) bool {
	v := reflect.ValueOf(ch)
	if v.Type().String() != "*ssh.channel" {
		return false
	}
	return adjustWindow(v.UnsafePointer(), extra) == nil
}
