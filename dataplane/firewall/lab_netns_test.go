//go:build netns

package firewall

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A lab is a node with three cables: eth0 to the underlay, pod0 to a pod, and weft0, a cable in the place of the TUN.
// Each leads to a namespace that has all addresses of that side.
type lab struct {
	node, underlay, pod, remote netns.NsHandle
	fw                          *Firewall
}

// An addressing holds the addresses of one family.
type addressing struct {
	networks, own, direct        string
	node, peer                   string // on the underlay
	pod, remotePod, directPod    string
	strangerPod, outside, forged string // strangerPod is of a node that does not send directly
}

var addressings = map[string]addressing{
	"IPv4": {
		networks: "10.244.0.0/16", own: "10.244.1.0/24", direct: "10.244.3.0/24",
		node: "192.0.2.1", peer: "192.0.2.2",
		pod: "10.244.1.5", remotePod: "10.244.2.5", directPod: "10.244.3.5",
		strangerPod: "10.244.4.5", outside: "203.0.113.9", forged: "10.244.1.77",
	},
	"IPv6": {
		networks: "fd44::/48", own: "fd44:0:0:1::/64", direct: "fd44:0:0:3::/64",
		node: "fd00::1", peer: "fd00::2",
		pod: "fd44:0:0:1::5", remotePod: "fd44:0:0:2::5", directPod: "fd44:0:0:3::5",
		strangerPod: "fd44:0:0:4::5", outside: "2001:db8::9", forged: "fd44:0:0:1::77",
	},
}

func testState() State {
	s := State{Tun: "weft0", Underlay: "eth0", DataPorts: []uint16{8285, 4789}, GossipPort: 7946, Masquerade: true}
	for _, name := range []string{"IPv4", "IPv6"} {
		a := addressings[name]
		s.PodNetworks = append(s.PodNetworks, netip.MustParsePrefix(a.networks))
		s.PodCIDRs = append(s.PodCIDRs, netip.MustParsePrefix(a.own))
		s.Direct = append(s.Direct, netip.MustParsePrefix(a.direct))
		s.Endpoints = append(s.Endpoints, netip.MustParseAddr(a.node))
	}
	return s
}

// newNode moves the test into a namespace of its own and opens a Firewall there. The thread stays locked, and the
// runtime throws it away with the test.
func newNode(t *testing.T) *Firewall {
	t.Helper()
	runtime.LockOSThread()
	ns, err := netns.New()
	must(t, err)
	t.Cleanup(func() { ns.Close() })
	return open(t)
}

func open(t *testing.T) *Firewall {
	t.Helper()
	fw, err := Open()
	must(t, err)
	t.Cleanup(func() { must(t, fw.Close()) })
	return fw
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{fw: newNode(t)}
	var err error
	l.node, err = netns.Get()
	must(t, err)
	t.Cleanup(func() { l.node.Close() })
	for _, side := range []*netns.NsHandle{&l.underlay, &l.pod, &l.remote} {
		*side, err = netns.New() // and enters it
		must(t, err)
		t.Cleanup(func() { side.Close() })
	}
	must(t, netns.Set(l.node))
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644))
	must(t, os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0o644))
	setUp(t, "lo")
	var underlay, pod, remote, node []string
	for _, a := range addressings {
		underlay = append(underlay, a.peer, a.directPod, a.strangerPod, a.outside, a.forged)
		pod = append(pod, a.pod, a.directPod+"9", a.outside+"9")
		remote = append(remote, a.remotePod, a.outside)
		node = append(node, a.node)
	}
	l.cable(t, "eth0", l.underlay, underlay, node)
	l.cable(t, "weft1a2b", l.pod, pod, nil)
	l.cable(t, "weft0", l.remote, remote, nil)
	for _, a := range addressings {
		route(t, "eth0", a.peer, a.direct, a.outside, a.strangerPod)
		route(t, "weft1a2b", a.pod)
		route(t, "weft0", a.remotePod)
	}
	return l
}

// cable joins the node to a namespace in which everything leads back.
func (l *lab) cable(t *testing.T, name string, far netns.NsHandle, farAddrs, nodeAddrs []string) {
	t.Helper()
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "far0", PeerNamespace: netlink.NsFd(far)}))
	setUp(t, name)
	near := link(t, name).Attrs().HardwareAddr
	addAddresses(t, name, nodeAddrs)
	must(t, os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/rp_filter", []byte("0"), 0o644))
	var farMAC net.HardwareAddr
	l.in(t, far, func() {
		setUp(t, "lo")
		setUp(t, "far0")
		farMAC = link(t, "far0").Attrs().HardwareAddr
		addAddresses(t, "far0", farAddrs)
		for _, gateway := range []string{"169.254.1.1", "fe80::1"} {
			neighbour(t, "far0", gateway, near)
			route := &netlink.Route{LinkIndex: link(t, "far0").Attrs().Index, Gw: net.ParseIP(gateway), Flags: int(netlink.FLAG_ONLINK)}
			must(t, netlink.RouteAdd(route))
		}
	})
	for _, a := range farAddrs {
		neighbour(t, name, a, farMAC)
	}
}

// in runs do in another namespace, on the test's own thread.
func (l *lab) in(t *testing.T, ns netns.NsHandle, do func()) {
	t.Helper()
	must(t, netns.Set(ns))
	defer func() { must(t, netns.Set(l.node)) }()
	do()
}

// patience is for what must arrive; absence is how long nothing must.
const (
	patience = 5 * time.Second
	absence  = 200 * time.Millisecond
)

// send sends a datagram and returns the source with which it arrived, or ok = false.
func (l *lab) send(t *testing.T, from netns.NsHandle, src string, to netns.NsHandle, dst string, port int, wait time.Duration) (source string, ok bool) {
	t.Helper()
	var receiver, sender *net.UDPConn
	var err error
	l.in(t, to, func() {
		receiver, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(dst), Port: port})
		must(t, err)
	})
	defer receiver.Close()
	l.in(t, from, func() {
		sender, err = net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(src)}, &net.UDPAddr{IP: net.ParseIP(dst), Port: port})
		must(t, err)
	})
	defer sender.Close()
	if _, err := sender.Write([]byte("weft")); err != nil && !errors.Is(err, unix.EPERM) { // dropped at once
		t.Fatal(err)
	}
	must(t, receiver.SetReadDeadline(time.Now().Add(wait)))
	_, peer, err := receiver.ReadFromUDPAddrPort(make([]byte, 10))
	if err != nil {
		return "", false
	}
	return peer.Addr().Unmap().String(), true
}

// connect opens a TCP connection and closes it.
func (l *lab) connect(t *testing.T, from netns.NsHandle, src string, to netns.NsHandle, dst string, wait time.Duration) error {
	t.Helper()
	var listener net.Listener
	var err error
	l.in(t, to, func() {
		listener, err = net.ListenTCP("tcp", &net.TCPAddr{IP: net.ParseIP(dst), Port: 9001})
		must(t, err)
	})
	defer listener.Close()
	l.in(t, from, func() {
		var c net.Conn
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(src)}, Timeout: wait}
		if c, err = dialer.Dial("tcp", net.JoinHostPort(dst, "9001")); err == nil {
			c.Close()
		}
	})
	return err
}

func (l *lab) mustPass(t *testing.T, what string, from netns.NsHandle, src string, to netns.NsHandle, dst, as string) {
	t.Helper()
	if got, ok := l.send(t, from, src, to, dst, 9000, patience); !ok || got != as {
		t.Errorf("%s: %s to %s arrives: %t, from %q, want from %q", what, src, dst, ok, got, as)
	}
}

func (l *lab) mustDrop(t *testing.T, what string, from netns.NsHandle, src string, to netns.NsHandle, dst string) {
	t.Helper()
	before := spoofed(t, l.fw)
	if got, ok := l.send(t, from, src, to, dst, 9000, absence); ok {
		t.Errorf("%s: %s to %s arrives, from %s", what, src, dst, got)
	}
	if after := spoofed(t, l.fw); after != before+1 {
		t.Errorf("%s: %d packets counted, want 1", what, after-before)
	}
}

func spoofed(t *testing.T, fw *Firewall) uint64 {
	t.Helper()
	n, err := fw.Spoofed()
	must(t, err)
	return n
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// apply is an Apply that must succeed.
func apply(t *testing.T, fw *Firewall, s State) (repaired bool) {
	t.Helper()
	repaired, err := fw.Apply(s)
	must(t, err)
	return repaired
}

// remove is a Remove that must succeed.
func remove(t *testing.T, fw *Firewall) (removed []string) {
	t.Helper()
	removed, err := fw.Remove()
	must(t, err)
	return removed
}

func link(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	return l
}

func setUp(t *testing.T, name string) {
	t.Helper()
	must(t, netlink.LinkSetUp(link(t, name)))
}

func hostNet(addr string) *net.IPNet {
	if _, n, err := net.ParseCIDR(addr); err == nil {
		return n
	}
	a := netip.MustParseAddr(addr)
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

func addAddresses(t *testing.T, name string, addrs []string) {
	t.Helper()
	for _, a := range addrs {
		must(t, netlink.AddrAdd(link(t, name), &netlink.Addr{IPNet: hostNet(a), Flags: unix.IFA_F_NODAD}))
	}
}

func route(t *testing.T, name string, prefixes ...string) {
	t.Helper()
	for _, p := range prefixes {
		must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: link(t, name).Attrs().Index, Dst: hostNet(p), Scope: netlink.SCOPE_LINK}))
	}
}

func neighbour(t *testing.T, name, addr string, mac net.HardwareAddr) {
	t.Helper()
	must(t, netlink.NeighSet(&netlink.Neigh{LinkIndex: link(t, name).Attrs().Index, State: unix.NUD_PERMANENT, IP: net.ParseIP(addr), HardwareAddr: mac}))
}

// run runs a command in the namespace of the test's thread.
func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// nft runs a script.
func nft(t *testing.T, script string) {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
}
