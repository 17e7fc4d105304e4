//go:build nowiden

package ssh

import gossh "golang.org/x/crypto/ssh"

func widen(gossh.Channel, uint32) bool { return false }
