package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// The bounds of `gantry profile`.
const (
	maxProfileFile = 1 << 30
	profileWait    = 30 * time.Second // beside the time of the profile
	maxProfileTime = 5 * time.Minute
	maxTraceTime   = time.Minute
)

// profileKind is a profile that can be fetched.
type profileKind struct {
	flag, path, help string
	timed            bool // over a time, which the flag gives
	longest          time.Duration
}

// profileKinds is what `gantry profile` offers. Read-only.
var profileKinds = []profileKind{
	{"cpu", "profile", "where processor time goes, over a time such as 30s", true, maxProfileTime},
	{"heap", "heap", "what memory is held by", false, 0},
	{"allocs", "allocs", "what has allocated memory since the start", false, 0},
	{"goroutines", "goroutine", "what goroutines do", false, 0},
	{"mutex", "mutex", "who holds up others at locks, over a time", true, maxProfileTime},
	{"block", "block", "where goroutines wait, over a time", true, maxProfileTime},
	{"trace", "trace", "everything that the runtime does, over a time such as 5s", true, maxTraceTime},
}

func (a *app) profileCmd() *cobra.Command {
	f := &flags{}
	var out string
	times := map[string]*time.Duration{}
	wanted := map[string]*bool{}
	cmd := &cobra.Command{
		Use:   "profile (--cpu 30s | --heap | --allocs | --goroutines | --mutex 10s | --block 10s | --trace 5s)",
		Short: "Fetch a profile of the running server",
		Long: "profile asks the telemetry listener of the server that runs in the configuration directory, and writes a file for\n" +
			"go tool pprof or go tool trace. The server needs telemetry.bind_port and telemetry.enable_profiler. Where a login is\n" +
			"configured, the token in the configuration directory, which the server's user can read, stands for it.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.load(f, cmd.Flags())
			if err != nil {
				return err
			}
			var kind *profileKind
			for i, k := range profileKinds {
				if cmd.Flags().Changed(k.flag) && (k.timed || *wanted[k.flag]) {
					kind = &profileKinds[i]
				}
			}
			if kind == nil {
				return errors.New("profile: say which one, such as --cpu 30s")
			}
			var d time.Duration
			if kind.timed {
				if d = *times[kind.flag]; d < time.Second || d > kind.longest || d%time.Second != 0 {
					return fmt.Errorf("--%s must be whole seconds, between 1s and %v, it is %v", kind.flag, kind.longest, d)
				}
			}
			return a.profile(cmd.Context(), s, kind, d, out)
		},
	}
	f.add(cmd.Flags())
	var names []string
	for _, k := range profileKinds {
		names = append(names, k.flag)
		if k.timed {
			times[k.flag] = cmd.Flags().Duration(k.flag, 0, k.help)
		} else {
			wanted[k.flag] = cmd.Flags().Bool(k.flag, false, k.help)
		}
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "the file to write; a name with the time in the working directory without it")
	cmd.MarkFlagsOneRequired(names...)
	cmd.MarkFlagsMutuallyExclusive(names...)
	return cmd
}

// profile fetches one profile into a file, which is for its owner alone: memory may be in it.
func (a *app) profile(ctx context.Context, s *settings, k *profileKind, d time.Duration, out string) error {
	switch c := &s.Telemetry; {
	case !c.IsOn():
		return errors.New("profile: there is no telemetry listener; set telemetry.bind_port, and restart the server")
	case !c.EnableProfiler:
		return errors.New("profile: profiles are off; set telemetry.enable_profiler, and restart the server")
	}
	if out == "" {
		ext := ".pprof"
		if k.flag == "trace" {
			ext = ".trace"
		}
		out = "gantry-" + k.flag + "-" + time.Now().Format("20060102T150405") + ext
	}
	path := "/debug/pprof/" + k.path
	if d > 0 {
		path += "?seconds=" + strconv.Itoa(int(d.Seconds()))
		fmt.Fprintf(a.stderr, "Sampling for %v …\n", d)
	}
	ctx, cancel := context.WithTimeout(ctx, d+profileWait)
	defer cancel()
	resp, err := s.askTelemetry(ctx, path)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return fmt.Errorf("profile: the server answers %s: %s", resp.Status, printable(strings.TrimSpace(string(text))))
	}
	n, err := writeProfile(out, resp.Body)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	tool := "go tool pprof -http=localhost:0 "
	if k.flag == "trace" {
		tool = "go tool trace -http=localhost:0 "
	}
	fmt.Fprintf(a.stdout, "%s: %d bytes\nLook at it with: %s%s\n", printable(out), n, tool, printable(out))
	if k.flag == "cpu" {
		fmt.Fprintf(a.stdout, "Its heaviest functions: go tool pprof -top %s\n", printable(out))
	}
	return nil
}

// writeProfile writes a new file of what r gives, or none.
func writeProfile(name string, r io.Reader) (int64, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, io.LimitReader(r, maxProfileFile+1))
	if err == nil && n > maxProfileFile {
		err = fmt.Errorf("it is larger than %d bytes", maxProfileFile)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(name)
	}
	return n, err
}

// askTelemetry asks the telemetry listener of the server that runs with these settings.
func (s *settings) askTelemetry(ctx context.Context, path string) (*http.Response, error) {
	c := &s.Telemetry
	transport := &http.Transport{DisableKeepAlives: true}
	host := net.JoinHostPort(loopbackOf(c.BindAddress), strconv.Itoa(c.BindPort))
	if c.IsSocket() {
		host = "localhost"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", c.BindAddress)
		}
	}
	scheme := "http://"
	if c.IsTLS() {
		scheme = "https://"
		pinned, err := certificateOf(s.path(c.CertificateFile))
		if err != nil {
			return nil, fmt.Errorf("telemetry.certificate_file: %w", err)
		}
		// The certificate of the configuration, whatever its names: the address is this machine's.
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(st tls.ConnectionState) error {
			if len(st.PeerCertificates) == 0 || !bytes.Equal(st.PeerCertificates[0].Raw, pinned) {
				return errors.New("the listener's certificate is not that of telemetry.certificate_file; if the file is new, have the server reload it")
			}
			return nil
		}}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+host+path, nil)
	if err != nil {
		return nil, err
	}
	if c.AuthUserFile != "" {
		token, err := os.ReadFile(filepath.Join(s.dir, tokenFile))
		switch {
		case errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(path, "/healthz"):
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("there is no %s in %s: the server does not run, or in another directory", tokenFile, s.dir)
		case err != nil && !strings.HasPrefix(path, "/healthz"):
			return nil, fmt.Errorf("%w; run this as the server's user", err)
		case err == nil:
			req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		}
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return client.Do(req)
}

// certificateOf is the first certificate of a PEM file.
func certificateOf(name string) ([]byte, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	for p, rest := pem.Decode(data); p != nil; p, rest = pem.Decode(rest) {
		if p.Type == "CERTIFICATE" {
			return p.Bytes, nil
		}
	}
	return nil, errors.New("there is no certificate in it")
}

// loopbackOf is where a server bound to address is reached from the same machine.
func loopbackOf(address string) string {
	ip, err := netip.ParseAddr(address)
	switch {
	case address == "" || err == nil && ip.IsUnspecified() && ip.Is4():
		return "127.0.0.1"
	case err == nil && ip.IsUnspecified():
		return "::1"
	}
	return address
}
