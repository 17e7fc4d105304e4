//go:build !unix

package ssh

func (w *wire) initRaw() {}
