package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	gossh "golang.org/x/crypto/ssh"
	"rsc.io/qr"

	"github.com/gantryhq/gantry/ftp"
	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/logs"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/ssh"
)

// portableFlags are those of portable. The names are SFTPGo's where the feature is the same.
type portableFlags struct {
	flags
	storage                storageFlags
	directory, start       string
	port, ftpPort, davPort int
	ftpCert, ftpKey        string
	davCert, davKey        string
	commands               []string
	username, password     string
	passwordFile           string
	keys                   []string
	permissions            []string
	allowed, denied        []string
	quotaSize, uploadLimit int64 // bytes
	quotaFiles             int
	grace                  int // seconds
	noQR                   bool
	level                  string
	address                string
}

func (a *app) portableCmd() *cobra.Command {
	f := &portableFlags{}
	cmd := &cobra.Command{
		Use:   "portable",
		Short: "Serve one directory, now, to one user",
		Long: "portable serves a directory over SFTP, and FTP or WebDAV if asked, until Ctrl-C, without configuration, database or\n" +
			"traces. It prints the port, the password and a QR code of the address. The user may list and download unless\n" +
			"--permissions says more.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sig, stop := signals()
			defer stop()
			return a.portable(context.Background(), f, sig, nil)
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&f.directory, "directory", "d", ".", "directory to serve")
	fs.StringVar(&f.start, "start-directory", "/", "where relative paths begin, a virtual path")
	fs.IntVarP(&f.port, "sftpd-port", "s", 0, "SFTP port, 0 for a random free one")
	fs.IntVar(&f.ftpPort, "ftpd-port", -1, "FTP port, 0 for a random free one, negative for none")
	fs.StringVar(&f.ftpCert, "ftpd-cert", "", "certificate for FTP over TLS, a PEM file")
	fs.StringVar(&f.ftpKey, "ftpd-key", "", "its private key")
	fs.IntVar(&f.davPort, "webdav-port", -1, "WebDAV port, 0 for a random free one, negative for none")
	fs.StringVar(&f.davCert, "webdav-cert", "", "certificate for WebDAV over TLS, a PEM file")
	fs.StringVar(&f.davKey, "webdav-key", "", "its private key")
	fs.StringVar(&f.address, "address", "", "address to listen on, empty for all")
	fs.StringSliceVar(&f.commands, "ssh-commands", ssh.DefaultConfig().EnabledSSHCommands, "SSH commands to enable, * for all")
	fs.StringVarP(&f.username, "username", "u", "user", "user name")
	fs.StringVarP(&f.password, "password", "p", "", "password; empty makes one, unless a key is given. Other users of the system can read it here: prefer --password-file")
	fs.StringVar(&f.passwordFile, "password-file", "", "file whose first line is the password")
	fs.StringSliceVarP(&f.keys, "public-key", "k", nil, "public key that may log in, as in authorized_keys; may be repeated")
	fs.StringSliceVarP(&f.permissions, "permissions", "g", []string{"list", "download"}, "permissions, * for all")
	fs.StringArrayVar(&f.allowed, "allowed-patterns", nil, "names that are allowed in a directory, as /dir::*.jpg,*.png; may be repeated")
	fs.StringArrayVar(&f.denied, "denied-patterns", nil, "names that are denied in a directory, as /dir::*.key; may be repeated")
	fs.Int64Var(&f.quotaSize, "quota-size", 0, "bytes that may lie in the directory, 0 for no limit")
	fs.IntVar(&f.quotaFiles, "quota-files", 0, "files that may lie in the directory, 0 for no limit")
	fs.Int64Var(&f.uploadLimit, "max-upload-file-size", 0, "bytes of the largest upload, 0 for no limit")
	fs.StringVarP(&f.log.Path, "log-file-path", "l", "", "log file, empty for none")
	fs.StringVar(&f.level, "log-level", "info", "debug, info, warn or error")
	fs.BoolVar(&f.log.UTC, "log-utc-time", false, "UTC time stamps, else local time")
	fs.IntVar(&f.grace, "grace-time", 0, "seconds that open transfers have when the server stops")
	f.storage.add(fs)
	fs.BoolVar(&f.noQR, "no-qr", false, "print no QR code")
	return cmd
}

// portable serves until a signal. ready, if set, is called when clients can connect.
func (a *app) portable(ctx context.Context, f *portableFlags, sig <-chan os.Signal, ready func(*node)) (err error) {
	user, shown, err := f.account()
	if err != nil {
		return err
	}
	// Host keys and the like last as long as the server.
	dir, err := os.MkdirTemp("", "gantry-portable-")
	if err != nil {
		return fmt.Errorf("a directory for the host key: %w", err)
	}
	defer os.RemoveAll(dir)
	log, err := f.openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	s := &settings{Config: defaultConfig(), flags: &f.flags, dir: dir}
	s.DataProvider.Driver, s.DataProvider.Name, s.DataProvider.TrackQuota = "memory", "", session.TrackAll
	s.SFTPD.ConfigDir, s.SFTPD.Version = dir, version
	s.SFTPD.HostKeys, s.SFTPD.MaxAuthTries, s.SFTPD.EnabledSSHCommands = []string{"id_ed25519"}, 12, f.commands
	s.SFTPD.PasswordAuthentication = user.Password != ""
	s.SFTPD.KeyboardInteractive = user.Password != ""

	s.HTTPD.Bindings = nil
	s.Common.SecretMinEntropy = 0 // whoever starts it knows what he types

	n := &node{app: a, s: s, f: &serveFlags{flags: f.flags, grace: f.grace}, log: log, portable: true}
	if err := n.startPortable(ctx, f, user); err != nil {
		n.stop(0, nil)
		return err
	}
	f.announce(a.stdout, n, user, shown)
	if ready != nil {
		ready(n)
	}
	for {
		select {
		case err := <-n.failed:
			n.stop(0, nil)
			return err
		case x := <-sig:
			if wishOf(x) == stop {
				return n.stop(time.Duration(f.grace)*time.Second, sig)
			}
		}
	}
}

// startPortable is start for one user, who is there before the first connection.
func (n *node) startPortable(ctx context.Context, f *portableFlags, user *account.User) error {
	for try := 0; ; try++ {
		port := f.port
		if port == 0 {
			r, err := rand.Int(rand.Reader, big.NewInt(64152-49152))
			if err != nil {
				return err
			}
			port = 49152 + int(r.Int64())
		}
		n.s.SFTPD.Bindings = []ssh.Binding{{Address: f.address, Port: port}}
		err := n.listen(ctx)
		if err == nil {
			break
		}
		if f.port != 0 || try == 20 || !isInUse(err) {
			return fmt.Errorf("port %d: %w", port, errors.Unwrap(err))
		}
	}
	if err := n.listenPortableFTP(ctx, f); err != nil {
		return err
	}
	if err := n.listenPortableDAV(ctx, f); err != nil {
		return err
	}
	if err := n.build(ctx); err != nil {
		return err
	}
	if err := n.store.AddUser(ctx, user); err != nil {
		return err
	}
	if user.QuotaSize > 0 || user.QuotaFiles > 0 {
		if _, _, err := n.sessions.Scan(ctx, account.CounterKey{Kind: account.KindUser, Name: user.Username}); err != nil {
			return fmt.Errorf("count what the directory holds: %w", err)
		}
	}
	n.accept()
	return nil
}

// listenPortableFTP takes the FTP port that was asked for.
func (n *node) listenPortableFTP(ctx context.Context, f *portableFlags) error {
	if f.ftpPort < 0 {
		return nil
	}
	c := &n.s.FTPD
	c.EnableSite, c.HashSupport, c.PassivePortRange = true, 1, ftp.PortRange{}
	for name, file := range map[*string]string{&c.CertificateFile: f.ftpCert, &c.CertificateKeyFile: f.ftpKey} {
		if file == "" {
			continue
		}
		path, err := filepath.Abs(file)
		if err != nil {
			return err
		}
		*name = path
	}
	for try := 0; ; try++ {
		port := f.ftpPort
		if port == 0 {
			r, err := rand.Int(rand.Reader, big.NewInt(64152-49152))
			if err != nil {
				return err
			}
			port = 49152 + int(r.Int64())
		}
		c.Bindings = []ftp.Binding{{Address: f.address, Port: port}}
		err := n.listenFTP(ctx)
		if err == nil {
			return nil
		}
		if f.ftpPort != 0 || try == 20 || !isInUse(err) {
			return fmt.Errorf("port %d: %w", port, errors.Unwrap(err))
		}
	}
}

// openLog opens the log, which goes nowhere unless a file is named.
func (f *portableFlags) openLog() (*logs.Log, error) {
	c := logs.DefaultConfig()
	c.Level, c.UTC, c.Path = f.level, f.log.UTC, f.log.Path
	if c.Path != "" {
		path, err := filepath.Abs(c.Path)
		if err != nil {
			return nil, fmt.Errorf("log file: %w", err)
		}
		c.Path = path
		return logs.Open(c, os.Stderr)
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	return logs.Open(c, null) // the file lives as long as the process
}

// account makes the user. shown is the password to print: one that was made here, else "".
func (f *portableFlags) account() (u *account.User, shown string, err error) {
	dir, err := filepath.Abs(f.directory)
	if err != nil {
		return nil, "", fmt.Errorf("--directory: %w", err)
	}
	storage, err := f.storage.config()
	if err != nil {
		return nil, "", err
	}
	if storage.Provider == account.LocalProvider || storage.Provider == account.CryptProvider {
		if st, err := os.Stat(dir); err != nil {
			return nil, "", fmt.Errorf("--directory: %w", err)
		} else if !st.IsDir() {
			return nil, "", fmt.Errorf("--directory: %s is not a directory", dir)
		}
	}
	if f.port < 0 || f.port > 65535 {
		return nil, "", fmt.Errorf("--sftpd-port: %d is not a port", f.port)
	}
	password := f.password
	if f.passwordFile != "" {
		b, err := os.ReadFile(f.passwordFile)
		if err != nil {
			return nil, "", fmt.Errorf("--password-file: %w", err)
		}
		line, _, _ := strings.Cut(string(b), "\n")
		if password = strings.TrimRight(line, "\r"); password == "" {
			return nil, "", fmt.Errorf("--password-file: the first line of %s is empty", f.passwordFile)
		}
	}
	for _, k := range f.keys {
		if _, _, _, _, err := gossh.ParseAuthorizedKey([]byte(k)); err != nil {
			return nil, "", fmt.Errorf("--public-key: %q is no key as in authorized_keys", k)
		}
	}
	if password == "" && len(f.keys) == 0 {
		password = strings.ToLower(rand.Text()) // CRY-1
		shown = password
	}
	u = &account.User{
		Username: f.username, Status: 1, Password: password, PublicKeys: f.keys, HomeDir: dir,
		Filesystem: storage, Permissions: map[string][]string{"/": f.permissions}, QuotaSize: f.quotaSize, QuotaFiles: f.quotaFiles,
	}
	u.Filters.StartDirectory = f.start
	u.Filters.MaxUploadFileSize = f.uploadLimit
	if u.Filters.FilePatterns, err = filePatterns(f.allowed, f.denied); err != nil {
		return nil, "", err
	}
	return u, shown, nil
}

// filePatterns reads "/dir::a,b" of both kinds. What one directory is given twice is joined.
func filePatterns(allowed, denied []string) ([]account.PatternsFilter, error) {
	var out []account.PatternsFilter
	at := map[string]int{}
	for kind, list := range [][]string{allowed, denied} {
		for _, text := range list {
			dir, names, ok := strings.Cut(text, "::")
			if !ok || !strings.HasPrefix(dir, "/") || names == "" {
				return nil, fmt.Errorf("the patterns %q must be /dir::pattern,pattern", text)
			}
			i, known := at[dir]
			if !known {
				i = len(out)
				at[dir] = i
				out = append(out, account.PatternsFilter{Path: dir})
			}
			for name := range strings.SplitSeq(names, ",") {
				if name = strings.ToLower(strings.TrimSpace(name)); name == "" {
					continue
				}
				if kind == 0 {
					out[i].AllowedPatterns = append(out[i].AllowedPatterns, name)
				} else {
					out[i].DeniedPatterns = append(out[i].DeniedPatterns, name)
				}
			}
		}
	}
	return out, nil
}

// announce tells how to connect.
func (f *portableFlags) announce(w io.Writer, n *node, u *account.User, shown string) {
	password := "[redacted]"
	switch {
	case shown != "":
		password = shown
	case u.Password == "" && len(f.keys) > 0:
		password = "none, by public key"
	}
	addr, _ := n.listeners[0].Addr().(*net.TCPAddr)
	host := outwardAddress(addr)
	fmt.Fprintf(w, "Portable mode ready, user: %q, password: %q, public keys: %d, directory: %q, permissions: %v, enabled ssh commands: %v, SFTP port: %d\n",
		f.username, password, len(f.keys), f.place(u), f.permissions, f.commands, addr.Port)
	for _, d := range n.ftpDoors {
		if a, ok := d.Addr().(*net.TCPAddr); ok {
			fmt.Fprintf(w, "FTP port: %d, connect with: ftp://%s@%s\n", a.Port, printable(f.username), net.JoinHostPort(outwardAddress(a), fmt.Sprint(a.Port)))
		}
	}
	for _, d := range n.davDoors {
		if a, ok := d.Addr().(*net.TCPAddr); ok {
			scheme := "http"
			if f.davCert != "" {
				scheme = "https"
			}
			fmt.Fprintf(w, "WebDAV URL: %s://%s/\n", scheme, net.JoinHostPort(outwardAddress(a), fmt.Sprint(a.Port)))
		}
	}
	for _, k := range n.ssh.HostKeys() {
		fmt.Fprintf(w, "Host key: %s %s\n", k.Type, k.Fingerprint)
	}
	fmt.Fprintf(w, "Connect with: sftp -P %d %s@%s\n", addr.Port, printable(f.username), host)
	if f.noQR {
		return
	}
	link := url.URL{Scheme: "sftp", Host: net.JoinHostPort(host, fmt.Sprint(addr.Port)), Path: f.start, User: url.User(f.username)}
	if shown != "" {
		link.User = url.UserPassword(f.username, shown)
	}
	if code, err := qr.Encode(link.String(), qr.L); err == nil {
		fmt.Fprint(w, "\n", drawQR(code))
	}
}

// place is what is served, for people.
func (f *portableFlags) place(u *account.User) string {
	c := &u.Filesystem
	switch c.Provider {
	case account.S3Provider:
		return "S3 bucket " + c.S3Config.Bucket + "/" + c.S3Config.KeyPrefix
	case account.GCSProvider:
		return "GCS bucket " + c.GCSConfig.Bucket + "/" + c.GCSConfig.KeyPrefix
	case account.AzBlobProvider:
		return "Azure container " + c.AzBlobConfig.Container + "/" + c.AzBlobConfig.KeyPrefix
	case account.SFTPProvider:
		return c.SFTPConfig.Username + "@" + c.SFTPConfig.Endpoint + c.SFTPConfig.Prefix
	}
	return u.HomeDir
}

// drawQR shows a code on a terminal, two rows of it on one line, with the quiet zone that readers need.
func drawQR(c *qr.Code) string {
	const quiet = 2
	var b strings.Builder
	for y := -quiet; y < c.Size+quiet; y += 2 {
		for x := -quiet; x < c.Size+quiet; x++ {
			switch up, down := c.Black(x, y), c.Black(x, y+1); {
			case up && down:
				b.WriteByte(' ')
			case up:
				b.WriteString("▄")
			case down:
				b.WriteString("▀")
			default:
				b.WriteString("█")
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// outwardAddress is an address that others can use for a listener: its own, or the first of this machine.
func outwardAddress(addr *net.TCPAddr) string {
	if addr == nil {
		return "localhost"
	}
	if !addr.IP.IsUnspecified() {
		return addr.IP.String()
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "localhost"
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return "localhost"
}
