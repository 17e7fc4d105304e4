package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ftpPassword is that of the account "bench" on every FTP server.
const ftpPassword = "bench-password"

// FTPPeers are the FTP servers that can be compared, ours first.
func FTPPeers() []Peer { return []Peer{GantryFTP{}, VSFTPD{}, ProFTPD{}, PureFTPD{}} }

// ftpCert writes a certificate for the servers, once for e: cert.pem, key.pem, and both.pem with the two.
func ftpCert(e *Env) error {
	if _, err := os.Stat(filepath.Join(e.Dir, "both.pem")); err == nil {
		return nil
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		return err
	}
	kb, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return err
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kb})
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return errors.Join(os.WriteFile(filepath.Join(e.Dir, "key.pem"), key, 0o600), os.WriteFile(filepath.Join(e.Dir, "cert.pem"), cert, 0o600),
		os.WriteFile(filepath.Join(e.Dir, "both.pem"), append(key, cert...), 0o600))
}

// program finds a server: in $GANTRY_BENCH_ROOT, a folder with unpacked packages, or where it is installed. The three
// FTP servers of Debian exclude each other, so that at most one of them is.
func program(name string) (string, error) {
	for _, dir := range []string{filepath.Join(os.Getenv("GANTRY_BENCH_ROOT"), "usr/sbin"), "/usr/sbin"} {
		if p := filepath.Join(dir, name); filepath.IsAbs(p) {
			if _, err := os.Stat(p); err == nil {
				return p, nil
			}
		}
	}
	return "", fmt.Errorf("bench: no %s in $GANTRY_BENCH_ROOT/usr/sbin or /usr/sbin", name)
}

// cheapHash is the password's in the form of crypt(3) that costs a server least.
func cheapHash(ctx context.Context) (string, error) {
	b, err := exec.CommandContext(ctx, "openssl", "passwd", "-1", ftpPassword).Output()
	return strings.TrimSpace(string(b)), err
}

// ftpServer prepares a server's folder and port.
func ftpServer(e *Env, name string) (s *Server, dir, port string, err error) {
	if err := ftpCert(e); err != nil {
		return nil, "", "", err
	}
	addr, port, err := freeAddr()
	if err != nil {
		return nil, "", "", err
	}
	s = &Server{Peer: name, Addr: addr, User: "bench", Root: filepath.Join(e.Data, name), greeting: "220"}
	if err := os.MkdirAll(s.Root, 0o755); err != nil {
		return nil, "", "", err
	}
	// The peers read their settings under other users.
	os.Chmod(e.Dir, 0o755)
	os.Chmod(e.Data, 0o755)
	dir, err = os.MkdirTemp(e.Dir, name+"-")
	return s, dir, port, err
}

// GantryFTP is ours, over FTP.
type GantryFTP struct {
	Cold     int    // more accounts, named as coldUser has it
	ColdHash string // of their password, which is the same
}

func (GantryFTP) Name() string { return "gantry" }

func (g GantryFTP) Start(ctx context.Context, e *Env) (*Server, error) {
	s, _, port, err := ftpServer(e, "gantry")
	if err != nil {
		return nil, err
	}
	users := []any{gantryUser(s.User, s.Root, "password", ftpPassword)}
	for i := range g.Cold {
		users = append(users, gantryUser(coldUser(i), s.Root, "password", g.ColdHash))
	}
	return startGantry(ctx, e, s, ways{ftp: port}, map[string]any{"users": users})
}

// VSFTPD is vsftpd with anonymous uploads, which need no account of the machine. It starts as root only.
type VSFTPD struct{}

func (VSFTPD) Name() string { return "vsftpd" }

func (VSFTPD) Start(ctx context.Context, e *Env) (*Server, error) {
	bin, err := program("vsftpd")
	if err != nil {
		return nil, err
	}
	s, dir, port, err := ftpServer(e, "vsftpd")
	if err != nil {
		return nil, err
	}
	// It refuses a writable root: the files stand one level below, and belong to an account that has a home.
	root := s.Root
	s.User, s.Base, s.Root = "anonymous", "/w", filepath.Join(root, "w")
	daemon, err := user.Lookup("daemon")
	if err != nil {
		return nil, err
	}
	uid, _ := strconv.Atoi(daemon.Uid)
	if err := errors.Join(os.MkdirAll(s.Root, 0o777), os.Chown(s.Root, uid, -1), os.MkdirAll("/var/run/vsftpd/empty", 0o755)); err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`listen=YES
listen_address=127.0.0.1
listen_port=%s
background=NO
ftp_username=daemon
nopriv_user=daemon
seccomp_sandbox=NO
anonymous_enable=YES
anon_root=%s
write_enable=YES
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_other_write_enable=YES
anon_umask=022
anon_world_readable_only=NO
pasv_enable=YES
ssl_enable=YES
allow_anon_ssl=YES
force_local_logins_ssl=NO
force_local_data_ssl=NO
rsa_cert_file=%s
require_ssl_reuse=NO
ssl_ciphers=HIGH
max_clients=0
max_per_ip=0
xferlog_enable=YES
vsftpd_log_file=%s
`, port, root, filepath.Join(e.Dir, "both.pem"), filepath.Join(dir, "xferlog"))
	file := filepath.Join(dir, "vsftpd.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	return start(ctx, e, s, bin, file)
}

// ProFTPD is proftpd with mod_tls and a file of accounts.
type ProFTPD struct{}

func (ProFTPD) Name() string { return "proftpd" }

func (ProFTPD) Start(ctx context.Context, e *Env) (*Server, error) {
	bin, err := program("proftpd")
	if err != nil {
		return nil, err
	}
	s, dir, port, err := ftpServer(e, "proftpd")
	if err != nil {
		return nil, err
	}
	hash, err := cheapHash(ctx)
	if err != nil {
		return nil, err
	}
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	group, err := user.LookupGroupId(me.Gid)
	if err != nil {
		return nil, err
	}
	accounts := fmt.Sprintf("bench:%s:%s:%s::%s:/bin/sh\n", hash, me.Uid, me.Gid, s.Root)
	in := func(name string) string { return filepath.Join(dir, name) }
	conf := fmt.Sprintf(`ModulePath %s
LoadModule mod_tls.c
ServerType standalone
DefaultAddress 127.0.0.1
Port %s
User %s
Group %s
UseIPv6 off
UseReverseDNS off
RequireValidShell off
RootLogin on
AuthOrder mod_auth_file.c
AuthUserFile %s
AuthPAM off
DefaultRoot ~
UseSendfile on
MaxInstances 20000
PidFile %s
ScoreboardFile %s
WtmpLog off
TransferLog %s
SystemLog %s
Umask 022
AllowOverwrite on
TLSEngine on
TLSRequired off
TLSECCertificateFile %s
TLSECCertificateKeyFile %s
TLSOptions NoSessionReuseRequired
TLSProtocol TLSv1.2 TLSv1.3
TLSRenegotiate none
`, filepath.Join(filepath.Dir(filepath.Dir(bin)), "lib/proftpd"), port, me.Username, group.Name, in("passwd"), in("pid"), in("score"), in("xferlog"), in("log"),
		filepath.Join(e.Dir, "cert.pem"), filepath.Join(e.Dir, "key.pem"))
	if err := errors.Join(os.WriteFile(in("passwd"), []byte(accounts), 0o600), os.WriteFile(in("proftpd.conf"), []byte(conf), 0o600)); err != nil {
		return nil, err
	}
	return start(ctx, e, s, bin, "-n", "-q", "-c", in("proftpd.conf"))
}

// PureFTPD is pure-ftpd with an account of its own.
type PureFTPD struct{}

func (PureFTPD) Name() string { return "pure-ftpd" }

func (PureFTPD) Start(ctx context.Context, e *Env) (*Server, error) {
	bin, err := program("pure-ftpd")
	if err != nil {
		return nil, err
	}
	s, dir, port, err := ftpServer(e, "pure-ftpd")
	if err != nil {
		return nil, err
	}
	const id = 1000 // it serves no account below
	if err := os.Chown(s.Root, id, id); err != nil {
		return nil, err
	}
	hash, err := cheapHash(ctx)
	if err != nil {
		return nil, err
	}
	// Its own tool would take a hash that costs most of a second.
	account := fmt.Sprintf("bench:%s:%d:%d::%s/./::::::::::::\n", hash, id, id, s.Root)
	db, file := filepath.Join(dir, "accounts.pdb"), filepath.Join(dir, "accounts")
	if err := os.WriteFile(file, []byte(account), 0o600); err != nil {
		return nil, err
	}
	mkdb := exec.CommandContext(ctx, filepath.Join(filepath.Dir(filepath.Dir(bin)), "bin/pure-pw"), "mkdb", db, "-f", file)
	if out, err := mkdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("bench: pure-pw: %w: %s", err, out)
	}
	return start(ctx, e, s, bin, "-S", "127.0.0.1,"+port, "-l", "puredb:"+db, "-c", "20000", "-C", "20000", "-L", "1000000:10", "-H", "-A", "-Y", "1",
		"-2", filepath.Join(e.Dir, "both.pem"), "-E", "-K", "-O", "clf:"+filepath.Join(dir, "xferlog"), "-g", filepath.Join(dir, "pid"))
}
