#!/bin/sh
# After the files are gone. dpkg says "purge" where configuration and state shall go too; rpm knows no such thing,
# and leaves both.
set -e

[ ! -d /run/systemd/system ] || systemctl daemon-reload

if [ "$1" = purge ]; then
    # weft.yaml has been removed by then, as a file of the package's; gossip.key was made by hand.
    rm -rf /var/lib/weft
    rm -f /etc/weft/gossip.key
    # Which the unit makes. Of the last, others may have something.
    for folder in /etc/weft /etc/cni/net.d /etc/cni; do
        dpkg-query -S $folder >/dev/null 2>&1 || [ ! -d $folder ] || rmdir --ignore-fail-on-non-empty $folder
    done
fi
