#!/bin/sh
# After the files are in place. dpkg says "configure" and the former version, which is empty at the
# first installation; rpm says how many versions there are.
set -e

upgrade=no
case "$1" in
configure) [ -z "$2" ] || upgrade=yes ;;
abort-*) exit 0 ;;
[2-9]) upgrade=yes ;;
esac

[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload

if [ $upgrade = yes ]; then
    # A weftd that runs hands over to the one of this version, and packets go on. Where that takes
    # long, as the other nodes cannot be reached, the package manager does not wait.
    systemctl --no-block try-restart weftd.service
    exit 0
fi

# Not started: it has to be told of a key, and of another node.
if systemctl -q is-active NetworkManager.service; then
    systemctl --no-block reload NetworkManager.service || true
fi
if systemctl -q is-active systemd-networkd.service; then
    echo "systemd-networkd leaves weft's routes alone when it has been restarted: systemctl restart systemd-networkd"
fi
echo "edit /etc/weft/weft.yaml, then start weft: systemctl enable --now weftd"
