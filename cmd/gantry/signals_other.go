//go:build !unix

package main

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// signals gives the signals that serve acts on, until stop.
func signals() (c chan os.Signal, stop func()) {
	c = make(chan os.Signal, 4)
	signal.Notify(c, os.Interrupt)
	return c, func() { signal.Stop(c) }
}

// wishOf says what a signal asks for.
func wishOf(os.Signal) wish { return stop }

// setUmask does nothing: the system has no such mask.
func setUmask(string) {}

// isInUse reports whether a port is taken.
func isInUse(err error) bool {
	const wsaeaddrinuse = syscall.Errno(10048)
	return errors.Is(err, wsaeaddrinuse)
}
