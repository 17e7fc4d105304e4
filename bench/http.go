package bench

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// opTime bounds every operation of a client.
const opTime = 5 * time.Minute

// httpClient is one keep-alive connection that costs little: the same for every server.
type httpClient struct {
	nc   net.Conn
	raw  syscall.RawConn // nil over TLS: bytes that only need to be away are not copied
	buf  []byte          // a head, or a piece of a body
	r, w int             // what is in buf
	host string
	auth string
	shut bool // the server closes after the response that was read
}

// dialHTTP connects. from is a local address, or empty; size is that of the buffer.
func dialHTTP(s *Server, addr string, secure bool, from string, size int) (*httpClient, error) {
	d := net.Dialer{Timeout: 30 * time.Second}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(opTime))
	c := &httpClient{nc: nc, buf: make([]byte, size), host: addr,
		auth: "Basic " + base64.StdEncoding.EncodeToString([]byte(s.User+":"+ftpPassword))}
	if !secure {
		c.raw, err = nc.(*net.TCPConn).SyscallConn()
		return c, err
	}
	t := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", MinVersion: tls.VersionTLS13}) // our own certificate, on loopback
	if err := t.Handshake(); err != nil {
		nc.Close()
		return nil, fmt.Errorf("bench: TLS to %s: %w", s.Peer, err)
	}
	if got := t.ConnectionState().CipherSuite; got != tls.TLS_AES_128_GCM_SHA256 {
		nc.Close()
		return nil, fmt.Errorf("bench: %s chose %s: the servers would not be comparable", s.Peer, tls.CipherSuiteName(got))
	}
	c.nc = t
	return c, nil
}

// Close ends the connection.
func (c *httpClient) Close() error { return c.nc.Close() }

// head is a request as it goes out. more are whole header lines.
func (c *httpClient) head(method, target string, more ...string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\n", method, target, c.host, c.auth)
	for _, l := range more {
		b.WriteString(l + "\r\n")
	}
	return []byte(b.String() + "\r\n")
}

// response reads a head. length is -1 for a chunked body.
func (c *httpClient) response() (status int, length int64, err error) {
	for {
		if end := bytes.Index(c.buf[c.r:c.w], []byte("\r\n\r\n")); end >= 0 {
			h := c.buf[c.r : c.r+end+2]
			c.r += end + 4
			return c.parse(h)
		}
		if c.w-c.r == len(c.buf) {
			return 0, 0, errors.New("bench: a response's head is too large")
		}
		if err := c.fill(); err != nil {
			return 0, 0, err
		}
	}
}

// fill reads more behind what is there.
func (c *httpClient) fill() error {
	if c.r == c.w {
		c.r, c.w = 0, 0
	} else if c.w == len(c.buf) {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	n, err := c.nc.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (c *httpClient) parse(h []byte) (status int, length int64, err error) {
	if len(h) < 12 || !bytes.HasPrefix(h, []byte("HTTP/1.1 ")) {
		return 0, 0, fmt.Errorf("bench: not a response: %q", h)
	}
	if status, err = strconv.Atoi(string(h[9:12])); err != nil {
		return 0, 0, err
	}
	if status == 100 {
		return c.response()
	}
	first := bytes.Index(h, []byte("\r\n")) + 2
	for h = h[first:]; len(h) > 0; {
		line, rest, _ := bytes.Cut(h, []byte("\r\n"))
		h = rest
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch value = bytes.TrimSpace(value); {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.ParseInt(string(value), 10, 64); err != nil {
				return status, 0, err
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")) && bytes.EqualFold(value, []byte("chunked")):
			length = -1
		case bytes.EqualFold(name, []byte("Connection")) && bytes.EqualFold(value, []byte("close")):
			c.shut = true
		}
	}
	return status, length, nil
}

// body reads a body of length bytes, or a chunked one. visit sees every piece; nil does not need to.
func (c *httpClient) body(length int64, visit func(b []byte)) (int64, error) {
	if length >= 0 {
		return length, c.bytes(length, visit)
	}
	var total int64
	for {
		line, err := c.line()
		if err != nil {
			return total, err
		}
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseInt(strings.TrimSpace(size), 16, 64)
		if err != nil {
			return total, fmt.Errorf("bench: a chunk's size: %q", line)
		}
		if n == 0 {
			for line != "" { // trailers
				if line, err = c.line(); err != nil {
					return total, err
				}
			}
			return total, nil
		}
		if err := c.bytes(n, visit); err != nil {
			return total, err
		}
		total += n
		if _, err := c.line(); err != nil {
			return total, err
		}
	}
}

func (c *httpClient) line() (string, error) {
	for {
		if i := bytes.IndexByte(c.buf[c.r:c.w], '\n'); i >= 0 {
			l := string(bytes.TrimRight(c.buf[c.r:c.r+i], "\r"))
			c.r += i + 1
			return l, nil
		}
		if c.w-c.r == len(c.buf) {
			return "", errors.New("bench: a line is too long")
		}
		if err := c.fill(); err != nil {
			return "", err
		}
	}
}

// bytes reads n bytes away.
func (c *httpClient) bytes(n int64, visit func(b []byte)) error {
	for n > 0 {
		if c.r == c.w && visit == nil && c.raw != nil {
			k, err := discard(c.raw, c.buf[:min(n, int64(len(c.buf)))])
			if err == nil && k == 0 {
				err = io.ErrUnexpectedEOF
			}
			if err == nil {
				n -= int64(k)
				continue
			}
			if !errors.Is(err, errors.ErrUnsupported) {
				return err
			}
			c.raw = nil
		}
		if c.r == c.w {
			if err := c.fill(); err != nil {
				return err
			}
		}
		k := int(min(n, int64(c.w-c.r)))
		if visit != nil {
			visit(c.buf[c.r : c.r+k])
		}
		c.r += k
		n -= int64(k)
	}
	return nil
}

// do sends a request and reads its response away. It gives the body's length.
func (c *httpClient) do(request []byte, want int, visit func(b []byte)) (int64, error) {
	if c.shut {
		return 0, errors.New("bench: the server has closed the connection")
	}
	c.nc.SetDeadline(time.Now().Add(opTime))
	if _, err := c.nc.Write(request); err != nil {
		return 0, err
	}
	status, length, err := c.response()
	if err != nil {
		return 0, err
	}
	n, err := c.body(length, visit)
	if err == nil && status != want {
		err = fmt.Errorf("bench: %s: status %d, want %d", bytes.Fields(request)[0], status, want)
	}
	return n, err
}

// get reads a file to nowhere and gives its size.
func (c *httpClient) get(target string) (int64, error) { return c.do(c.head("GET", target), 200, nil) }

// put sends a file of size bytes, in clear with sendfile.
func (c *httpClient) put(target string, f *os.File, size int64) error {
	c.nc.SetDeadline(time.Now().Add(opTime))
	if _, err := c.nc.Write(c.head("PUT", target, "Content-Length: "+strconv.FormatInt(size, 10))); err != nil {
		return err
	}
	var err error
	if t, ok := c.nc.(*net.TCPConn); ok {
		_, err = t.ReadFrom(f)
	} else {
		_, err = io.CopyBuffer(struct{ io.Writer }{c.nc}, struct{ io.Reader }{f}, c.buf)
	}
	if err != nil {
		return err
	}
	status, length, err := c.response()
	if err == nil {
		_, err = c.body(length, nil)
	}
	if err == nil && status/100 != 2 {
		err = fmt.Errorf("bench: PUT: status %d", status)
	}
	return err
}
