#!/bin/sh
# Removal keeps accounts and files. Purge takes what Gantry made for itself; the users' files in /srv/gantry stay.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
if [ "$1" = purge ]; then
	rm -rf /var/lib/gantry
	rm -f /etc/gantry/gantry.env
	rmdir /etc/gantry /srv/gantry 2>/dev/null || true
	if [ ! -e /srv/gantry ]; then
		userdel gantry 2>/dev/null || true
	fi
fi
