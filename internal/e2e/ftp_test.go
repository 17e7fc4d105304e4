//go:build unix

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// password is that of the user "c".
const password = "pw-c"

// ftpServer runs a server with a plain or explicit FTP binding and an implicit one.
func ftpServer(t *testing.T, dump *account.Dump) (s *gantrytest.Server, port, implicit string) {
	t.Helper()
	dir := t.TempDir()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kb, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	gantrytest.WriteFile(t, filepath.Join(dir, "ftp.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	gantrytest.WriteFile(t, filepath.Join(dir, "ftp.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kb})))
	port, implicit = gantrytest.FreePort(t), gantrytest.FreePort(t)
	config := fmt.Sprintf(`{"ftpd":{"bindings":[{"address":"127.0.0.1","port":%s},{"address":"127.0.0.1","port":%s,"tls_mode":2}],
		"certificate_file":"ftp.crt","certificate_key_file":"ftp.key","passive_port_range":{"start":0,"end":0},"enable_site":true,"hash_support":1,"combine_support":1}}`, port, implicit)
	return gantrytest.Start(t, gantrytest.Options{Bin: bin, Dir: dir, Config: config, Dump: dump, Secrets: []string{password}}), port, implicit
}

// ftpPeer is a minimal client.
type ftpPeer struct{ *textproto.Conn }

func ftpLogin(t *testing.T, port, user string) *ftpPeer {
	t.Helper()
	nc, err := net.DialTimeout("tcp", "127.0.0.1:"+port, gantrytest.Wait)
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(gantrytest.Wait))
	p := &ftpPeer{textproto.NewConn(nc)}
	if _, _, err := p.ReadResponse(220); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		line string
		code int
	}{{"USER " + user, 331}, {"PASS pw-" + user, 230}} {
		if err := p.cmd(x.code, "%s", x.line); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *ftpPeer) cmd(code int, format string, a ...any) error {
	if _, err := p.Cmd(format, a...); err != nil {
		return err
	}
	_, _, err := p.ReadResponse(code)
	return err
}

// transfer runs a data command; in is sent, or what comes is read.
func (p *ftpPeer) transfer(in []byte, format string, a ...any) ([]byte, error) {
	if _, err := p.Cmd("EPSV"); err != nil {
		return nil, err
	}
	_, text, err := p.ReadResponse(229)
	if err != nil {
		return nil, err
	}
	var port int
	fmt.Sscanf(text[strings.Index(text, "|||")+3:], "%d", &port)
	d, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), gantrytest.Wait)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	d.SetDeadline(time.Now().Add(gantrytest.Wait))
	if err := p.cmd(150, format, a...); err != nil {
		return nil, err
	}
	var out []byte
	if in != nil {
		_, err = d.Write(in)
		d.Close()
	} else {
		out, err = io.ReadAll(d)
	}
	if err != nil {
		return nil, err
	}
	_, _, err = p.ReadResponse(226)
	return out, err
}

// ftpDenied reports whether err is a refusal of rights.
func ftpDenied(err error) bool {
	e, ok := err.(*textproto.Error)
	return ok && (e.Code == 550 || e.Code == 553) && strings.Contains(e.Msg, "Permission denied")
}

// ftpOperations are the rows of the matrix that FTP has.
var ftpOperations = []struct {
	name  string
	needs [][]string
	do    func(p *ftpPeer, dir string) error
}{
	{"LIST", [][]string{{"list"}}, func(p *ftpPeer, d string) error { _, err := p.transfer(nil, "LIST %s", d); return err }},
	{"MLSD", [][]string{{"list"}}, func(p *ftpPeer, d string) error { _, err := p.transfer(nil, "MLSD %s", d); return err }},
	{"SIZE", [][]string{{"list"}}, func(p *ftpPeer, d string) error { return p.cmd(213, "SIZE %s/file", d) }},
	{"MDTM", [][]string{{"list"}}, func(p *ftpPeer, d string) error { return p.cmd(213, "MDTM %s/file", d) }},
	{"RETR", [][]string{{"download"}}, func(p *ftpPeer, d string) error { _, err := p.transfer(nil, "RETR %s/file", d); return err }},
	{"XSHA256", [][]string{{"list"}, {"download"}}, func(p *ftpPeer, d string) error { return p.cmd(250, "XSHA256 %s/file", d) }},
	{"STOR new", [][]string{{"upload"}}, func(p *ftpPeer, d string) error { _, err := p.transfer([]byte("x"), "STOR %s/new", d); return err }},
	{"STOR", [][]string{{"overwrite"}}, func(p *ftpPeer, d string) error { _, err := p.transfer([]byte("x"), "STOR %s/file", d); return err }},
	{"APPE", [][]string{{"overwrite"}}, func(p *ftpPeer, d string) error { _, err := p.transfer([]byte("x"), "APPE %s/file", d); return err }},
	{"DELE", [][]string{{"delete", "delete_files"}}, func(p *ftpPeer, d string) error { return p.cmd(250, "DELE %s/file", d) }},
	{"RMD", [][]string{{"delete", "delete_dirs"}}, func(p *ftpPeer, d string) error { return p.cmd(250, "RMD %s/empty", d) }},
	{"MKD", [][]string{{"create_dirs"}}, func(p *ftpPeer, d string) error { return p.cmd(257, "MKD %s/new", d) }},
	{"RNTO", [][]string{{"rename", "rename_files"}}, func(p *ftpPeer, d string) error {
		if err := p.cmd(350, "RNFR %s/file", d); err != nil {
			return err
		}
		return p.cmd(250, "RNTO %s/new", d)
	}},
	{"RNTO onto a file", [][]string{{"rename", "rename_files"}, {"overwrite"}}, func(p *ftpPeer, d string) error {
		if err := p.cmd(350, "RNFR %s/file", d); err != nil {
			return err
		}
		return p.cmd(250, "RNTO %s/other", d)
	}},
	{"MFMT", [][]string{{"chtimes"}}, func(p *ftpPeer, d string) error { return p.cmd(213, "MFMT 20200101000000 %s/file", d) }},
	{"SITE CHMOD", [][]string{{"chmod"}}, func(p *ftpPeer, d string) error { return p.cmd(200, "SITE CHMOD 600 %s/file", d) }},
	{"SITE SYMLINK", [][]string{{"create_symlinks"}}, func(p *ftpPeer, d string) error { return p.cmd(200, "SITE SYMLINK file %s/new", d) }},
	{"SITE COPY", [][]string{{"copy"}, {"download"}, {"upload"}}, func(p *ftpPeer, d string) error { return p.cmd(200, "SITE COPY %s/file %s/new", d, d) }},
}

// TestFTPPermissionMatrix is TestPermissionMatrix over FTP. PATH-4.
func TestFTPPermissionMatrix(t *testing.T) {
	type test struct {
		user, dir, home string
		op              int
		allow           bool
	}
	base := t.TempDir()
	d := &account.Dump{}
	var tests []test
	for op, o := range ftpOperations {
		for place, pl := range places {
			add := func(list []string, allow bool) {
				name := fmt.Sprintf("u%d", len(tests))
				home := filepath.Join(base, name)
				u := newUser(name, home)
				u.Permissions = places[place].perms(list)
				if len(u.Permissions["/"]) == 0 {
					u.Permissions["/"] = []string{"chown"}
				}
				d.Users = append(d.Users, u)
				tests = append(tests, test{name, pl.dir, home, op, allow})
				fixture(t, filepath.Join(home, pl.dir))
			}
			var minimal []string
			for _, need := range o.needs {
				minimal = append(minimal, need[len(need)-1])
				add(slices.DeleteFunc(slices.Clone(rights), func(r string) bool { return slices.Contains(need, r) }), false)
			}
			add(minimal, true)
			add([]string{"*"}, true)
		}
	}
	_, port, _ := ftpServer(t, d)
	for _, tt := range tests {
		rootDir := filepath.Join(tt.home, tt.dir)
		before := snapshot(t, rootDir)
		p := ftpLogin(t, port, tt.user)
		err := ftpOperations[tt.op].do(p, strings.TrimSuffix(path.Clean("/"+tt.dir), "/"))
		p.Close()
		what := fmt.Sprintf("%s in %q with %v", ftpOperations[tt.op].name, tt.dir, permsOf(d, tt.user))
		switch {
		case tt.allow && err != nil:
			t.Errorf("%s: %v", what, err)
		case !tt.allow && !ftpDenied(err):
			t.Errorf("%s: %v, want permission denied", what, err)
		case !tt.allow && snapshot(t, rootDir) != before:
			t.Errorf("%s was refused but changed the tree", what)
		}
	}
	t.Logf("%d operations", len(tests))
}

// TestFTPPatternsAndQuota: permissions-and-filters.md 3 and 5 over FTP.
func TestFTPPatternsAndQuota(t *testing.T) {
	home := t.TempDir()
	u := newUser("p", home)
	u.QuotaFiles, u.QuotaSize = 6, 100_000
	u.Filters.FilePatterns = []account.PatternsFilter{{Path: "/show", DeniedPatterns: []string{"*.exe"}}, {Path: "/hide", DeniedPatterns: []string{"*.exe"}, DenyPolicy: 1}}
	for _, dir := range []string{"show", "hide"} {
		gantrytest.WriteFile(t, filepath.Join(home, dir, "a.exe"), "x")
		gantrytest.WriteFile(t, filepath.Join(home, dir, "a.txt"), "x")
	}
	s, port, _ := ftpServer(t, &account.Dump{Users: []account.User{u}})
	_ = s
	p := ftpLogin(t, port, "p")
	defer p.Close()
	code := func(err error) int {
		if e, ok := err.(*textproto.Error); ok {
			return e.Code
		}
		if err != nil {
			t.Fatal(err)
		}
		return 0
	}
	for _, tt := range []struct {
		data any
		line string
		want int
	}{
		{nil, "RETR /show/a.exe", 550}, {nil, "RETR /hide/a.exe", 550}, {nil, "RETR /show/a.txt", 0}, {[]byte("x"), "STOR /show/n.exe", 553},
		{[]byte("x"), "STOR /hide/a.exe", 553}, {make([]byte, 90_000), "STOR /big", 0}, {make([]byte, 20_000), "STOR /more", 552},
		{make([]byte, 20_000), "APPE /big", 552}, {make([]byte, 50_000), "STOR /big", 0},
	} {
		in, _ := tt.data.([]byte)
		_, err := p.transfer(in, "%s", tt.line)
		if _, broken := err.(net.Error); broken { // the server has stopped reading: its reply says why
			_, _, err = p.ReadResponse(226)
		}
		if got := code(err); got != tt.want {
			t.Errorf("%s: %v, want %d", tt.line, err, tt.want)
		}
	}
	out, err := p.transfer(nil, "NLST /hide")
	if err != nil || string(out) != "a.txt\r\n" {
		t.Errorf("%q %v", out, err)
	}
}

func TestFTPClients(t *testing.T) {
	home := t.TempDir()
	src := t.TempDir()
	makeTree(t, src)
	_, port, implicit := ftpServer(t, oneUser(newUser("c", home)))

	t.Run("lftp", func(t *testing.T) {
		lftp := need(t, "lftp", "lftp")
		for _, tt := range []struct{ name, open string }{
			{"plain", "set ftp:ssl-allow no; open -u c," + password + " -p " + port + " 127.0.0.1"},
			{"explicit", "set ssl:verify-certificate no; set ftp:ssl-force yes; set ftp:ssl-protect-data yes; open -u c," + password + " -p " + port + " 127.0.0.1"},
			{"implicit", "set ssl:verify-certificate no; open -u c," + password + " ftps://127.0.0.1:" + implicit},
		} {
			t.Run(tt.name, func(t *testing.T) {
				back := t.TempDir()
				script := "set net:max-retries 1; set net:timeout 20; set cmd:fail-exit yes; " + tt.open + "; mirror -R -P 3 " + src + " up-" + tt.name +
					"; mirror -P 3 up-" + tt.name + " " + back + "; pget -n 3 up-" + tt.name + "/sub/deep/er/3M -o " + filepath.Join(back, "pget") + "; ls -la; cls -l up-" + tt.name + "; quit"
				program{env: []string{"HOME=" + t.TempDir()}}.run(t, lftp, "-c", script)
				if a, err := os.ReadFile(filepath.Join(back, "pget")); err != nil {
					t.Error(err)
				} else if b, _ := os.ReadFile(filepath.Join(src, "sub/deep/er/3M")); string(a) != string(b) {
					t.Error("pget gave another content")
				}
				os.Remove(filepath.Join(back, "pget"))
				sameContents(t, src, back)
			})
		}
	})
	t.Run("curl", func(t *testing.T) {
		curl := need(t, "curl", "curl")
		file := filepath.Join(src, "sub/deep/er/3M")
		want, _ := os.ReadFile(file)
		for _, tt := range [][]string{
			{"ftp://127.0.0.1:" + port}, {"ftp://127.0.0.1:" + port, "--disable-epsv"}, {"ftp://127.0.0.1:" + port, "--ssl-reqd", "-k"},
			{"ftps://127.0.0.1:" + implicit, "-k"}, {"ftp://127.0.0.1:" + port, "--ssl-reqd", "-k", "--tls-max", "1.2"}, {"ftp://127.0.0.1:" + port, "--ftp-method", "nocwd"},
		} {
			args := append([]string{"-sS", "--max-time", "60", "-u", "c:" + password}, tt[1:]...)
			program{}.run(t, curl, append(args, "-T", file, "--ftp-create-dirs", tt[0]+"/curl/x/f")...)
			out := filepath.Join(t.TempDir(), "out")
			os.WriteFile(out, want[:1000], 0o600)
			program{}.run(t, curl, append(args, "-C", "-", "-o", out, tt[0]+"/curl/x/f")...)
			if got, _ := os.ReadFile(out); string(got) != string(want) {
				t.Errorf("%q: %d bytes, want %d", tt, len(got), len(want))
			}
			if got := (program{}).run(t, curl, append(args, "-r", "10-19", tt[0]+"/curl/x/f")...); got != string(want[10:20]) {
				t.Errorf("%q: range %q", tt, got)
			}
			if got := (program{}).run(t, curl, append(args, "-l", tt[0]+"/curl/x/")...); strings.TrimSpace(got) != "f" {
				t.Errorf("%q: list %q", tt, got)
			}
			if got := (program{}).run(t, curl, append(args, "-I", tt[0]+"/curl/x/f")...); !strings.Contains(got, fmt.Sprintf("Content-Length: %d", len(want))) || !strings.Contains(got, "Last-Modified:") {
				t.Errorf("%q: head %q", tt, got)
			}
			program{}.run(t, curl, append(args, "-a", "-T", file, tt[0]+"/curl/x/f")...) // APPE
			if got := (program{}).run(t, curl, append(args, "-I", tt[0]+"/curl/x/f")...); !strings.Contains(got, fmt.Sprintf("Content-Length: %d", 2*len(want))) {
				t.Errorf("%q: after an append %q", tt, got)
			}
			if got := (program{}).run(t, curl, append(args, "--use-ascii", "-r", "0-3", tt[0]+"/curl/x/f")...); len(got) == 0 {
				t.Errorf("%q: nothing in ASCII", tt)
			}
			program{}.run(t, curl, append(args, "-Q", "-RNFR curl/x/f", "-Q", "-RNTO curl/x/g", "-Q", "-DELE curl/x/g", "-o", out, tt[0]+"/")...)
		}
	})
	t.Run("tnftp", func(t *testing.T) {
		tnftp := need(t, "tnftp", "tnftp")
		file := filepath.Join(src, "sub/deep/er/3M")
		back := filepath.Join(t.TempDir(), "back")
		out := program{stdin: fmt.Sprintf("user c %s\nbinary\nmkdir tn\ncd tn\nput %s f\nls -la\nsize f\nmodtime f\nrename f g\nget g %s\nrestart 1000\nget g %s2\nnlist\nmls\nmlsd\npassive off\nquit\n", password, file, back, back)}.
			run(t, tnftp, "-n", "-v", "127.0.0.1", port)
		if a, _ := os.ReadFile(file); len(a) == 0 {
			t.Fatal("no source")
		} else if b, err := os.ReadFile(back); err != nil || string(a) != string(b) {
			t.Errorf("%d bytes, want %d: %v\n%s", len(b), len(a), err, out)
		}
	})
	t.Run("ncftp", func(t *testing.T) {
		put, get, ls := need(t, "ncftpput", "ncftp"), need(t, "ncftpget", "ncftp"), need(t, "ncftpls", "ncftp")
		back := t.TempDir()
		env := []string{"HOME=" + t.TempDir()}
		common := []string{"-u", "c", "-p", password, "-P", port}
		program{env: env}.run(t, put, append(common, "-R", "-m", "127.0.0.1", "/nc", filepath.Join(src, "sub"))...)
		program{env: env}.run(t, get, append(common, "-R", "127.0.0.1", back, "/nc/sub")...)
		sameFiles(t, filepath.Join(src, "sub"), filepath.Join(back, "sub"))
		if out := (program{env: env}).run(t, ls, append(common, "-l", "ftp://127.0.0.1/nc/")...); !strings.Contains(out, "sub") {
			t.Errorf("ncftpls: %q", out)
		}
	})
	t.Run("ftplib", func(t *testing.T) {
		python := need(t, "python3", "python3")
		program{stdin: fmt.Sprintf(pythonScript, port, password)}.run(t, python, "-")
	})
}

// TestFTPClientCertificates: curl logs in by a certificate alone, where the account takes it, and is refused without one
// where the binding wants one.
func TestFTPClientCertificates(t *testing.T) {
	curl, openssl := need(t, "curl", "curl"), need(t, "openssl", "openssl")
	dir, home := t.TempDir(), t.TempDir()
	ssl := func(args ...string) { t.Helper(); program{dir: dir}.run(t, openssl, args...) }
	ec := []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"}
	ssl(append([]string{"req", "-x509", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=our CA", "-days", "2"}, ec...)...)
	ssl(append([]string{"req", "-x509", "-keyout", "ftp.key", "-out", "ftp.crt", "-subj", "/CN=localhost", "-days", "2"}, ec...)...)
	ssl(append([]string{"req", "-keyout", "c.key", "-out", "c.csr", "-subj", "/CN=c"}, ec...)...)
	ssl("x509", "-req", "-in", "c.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", "c.crt", "-days", "2")
	u := newUser("c", home)
	u.Filters.TLSUsername = "CommonName"
	port, strict := gantrytest.FreePort(t), gantrytest.FreePort(t)
	gantrytest.Start(t, gantrytest.Options{Bin: bin, Dump: oneUser(u), Config: fmt.Sprintf(`{"ftpd":{"bindings":[{"address":"127.0.0.1","port":%s,"client_auth_type":2},
		{"address":"127.0.0.1","port":%s,"client_auth_type":1}],"certificate_file":%q,"certificate_key_file":%q,"ca_certificates":[%q],"passive_port_range":{"start":0,"end":0}}}`,
		port, strict, filepath.Join(dir, "ftp.crt"), filepath.Join(dir, "ftp.key"), filepath.Join(dir, "ca.crt"))})
	gantrytest.WriteFile(t, filepath.Join(home, "f"), "content")
	with := []string{"-sS", "-k", "--ssl-reqd", "--max-time", "30", "--cert", filepath.Join(dir, "c.crt"), "--key", filepath.Join(dir, "c.key")}
	for _, p := range []string{port, strict} {
		for _, tls := range []string{"1.2", "1.3"} {
			got := program{}.run(t, curl, append(with, "--tls-max", tls, "-u", "c:no password", "ftp://127.0.0.1:"+p+"/f")...)
			if got != "content" {
				t.Errorf("with a certificate: %q", got)
			}
		}
	}
	got := program{}.run(t, curl, "-sS", "-k", "--ssl-reqd", "-u", "c:"+password, "ftp://127.0.0.1:"+port+"/f")
	if got != "content" {
		t.Errorf("without a certificate, by password: %q", got)
	}
	if out, err := exec.Command(curl, "-sS", "-k", "--ssl-reqd", "--max-time", "30", "-u", "c:"+password, "ftp://127.0.0.1:"+strict+"/f").CombinedOutput(); err == nil {
		t.Errorf("nobody was asked for a certificate: %q", out)
	}
}

const pythonScript = `
import ftplib, io, ssl
port, password = %s, %q
def run(f):
    f.login("c", password)
    if isinstance(f, ftplib.FTP_TLS): f.prot_p()
    f.mkd("py"); f.cwd("py"); assert f.pwd() == "/py", f.pwd()
    data = bytes(range(256)) * 4000
    f.storbinary("STOR a", io.BytesIO(data)); assert f.size("a") == len(data)
    out = io.BytesIO(); f.retrbinary("RETR a", out.write, rest=1000); assert out.getvalue() == data[1000:]
    f.storlines("STOR t", io.BytesIO(b"one\ntwo\n")); lines = []; f.retrlines("RETR t", lines.append); assert lines == ["one", "two"], lines
    assert sorted(f.nlst()) == ["a", "t"], f.nlst()
    m = dict(f.mlsd()); assert m["a"]["size"] == str(len(data)) and m["a"]["type"] == "file", m
    lines = []; f.dir(lines.append); assert len(lines) == 2, lines
    f.rename("a", "b"); f.delete("b"); f.delete("t"); f.cwd(".."); f.rmd("py"); f.quit()
f = ftplib.FTP(); f.encoding = "utf-8"; f.connect("127.0.0.1", port, 30); run(f)
class Reuse(ftplib.FTP_TLS):
    def ntransfercmd(self, cmd, rest=None):
        conn, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        if self._prot_p: conn = self.context.wrap_socket(conn, server_hostname=self.host, session=self.sock.session)
        return conn, size
for cls in (ftplib.FTP_TLS, Reuse):
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT); ctx.check_hostname = False; ctx.verify_mode = ssl.CERT_NONE
    f = cls(context=ctx); f.connect("127.0.0.1", port, 30); run(f)
`

// sameContents compares the files of two trees and their times.
func sameContents(t *testing.T, want, got string) {
	t.Helper()
	compareTrees(t, want, got, true)
}

// sameFiles compares the files of two trees without their times, which some clients do not keep.
func sameFiles(t *testing.T, want, got string) {
	t.Helper()
	compareTrees(t, want, got, false)
}

func compareTrees(t *testing.T, want, got string, times bool) {
	t.Helper()
	n := 0
	filepath.Walk(want, func(p string, i os.FileInfo, err error) error {
		if err != nil || !i.Mode().IsRegular() {
			return err
		}
		n++
		rel, _ := filepath.Rel(want, p)
		a, _ := os.ReadFile(p)
		b, err := os.ReadFile(filepath.Join(got, rel))
		if err != nil || string(a) != string(b) {
			t.Errorf("%s: %v, %d bytes, want %d", rel, err, len(b), len(a))
			return nil
		}
		if j, _ := os.Stat(filepath.Join(got, rel)); times && !j.ModTime().Equal(i.ModTime()) {
			t.Errorf("%s: mtime %v, want %v", rel, j.ModTime(), i.ModTime())
		}
		return nil
	})
	if n == 0 {
		t.Error("nothing to compare")
	}
}
