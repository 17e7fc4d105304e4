package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

// sftpClient is one session with one request at a time.
type sftpClient struct {
	nc  net.Conn
	ssh *gossh.Client
	ch  gossh.Channel
	buf []byte
}

// dialSSH logs in with the key.
func dialSSH(e *Env, s *Server) (*gossh.Client, net.Conn, error) {
	nc, err := net.DialTimeout("tcp", s.Addr, 30*time.Second)
	if err != nil {
		return nil, nil, err
	}
	nc.SetDeadline(time.Now().Add(opTime))
	c, chans, reqs, err := gossh.NewClientConn(nc, s.Addr, &gossh.ClientConfig{
		// What costs both sides least, and is the same everywhere.
		Config: gossh.Config{Ciphers: []string{gossh.CipherAES128GCM}, KeyExchanges: []string{gossh.KeyExchangeCurve25519}},
		User:   s.User, Auth: []gossh.AuthMethod{gossh.PublicKeys(e.signer)},
		HostKeyAlgorithms: []string{gossh.KeyAlgoED25519},
		HostKeyCallback:   gossh.InsecureIgnoreHostKey(), // our own, on loopback
	})
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return gossh.NewClient(c, chans, reqs), nc, nil
}

// dialSFTP logs in and opens the subsystem. The session is ready when it returns.
func dialSFTP(e *Env, s *Server) (*sftpClient, error) {
	c, nc, err := dialSSH(e, s)
	if err != nil {
		return nil, err
	}
	f := &sftpClient{nc: nc, ssh: c}
	err = func() error {
		ch, reqs, err := c.OpenChannel("session", nil)
		if err != nil {
			return err
		}
		go gossh.DiscardRequests(reqs) // ends with the connection
		f.ch = ch
		ok, err := ch.SendRequest("subsystem", true, gossh.Marshal(struct{ Name string }{"sftp"}))
		if err != nil || !ok {
			return fmt.Errorf("bench: no sftp subsystem: %v", err)
		}
		if _, err := ch.Write([]byte{0, 0, 0, 5, 1, 0, 0, 0, 3}); err != nil { // INIT, version 3
			return err
		}
		kind, _, err := f.read()
		if err == nil && kind != 2 { // VERSION
			err = fmt.Errorf("bench: sftp packet %d, want a version", kind)
		}
		return err
	}()
	if err != nil {
		c.Close()
		return nil, err
	}
	nc.SetDeadline(time.Time{}) // it may stay idle
	return f, nil
}

func (f *sftpClient) Close() error { return f.ssh.Close() }

// read reads a packet. The body is good until the next one.
func (f *sftpClient) read() (kind byte, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(f.ch, head[:]); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint32(head[:])) - 1
	if n < 0 || n > 1<<20 {
		return 0, nil, fmt.Errorf("bench: an sftp packet of %d bytes", n)
	}
	if cap(f.buf) < n {
		f.buf = make([]byte, n)
	}
	body = f.buf[:n]
	_, err = io.ReadFull(f.ch, body)
	return head[4], body, err
}

// SFTP packet types, draft-ietf-secsh-filexfer-02 3.
const (
	sftpOpen, sftpClose, sftpRead, sftpWrite, sftpLstat = 3, 4, 5, 6, 7
	sftpOpendir, sftpReaddir                            = 11, 12
	sftpStatus, sftpHandle, sftpData, sftpName          = 101, 102, 103, 104
	sftpAttrs                                           = 105
)

// errSFTPEnd is the status of a listing's or a file's end.
var errSFTPEnd = errors.New("bench: sftp: the end")

// call sends a request whose fields are strings, uint32s and uint64s, and reads its answer behind the id.
func (f *sftpClient) call(kind byte, want byte, fields ...any) ([]byte, error) {
	p := []byte{0, 0, 0, 0, kind, 0, 0, 0, 1}
	for _, v := range fields {
		switch v := v.(type) {
		case string:
			p = append(binary.BigEndian.AppendUint32(p, uint32(len(v))), v...)
		case uint32:
			p = binary.BigEndian.AppendUint32(p, v)
		case uint64:
			p = binary.BigEndian.AppendUint64(p, v)
		}
	}
	binary.BigEndian.PutUint32(p, uint32(len(p)-4))
	f.nc.SetDeadline(time.Now().Add(opTime))
	if _, err := f.ch.Write(p); err != nil {
		return nil, err
	}
	got, body, err := f.read()
	if err != nil {
		return nil, err
	}
	if len(body) < 4 {
		return nil, fmt.Errorf("bench: a short sftp packet of type %d", got)
	}
	body = body[4:]
	if got == sftpStatus && len(body) >= 4 {
		switch code := binary.BigEndian.Uint32(body); {
		case code == 1:
			return nil, errSFTPEnd
		case code != 0:
			return nil, fmt.Errorf("bench: sftp request %d: status %d", kind, code)
		}
	}
	if got != want {
		return nil, fmt.Errorf("bench: sftp request %d: packet %d, want %d", kind, got, want)
	}
	return body, nil
}

// handle is the string of a HANDLE packet.
func (f *sftpClient) handle(kind byte, fields ...any) (string, error) {
	b, err := f.call(kind, sftpHandle, fields...)
	if err != nil {
		return "", err
	}
	if len(b) < 4 || int(binary.BigEndian.Uint32(b)) > len(b)-4 {
		return "", errors.New("bench: a broken sftp handle")
	}
	return string(b[4 : 4+binary.BigEndian.Uint32(b)]), nil
}

// list counts the entries of a folder, itself and its parent included. first is called with the first of them.
func (f *sftpClient) list(dir string, first func()) (n int, err error) {
	h, err := f.handle(sftpOpendir, dir)
	if err != nil {
		return 0, err
	}
	for {
		b, err := f.call(sftpReaddir, sftpName, h)
		if err == errSFTPEnd {
			_, err = f.call(sftpClose, sftpStatus, h)
			return n, err
		}
		if err != nil {
			return n, err
		}
		if len(b) < 4 {
			return n, errors.New("bench: a broken sftp listing")
		}
		if n == 0 {
			first()
		}
		n += int(binary.BigEndian.Uint32(b))
	}
}

// get reads a file to its end and gives its size.
func (f *sftpClient) get(name string) (n int64, err error) {
	h, err := f.handle(sftpOpen, name, uint32(1), uint32(0))
	if err != nil {
		return 0, err
	}
	for {
		b, err := f.call(sftpRead, sftpData, h, uint64(n), uint32(32<<10))
		if err == errSFTPEnd {
			_, err = f.call(sftpClose, sftpStatus, h)
			return n, err
		}
		if err != nil {
			return n, err
		}
		n += int64(len(b) - 4)
	}
}

// put writes content to a file. leave goes away before the last piece and without a word.
func (f *sftpClient) put(name, content string, leave bool) error {
	h, err := f.handle(sftpOpen, name, uint32(2|8|16), uint32(0)) // write, create, truncate
	if err != nil {
		return err
	}
	for at := 0; at < len(content); at += 32 << 10 {
		if leave && at+32<<10 >= len(content) {
			return nil
		}
		if _, err := f.call(sftpWrite, sftpStatus, h, uint64(at), content[at:min(len(content), at+32<<10)]); err != nil {
			return err
		}
	}
	_, err = f.call(sftpClose, sftpStatus, h)
	return err
}

// scp opens a session with a command and gives its channel.
func scp(c *gossh.Client, nc net.Conn, command string) (gossh.Channel, error) {
	nc.SetDeadline(time.Now().Add(opTime))
	ch, reqs, err := c.OpenChannel("session", nil)
	if err != nil {
		return nil, err
	}
	go gossh.DiscardRequests(reqs) // ends with the channel
	ok, err := ch.SendRequest("exec", true, gossh.Marshal(struct{ Command string }{command}))
	if err == nil && !ok {
		err = errors.New("bench: no scp")
	}
	if err != nil {
		ch.Close()
	}
	return ch, err
}

// scpSaid reads one byte, which must be that of success.
func scpSaid(r io.Reader) error {
	var b [1]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return err
	}
	if b[0] != 0 {
		rest, _ := io.ReadAll(io.LimitReader(r, 200))
		return fmt.Errorf("bench: scp: %q", rest)
	}
	return nil
}

// scpGet reads a file and gives its size.
func scpGet(c *gossh.Client, nc net.Conn, name string) (int64, error) {
	ch, err := scp(c, nc, "scp -f "+name)
	if err != nil {
		return 0, err
	}
	defer ch.Close()
	if _, err := ch.Write([]byte{0}); err != nil {
		return 0, err
	}
	var line []byte
	for b := make([]byte, 1); len(line) == 0 || line[len(line)-1] != '\n'; line = append(line, b...) {
		if _, err := io.ReadFull(ch, b); err != nil {
			return 0, err
		}
	}
	var mode, size int64
	if _, err := fmt.Sscanf(string(line), "C%o %d", &mode, &size); err != nil {
		return 0, fmt.Errorf("bench: scp: %q", line)
	}
	if _, err := ch.Write([]byte{0}); err != nil {
		return 0, err
	}
	n, err := io.CopyN(io.Discard, ch, size)
	if err == nil {
		err = scpSaid(ch)
	}
	if err == nil {
		_, err = ch.Write([]byte{0})
	}
	if err == nil {
		_, err = io.Copy(io.Discard, ch) // to its end
	}
	return n, err
}

// scpPut writes a file. leave goes away in its middle.
func scpPut(c *gossh.Client, nc net.Conn, name, content string, leave bool) error {
	ch, err := scp(c, nc, "scp -t "+name)
	if err != nil {
		return err
	}
	defer ch.Close()
	if err := scpSaid(ch); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(ch, "C0644 %d %s\n", len(content), name); err != nil {
		return err
	}
	if err := scpSaid(ch); err != nil {
		return err
	}
	if leave {
		content = content[:len(content)/2]
	}
	if _, err := io.WriteString(ch, content); err != nil || leave {
		return err
	}
	if _, err := ch.Write([]byte{0}); err != nil {
		return err
	}
	if err := scpSaid(ch); err != nil {
		return err
	}
	ch.CloseWrite()
	_, err = io.Copy(io.Discard, ch)
	return err
}
