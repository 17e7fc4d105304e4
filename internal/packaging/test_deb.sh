#!/usr/bin/env bash
# The Debian package in a clean root: install, check, serve, transfer, upgrade, remove, purge. Needs root and
# debootstrap. GANTRY_TEST_ROOT names a bootstrapped root to copy instead of making one.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
pid=
# The server is the child of the shell that runs the function.
stop() { [ -z "$pid" ] || { kill $(ps -o pid= --ppid "$pid") 2>/dev/null || true; wait "$pid" || true; pid=; }; }
trap 'stop; umount "$work/root/proc" 2>/dev/null || true; rm -rf --one-file-system "$work"' EXIT
if [ -n "${GANTRY_TEST_ROOT:-}" ]; then cp -a "$GANTRY_TEST_ROOT" "$work/root"; else debootstrap --variant=minbase bookworm "$work/root" >"$work/log" || { tail "$work/log"; exit 1; }; fi
arch=$(dpkg --print-architecture)
root() { chroot "$work/root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
make -s packages VERSION=0.0.1 ARCHES="$arch" && mv bin/gantry_0.0.1_"$arch".deb "$work/root/1.deb"
make -s packages VERSION=0.0.2 ARCHES="$arch" && mv bin/gantry_0.0.2_"$arch".deb "$work/root/2.deb"
root dpkg -i /1.deb
root gantry version
for f in /usr/bin/gantry /etc/gantry/gantry.json /usr/lib/systemd/system/gantry.service /usr/share/man/man1/gantry-serve.1.gz \
	/usr/share/bash-completion/completions/gantry /etc/fail2ban/filter.d/gantry.conf /var/lib/gantry /srv/gantry; do test -e "$work/root$f" || { echo "missing: $f"; exit 1; }; done
[ "$(root stat -c '%U %a' /var/lib/gantry)" = "gantry 750" ]
as() { root setpriv --reuid=gantry --regid=gantry --clear-groups env HOME=/var/lib/gantry "$@"; }
mount -t proc proc "$work/root/proc" 2>/dev/null || true
port=$(python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])')
b="GANTRY_SFTPD__BINDINGS__0__PORT=$port GANTRY_SFTPD__BINDINGS__0__ADDRESS=127.0.0.1"
as env $b gantry check -c /var/lib/gantry >"$work/check"
grep -q /etc/gantry/gantry.json "$work/check" && grep -q 'configuration is valid' "$work/check"
as env $b gantry serve -c /var/lib/gantry --first-user joe >"$work/console" 2>&1 &
pid=$!
for _ in $(seq 300); do grep -q 'is ready' "$work/console" && break; kill -0 $pid || { cat "$work/console"; exit 1; }; sleep 0.1; done
password=$(grep -A2 'shown this once' "$work/console" | tail -1 | tr -d ' ')
as env $b gantry ping -c /var/lib/gantry
printf '#!/bin/sh\necho %s\n' "$password" >"$work/ask" && chmod 700 "$work/ask"
printf 'put README.md\nls -l\n' >"$work/batch"
SSH_ASKPASS="$work/ask" SSH_ASKPASS_REQUIRE=force sftp -q -P "$port" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
	-o PubkeyAuthentication=no -o BatchMode=no -b - -oBatchMode=no joe@127.0.0.1 <"$work/batch"
cmp README.md "$work/root/srv/gantry/joe/README.md"
stop
echo '{"common":{"upload_mode":2}}' >"$work/root/etc/gantry/gantry.json"
root dpkg --force-confold -i /2.deb
root gantry version >"$work/version" && grep 0.0.2 "$work/version"
grep -q '"upload_mode":2' "$work/root/etc/gantry/gantry.json"
test -e "$work/root/var/lib/gantry/gantry.db"
root dpkg -r gantry
test -e "$work/root/var/lib/gantry/gantry.db" && test -e "$work/root/etc/gantry/gantry.json"
root dpkg -P gantry
test ! -e "$work/root/var/lib/gantry" && test ! -e "$work/root/etc/gantry" && cmp README.md "$work/root/srv/gantry/joe/README.md"
echo "ok: install, check, serve, transfer, upgrade, remove, purge"
