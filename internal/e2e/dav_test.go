//go:build unix

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// davPair makes a CA, a server's certificate and a client's for "c", in dir.
func davPair(t *testing.T, dir string) {
	t.Helper()
	openssl := need(t, "openssl", "openssl")
	ssl := func(args ...string) { t.Helper(); program{dir: dir}.run(t, openssl, args...) }
	ec := []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"}
	ssl(append([]string{"req", "-x509", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=our CA", "-days", "2"}, ec...)...)
	ssl(append([]string{"req", "-x509", "-keyout", "dav.key", "-out", "dav.crt", "-subj", "/CN=localhost", "-days", "2"}, ec...)...)
	ssl(append([]string{"req", "-keyout", "c.key", "-out", "c.csr", "-subj", "/CN=c"}, ec...)...)
	ssl("x509", "-req", "-in", "c.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", "c.crt", "-days", "2")
}

// TestDAVCurl: uploads with a length and without, ranges, resumes and refusals, in clear and over TLS, with curl.
func TestDAVCurl(t *testing.T) {
	curl := need(t, "curl", "curl")
	dir, home := t.TempDir(), t.TempDir()
	davPair(t, dir)
	u := newUser("c", home)
	u.QuotaSize = 20_000_000
	u.Filters.FilePatterns = []account.PatternsFilter{{Path: "/", DeniedPatterns: []string{"*.exe"}}}
	plain, secure := gantrytest.FreePort(t), gantrytest.FreePort(t)
	gantrytest.Start(t, gantrytest.Options{Bin: bin, Dir: dir, Dump: oneUser(u), Secrets: []string{password}, Config: fmt.Sprintf(
		`{"webdavd":{"bindings":[{"address":"127.0.0.1","port":%s},{"address":"127.0.0.1","port":%s,"enable_https":true,"prefix":"/dav"}],
		"certificate_file":"dav.crt","certificate_key_file":"dav.key"}}`, plain, secure)})
	data := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, at := range [][]string{{"http://127.0.0.1:" + plain}, {"https://127.0.0.1:" + secure + "/dav", "-k"}, {"https://127.0.0.1:" + secure + "/dav", "-k", "--tls-max", "1.2"}} {
		url := at[0]
		args := append([]string{"-sS", "--max-time", "60", "-u", "c:" + password}, at[1:]...)
		run := func(more ...string) string {
			t.Helper()
			return program{}.run(t, curl, append(args, more...)...)
		}
		code := func(want int, more ...string) {
			t.Helper()
			if got := run(append(more, "-o", os.DevNull, "-w", "%{http_code}")...); got != strconv.Itoa(want) {
				t.Errorf("%s %q: %s, want %d", url, more, got, want)
			}
		}
		code(201, "-T", file, url+"/f")
		code(204, "-T", file, url+"/f")
		code(201, "-X", "MKCOL", url+"/d%20e")
		out := program{stdin: string(data)}.run(t, curl, append(args, "-T", "-", url+"/d%20e/chunked", "-w", "%{http_code}", "-o", os.DevNull)...)
		if out != "201" {
			t.Errorf("%s: a chunked upload: %s", url, out)
		}
		for _, name := range []string{"f", "d e/chunked"} {
			if got, err := os.ReadFile(filepath.Join(home, name)); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s: %s has %d bytes, %v", url, name, len(got), err)
			}
		}
		if got := run(url + "/f"); got != string(data) {
			t.Errorf("%s: got %d bytes", url, len(got))
		}
		if got := run("-r", "10-19", url+"/f"); got != string(data[10:20]) {
			t.Errorf("%s: range %q", url, got)
		}
		if got := run("-r", "-5", url+"/f"); got != string(data[len(data)-5:]) {
			t.Errorf("%s: suffix %q", url, got)
		}
		part := filepath.Join(t.TempDir(), "part")
		os.WriteFile(part, data[:1000], 0o600)
		run("-C", "-", "-o", part, url+"/f")
		if got, _ := os.ReadFile(part); !bytes.Equal(got, data) {
			t.Errorf("%s: a resume gave %d bytes", url, len(got))
		}
		if got := run("-I", url+"/f"); !strings.Contains(got, fmt.Sprintf("Content-Length: %d", len(data))) || !strings.Contains(got, "ETag:") {
			t.Errorf("%s: HEAD %q", url, got)
		}
		tag := run("-o", os.DevNull, "-w", "%header{etag}", url+"/f")
		code(304, "-H", "If-None-Match: "+tag, url+"/f")
		code(412, "-H", `If-Match: "x"`, "-T", file, url+"/f")
		code(403, "-T", file, url+"/x.exe")
		code(409, "-T", file, url+"/none/f")
		big := filepath.Join(t.TempDir(), "big")
		if err := os.WriteFile(big, make([]byte, 30_000_000), 0o600); err != nil {
			t.Fatal(err)
		}
		code(507, "-T", big, url+"/big") // curl waits for 100 Continue, and sends nothing
		if got := run("-T", big, url+"/big", "-o", os.DevNull, "-w", "%{size_upload}"); got != "0" {
			t.Errorf("%s: %s bytes were asked for that have no room", url, got)
		}
		code(207, "-X", "PROPFIND", "-H", "Depth: 1", url+"/")
		code(204, "-X", "DELETE", url+"/d%20e/")
		code(404, "-X", "DELETE", url+"/d%20e/")
		code(400, "--path-as-is", url+"/../f")
		out = program{}.run(t, curl, append([]string{"-sS", "-o", os.DevNull, "-w", "%{http_code}", "-u", "c:wrong"}, append(at[1:], url+"/f")...)...)
		if out != "401" {
			t.Errorf("%s: a wrong password: %s", url, out)
		}
		code(204, "-X", "DELETE", url+"/f")
	}
}

// TestDAVCertificates: a client's certificate is a login, one is asked for, and HUP brings the server a new one.
func TestDAVCertificates(t *testing.T) {
	curl := need(t, "curl", "curl")
	dir, home := t.TempDir(), t.TempDir()
	davPair(t, dir)
	u := newUser("c", home)
	u.Filters.TLSUsername = "CommonName"
	gantrytest.WriteFile(t, filepath.Join(home, "f"), "content")
	port, strict := gantrytest.FreePort(t), gantrytest.FreePort(t)
	s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Dir: dir, Dump: oneUser(u), Config: fmt.Sprintf(
		`{"webdavd":{"bindings":[{"address":"127.0.0.1","port":%s,"enable_https":true,"client_auth_type":2},
		{"address":"127.0.0.1","port":%s,"enable_https":true,"client_auth_type":1}],
		"certificate_file":"dav.crt","certificate_key_file":"dav.key","ca_certificates":["ca.crt"]}}`, port, strict)})
	with := []string{"-sS", "-k", "--max-time", "30", "--cert", filepath.Join(dir, "c.crt"), "--key", filepath.Join(dir, "c.key")}
	for _, p := range []string{port, strict} {
		for _, tls := range []string{"1.2", "1.3"} {
			if got := (program{}).run(t, curl, append(with, "--tls-max", tls, "https://127.0.0.1:"+p+"/f")...); got != "content" {
				t.Errorf("with a certificate: %q", got)
			}
		}
	}
	if got := (program{}).run(t, curl, "-sS", "-k", "-u", "c:"+password, "https://127.0.0.1:"+port+"/f"); got != "content" {
		t.Errorf("by password: %q", got)
	}
	if out, err := exec.Command(curl, "-sS", "-k", "--max-time", "30", "-u", "c:"+password, "https://127.0.0.1:"+strict+"/f").CombinedOutput(); err == nil {
		t.Errorf("nobody was asked for a certificate: %q", out)
	}
	serial := func() string {
		return program{}.run(t, curl, "-sS", "-k", "-u", "c:"+password, "-o", os.DevNull, "-w", "%{certs}", "https://127.0.0.1:"+port+"/f")
	}
	before := serial()
	davPair(t, dir)
	s.Signal(syscall.SIGHUP)
	s.WaitLog(map[string]any{"message": "reloaded"})
	if after := serial(); after == before {
		t.Error("HUP left the old certificate")
	}
}

// TestDAVRclone: a tree goes there and back, and is the same.
func TestDAVRclone(t *testing.T) {
	rclone := need(t, "rclone", "rclone")
	src, back := t.TempDir(), t.TempDir()
	makeTree(t, src)
	_, url, home := davServer(t)
	pass := strings.TrimSpace(program{}.run(t, rclone, "obscure", password))
	env := []string{"RCLONE_CONFIG=" + os.DevNull, "RCLONE_WEBDAV_URL=" + url, "RCLONE_WEBDAV_VENDOR=owncloud", "RCLONE_WEBDAV_USER=c", "RCLONE_WEBDAV_PASS=" + pass, "HOME=" + t.TempDir()}
	program{env: env}.run(t, rclone, "copy", src, ":webdav:up", "--transfers", "8")
	sameContents(t, src, filepath.Join(home, "up"))
	program{env: env}.run(t, rclone, "check", src, ":webdav:up", "--download")
	program{env: env}.run(t, rclone, "copy", ":webdav:up", back)
	sameContents(t, src, back)
	program{env: env}.run(t, rclone, "moveto", ":webdav:up", ":webdav:moved")
	program{env: env}.run(t, rclone, "purge", ":webdav:moved")
	if list, err := os.ReadDir(home); err != nil || len(list) != 0 {
		t.Errorf("left: %v %v", list, err)
	}
}

// TestDAVPortable: portable serves WebDAV where it is asked to.
func TestDAVPortable(t *testing.T) {
	curl := need(t, "curl", "curl")
	home := t.TempDir()
	gantrytest.WriteFile(t, filepath.Join(home, "f"), "content")
	port := gantrytest.FreePort(t)
	cmd := exec.Command(bin, "portable", "-d", home, "-u", "p", "-p", "pw", "--webdav-port", port, "--address", "127.0.0.1", "--no-qr")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Signal(syscall.SIGTERM)
	buf := make([]byte, 4096)
	said := ""
	for !strings.Contains(said, "WebDAV URL: http://127.0.0.1:"+port+"/") {
		n, err := out.Read(buf)
		if said += string(buf[:n]); err != nil {
			t.Fatalf("%v after %q", err, said)
		}
	}
	if got := (program{}).run(t, curl, "-sS", "--max-time", "20", "-u", "p:pw", "http://127.0.0.1:"+port+"/f"); got != "content" {
		t.Errorf("got %q", got)
	}
	if got := (program{}).run(t, curl, "-sS", "--max-time", "20", "-u", "p:pw", "-T", filepath.Join(home, "f"), "-w", "%{http_code}", "-o", os.DevNull, "http://127.0.0.1:"+port+"/g"); got != "403" {
		t.Errorf("an upload without the permission: %s", got)
	}
}
