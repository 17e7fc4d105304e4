#!/usr/bin/env bash
# rclone's own test suites against the built Gantry over WebDAV, plain and with TLS; the backend's against Apache's mod_dav
# too, where it is.
#
#   internal/e2e/rclonedav.sh [PACKAGE...]     default: backend/webdav fs/operations fs/sync vfs
#
# Needs go, openssl and the Go module proxy; apache2 for the comparison. rclone is no dependency of ours: its tests are built
# outside our module, in $RCLONE_DIR (default: a folder in the user's cache), and kept there. Fails if a test fails on Gantry
# that passes on Apache, or if fewer passed than a run that really met the server has.
set -euo pipefail
cd "$(dirname "$0")/../.."
rclone=v1.76.0
built=${RCLONE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/gantry-rclone-$rclone}
packages=("$@")
[ ${#packages[@]} -gt 0 ] || packages=(backend/webdav fs/operations fs/sync vfs)
remotes=(${GANTRY_REMOTES:-gantry gantrytls})

work=$(mktemp -d)
chmod 755 "$work"
pids=()
end() {
	for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
	wait 2>/dev/null || true
	[ -n "${KEEP:-}" ] && echo "kept: $work" || rm -rf "$work"
}
trap end EXIT

mkdir -p "$built/fstest/testserver/init.d"
(
	cd "$built"
	[ -f go.mod ] || go mod init example.test/rclone 2>/dev/null
	for p in "${packages[@]}"; do
		[ -x "${p//\//-}.test" ] && continue
		go get "github.com/rclone/rclone@$rclone" 2>/dev/null
		go test -mod=mod -c -o "${p//\//-}.test" "github.com/rclone/rclone/$p"
	done
)

port() { python3 -c 'import random, socket
while True:
    try: s=socket.socket(); p=random.randrange(15000, 30000); s.bind(("127.0.0.1",p)); print(p); break
    except OSError: pass'; }
await() { for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return; sleep 0.1; done; echo "nothing listens on port $1"; exit 1; }

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$work/key" -out "$work/cert" -subj /CN=localhost -days 2 2>/dev/null
mkdir -p "$work/gantry" "$work/store" "$work/apache/w"
go build -o "$work/bin/" ./cmd/gantry
gport=$(port); tport=$(port); aport=$(port)
cat >"$work/gantry/gantry.json" <<JSON
{"common": {"max_per_host_connections": 0}, "sftpd": {"bindings": [{"port": 0}]}, "httpd": {"bindings": [{"port": 0}]},
 "webdavd": {"bindings": [{"address": "127.0.0.1", "port": $gport}, {"address": "127.0.0.1", "port": $tport, "enable_https": true, "prefix": "/dav"}],
  "certificate_file": "$work/cert", "certificate_key_file": "$work/key"}}
JSON
cat >"$work/dump.json" <<JSON
{"version": 16, "users": [{"username": "rc", "status": 1, "home_dir": "$work/store", "password": "rc-password", "permissions": {"/": ["*"]}}]}
JSON
"$work/bin/gantry" serve -c "$work/gantry" -l "$work/gantry.log" --loaddata-from "$work/dump.json" >"$work/gantry.out" 2>&1 &
pids+=($!)
await "$gport"

apache=$(command -v apache2 || echo /usr/sbin/apache2)
modules=/usr/lib/apache2/modules
if [ -x "$apache" ] && [ -f "$modules/mod_dav_fs.so" ]; then
	[ "$(id -u)" = 0 ] && chown -R daemon "$work/apache"
	cat >"$work/apache.conf" <<CONF
ServerName localhost
ServerRoot $work/apache
PidFile $work/apache/pid
ErrorLog $work/apache/error.log
Listen 127.0.0.1:$aport
User daemon
Group daemon
LoadModule mpm_event_module $modules/mod_mpm_event.so
LoadModule authz_core_module $modules/mod_authz_core.so
LoadModule dav_module $modules/mod_dav.so
LoadModule dav_fs_module $modules/mod_dav_fs.so
DavLockDB $work/apache/lockdb
DocumentRoot $work/apache/w
<Directory $work/apache/w>
	Require all granted
	Dav On
</Directory>
CONF
	"$apache" -f "$work/apache.conf" -DFOREGROUND 2>"$work/apache.log" &
	pids+=($!)
	await "$aport"
else
	apache=
fi

obscure() { # as rclone's config does: AES-CTR with its known key
	python3 - "$1" <<'PY'
import base64, os, subprocess, sys
key = bytes([0x9c,0x93,0x5b,0x48,0x73,0x0a,0x55,0x4d,0x6b,0xfd,0x7c,0x63,0xc8,0x86,0xa9,0x2b,0xd3,0x90,0x19,0x8e,0xb8,0x12,0x8a,0xfb,0xf4,0xde,0x16,0x2b,0x8b,0x95,0xf6,0x38])
iv = os.urandom(16)
out = subprocess.run(["openssl", "enc", "-aes-256-ctr", "-K", key.hex(), "-iv", iv.hex()], input=sys.argv[1].encode(), capture_output=True, check=True).stdout
print(base64.urlsafe_b64encode(iv + out).rstrip(b"=").decode())
PY
}
pass=$(obscure rc-password)
cat >"$work/rclone.conf" <<CONF
[gantry]
type = webdav
url = http://127.0.0.1:$gport/
vendor = other
user = rc
pass = $pass

[gantrytls]
type = webdav
url = https://127.0.0.1:$tport/dav
vendor = other
user = rc
pass = $pass

[apache]
type = webdav
url = http://127.0.0.1:$aport/
vendor = other
CONF
export RCLONE_CONFIG=$work/rclone.conf RCLONE_NO_CHECK_CERTIFICATE=true

count() { grep -c "^ *--- $1:" "$2" || true; }
failed() { sed -n 's/^ *--- FAIL: \([^ ]*\).*/\1/p' "$1" | sort; }
bad=0
printf '%-16s %-16s %6s %6s %6s\n' package server pass skip fail
for p in "${packages[@]}"; do
	run=(-test.v -test.timeout 20m)
	[ "$p" = backend/webdav ] && run+=(-test.run 'TestIntegration$')
	peer=$work/none
	: >"$peer"
	with=
	[ "$p" = backend/webdav ] && with=${apache:+apache}
	for server in $with "${remotes[@]}"; do
		out=$work/${p//\//-}.$server
		[ "$server" = apache ] && peer=$out
		(cd "$built" && "./${p//\//-}.test" "${run[@]}" -remote "$server:") >"$out" 2>&1 || true
		printf '%-16s %-16s %6s %6s %6s\n' "$p" "$server" "$(count PASS "$out")" "$(count SKIP "$out")" "$(count FAIL "$out")"
		# A remote that is not found passes by skipping everything; a crash fails without a word.
		[ "$(count PASS "$out")" -ge 60 ] || { echo "too few tests ran: $out"; tail -20 "$out"; bad=1; }
		[ "$server" = apache ] && continue
		new=$(comm -13 <(failed "$peer") <(failed "$out"))
		if [ -n "$new" ]; then
			bad=1
			echo "fails on Gantry${with:+ alone}:"
			echo "$new"
			for t in $new; do grep -B30 -- "--- FAIL: $t " "$out" | tail -40; done
		fi
	done
done
[ $bad -eq 0 ] || KEEP=1
exit $bad
