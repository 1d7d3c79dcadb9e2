#!/bin/sh
# The .deb in the Debian at $1/debian, which is booted on an underlay with another node. Called by run.sh in network and
# mount namespaces of its own, which end with it.
set -eu

work=$1
root=$work/debian
key=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=

step() { echo "== $*"; }
fail() {
    inside journalctl -u weftd --no-pager -n 40 2>/dev/null || true
    tail -n 20 "$work/peer.log" 2>/dev/null || true
    echo "FAILED: $*"
    exit 1
}
inside() { nsenter -t "$leader" -m -u -i -n -p -- "$@"; }
# eventually COMMAND... until it succeeds, for a minute.
eventually() {
    for _ in $(seq 120); do
        ! "$@" >/dev/null 2>&1 || return 0
        sleep 0.5
    done
    fail "waited a minute for: $*"
}
kernel() { # what weft may change
    inside sh -c 'ip -o link | cut -d" " -f2; ip -4 route show table all; ip -6 route show table all | grep -v fe80; ip rule; nft list ruleset; sysctl -a 2>/dev/null | grep -E "forwarding|ip_forward|rp_filter|accept_ra "'
}
files() { # what weft may leave, beside what dpkg and systemd write for every package and unit
    inside find / /run -xdev \( -path /proc -o -path /var/lib/dpkg -o -path /var/log -o -path /var/cache -o -path /run/systemd -o -path /run/agetty.reload \
        -o -path /var/lib/systemd -o -path '/tmp/systemd-private-*' -o -path '/var/tmp/systemd-private-*' \) -prune -o -print | sort
}
finish() {
    kill ${peer:-} ${server:-} 2>/dev/null || true
    [ -z "${nspawn:-}" ] || { kill -TERM "$nspawn" 2>/dev/null && wait "$nspawn" || true; }
}
trap finish EXIT

ip link set lo up
ip link add a0 type veth peer name b0
ip address add 198.51.100.2/24 dev b0
ip link set b0 up
mount -t tmpfs tmpfs /run/netns 2>/dev/null || { mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns; }

SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn -D "$root" --register=no --keep-unit --private-network \
    --bind=/dev/net/tun --capability=CAP_NET_ADMIN,CAP_NET_RAW -b --console=read-only >"$work/boot.log" 2>&1 &
nspawn=$!
leader=
for _ in $(seq 120); do
    leader=$(pgrep -P "$nspawn" | head -n 1) && [ -n "$leader" ] && inside systemctl is-system-running 2>/dev/null | grep -Eq "running|degraded" && break
    sleep 0.5
done
[ -n "$leader" ] || { cat "$work/boot.log"; exit 1; }
ip link set a0 netns "$leader"
inside ip address add 198.51.100.1/24 dev a0
inside ip link set a0 up
inside ip route add default via 198.51.100.2
kernel >"$work/before"
inside touch /next.deb # which the upgrade takes
files >"$work/files"

step "installed: nothing runs"
inside dpkg -i /weft.deb >/dev/null
! inside systemctl -q is-active weftd || fail "weftd was started without a configuration"
! inside systemctl -q is-enabled weftd || fail "weftd was enabled"

step "started: ready when traffic can flow"
printf '%s\n' $key >"$root/etc/weft/gossip.key"
chmod 600 "$root/etc/weft/gossip.key"
printf 'podCIDR: 10.244.1.0/24\nmode: udp\nunderlay: a0\njoin: [198.51.100.2]\n' >>"$root/etc/weft/weft.yaml"
mkdir "$work/peer"
cp "$root/etc/weft/gossip.key" "$work/peer/"
"$root/usr/bin/weftd" --config /dev/null --node-name peer --pod-cidr 10.244.2.0/24 --underlay b0 --join 198.51.100.1 \
    --gossip-key-file "$work/peer/gossip.key" --socket "$work/peer/s" --state-dir "$work/peer/state" >"$work/peer.log" 2>&1 &
peer=$!
inside systemctl enable --now weftd 2>/dev/null || fail "it did not start"
inside weft status | grep -q ready || fail "systemd says started, and weftd is not ready"
eventually inside sh -c "weft peers --json | grep -q '\"state\": \"up\"'"
inside systemctl show -p StatusText weftd
eventually inside ping -c 1 -W 1 10.244.2.0

step "reloaded"
sed -i 's/^mode: udp/mode: vxlan/' "$root/etc/weft/weft.yaml"
inside systemctl reload weftd || fail "reload"
inside weft status --json | grep -q '"mode": "vxlan"' || fail "the reload changed nothing"
echo "mtu: 3" >>"$root/etc/weft/weft.yaml"
! inside systemctl reload weftd 2>/dev/null || fail "a reload of a broken file succeeds"
sed -i '/^mtu: 3/d; s/^mode: vxlan/mode: udp/' "$root/etc/weft/weft.yaml"
inside systemctl reload weftd || fail "reload"

step "works as confined as the unit has it, in every mode"
for mode in direct udp vxlan auto udp; do
    sed -i "s/^mode: .*/mode: $mode/" "$root/etc/weft/weft.yaml"
    inside systemctl restart weftd || fail "restart in mode $mode"
    eventually inside ping -c 1 -W 1 10.244.2.0
    inside weft trace 10.244.1.0 10.244.2.0 >"$work/trace" || { cat "$work/trace"; fail "a trace in mode $mode"; }
    inside sh -c 'ps -L -o cls= -p $(systemctl show -p MainPID --value weftd)' | grep -q B || fail "the workers have not the policy that they ask for"
    ! inside journalctl -u weftd --no-pager -b | grep -iE "operation not permitted|permission denied|read-only file system" || fail "the unit forbids what weftd needs"
done

# under_traffic SECONDS COMMAND... runs that while UDP and TCP are sent for so long: no datagram is lost, and the connection lasts.
under_traffic() {
    seconds=$1
    shift
    # As much as a busy machine's iperf3 takes without losing any by itself, in a large buffer.
    inside iperf3 -c 10.244.2.0 -u -b 10M -w 4M -l 1000 -t "$seconds" -J >"$work/udp.json" &
    udp=$!
    inside iperf3 -c 10.244.2.0 -p 5202 -b 20M -t "$seconds" -J >"$work/tcp.json" &
    tcp=$!
    sleep 5 # of the streams
    "$@"
    kill -0 $udp 2>/dev/null || fail "the streams ended before: $*"
    wait $udp || fail "the stream broke"
    wait $tcp || fail "the connection broke"
    python3 - "$work/udp.json" "$work/tcp.json" <<'END' || fail "packets were lost"
import json, sys
udp, tcp = (json.load(open(f))["end"] for f in sys.argv[1:])
print("sent %d datagrams, lost %d; TCP carried %d MB" % (udp["sum"]["packets"], udp["sum"]["lost_packets"], tcp["sum_received"]["bytes"] >> 20))
sys.exit(udp["sum"]["lost_packets"] != 0 or tcp["sum_received"]["bytes"] == 0)
END
}
iperf3 -s >/dev/null &
server=$!
iperf3 -s -p 5202 >/dev/null &
server="$server $!"
eventually sh -c 'ss -ltn | grep -q :5201 && ss -ltn | grep -q :5202'

step "upgraded under traffic"
upgrade() {
    before=$(inside systemctl show -p MainPID --value weftd)
    inside dpkg -i --force-confold /next.deb >/dev/null || fail "upgrade"
    eventually inside sh -c "p=\$(systemctl show -p MainPID --value weftd); [ \"\$p\" != $before ] && systemctl -q is-active weftd"
}
dpkg-deb -R "$root/weft.deb" "$work/next"
sed -i 's/^Version: .*/&+next/' "$work/next/DEBIAN/control"
dpkg-deb -Znone -b "$work/next" "$root/next.deb" >/dev/null
under_traffic 30 upgrade
grep -q "podCIDR: 10.244.1.0/24" "$root/etc/weft/weft.yaml" || fail "the upgrade replaced the configuration"

step "restarted 100 times under traffic"
restarts() {
    for i in $(seq 100); do
        inside systemctl restart weftd || fail "restart $i"
    done
}
under_traffic 120 restarts

step "killed by the watchdog when it is stuck"
inside mkdir -p /run/systemd/system/weftd.service.d
inside sh -c 'printf "[Service]\nWatchdogSec=5\n" >/run/systemd/system/weftd.service.d/test.conf && systemctl daemon-reload && systemctl restart weftd'
inside systemctl kill -s STOP weftd
eventually inside sh -c 'journalctl -u weftd -b --no-pager | grep -qi "watchdog timeout"'
eventually inside sh -c 'systemctl -q is-active weftd && weft status | grep -q ready'
eventually inside ping -c 1 -W 1 10.244.2.0
inside sh -c 'rm -r /run/systemd/system/weftd.service.d && systemctl daemon-reload'

step "purged: nothing stays"
inside systemctl -q is-active weftd || fail "it does not run after the upgrade"
inside dpkg -P weft || fail "purge"
kernel >"$work/after"
diff "$work/before" "$work/after" || fail "the machine is not as it was before"
files | diff "$work/files" - || fail "files are not as they were before"
