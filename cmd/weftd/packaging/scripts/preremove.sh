#!/bin/sh
# Before the files go. dpkg says "remove", rpm says that no version stays; at an upgrade weftd goes on.
set -e

case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac

running=no
if [ -d /run/systemd/system ]; then
    ! systemctl -q is-active weftd.service || running=yes
    systemctl stop weftd.service
fi

# It refuses while pods are attached, whose runtime needs the plugin to remove them.
if ! weft uninstall; then
    [ $running = no ] || systemctl start --no-block weftd.service
    echo "weft is still needed on this machine, so that it stays installed" >&2
    exit 1
fi
[ ! -d /run/systemd/system ] || systemctl -q disable weftd.service
