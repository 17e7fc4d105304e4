#!/bin/sh
# deb: configure [OLD-VERSION]; rpm: the number of versions that are installed then.
set -e
case "$1" in abort-*) exit 0 ;; esac
upgrade=
case "$1" in configure) [ -z "$2" ] || upgrade=1 ;; [2-9]*) upgrade=1 ;; esac

getent group gantry >/dev/null || groupadd --system gantry
getent passwd gantry >/dev/null ||
	useradd --system --gid gantry --home-dir /var/lib/gantry --no-create-home --shell /usr/sbin/nologin --comment "Gantry file-transfer server" gantry
for d in /var/lib/gantry /srv/gantry; do
	[ -d "$d" ] || install -d -m 0750 -o gantry -g gantry "$d"
done
chgrp gantry /etc/gantry /etc/gantry/gantry.json
chmod 0750 /etc/gantry
chmod 0640 /etc/gantry/gantry.json # it may come to hold secrets

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	if [ -n "$upgrade" ]; then
		systemctl try-restart gantry.service || true
	else
		systemctl enable --now gantry.service || true
	fi
fi
