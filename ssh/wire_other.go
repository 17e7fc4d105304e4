//go:build !unix

package ssh

func (w *wire) initRaw() {}

func (w *wire) send(b []byte) error {
	_, err := w.Conn.Write(b)
	return err
}
