// Package bench runs Gantry beside its peers on this machine and compares them: the built binaries, on
// loopback, over a folder in memory, with the same client and the same rights.
//
// What is measured belongs to the server alone: processor time and memory are read from /proc for its whole
// process tree. Repetitions are interleaved over the peers, so that what else the machine does falls on all
// of them, and each says how busy the machine was. It runs on Linux; elsewhere it compiles and says so.
package bench
