// Package ssh is Gantry's SSH server: transport, login and session channels on golang.org/x/crypto/ssh, with
// SFTP (package sftp), SCP (package scp) and a few commands of our own (package command) on its channels.
//
// Served: RFC 4251 to 4254, 8308 and 8332, 5656, 8731, 9142 as x/crypto has them; OpenSSH's AES-GCM,
// ChaCha20, EtM MACs, strict key exchange and no-more-sessions. Not served, on purpose: shells, other commands,
// terminals, environment, agents, X11 and forwarding (SSH-7). Keys are renewed by volume, not by time:
// x/crypto offers no way to ask for it.
//
// What a peer controls before its login: the version line and KEXINIT, bounded and read by parseOffer; its
// user name, passwords and keys, which go to session.Authenticate as they are; its pace, bounded by
// login_grace_time, max_startups and max_handshakes. After it: the number of channels and requests, bounded
// in conn.go and channel.go; what it does not read, bounded in wire.go; what it sends, bounded by x/crypto's
// window and by window_budget_mb.
//
// Lock order: Server.mu, then conn.mu, then wire.mu; none is held while another package is called.
package ssh
