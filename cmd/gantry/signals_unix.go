//go:build unix

package main

import (
	"errors"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

// signals gives the signals that serve acts on, until stop.
func signals() (c chan os.Signal, stop func()) {
	c = make(chan os.Signal, 4)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1)
	return c, func() { signal.Stop(c) }
}

// wishOf says what a signal asks for.
func wishOf(s os.Signal) wish {
	switch s {
	case syscall.SIGHUP:
		return reload
	case syscall.SIGUSR1:
		return rotate
	}
	return stop
}

// setUmask sets the process's mask; text is octal and valid.
func setUmask(text string) {
	if n, err := strconv.ParseUint(text, 8, 32); err == nil && text != "" {
		syscall.Umask(int(n))
	}
}

// isInUse reports whether a port is taken.
func isInUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }
