#!/usr/bin/env bash
# rclone's own test suites against the built Gantry over FTP, explicit and implicit FTPS; the backend's against vsftpd too,
# where it is (in the others vsftpd fails, and waits long for what never comes).
#
#   internal/e2e/rcloneftp.sh [PACKAGE...]     default: backend/ftp fs/operations fs/sync vfs
#
# Needs go, openssl and the Go module proxy; vsftpd in $GANTRY_BENCH_ROOT/usr/sbin or /usr/sbin, and root for it. rclone is
# no dependency of ours: its tests are built outside our module, in $RCLONE_DIR (default: a folder in the user's cache), and
# kept there. Fails if a test fails on Gantry that passes on vsftpd, or if fewer passed than a run that really met the
# server has.
set -euo pipefail
cd "$(dirname "$0")/../.."
rclone=v1.76.0
built=${RCLONE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/gantry-rclone-$rclone}
packages=("$@")
[ ${#packages[@]} -gt 0 ] || packages=(backend/ftp fs/operations fs/sync vfs)
remotes=(${GANTRY_REMOTES:-gantry gantrytls gantryimplicit})

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
mkdir -p "$work/gantry" "$work/store" "$work/v/w"
go build -o "$work/bin/" ./cmd/gantry
gport=$(port); iport=$(port); vport=$(port)
cat >"$work/gantry/gantry.json" <<JSON
{"common": {"max_per_host_connections": 0}, "sftpd": {"bindings": [{"port": 0}]},
 "ftpd": {"bindings": [{"address": "127.0.0.1", "port": $gport}, {"address": "127.0.0.1", "port": $iport, "tls_mode": 2}],
  "certificate_file": "$work/cert", "certificate_key_file": "$work/key", "passive_port_range": {"start": 0, "end": 0}, "hash_support": 1}}
JSON
cat >"$work/dump.json" <<JSON
{"version": 16, "users": [{"username": "rc", "status": 1, "home_dir": "$work/store", "password": "rc-password", "permissions": {"/": ["*"]}}]}
JSON
"$work/bin/gantry" serve -c "$work/gantry" -l "$work/gantry.log" --loaddata-from "$work/dump.json" >"$work/gantry.out" 2>&1 &
pids+=($!)
await "$gport"

vsftpd=
for f in "${GANTRY_BENCH_ROOT:-/nowhere}/usr/sbin/vsftpd" /usr/sbin/vsftpd; do [ -x "$f" ] && [ "$(id -u)" = 0 ] && { vsftpd=$f; break; }; done
if [ -n "$vsftpd" ]; then
	chown daemon "$work/v/w"
	mkdir -p /var/run/vsftpd/empty
	cat >"$work/vsftpd.conf" <<CONF
listen=YES
listen_address=127.0.0.1
listen_port=$vport
background=NO
ftp_username=daemon
nopriv_user=daemon
seccomp_sandbox=NO
anonymous_enable=YES
anon_root=$work/v
write_enable=YES
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_other_write_enable=YES
anon_umask=022
anon_world_readable_only=NO
mdtm_write=YES
max_clients=0
max_per_ip=0
CONF
	"$vsftpd" "$work/vsftpd.conf" 2>"$work/vsftpd.log" &
	pids+=($!)
	await "$vport"
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
type = ftp
host = 127.0.0.1
port = $gport
user = rc
pass = $pass

[gantrytls]
type = ftp
host = 127.0.0.1
port = $gport
user = rc
pass = $pass
explicit_tls = true
no_check_certificate = true

[gantryimplicit]
type = ftp
host = 127.0.0.1
port = $iport
user = rc
pass = $pass
tls = true
no_check_certificate = true

[vsftpdroot]
type = ftp
host = 127.0.0.1
port = $vport
user = anonymous
pass = $pass
writing_mdtm = true

[vsftpd]
type = alias
remote = vsftpdroot:w
CONF
export RCLONE_CONFIG=$work/rclone.conf

count() { grep -c "^ *--- $1:" "$2" || true; }
failed() { sed -n 's/^ *--- FAIL: \([^ ]*\).*/\1/p' "$1" | sort; }
bad=0
printf '%-16s %-16s %6s %6s %6s\n' package server pass skip fail
for p in "${packages[@]}"; do
	run=(-test.v -test.timeout 20m)
	[ "$p" = backend/ftp ] && run+=(-test.run 'TestIntegration$')
	peer=$work/none
	: >"$peer"
	with=
	[ "$p" = backend/ftp ] && with=${vsftpd:+vsftpd}
	for server in $with "${remotes[@]}"; do
		out=$work/${p//\//-}.$server
		at=$server:
		[ "$server" = vsftpd ] && at=vsftpdroot:w && peer=$out
		(cd "$built" && "./${p//\//-}.test" "${run[@]}" -remote "$at") >"$out" 2>&1 || true
		printf '%-16s %-16s %6s %6s %6s\n' "$p" "$server" "$(count PASS "$out")" "$(count SKIP "$out")" "$(count FAIL "$out")"
		# A remote that is not found passes by skipping everything; a crash fails without a word.
		[ "$(count PASS "$out")" -ge 60 ] || { echo "too few tests ran: $out"; tail -20 "$out"; bad=1; }
		[ "$server" = vsftpd ] && continue
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
