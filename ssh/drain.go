package ssh

import (
	"reflect"
	"unsafe"

	gossh "golang.org/x/crypto/ssh"
)

// drain takes what x/crypto has read of a connection that is closed and that nobody will take any more. Its
// reader puts packets into a queue of 16 and waits for room without a way out: a peer that sends more and
// then makes the login or the connection fail would leave goroutines and buffers behind for ever. If a new
// x/crypto has no such queue, drain does nothing, and TestAbortedConnectionsLeaveNothing tells. It reports
// whether the reader has ended.
func drain(m gossh.ConnMetadata) bool {
	queue, ok := field(reflect.ValueOf(m), "transport", "incoming")
	if !ok || queue.Type() != reflect.TypeFor[chan []byte]() {
		return false
	}
	for range *(*chan []byte)(unsafe.Pointer(queue.UnsafeAddr())) {
	}
	return true
}

// field follows names through pointers and interfaces.
func field(v reflect.Value, names ...string) (reflect.Value, bool) {
	for _, name := range names {
		for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return v, false
		}
		v = v.FieldByName(name)
	}
	return v, v.IsValid() && v.CanAddr()
}
