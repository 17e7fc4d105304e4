package bench

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// DAVPeers are the WebDAV servers that can be compared, ours first. Each checks a password at every request, by the
// means that cost it least.
func DAVPeers() []Peer { return []Peer{GantryDAV{}, Nginx{}, Apache{}, Lighttpd{}, RcloneDAV{}} }

// davServer prepares a server's folder, temporary folder and ports.
func davServer(e *Env, name string) (s *Server, dir string, err error) {
	if err := ftpCert(e); err != nil {
		return nil, "", err
	}
	s = &Server{Peer: name, User: "bench", Root: filepath.Join(e.Data, name), hello: "OPTIONS / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", greeting: "HTTP/1.1"}
	if s.Addr, _, err = freeAddr(); err != nil {
		return nil, "", err
	}
	if s.TLSAddr, _, err = freeAddr(); err != nil {
		return nil, "", err
	}
	// The peers read their settings and write their files under other users.
	for _, d := range []string{e.Dir, e.Data} {
		if err := os.Chmod(d, 0o755); err != nil {
			return nil, "", err
		}
	}
	for _, d := range []string{s.Root, s.Root + "-tmp"} { // on the same file system, so that an upload is renamed
		if err := errors.Join(os.MkdirAll(d, 0o755), giveAway(d)); err != nil {
			return nil, "", err
		}
	}
	dir, err = os.MkdirTemp(e.Dir, name+"-")
	if err == nil {
		err = errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "passwords"), []byte(s.User+":{PLAIN}"+ftpPassword+"\n"), 0o644))
	}
	return s, dir, err
}

// unprivileged is who the peers serve as when this process is root.
const unprivileged = "daemon"

// giveAway makes a folder the peers'.
func giveAway(dir string) error {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup(unprivileged)
	if err != nil {
		return err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	return os.Chown(dir, uid, gid)
}

// ifRoot is a line of settings that only root may have.
func ifRoot(line string) string {
	if os.Getuid() != 0 {
		return ""
	}
	return line + "\n"
}

// GantryDAV is ours, over WebDAV.
type GantryDAV struct{}

func (GantryDAV) Name() string { return "gantry" }

func (GantryDAV) Start(ctx context.Context, e *Env) (*Server, error) {
	s, _, err := davServer(e, "gantry")
	if err != nil {
		return nil, err
	}
	return startGantry(ctx, e, s, ways{dav: portOf(s.Addr), davTLS: portOf(s.TLSAddr)},
		map[string]any{"users": []any{gantryUser(s.User, s.Root, "password", ftpPassword)}})
}

func portOf(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// Nginx is nginx with its dav module, and with PROPFIND where ngx_http_dav_ext_module is installed.
type Nginx struct{}

func (Nginx) Name() string { return "nginx" }

func (Nginx) Start(ctx context.Context, e *Env) (*Server, error) {
	bin, err := program("nginx")
	if err != nil {
		return nil, err
	}
	s, dir, err := davServer(e, "nginx")
	if err != nil {
		return nil, err
	}
	module, methods := "", ""
	ext := filepath.Join(filepath.Dir(filepath.Dir(bin)), "lib/nginx/modules/ngx_http_dav_ext_module.so")
	if _, err := os.Stat(ext); err == nil {
		module, methods = "load_module "+ext+";\n", "dav_ext_methods PROPFIND OPTIONS;"
	}
	files := min(maxFiles(), 40000)
	conf := module + ifRoot("user "+unprivileged+";") + fmt.Sprintf(`daemon off;
worker_processes auto;
worker_rlimit_nofile %d;
pid %s/pid;
error_log stderr error;
events { worker_connections %d; }
http {
	default_type application/octet-stream;
	map $request_method $transfer { GET 1; PUT 1; default 0; }
	access_log %s/access.log combined buffer=32k flush=1s if=$transfer;
	sendfile on;
	tcp_nopush on;
	keepalive_timeout 3600s;
	keepalive_requests 1000000000;
	client_max_body_size 0;
	client_body_temp_path %s;
	proxy_temp_path %s/proxy;
	fastcgi_temp_path %s/fastcgi;
	uwsgi_temp_path %s/uwsgi;
	scgi_temp_path %s/scgi;
	ssl_certificate %s;
	ssl_certificate_key %s;
	ssl_protocols TLSv1.3;
	server {
		listen %s;
		listen %s ssl;
		root %s;
		auth_basic bench;
		auth_basic_user_file %s/passwords;
		dav_methods PUT DELETE MKCOL COPY MOVE;
		%s
	}
}
`, files, dir, files-100, dir, s.Root+"-tmp", dir, dir, dir, dir, filepath.Join(e.Dir, "cert.pem"), filepath.Join(e.Dir, "key.pem"), s.Addr, s.TLSAddr, s.Root, dir, methods)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	return start(ctx, e, s, bin, "-e", "stderr", "-p", dir, "-c", file)
}

// Apache is apache2 with mod_dav and its event module.
type Apache struct{}

func (Apache) Name() string { return "apache" }

func (Apache) Start(ctx context.Context, e *Env) (*Server, error) {
	bin, err := program("apache2")
	if err != nil {
		return nil, err
	}
	s, dir, err := davServer(e, "apache")
	if err != nil {
		return nil, err
	}
	s.quit = syscall.SIGTERM // in the foreground an interrupt would leave its workers
	modules := filepath.Join(filepath.Dir(filepath.Dir(bin)), "lib/apache2/modules")
	load := ""
	for _, m := range []string{"mpm_event", "authz_core", "authz_user", "authn_core", "authn_file", "auth_basic", "dav", "dav_fs", "setenvif", "socache_shmcb", "ssl"} {
		load += fmt.Sprintf("LoadModule %s_module %s/mod_%s.so\n", m, modules, m)
	}
	sum := sha1.Sum([]byte(ftpPassword))
	if err := os.WriteFile(filepath.Join(dir, "passwords"), []byte(s.User+":{SHA}"+base64.StdEncoding.EncodeToString(sum[:])+"\n"), 0o644); err != nil {
		return nil, err
	}
	locks := filepath.Join(dir, "locks")
	if err := errors.Join(os.Mkdir(locks, 0o755), giveAway(locks)); err != nil {
		return nil, err
	}
	conf := load + ifRoot("User "+unprivileged+"\nGroup "+unprivileged) + fmt.Sprintf(`ServerRoot %[1]s
ServerName localhost
Listen %[2]s
Listen %[3]s https
PidFile %[1]s/pid
DefaultRuntimeDir %[1]s
ErrorLog /dev/stderr
LogLevel error
SetEnvIf Request_Method "^(GET|PUT)$" transfer
BufferedLogs On
CustomLog %[1]s/access.log "%%h %%l %%u %%t \"%%r\" %%>s %%b" env=transfer
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 3600
Timeout 600
EnableSendfile On
EnableMMAP Off
ServerLimit 16
ThreadsPerChild 64
MaxRequestWorkers 1024
AsyncRequestWorkerFactor 64
DavLockDB %[1]s/locks/db
DocumentRoot %[4]s
<Directory %[4]s>
	Options None
	AllowOverride None
	Dav On
	AuthType Basic
	AuthName bench
	AuthUserFile %[1]s/passwords
	Require valid-user
</Directory>
<VirtualHost %[3]s>
	DocumentRoot %[4]s
	SSLEngine on
	SSLProtocol TLSv1.3
	SSLCipherSuite TLSv1.3 TLS_AES_128_GCM_SHA256
	SSLCertificateFile %[5]s
	SSLCertificateKeyFile %[6]s
</VirtualHost>
`, dir, s.Addr, s.TLSAddr, s.Root, filepath.Join(e.Dir, "cert.pem"), filepath.Join(e.Dir, "key.pem"))
	file := filepath.Join(dir, "apache2.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	return start(ctx, e, s, bin, "-DFOREGROUND", "-f", file)
}

// Lighttpd is lighttpd with mod_webdav and mod_openssl. It is one process, as it comes.
type Lighttpd struct{}

func (Lighttpd) Name() string { return "lighttpd" }

func (Lighttpd) Start(ctx context.Context, e *Env) (*Server, error) {
	bin, err := program("lighttpd")
	if err != nil {
		return nil, err
	}
	modules := filepath.Join(filepath.Dir(filepath.Dir(bin)), "lib/lighttpd")
	for _, m := range []string{"mod_webdav", "mod_openssl"} {
		if _, err := os.Stat(filepath.Join(modules, m+".so")); err != nil {
			return nil, fmt.Errorf("bench: lighttpd without %s: install lighttpd-%s", m, strings.ReplaceAll(m, "_", "-"))
		}
	}
	s, dir, err := davServer(e, "lighttpd")
	if err != nil {
		return nil, err
	}
	s.quit = syscall.SIGTERM // an interrupt would wait for every connection
	if err := os.WriteFile(filepath.Join(dir, "passwords"), []byte(s.User+":"+ftpPassword+"\n"), 0o644); err != nil {
		return nil, err
	}
	log := filepath.Join(dir, "access.log") // which it opens as the other user
	if err := errors.Join(os.WriteFile(log, nil, 0o644), giveAway(log)); err != nil {
		return nil, err
	}
	files := min(maxFiles(), 40000)
	conf := ifRoot(fmt.Sprintf("server.username = %q\nserver.groupname = %q", unprivileged, unprivileged)) + fmt.Sprintf(`server.modules = ("mod_auth", "mod_authn_file", "mod_accesslog", "mod_webdav", "mod_openssl")
accesslog.filename = "%[6]s/access.log"
$HTTP["request-method"] == "PROPFIND" { accesslog.filename = "" }
server.document-root = %[1]q
server.bind = "127.0.0.1"
server.port = %[2]s
server.network-backend = "sendfile"
server.upload-dirs = (%[3]q)
server.max-keep-alive-requests = 65535
server.max-keep-alive-idle = 3600
server.max-read-idle = 600
server.max-write-idle = 600
server.max-fds = %[4]d
server.max-connections = %[5]d
mimetype.assign = ("" => "application/octet-stream")
webdav.activate = "enable"
webdav.is-readonly = "disable"
auth.backend = "plain"
auth.backend.plain.userfile = "%[6]s/passwords"
auth.require = ("" => ("method" => "basic", "realm" => "bench", "require" => "valid-user"))
$SERVER["socket"] == %[7]q {
	ssl.engine = "enable"
	ssl.pemfile = "%[8]s/cert.pem"
	ssl.privkey = "%[8]s/key.pem"
	ssl.openssl.ssl-conf-cmd = ("MinProtocol" => "TLSv1.3", "Ciphersuites" => "TLS_AES_128_GCM_SHA256")
}
`, s.Root, portOf(s.Addr), s.Root+"-tmp", files, files*3/5, dir, s.TLSAddr, e.Dir)
	file := filepath.Join(dir, "lighttpd.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	return start(ctx, e, s, bin, "-D", "-f", file, "-m", modules)
}

// RcloneDAV is `rclone serve webdav` on a folder, in clear alone.
type RcloneDAV struct{}

// Name is rclone's.
func (RcloneDAV) Name() string { return "rclone" }

// Start serves e.Data/rclone.
func (RcloneDAV) Start(ctx context.Context, e *Env) (*Server, error) {
	bin, err := findTool("rclone")
	if err != nil {
		return nil, err
	}
	s, dir, err := davServer(e, "rclone")
	if err != nil {
		return nil, err
	}
	s.TLSAddr = ""
	s.env = []string{"RCLONE_CONFIG=" + filepath.Join(dir, "rclone.conf")}
	return start(ctx, e, s, bin, "serve", "webdav", s.Root, "--addr", s.Addr, "--user", s.User, "--pass", ftpPassword, "--cache-dir", dir)
}
