package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// The S3 server's account.
const s3Key, s3Secret = "bench", "bench-secret"

// findTool finds a program in the PATH or where `go install` puts it.
func findTool(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	home, err := os.UserHomeDir()
	if err == nil {
		p := filepath.Join(home, "go/bin", name)
		if _, err = os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("bench: no %s in the PATH or ~/go/bin", name)
}

// startS3 serves buckets with versitygw, from a folder in memory. Buckets are folders in the Root of the server.
func startS3(ctx context.Context, e *Env, buckets ...string) (*Server, error) {
	bin, err := findTool("versitygw")
	if err != nil {
		return nil, err
	}
	s := &Server{Peer: "versitygw", Root: filepath.Join(e.Data, "s3"), hello: "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", greeting: "HTTP/1.1",
		env: []string{"ROOT_ACCESS_KEY=" + s3Key, "ROOT_SECRET_KEY=" + s3Secret}}
	for _, b := range buckets {
		if err := os.MkdirAll(filepath.Join(s.Root, b), 0o755); err != nil {
			return nil, err
		}
	}
	if s.Addr, _, err = freeAddr(); err != nil {
		return nil, err
	}
	return start(ctx, e, s, bin, "--port", s.Addr, "--quiet", "posix", s.Root)
}

// s3Gantry is ours over SFTP, on a bucket.
type s3Gantry struct{ store *Server }

func (s3Gantry) Name() string { return "gantry" }

func (g s3Gantry) Start(ctx context.Context, e *Env) (*Server, error) {
	addr, port, err := freeAddr()
	if err != nil {
		return nil, err
	}
	s := &Server{Peer: "gantry", Addr: addr, User: "bench", Root: filepath.Join(g.store.Root, "gantry")}
	fs := map[string]any{"provider": 1, "s3config": map[string]any{
		"bucket": "gantry", "region": "us-east-1", "endpoint": "http://" + g.store.Addr, "force_path_style": true,
		"access_key": s3Key, "access_secret": map[string]any{"status": "Plain", "payload": s3Secret}}}
	home := filepath.Join(e.Data, "s3home")
	return startGantry(ctx, e, s, ways{ssh: port}, map[string]any{
		"users": []any{gantryUser(s.User, home, "public_keys", []string{e.publicKey()}, "filesystem", fs)}})
}

// s3Rclone is `rclone serve sftp` on a bucket.
type s3Rclone struct{ store *Server }

func (s3Rclone) Name() string { return "rclone" }

func (r s3Rclone) Start(ctx context.Context, e *Env) (*Server, error) {
	return startRclone(ctx, e, filepath.Join(r.store.Root, "rclone"), "store:rclone",
		"RCLONE_CONFIG_STORE_TYPE=s3", "RCLONE_CONFIG_STORE_PROVIDER=Other", "RCLONE_CONFIG_STORE_ACCESS_KEY_ID="+s3Key,
		"RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY="+s3Secret, "RCLONE_CONFIG_STORE_ENDPOINT=http://"+r.store.Addr, "RCLONE_CONFIG_STORE_REGION=us-east-1",
		"AWS_CA_BUNDLE=") // its S3 client refuses to start with one
}

// Rclone is `rclone serve sftp` on a folder.
type Rclone struct{}

// Name is rclone's.
func (Rclone) Name() string { return "rclone" }

// Start serves e.Data/rclone.
func (Rclone) Start(ctx context.Context, e *Env) (*Server, error) {
	root := filepath.Join(e.Data, "rclone")
	return startRclone(ctx, e, root, root)
}

// startRclone serves a remote over SFTP.
func startRclone(ctx context.Context, e *Env, root, remote string, env ...string) (*Server, error) {
	bin, err := findTool("rclone")
	if err != nil {
		return nil, err
	}
	addr, _, err := freeAddr()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(e.Dir, "rclone-")
	if err != nil {
		return nil, err
	}
	keys, host := filepath.Join(dir, "authorized_keys"), filepath.Join(dir, "host")
	_, err = writeKey(host)
	if err = errors.Join(err, os.MkdirAll(root, 0o755), os.WriteFile(keys, []byte(e.publicKey()+"\n"), 0o600)); err != nil {
		return nil, err
	}
	s := &Server{Peer: "rclone", Addr: addr, User: "bench", Root: root, env: append(env, "RCLONE_CONFIG="+filepath.Join(dir, "rclone.conf"))}
	return start(ctx, e, s, bin, "serve", "sftp", remote, "--addr", addr, "--user", s.User, "--authorized-keys", keys, "--key", host, "--cache-dir", dir)
}

// RunS3 measures bulk transfers over SFTP with a bucket behind the server. It gives no table where there is no
// versitygw.
func RunS3(ctx context.Context, e *Env, o BulkOptions) (*Table, error) {
	store, err := startS3(ctx, e, "gantry", "rclone")
	if err != nil {
		fmt.Fprintf(e.Log, "left out: S3: %v\n", err)
		return nil, ctx.Err()
	}
	defer store.Stop()
	o.prefix = "S3, "
	// What the store's disk has must have come through the store.
	o.place = func(s *Server, source string) error {
		_, err := sftpRun(ctx, e, s, s.Addr, "", fmt.Sprintf("put %s %s/source", source, s.Base))
		return err
	}
	return RunBulk(ctx, e, []Peer{s3Gantry{store}, s3Rclone{store}}, o)
}
