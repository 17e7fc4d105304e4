package sftpfs

import (
	"time"

	"golang.org/x/crypto/ssh"
)

// Pinging are those with another interval of the signs of life.
func Pinging(ping time.Duration) Options { return Options{ping: ping} }

// noSSH is a transport that is none.
type noSSH struct{ ssh.Conn }

func (noSSH) Close() error { return nil }
