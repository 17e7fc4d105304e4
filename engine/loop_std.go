//go:build !(linux || darwin || freebsd) || stdengine

package engine

import (
	"context"
	"net"
	"sync/atomic"
	"time"
)

// loops do not exist here: a connection has a goroutine.
type loops struct{ lifts atomic.Int64 }

func newLoops(*Engine, int) (*loops, error) { return &loops{}, nil }

func (l *loops) stop() error { return nil }

func (l *loops) lag(context.Context) []time.Duration { return nil }

func parkable(net.Conn) bool { return false }

func (c *Conn) park(net.Conn) { panic("engine: there are no loops") }
