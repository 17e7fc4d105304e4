package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
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
		Long: "ping asks /healthz of the telemetry listener where one is configured, and else reads the greeting of the first SFTP\n" +
			"binding. Exit code 0: a server answered, and is well.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.load(f, cmd.Flags())
			if err != nil {
				return err
			}
			if s.Telemetry.IsOn() {
				return a.pingHealth(cmd.Context(), s)
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

// pingHealth asks for the server's health.
func (a *app) pingHealth(ctx context.Context, s *settings) error {
	ctx, cancel := context.WithTimeout(ctx, pingWait)
	defer cancel()
	resp, err := s.askTelemetry(ctx, "/healthz")
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ping: the server answers %s\n%s", resp.Status, strings.TrimSpace(string(text)))
	}
	_, err = fmt.Fprintf(a.stdout, "%s\n", printable(string(text)))
	return err
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
	return net.JoinHostPort(loopbackOf(b.Address), strconv.Itoa(b.Port))
}
