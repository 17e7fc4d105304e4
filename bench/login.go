package bench

import (
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// LoginOptions of RunLogin.
type LoginOptions struct {
	Logins  int // of each case; an eighth of them where each is an account's first
	Clients int // that log in one after the other
	Rounds
}

func (o LoginOptions) first() int { return max(1, o.Logins/8) }

// coldUser is the name of the account n that has never logged in.
func coldUser(n int) string { return fmt.Sprintf("cold%d", n) }

// RunLogin measures logins. What is logged in stays until the figures are read: the servers' processes that serve one
// login are there to be counted, and what they cost at their end is not.
func RunLogin(ctx context.Context, e *Env, ftp, sftp []Peer, o LoginOptions) (*Table, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(ftpPassword), 10)
	if err != nil {
		return nil, err
	}
	cold := o.Repeat * (o.Retries + 1) * o.first()
	all := &Table{}
	for _, way := range []struct {
		name  string
		peers []Peer
		first bool // has a case of accounts' first logins
		login func(s *Server) (io.Closer, error)
	}{
		{"FTP", ftp, true, func(s *Server) (io.Closer, error) { return dialFTP(s, false, "") }},
		{"FTPS", ftp, false, func(s *Server) (io.Closer, error) { return dialFTP(s, true, "") }},
		{"SFTP", sftp, true, func(s *Server) (io.Closer, error) { return dialSFTP(e, s) }},
	} {
		peers := make([]Peer, len(way.peers))
		for i, p := range way.peers {
			switch p.(type) {
			case GantryFTP:
				p = GantryFTP{Cold: cold, ColdHash: string(hash)}
			case Gantry:
				p = Gantry{Cold: cold}
			}
			peers[i] = p
		}
		t, err := loginTable(ctx, e, peers, way.name, way.first, way.login, o)
		if t != nil {
			all.merge(t)
		}
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

func loginTable(ctx context.Context, e *Env, peers []Peer, way string, first bool, login func(s *Server) (io.Closer, error), o LoginOptions) (*Table, error) {
	servers, err := startAll(ctx, e, peers)
	if err != nil {
		return nil, err
	}
	defer stopAll(servers)
	next := 0 // account of ours that has not logged in yet
	tests := []test{{fmt.Sprintf("%s login, %d clients", way, o.Clients), func(s *Server) (Run, error) {
		return runLogins(s, o.Logins, o.Clients, login, func(int) string { return s.User })
	}}}
	if first {
		tests = append(tests, test{fmt.Sprintf("%s login, an account's first, %d clients", way, o.Clients), func(s *Server) (Run, error) {
			name := func(int) string { return s.User } // the others remember nothing
			if s.Peer == "gantry" {
				from := next
				next += o.first()
				name = func(i int) string { return coldUser(from + i) }
			}
			return runLogins(s, o.first(), o.Clients, login, name)
		}})
	}
	// One that warms up.
	for i, s := range servers {
		if _, err := runLogins(s, 1, 1, login, func(int) string { return s.User }); err != nil && i == 0 {
			return nil, err
		}
	}
	return interleave(ctx, e, servers, tests, o.Rounds)
}

func runLogins(s *Server, n, clients int, login func(s *Server) (io.Closer, error), name func(i int) string) (Run, error) {
	processes := len(tree(s.PID))
	conns := make([]io.Closer, n)
	took := make([]time.Duration, n)
	r, err := measured(s, clients, 1, func() error {
		return each(n, clients, func(i int) error {
			v := s.at(s.Addr)
			v.User = name(i)
			begin := time.Now()
			c, err := login(v)
			if err != nil {
				return err
			}
			conns[i], took[i] = c, time.Since(begin)
			return nil
		})
	})
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
	if err != nil {
		return r, err
	}
	r.Ops, r.MBps, r.CPUPerGB = int64(n), 0, 0
	r.P50, r.P99 = percentiles([][]time.Duration{took})
	return r, settled(s, processes)
}
