#!/usr/bin/env bash
# OpenSSH's sshd with the built Gantry as its SFTP subsystem.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
chmod 755 "$work"
pid=
trap '[ -n "$pid" ] && kill $pid; wait; rm -rf "$work"' EXIT
go build -o "$work/bin/" ./cmd/gantry
port=$(python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])')
ssh-keygen -q -t ed25519 -N '' -f "$work/key"
ssh-keygen -q -t ed25519 -N '' -f "$work/host"
mkdir -p "$work/conf" /run/sshd
cat >"$work/config" <<CONF
Port $port
ListenAddress 127.0.0.1
HostKey $work/host
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
AuthorizedKeysFile $work/key.pub
Subsystem sftp $work/bin/gantry startsubsys -c $work/conf -d $work/homes
CONF
"$(command -v sshd || echo /usr/sbin/sshd)" -D -e -f "$work/config" 2>"$work/sshd.log" &
pid=$!
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break; sleep 0.1; done
opt=(-q -i "$work/key" -P "$port" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes)
scp "${opt[@]}" -r -p vfs "$(id -un)@127.0.0.1:/up"
diff -r vfs "$work/homes/$(id -un)/up"
printf 'get -rp /up %s\nrename /up/path.go /up/p.go\nls /up\n' "$work/down" >"$work/batch"
sftp "${opt[@]}" -b "$work/batch" "$(id -un)@127.0.0.1" >"$work/out"
diff -r vfs "$work/down"
grep -q p.go "$work/out"
echo "ok: a tree both ways through sshd and gantry startsubsys"
