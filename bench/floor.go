package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

// floorName is that of a server which does what the case asks for and nothing else: no accounts, no records, no limits.
// What it costs is the protocol's library, Go and the system. It is no peer, so no ratio is to it.
const floorName = "floor"

// FloorSSH is x/crypto/ssh alone: it takes the client's key, which is its own as well, and answers the beginning of SFTP.
type FloorSSH struct{ Program string } // that calls ServeFloor with the arguments behind "floor"

func (FloorSSH) Name() string { return floorName }

func (f FloorSSH) Start(ctx context.Context, e *Env) (*Server, error) {
	addr, _, err := freeAddr()
	if err != nil {
		return nil, err
	}
	s := &Server{Peer: floorName, Addr: addr, User: "bench", Root: filepath.Join(e.Data, floorName)}
	return start(ctx, e, s, f.Program, "floor", "ssh", addr, e.Key)
}

// FloorFTP is a goroutine for each connection that answers the commands of a login, with TLS or without.
type FloorFTP struct{ Program string }

func (FloorFTP) Name() string { return floorName }

func (f FloorFTP) Start(ctx context.Context, e *Env) (*Server, error) {
	if err := ftpCert(e); err != nil {
		return nil, err
	}
	addr, _, err := freeAddr()
	if err != nil {
		return nil, err
	}
	s := &Server{Peer: floorName, Addr: addr, User: "bench", Root: filepath.Join(e.Data, floorName), greeting: "220"}
	return start(ctx, e, s, f.Program, "floor", "ftp", addr, filepath.Join(e.Dir, "cert.pem"), filepath.Join(e.Dir, "key.pem"))
}

// ServeFloor serves until ctx ends. args are "ssh", the address and the file of the private key that may log in, or "ftp", the
// address and the files of a certificate and its key.
func ServeFloor(ctx context.Context, args []string) error {
	var serve func(net.Conn)
	switch {
	case len(args) == 3 && args[0] == "ssh":
		conf, err := floorSSHConfig(args[2])
		if err != nil {
			return err
		}
		serve = func(c net.Conn) { floorSSH(c, conf) }
	case len(args) == 4 && args[0] == "ftp":
		cert, err := tls.LoadX509KeyPair(args[2], args[3])
		if err != nil {
			return err
		}
		conf := &tls.Config{Certificates: []tls.Certificate{cert}}
		serve = func(c net.Conn) { floorFTP(c, conf) }
	default:
		return errors.New("usage: gantry-bench floor ssh ADDRESS KEY | floor ftp ADDRESS CERTIFICATE KEY")
	}
	l, err := net.Listen("tcp", args[1])
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go serve(c) // ends with the process, at the latest
	}
}

func floorSSHConfig(file string) (*gossh.ServerConfig, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	signer, err := gossh.ParsePrivateKey(b)
	if err != nil {
		return nil, err
	}
	want := signer.PublicKey().Marshal()
	conf := &gossh.ServerConfig{PublicKeyCallback: func(_ gossh.ConnMetadata, key gossh.PublicKey) (*gossh.Permissions, error) {
		if !bytes.Equal(key.Marshal(), want) {
			return nil, errors.New("another key")
		}
		return nil, nil
	}}
	conf.AddHostKey(signer)
	return conf, nil
}

func floorSSH(nc net.Conn, conf *gossh.ServerConfig) {
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(opTime))
	_, chans, reqs, err := gossh.NewServerConn(nc, conf)
	if err != nil {
		return
	}
	nc.SetDeadline(time.Time{})
	go gossh.DiscardRequests(reqs)
	for nch := range chans {
		ch, reqs, err := nch.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range reqs {
				if r.Reply(r.Type == "subsystem", nil); r.Type == "subsystem" {
					var init [9]byte
					if _, err := io.ReadFull(ch, init[:]); err == nil {
						ch.Write([]byte{0, 0, 0, 5, 2, 0, 0, 0, 3}) // VERSION
					}
				}
			}
		}()
	}
}

func floorFTP(nc net.Conn, conf *tls.Config) {
	defer nc.Close()
	r := bufio.NewReaderSize(nc, 512)
	fmt.Fprint(nc, "220 ready\r\n")
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		reply := "200 OK\r\n"
		switch {
		case bytes.HasPrefix(line, []byte("USER ")):
			reply = "331 Password, please\r\n"
		case bytes.HasPrefix(line, []byte("PASS ")):
			reply = "230 Logged in\r\n"
		case bytes.HasPrefix(line, []byte("AUTH TLS")):
			if _, err := io.WriteString(nc, "234 Go on\r\n"); err != nil {
				return
			}
			nc = tls.Server(nc, conf)
			r.Reset(nc)
			continue
		}
		if _, err := io.WriteString(nc, reply); err != nil {
			return
		}
	}
}
