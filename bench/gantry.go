package bench

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ways are the ports of one Gantry; an empty one is off.
type ways struct{ ssh, ftp, dav, davTLS, rest string }

// startGantry serves the records of dump. The settings are the defaults but for what keeps one host from opening many
// connections, and from reaching a storage on this machine.
func startGantry(ctx context.Context, e *Env, s *Server, w ways, dump map[string]any) (*Server, error) {
	dir, err := os.MkdirTemp(e.Dir, "gantry-")
	if err != nil {
		return nil, err
	}
	bind := func(port string, more ...any) map[string]any {
		b := map[string]any{"port": 0}
		if port != "" {
			b = map[string]any{"address": "127.0.0.1", "port": json.Number(port)}
		}
		for i := 0; i < len(more); i += 2 {
			b[more[i].(string)] = more[i+1]
		}
		return b
	}
	pair := func(section map[string]any) map[string]any {
		section["certificate_file"], section["certificate_key_file"] = filepath.Join(e.Dir, "cert.pem"), filepath.Join(e.Dir, "key.pem")
		return section
	}
	conf := map[string]any{
		"common": map[string]any{"max_per_host_connections": 0, "allowed_endpoints": []string{"loopback"}},
		"httpd":  map[string]any{"bindings": []any{bind(w.rest)}},
		"sftpd":  map[string]any{"bindings": []any{bind("")}},
	}
	if w.ssh != "" {
		conf["sftpd"] = map[string]any{
			"bindings":     []any{bind(w.ssh)},
			"max_startups": "2000:100:2000", "max_handshakes": 2000, "max_auth_tries": -1, "login_grace_time": 3600,
		}
	}
	if w.ftp != "" {
		conf["ftpd"] = pair(map[string]any{"bindings": []any{bind(w.ftp)}, "passive_port_range": map[string]any{"start": 0, "end": 0}})
	}
	if w.dav != "" {
		conf["webdavd"] = pair(map[string]any{"bindings": []any{bind(w.dav), bind(w.davTLS, "enable_https", true)}, "keep_alive_timeout": 3600})
	}
	dump["version"] = 17
	for file, v := range map[string]any{"gantry.json": conf, "dump.json": dump} {
		b, err := json.Marshal(v)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), b, 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(s.Root, 0o755); err != nil {
		return nil, err
	}
	s.log = filepath.Join(dir, "gantry.log")
	return start(ctx, e, s, e.Gantry, "serve", "-c", dir, "--loaddata-from", filepath.Join(dir, "dump.json"))
}

// gantryUser is an account that may do everything in root.
func gantryUser(name, root string, more ...any) map[string]any {
	u := map[string]any{"username": name, "status": 1, "home_dir": root, "permissions": map[string]any{"/": []string{"*"}}}
	for i := 0; i < len(more); i += 2 {
		u[more[i].(string)] = more[i+1]
	}
	return u
}

// GantryAll is ours with every protocol at once. Its Addr is SSH's.
type GantryAll struct{}

// Name is that of every Gantry.
func (GantryAll) Name() string { return "gantry" }

// Start returns once every protocol takes connections.
func (GantryAll) Start(ctx context.Context, e *Env) (*Server, error) {
	if err := ftpCert(e); err != nil {
		return nil, err
	}
	s := &Server{Peer: "gantry", User: "bench", Root: filepath.Join(e.Data, "gantry")}
	for _, a := range []*string{&s.Addr, &s.FTPAddr, &s.DAVAddr, &s.TLSAddr, &s.RESTAddr} {
		var err error
		if *a, _, err = freeAddr(); err != nil {
			return nil, err
		}
	}
	w := ways{ssh: portOf(s.Addr), ftp: portOf(s.FTPAddr), dav: portOf(s.DAVAddr), davTLS: portOf(s.TLSAddr), rest: portOf(s.RESTAddr)}
	s, err := startGantry(ctx, e, s, w, map[string]any{
		"users":  []any{gantryUser(s.User, s.Root, "password", ftpPassword, "public_keys", []string{e.publicKey()})},
		"admins": []any{map[string]any{"username": s.User, "password": ftpPassword, "status": 1, "permissions": []string{"*"}}},
	})
	if err != nil {
		return nil, err
	}
	for _, addr := range []string{s.FTPAddr, s.DAVAddr, s.TLSAddr, s.RESTAddr} {
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			c, err := net.Dial("tcp", addr)
			if err == nil {
				c.Close()
				break
			}
			if time.Now().After(end) {
				s.Stop()
				return nil, err
			}
		}
	}
	return s, nil
}

// errorsLogged gives the lines of level error in a Gantry's log.
func (s *Server) errorsLogged() []string {
	b, err := os.ReadFile(s.log)
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, `"level":"error"`) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}
