#!/usr/bin/env bash
# rclone's own test suites against the built Gantry, and against OpenSSH on the same storage.
#
#   internal/e2e/rclone.sh [PACKAGE...]     default: backend/sftp fs/operations fs/sync vfs
#
# Needs go, sshd, ssh-keygen and the Go module proxy. rclone is no dependency of ours: its tests are built
# outside our module, in $RCLONE_DIR (default: a folder in the user's cache), and kept there. Fails if a test
# fails on Gantry that passes on OpenSSH, or if fewer passed than a run that really met the server has.
set -euo pipefail
cd "$(dirname "$0")/../.."
repo=$PWD
rclone=v1.76.0
built=${RCLONE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/gantry-rclone-$rclone}
packages=("$@")
[ ${#packages[@]} -gt 0 ] || packages=(backend/sftp fs/operations fs/sync vfs)

work=$(mktemp -d)
pids=()
end() {
	for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
	wait 2>/dev/null || true
	[ -n "${KEEP:-}" ] && echo "kept: $work" || rm -rf "$work"
}
trap end EXIT

# The tests look for this folder upward from the working directory.
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

port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
await() { for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return; sleep 0.1; done; echo "nothing listens on port $1"; exit 1; }

ssh-keygen -q -t ed25519 -N '' -f "$work/key"
mkdir -p "$work/gantry" "$work/store/gantry" "$work/store/openssh" "$work/sshd"

# Gantry
go build -o "$work/bin/" ./cmd/gantry
gport=$(port)
cat >"$work/dump.json" <<JSON
{"version": 16, "users": [{"username": "rc", "status": 1, "home_dir": "$work/store/gantry",
 "public_keys": ["$(cut -d' ' -f1,2 "$work/key.pub")"], "permissions": {"/": ["*"]}}]}
JSON
GANTRY_SFTPD__BINDINGS__0__PORT=$gport GANTRY_SFTPD__BINDINGS__0__ADDRESS=127.0.0.1 GANTRY_COMMON__MAX_PER_HOST_CONNECTIONS=0 \
	"$work/bin/gantry" serve -c "$work/gantry" -l "$work/gantry.log" --loaddata-from "$work/dump.json" >"$work/gantry.out" 2>&1 &
pids+=($!)

# OpenSSH
sport=$(port)
ssh-keygen -q -t ed25519 -N '' -f "$work/sshd/host"
cat >"$work/sshd/config" <<CONF
Port $sport
ListenAddress 127.0.0.1
HostKey $work/sshd/host
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
AuthorizedKeysFile $work/key.pub
MaxStartups 1000
MaxSessions 1000
Subsystem sftp internal-sftp
ForceCommand internal-sftp -d $work/store/openssh
CONF
mkdir -p /run/sshd 2>/dev/null || true
"$(command -v sshd || echo /usr/sbin/sshd)" -D -e -f "$work/sshd/config" 2>"$work/sshd.log" &
pids+=($!)
await "$gport"
await "$sport"

cat >"$work/rclone.conf" <<CONF
[gantry]
type = sftp
host = 127.0.0.1
port = $gport
user = rc
key_file = $work/key
shell_type = ${GANTRY_SHELL:-none}

[openssh]
type = sftp
host = 127.0.0.1
port = $sport
user = $(id -un)
key_file = $work/key
shell_type = none
CONF
export RCLONE_CONFIG=$work/rclone.conf

count() { grep -c "^ *--- $1:" "$2" || true; }
failed() { sed -n 's/^ *--- FAIL: \([^ ]*\).*/\1/p' "$1" | sort; }
bad=0
printf '%-16s %-10s %6s %6s %6s\n' package server pass skip fail
for p in "${packages[@]}"; do
	run=(-test.v -test.timeout 20m)
	[ "$p" = backend/sftp ] && run+=(-test.run 'TestIntegration$')
	for server in openssh gantry; do
		out=$work/${p//\//-}.$server
		(cd "$built" && "./${p//\//-}.test" "${run[@]}" -remote "$server:") >"$out" 2>&1 || true
		printf '%-16s %-10s %6s %6s %6s\n' "$p" "$server" "$(count PASS "$out")" "$(count SKIP "$out")" "$(count FAIL "$out")"
		# A remote that is not found passes by skipping everything; a crash fails without a word.
		[ "$(count PASS "$out")" -ge 90 ] || { echo "too few tests ran: $out"; tail -20 "$out"; bad=1; }
	done
	new=$(comm -13 <(failed "$work/${p//\//-}.openssh") <(failed "$work/${p//\//-}.gantry"))
	if [ -n "$new" ]; then
		bad=1
		echo "fails on Gantry alone:"
		echo "$new"
		for t in $new; do grep -B30 -- "--- FAIL: $t " "$work/${p//\//-}.gantry" | tail -40; done
	fi
done
[ $bad -eq 0 ] || KEEP=1
exit $bad
