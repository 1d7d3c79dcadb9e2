//go:build netns

package wiring

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A frame passes by one wiring, by both or by none.
type forgery struct {
	name   string
	passes string // "always", "never", or "routed" only
	frame  func(mark byte) []byte
}

func forgeries(a, b attached) []forgery {
	const v4, v6 = unix.ETH_P_IP, unix.ETH_P_IPV6
	addr := netip.MustParseAddr
	var all []forgery
	from := func(mac net.HardwareAddr, name, passes string, etherType uint16, payload ...[]byte) {
		all = append(all, forgery{name, passes, func(mark byte) []byte { return marked(mark, mac, etherType, payload...) }})
	}
	add := func(name, passes string, etherType uint16, payload ...[]byte) {
		from(a.Pod, name, passes, etherType, payload...)
	}
	own, others := a.Addresses[0].Addr(), b.Addresses[0].Addr()
	own6, others6 := a.Addresses[1].Addr(), b.Addresses[1].Addr()
	local, othersLocal := linkLocal(a.Pod), linkLocal(b.Pod)
	gateway, gateway6 := addr("10.244.1.1"), addr("fd24:0:0:1::1")
	none, none6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	chosen, nodes, routers := addr("fe80::99"), addr("ff02::1"), addr("ff02::2")

	add("IPv4", "always", v4, ipv4(own))
	add("IPv4 of another pod", "never", v4, ipv4(others))
	add("IPv4 of the gateway", "never", v4, ipv4(gateway))
	add("IPv4 of the node", "never", v4, ipv4(nodeAddress.Addr()))
	add("IPv4 of nobody", "never", v4, ipv4(none))
	add("IPv4 of the link's gateway", "never", v4, ipv4(linkGateway))
	add("half an IPv4 header", "never", v4, ipv4(own)[:10])

	add("ARP", "always", unix.ETH_P_ARP, arp(1, a.Pod, own))
	add("ARP answer", "always", unix.ETH_P_ARP, arp(2, a.Pod, own))
	add("ARP probe", "always", unix.ETH_P_ARP, arp(1, a.Pod, none))
	add("ARP answer of nobody", "never", unix.ETH_P_ARP, arp(2, a.Pod, none))
	add("ARP of another pod", "never", unix.ETH_P_ARP, arp(1, a.Pod, others))
	add("ARP answer of the gateway", "never", unix.ETH_P_ARP, arp(2, a.Pod, gateway))
	add("ARP with other lengths", "never", unix.ETH_P_ARP, append([]byte{0, 1, 8, 0, 6, 16}, arp(1, a.Pod, own)[6:]...))

	add("IPv6", "always", v6, udp6(own6))
	add("IPv6 of another protocol", "always", v6, ipv6(own6, others6, unix.IPPROTO_SCTP, make([]byte, 12)))
	add("IPv6 of another pod", "never", v6, udp6(others6))
	add("IPv6 of the gateway", "never", v6, udp6(gateway6))
	add("IPv6 of nobody", "never", v6, udp6(none6))
	add("link-local", "always", v6, udp6(local))
	add("link-local as chosen", "always", v6, udp6(chosen))
	add("link-local of another pod", "routed", v6, udp6(othersLocal))
	add("fragment", "always", v6, ipv6(own6, others6, unix.IPPROTO_FRAGMENT, []byte{unix.IPPROTO_ICMPV6, 0, 0, 8, 0, 0, 0, 1}, make([]byte, 16)))
	add("fragment that begins like an advertisement", "always", v6, ipv6(own6, others6, unix.IPPROTO_FRAGMENT, []byte{unix.IPPROTO_ICMPV6, 0, 0, 8, 0, 0, 0, 1}, icmpv6(136, others6)))
	add("fragment of another pod", "never", v6, ipv6(others6, own6, unix.IPPROTO_FRAGMENT, []byte{unix.IPPROTO_ICMPV6, 0, 0, 8, 0, 0, 0, 1}, make([]byte, 16)))

	icmp := func(name, passes string, src, dst netip.Addr, kind byte, target netip.Addr) {
		add(name, passes, v6, ipv6(src, dst, unix.IPPROTO_ICMPV6, icmpv6(kind, target)))
	}
	icmp("echo", "always", own6, others6, 128, none6)
	icmp("echo of another pod", "never", others6, own6, 128, none6)
	icmp("echo of nobody", "never", none6, nodes, 128, none6)
	icmp("router advertisement", "never", local, nodes, 134, none6)
	icmp("router advertisement from its address", "never", own6, nodes, 134, none6)
	icmp("router advertisement of nobody", "never", none6, nodes, 134, none6)
	icmp("redirect", "never", local, others6, 137, own6)
	icmp("redirect from its address", "never", own6, others6, 137, own6)
	icmp("router solicitation", "always", local, routers, 133, none6)
	icmp("router solicitation of nobody", "always", none6, routers, 133, none6)
	icmp("listener report", "always", none6, addr("ff02::16"), 143, none6)
	icmp("listener report of version 1", "always", none6, nodes, 131, none6)
	icmp("advertisement", "always", own6, nodes, 136, own6)
	icmp("advertisement from the link-local address", "always", local, nodes, 136, own6)
	icmp("advertisement of the link-local address", "always", local, nodes, 136, local)
	icmp("advertisement of another pod", "never", own6, nodes, 136, others6)
	icmp("advertisement of the gateway", "never", local, nodes, 136, gateway6)
	icmp("advertisement of another pod's link-local address", "routed", local, nodes, 136, othersLocal)
	add("advertisement of another pod behind options", "never", v6, ipv6(own6, nodes, unix.IPPROTO_DSTOPTS,
		[]byte{unix.IPPROTO_ICMPV6, 0, 1, 4, 0, 0, 0, 0}, icmpv6(136, others6)))
	icmp("solicitation", "always", own6, nodes, 135, others6)
	icmp("solicitation from another pod", "never", others6, nodes, 135, gateway6)
	icmp("probe", "always", none6, nodes, 135, own6)
	icmp("probe for the link-local address", "always", none6, nodes, 135, local)
	icmp("probe for another pod", "never", none6, nodes, 135, others6)
	icmp("probe for another pod's link-local address", "routed", none6, nodes, 135, othersLocal)
	icmp("probe that is not multicast", "never", none6, others6, 135, own6)

	add("LLDP", "never", 0x88cc, make([]byte, 46))
	add("PPPoE", "never", 0x8864, make([]byte, 46))
	add("VLAN", "always", unix.ETH_P_8021Q, []byte{0, 5, 8, 0}, ipv4(own))
	add("VLAN of another pod", "never", unix.ETH_P_8021Q, []byte{0, 5, 8, 0}, ipv4(others))
	add("priority tag of another pod", "never", unix.ETH_P_8021Q, []byte{0, 0, 8, 0}, ipv4(others))
	add("VLAN in a VLAN", "never", unix.ETH_P_8021Q, []byte{0, 5, 0x81, 0, 0, 6, 8, 0}, ipv4(own))

	from(b.Pod, "hardware address of another pod", "routed", v4, ipv4(own))
	from(hardware(macPod0, macPod1, gateway), "hardware address of the bridge", "routed", v4, ipv4(own))
	from(net.HardwareAddr{2, 0, 0, 0, 0, 9}, "hardware address as chosen", "always", v4, ipv4(own))
	return append(all, forgery{"the last", "always", func(mark byte) []byte { return marked(mark, a.Pod, v4, ipv4(own)) }})
}

// What a pod sends is looked at behind the guard, on the way to the node or the bridge.
func TestGuard(t *testing.T) {
	bothWirings(t, func(t *testing.T, bridge string) {
		n := newNode(t)
		a, b := n.pod(bridge), n.pod(bridge)
		must(t, reach(a.namespace, b.listen(b.Addresses[1].Addr()), 100)) // there is a carrier
		if bridge == "" {
			n.sort(a, b, "netdev", "ingress device "+a.Device)
		} else {
			n.sort(a, b, "bridge", "prerouting")
		}
	})
}

// What a pod sends to a bridge by way of an ifb, where its bandwidth is limited, is looked at as well.
func TestGuardBehindAnIfb(t *testing.T) {
	n := newNode(t)
	a, b := n.pod("cni0"), n.pod("cni0")
	n.run("ip", "link", "add", "ifb0", "up", "type", "ifb")
	n.run("tc", "qdisc", "add", "dev", a.Device, "ingress")
	n.run(strings.Fields("tc filter add dev " + a.Device + " parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev ifb0")...)
	must(t, reach(a.namespace, b.listen(b.Addresses[1].Addr()), 100))
	n.sort(a, b, "bridge", "prerouting")
}

// sort sends all forgeries from a, and sees which pass the guard, in a chain behind it.
func (n *node) sort(a, b attached, family, hook string) {
	t := n.t
	t.Helper()
	all := forgeries(a, b)
	rules := fmt.Sprintf("table %s watch { chain passed { type filter hook %s priority 0;\n", family, hook)
	for i := range all {
		rules += fmt.Sprintf("ether daddr 02:00:00:00:77:%02x counter\n", i)
	}
	n.run("nft", rules+"}; }")
	before := n.dropped(a.Device)

	const copies = 10
	a.send(all, copies)
	var passed []int
	for end := time.Now().Add(patience); ; {
		passed = counters(n.run("nft", "list", "table", family, "watch"), `counter packets (\d+)`)
		if passed[len(all)-1] == copies {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("of the last frames %d passed, want all %d", passed[len(all)-1], copies)
		}
	}
	dropped := 0
	for i, f := range all {
		want := copies
		if f.passes == "never" || f.passes == "routed" && a.Port.Bridge != "" {
			want = 0
			dropped += copies
		}
		if passed[i] != want {
			t.Errorf("%s: %d of %d pass, want %d", f.name, passed[i], copies, want)
		}
	}
	if got := n.dropped(a.Device) - before; got != dropped {
		t.Errorf("%d frames are counted as dropped, want %d", got, dropped)
	}
	if t.Failed() {
		t.Log(n.run("nft", "list", "ruleset"))
	}
	must(t, n.Check(a.Port))
}

// send keeps to one CPU, in whose queue the frames stay in order.
func (n *namespace) send(all []forgery, copies int) {
	n.t.Helper()
	index := n.link("eth0").Attrs().Index
	must(n.t, inside(n.file, func() error {
		var cpu unix.CPUSet
		cpu.Set(0)
		if err := unix.SchedSetaffinity(0, &cpu); err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for i, f := range all {
			for range copies {
				if err := unix.Sendto(fd, f.frame(byte(i)), 0, &unix.SockaddrLinklayer{Ifindex: index}); err != nil {
					return fmt.Errorf("%s: %w", f.name, err)
				}
			}
		}
		return nil
	}))
}

func counters(listing, pattern string) (values []int) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(listing, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			panic(err)
		}
		values = append(values, n)
	}
	return values
}

// dropped is the sum of what the guard has counted.
func (n *node) dropped(device string) (sum int) {
	var lists string
	for _, t := range tables() {
		table := strings.Fields(t.String())
		if strings.Contains(n.run("nft", "list", "chains", table[0]), device) {
			lists += n.run(append([]string{"nft", "list", "chain"}, append(table, device)...)...)
		}
	}
	for _, c := range counters(lists, `counter packets (\d+) bytes \d+ drop`) {
		sum += c
	}
	return sum
}

// A pod loses none of what it sends by itself.
func TestGuardLetsPodsLive(t *testing.T) {
	bothWirings(t, func(t *testing.T, bridge string) {
		n := newNode(t)
		a, b := n.pod(bridge), n.pod(bridge)
		for i := range a.Addresses {
			must(t, reach(a.namespace, b.listen(b.Addresses[i].Addr()), 5000)) // in fragments
			must(t, reach(n.namespace, a.listen(a.Addresses[i].Addr()), 5000))
		}
		for end := time.Now().Add(patience); !strings.Contains(a.run("ip", "-6", "addr", "show", "dev", "eth0", "-tentative"), linkLocal(a.Pod).String()); {
			if time.Now().After(end) {
				t.Fatalf("the pod has no link-local address:\n%s", a.run("ip", "-6", "addr"))
			}
		}
		for _, p := range []attached{a, b} {
			if got := n.dropped(p.Device); got != 0 {
				t.Errorf("%d packets are dropped:\n%s", got, n.run("nft", "list", "ruleset"))
			}
		}
	})
}

// What a former device of the name has left gives way: where somebody deleted the device, the kernel may keep its chain.
func TestGuardReplacesWhatIsLeft(t *testing.T) {
	bothWirings(t, func(t *testing.T, bridge string) {
		n := newNode(t)
		n.run("nft", "table netdev weft_pods { }; table bridge weft_pods { map ports { type ifname : verdict; }; }")
		other, a := n.pod(bridge), n.pod(bridge)
		n.run("ip", "link", "del", a.Device)
		if bridge != "" {
			n.run("nft", "insert", "rule", "bridge", tableName, a.Device, "accept")
		}
		_, err := n.Attach(a.Port)
		must(t, err)
		must(t, n.Check(a.Port))
		must(t, n.Check(other.Port))
	})
}

// A guard that lost a part is found and removed whole, and the table stays for the others.
func TestHalfAGuard(t *testing.T) {
	both := []string{"flush chain netdev weft_pods DEV", "delete chain netdev weft_pods DEV", "flush chain netdev weft_pods shared", "delete table netdev weft_pods"}
	for bridge, damages := range map[string][]string{
		"": both,
		"cni0": append(both, "delete table bridge weft_pods", "flush map bridge weft_pods ports", "flush chain bridge weft_pods prerouting",
			"flush map bridge weft_pods ports; delete chain bridge weft_pods DEV"),
	} {
		for _, damage := range damages {
			t.Run(fmt.Sprintf("bridge %q/%s", bridge, damage), func(t *testing.T) {
				n := newNode(t)
				a, b := n.pod(bridge), n.pod(bridge)
				n.run("nft", strings.ReplaceAll(damage, "DEV", a.Device))
				must(t, n.Detach(a.Device))
				if devices, err := n.Devices(); err != nil || !slices.Equal(devices, []string{b.Device}) {
					t.Errorf("Devices: %v, %v; want those of %s", devices, err, b.Device)
				}
				must(t, n.Detach(b.Device))
				if bridge == "" {
					n.removesBridges()
				} else {
					n.removesBridges(bridge)
				}
				if got := n.run("nft", "list", "ruleset"); got != "" {
					t.Errorf("left is\n%s", got)
				}
			})
		}
	}
}

// A bridge learns from frames that it does not forward, some of which pass none of its hooks.
func TestGuardOfFramesForTheLink(t *testing.T) {
	n := newNode(t)
	a, b := n.pod("cni0"), n.pod("cni0")
	must(t, reach(a.namespace, b.listen(b.Addresses[0].Addr()), 100))
	before := n.dropped(a.Device)
	frames := []forgery{
		{"another pod's hardware address", "never", func(byte) []byte { return forLink(b.Pod, unix.ETH_P_IP, ipv4(a.Addresses[0].Addr())) }},
		{"another pod's hardware address, and LLDP", "never", func(byte) []byte { return forLink(b.Pod, 0x88cc, make([]byte, 46)) }},
		{"another pod's address", "never", func(byte) []byte { return forLink(a.Pod, unix.ETH_P_IP, ipv4(b.Addresses[0].Addr())) }},
	}
	a.send(frames, 10)
	for end := time.Now().Add(patience); n.dropped(a.Device)-before != 10*len(frames); {
		if time.Now().After(end) {
			t.Fatalf("%d frames are counted as dropped, want %d:\n%s", n.dropped(a.Device)-before, 10*len(frames), n.run("nft", "list", "ruleset"))
		}
	}
	if at := n.run("bridge", "fdb", "show", "dev", a.Device); strings.Contains(at, b.Pod.String()) {
		t.Errorf("the bridge takes one pod for another:\n%s", at)
	}
}

func forLink(from net.HardwareAddr, etherType uint16, payload []byte) []byte {
	frame := marked(0, from, etherType, payload)
	copy(frame, net.HardwareAddr{0x01, 0x80, 0xc2, 0, 0, 0x0e}) // LLDP's (IEEE 802.1AB)
	return frame
}
