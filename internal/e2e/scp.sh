#!/usr/bin/env bash
# scp -O, the built-in commands and their refusals, by OpenSSH's clients against the built Gantry.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
pid=
trap '[ -n "$pid" ] && kill $pid; wait; rm -rf "$work"' EXIT
go build -o "$work/bin/" ./cmd/gantry
port=$(python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])')
ssh-keygen -q -t ed25519 -N '' -f "$work/key"
mkdir -p "$work/gantry"
user() { printf '{"username":"%s","status":1,"home_dir":"%s/store","public_keys":["%s"],"permissions":{"/":[%s]}}' "$1" "$work" "$(cut -d' ' -f1,2 "$work/key.pub")" "$2"; }
echo "{\"version\":16,\"users\":[$(user all '"*"'),$(user look '"list"')]}" >"$work/dump.json"
GANTRY_SFTPD__BINDINGS__0__PORT=$port GANTRY_SFTPD__BINDINGS__0__ADDRESS=127.0.0.1 GANTRY_SFTPD__ENABLED_SSH_COMMANDS='*' \
	"$work/bin/gantry" serve -c "$work/gantry" -l "$work/log" --loaddata-from "$work/dump.json" >"$work/out" 2>&1 &
pid=$!
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break; sleep 0.1; done
opt=(-i "$work/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes)
rsh() { u=$1; shift; timeout 60 ssh "${opt[@]}" -p "$port" "$u@127.0.0.1" "$@"; }
cp_() { timeout 120 scp -q -O "${opt[@]}" -P "$port" "$@"; }
list() { (cd "$1" && find . -printf '%y %m %s %T@ %p\n' | sed 's/\(\.[0-9]*\) / /' | grep -v '^d.* \.$' | sort -k5; find . -type f -print0 | sort -z | xargs -0 sha256sum); }
same() { diff <(list "$1") <(list "$2") >"$work/diff" || { head "$work/diff"; echo "FAIL: $3"; exit 1; }; echo "ok: $3"; }
refused() { what=$1; shift; if "$@" >"$work/said" 2>&1; then echo "FAIL: $what was allowed"; exit 1; fi; echo "ok: $what refused: $(tail -1 "$work/said")"; }

mkdir -p "$work/src/empty" "$work/src/with space/deep"
cp -r ssh vfs "$work/src/"
head -c 30000000 /dev/urandom >"$work/src/big"
: >"$work/src/zero"; echo q >"$work/src/with space/it's \"quoted\" \$x;y"; chmod 600 "$work/src/zero"; chmod 755 "$work/src/big"
find "$work/src" -exec touch -d '2020-02-03 04:05:06' {} +

cp_ -r -p "$work/src" all@127.0.0.1:up
same "$work/src" "$work/store/up" "scp -O -r -p up"
cp_ -r -p all@127.0.0.1:up "$work/down"
same "$work/src" "$work/down" "scp -O -r -p down"
cp_ "$work/src/zero" "$work/src/big" all@127.0.0.1:/up/empty/
cmp "$work/src/big" "$work/store/up/empty/big" && echo "ok: two files into a directory"
cp_ -T "all@127.0.0.1:'/up/with space/it'\\''s \"quoted\" \$x;y'" "$work/q" && cmp "$work/q" "$work/src/with space/it's \"quoted\" \$x;y" && echo "ok: a quoted name"
for a in md5 sha1 sha256 sha384 sha512; do
	[ "$(rsh all ${a}sum /up/big | cut -d' ' -f1)" = "$(${a}sum <"$work/src/big" | cut -d' ' -f1)" ]
	[ "$(rsh all ${a}sum <"$work/src/big")" = "$(${a}sum <"$work/src/big")" ]
done
echo "ok: checksums of a file and of standard input"
[ "$(rsh all pwd)" = / ] && rsh all cd /x && rsh all gantry-copy /up/ssh /copy && diff -r "$work/src/ssh" "$work/store/copy" && echo "ok: gantry-copy"
rsh all gantry-remove /copy && [ ! -e "$work/store/copy" ] && echo "ok: gantry-remove"
printf '[g]\ntype = sftp\nhost = 127.0.0.1\nport = %s\nuser = all\nkey_file = %s\nshell_type = unix\n' "$port" "$work/key" >"$work/rclone.conf"
if command -v rclone >/dev/null; then
	rclone --config "$work/rclone.conf" check "$work/src/ssh" g:up/ssh 2>&1 | grep -E '0 differences|matching' | head -2
	[ "$(rclone --config "$work/rclone.conf" md5sum g:up/big | cut -d' ' -f1)" = "$(md5sum <"$work/src/big" | cut -d' ' -f1)" ] && echo "ok: rclone's hashes by shell commands"
fi
refused "upload without the right" cp_ "$work/src/zero" look@127.0.0.1:z
refused "download without the right" cp_ look@127.0.0.1:up/big "$work/z"
refused "checksum without the right" rsh look md5sum /up/big
refused "removal without the right" rsh look gantry-remove /up
refused "a shell" rsh all
refused "another command" rsh all id
refused "a command behind another" rsh all 'pwd; id'
refused "a glob" cp_ 'all@127.0.0.1:up/b*' "$work/z"
refused "a way out" cp_ all@127.0.0.1:../../../etc/passwd "$work/z"
