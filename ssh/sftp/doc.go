// Package sftp serves the SSH File Transfer Protocol, version 3 (draft-ietf-secsh-filexfer-02), over any
// byte stream, with the extensions of OpenSSH's PROTOCOL section 4 and check-file of
// draft-ietf-secsh-filexfer-extensions-00.
//
// Three layers: the codec (codec.go, attrs.go) knows bytes and no storage; the connection (serve.go, jobs.go)
// knows order, handles and buffers; the requests call internal/session, which knows neither.
//
// Where we differ from the draft:
//   - RENAME replaces an existing file if the account may overwrite, as SFTPGo does (draft 6.5 refuses).
//   - SYMLINK takes the target first and the link second, as OpenSSH does (draft 6.10 has them the other way round).
//   - Bytes after the last field of a packet, and unknown attribute flags, are ignored, as OpenSSH does.
//
// What a peer controls, and where it is checked: packet lengths in input.next before anything is borrowed
// for them, lengths of strings and counts in the decoder, paths in vfs.Path.Resolve, handles by lookup among
// random 128-bit names, offsets and sizes in extent, the number of handles in conn.reserve, the number and
// the bytes of waiting requests in conn.enqueue (SFTP-1). Rights, patterns and quota are the session's.
package sftp
