package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantryhq/gantry/ssh"
)

// pingWait bounds the whole of ping.
const pingWait = 5 * time.Second

func (a *app) pingCmd() *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use:   "ping",
		Short: "Ask a running server for a sign of life",
		Long:  "ping connects to the first SFTP binding and reads the server's greeting. Exit code 0: a server answered.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.load(f, cmd.Flags())
			if err != nil {
				return err
			}
			for _, b := range s.SFTPD.Bindings {
				if !b.IsValid() {
					continue
				}
				ctx, cancel := context.WithTimeout(cmd.Context(), pingWait)
				defer cancel()
				greeting, err := ping(ctx, dialAddress(b))
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(a.stdout, "%s\n", printable(greeting))
				return err
			}
			return fmt.Errorf("ping: no SFTP binding is configured (sftpd.bindings)")
		},
	}
	f.add(cmd.Flags())
	return cmd
}

// ping reads the greeting of the SSH server at addr.
func ping(ctx context.Context, addr string) (string, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", fmt.Errorf("ping: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	line, err := bufio.NewReader(io.LimitReader(c, 255)).ReadString('\n') // RFC 4253 4.2
	if err != nil {
		return "", fmt.Errorf("ping: %s sent no greeting: %w", addr, err)
	}
	if !strings.HasPrefix(line, "SSH-2.0-") {
		return "", fmt.Errorf("ping: %s is not an SSH server, it said %q", addr, line)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// dialAddress is where a server with this binding is reached from the same machine.
func dialAddress(b ssh.Binding) string {
	host := b.Address
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip.Is6() {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, strconv.Itoa(b.Port))
}
