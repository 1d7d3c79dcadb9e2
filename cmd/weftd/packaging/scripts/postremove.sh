#!/bin/sh
# After the files are gone. dpkg says "purge" where configuration and state shall go too; rpm knows no such thing,
# and leaves both.
set -e

[ ! -d /run/systemd/system ] || systemctl daemon-reload

if [ "$1" = purge ]; then
    # weft.yaml has been removed by then, as a file of the package's; gossip.key was made by hand.
    rm -rf /var/lib/weft
    rm -f /etc/weft/gossip.key
    [ ! -d /etc/weft ] || rmdir --ignore-fail-on-non-empty /etc/weft
fi
