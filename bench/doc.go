// Package bench runs Gantry beside its peers on this machine and compares them: the built binaries, on
// loopback, over a folder in memory, with the same client and the same rights.
//
// What is measured belongs to the server alone: processor time and memory are read from /proc for its whole
// process tree. Repetitions are interleaved over the peers, so that what else the machine does falls on all
// of them, and each says how busy the machine was. A row says what bounded its speed: where that is the client or
// the machine, the processor time is what to compare. It runs on Linux; elsewhere it compiles and says so.
//
// The clients cost as little as they can: downloads in clear are discarded in the kernel, uploads in clear are
// sent with sendfile, and each small request is one write of bytes that were made before. SFTP transfers go through
// OpenSSH's client. Passwords cost the peers little: they have them in clear, as a plain SHA-1 or as an MD5 crypt, where
// Gantry has bcrypt.
//
// A peer that is not installed is left out with a line in the log, as is a case that one cannot do.
package bench
