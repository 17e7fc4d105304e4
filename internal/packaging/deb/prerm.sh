#!/bin/sh
# Stops the server when the package goes, not when a newer one comes.
set -e
case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now gantry.socket gantry.service || true
	fi
	;;
esac
