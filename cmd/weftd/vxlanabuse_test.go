//go:build netns

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/weft-net/weft/cmd/internal/control"
)

// vxlanDatagram is what a VXLAN device sends to the VTEP mac of a network.
func vxlanDatagram(vni uint32, mac net.HardwareAddr, etherType uint16, inner []byte) []byte {
	d := binary.BigEndian.AppendUint32([]byte{0x08, 0, 0, 0}, vni<<8)
	d = append(append(d, mac...), 2, 0, 0, 0, 0, 9)
	return append(binary.BigEndian.AppendUint16(d, etherType), inner...)
}

// EtherTypes (IEEE 802 Numbers).
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherVLAN = 0x8100
	etherWeft = 0x88b5 // of weft's own messages
)

// with is d with some bytes overwritten.
func with(d []byte, at int, bytes ...byte) []byte {
	d = slices.Clone(d)
	copy(d[at:], bytes)
	return d
}

// echoRequest is an IPv4 packet of ping's.
func echoRequest(t *testing.T, src, dst string) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
	icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0)}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, icmp, gopacket.Payload(make([]byte, 56)))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(buf.Bytes())
}

// arpRequest asks all stations for the address dst.
func arpRequest(dst net.IP) []byte {
	arp := []byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 244, 9, 0, 0, 0, 0, 0, 0, 0}
	return append(arp, dst.To4()...)
}

// Whatever a static peer's address sends to the VXLAN port is taken for no other node's,
// and is counted under the right reason, while a transfer between weft nodes loses
// nothing.
func TestVXLANAbuse(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.members[0], c.members[1]
	static, stranger := c.linuxNode("static", 9, false), c.linuxNode("stranger", 8, false)
	a.start(append(a.dualStack(), "--mode", "vxlan", "--static-peers", static.static())...)
	b.start(append(b.dualStack(), "--mode", "vxlan")...)
	c.converged()
	from, to := b.pod(20), a.pod(10)
	ping(t, from, to)
	before := c.settled()[a]

	status, err := a.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mac, err := net.ParseMAC(status.VXLAN.VTEPMAC)
	if err != nil {
		t.Fatal(err)
	}
	frame := func(inner []byte) []byte { return vxlanDatagram(1, mac, etherIPv4, inner) }
	packet := innerPacket(t, "10.244.9.10", "10.244.1.10", 100)
	good, echo := frame(packet), frame(echoRequest(t, "10.244.9.10", "10.244.1.10"))
	all := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	const udpChecksum = 8 + 14 + 20 + 6 // its place in good
	const start = (14 + 20) / 2         // where VXLAN says that a remote checksum's coverage starts
	remote := func(d []byte, field byte) []byte { return with(with(d, 1, 0x20), 7, field) }
	attacks := []struct {
		name   string
		from   *linuxNode
		data   []byte
		reason string // "" for what is no packet
	}{
		{"a stranger", stranger, good, "unknown-peer"},
		{"another network", static, vxlanDatagram(2, mac, etherIPv4, packet), "wrong-vni"},
		{"the largest network", static, vxlanDatagram(1<<24-1, mac, etherIPv4, packet), "wrong-vni"},
		{"another VTEP", static, vxlanDatagram(1, net.HardwareAddr{2, 0, 0, 0, 0, 1}, etherIPv4, packet), "wrong-vtep"},
		{"to all stations", static, vxlanDatagram(1, all, etherIPv4, packet), "wrong-vtep"},
		{"nothing", static, nil, "malformed"},
		{"half of a VXLAN header", static, good[:4], "malformed"},
		{"no frame", static, good[:8], "malformed"},
		{"half of an Ethernet header", static, good[:15], "malformed"},
		{"no packet", static, good[:22], "malformed"},
		{"half of an IPv4 header", static, good[:32], "malformed"},
		{"truncated", static, good[:len(good)-1], "malformed"},
		{"trailing bytes", static, append(slices.Clone(good), 0), "malformed"},
		{"no VNI", static, with(good, 0, 0), "malformed"},
		{"plain UDP", static, packet, "malformed"},
		{"a VLAN tag", static, vxlanDatagram(1, mac, etherVLAN, append([]byte{0, 5, 8, 0}, packet...)), "malformed"},
		{"an unknown protocol", static, vxlanDatagram(1, mac, 0x9000, packet), "malformed"},
		{"IPv4 said to be IPv6", static, vxlanDatagram(1, mac, 0x86dd, packet), "malformed"},
		{"a remote checksum where UDP has none", static, remote(good, start), "malformed"},
		{"one in the IPv4 header", static, remote(good, 0x80|(start-4)), "malformed"},
		{"one behind the end", static, remote(good, 0x80|0x7f), "malformed"},
		{"one in front of the packet", static, remote(good, 0x80|2), "malformed"},
		{"one of ICMP", static, remote(echo, 0x80|start), "malformed"},
		{"left to a device", static, unfinished(good, udpChecksum), "unsegmented"},
		{"another node's pod", static, frame(innerPacket(t, "10.244.2.20", "10.244.1.10", 100)), "spoofed"},
		{"another node", static, frame(innerPacket(t, b.Addr.String(), "10.244.1.10", 100)), "spoofed"},
		{"our own pod", static, frame(innerPacket(t, "10.244.1.11", "10.244.1.10", 100)), "spoofed"},
		{"transit", static, frame(innerPacket(t, "10.244.9.10", "10.244.2.20", 100)), "not-ours"},
		{"oversized", static, frame(innerPacket(t, "10.244.9.10", "10.244.1.10", 1451)), "too-big"},
		{"half of an ARP request", static, vxlanDatagram(1, all, etherARP, arpRequest(net.IPv4(10, 244, 1, 0))[:20]), ""},
		{"an ARP request for a pod", static, vxlanDatagram(1, all, etherARP, arpRequest(net.IPv4(10, 244, 1, 10))), ""},
		{"a forged probe", static, vxlanDatagram(1, mac, etherWeft, make([]byte, 32)), ""},
		{"an empty one", static, vxlanDatagram(1, mac, etherWeft, nil), ""},
	}
	const rounds = 50
	want := maps.Clone(before.Ingress.Drops)
	for _, attack := range attacks {
		if attack.reason != "" {
			want[attack.reason] += rounds
		}
	}

	ended := make(chan error, 1)
	go func() { ended <- transfer(t, from, to, 50<<20) }()
	for _, attack := range attacks {
		conn, err := dial(attack.from.Namespace, "udp4", a.Addr, 4789)
		if err != nil {
			t.Fatal(err)
		}
		for range rounds {
			if _, err := conn.Write(attack.data); err != nil {
				t.Errorf("%s: %v", attack.name, err)
			}
		}
		conn.Close()
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	after := c.settled()
	if n := after[a].Kernel.SocketOverflow; n != before.Kernel.SocketOverflow {
		t.Fatalf("%d datagrams overflowed the socket, so that the counts below mean nothing", n)
	}
	if diff := cmp.Diff(want, after[a].Ingress.Drops); diff != "" {
		t.Errorf("drops (-want +got):\n%s", diff)
	}
	checkCLI(t, a)
	if err := transfer(t, to, from, 1<<20); err != nil {
		t.Errorf("after all: %v", err)
	}
}

// unfinished is d with the checksum at a place of it as a sender leaves it to its
// device: the sum of the pseudo header alone, which ends at the length of the UDP datagram.
func unfinished(d []byte, at int) []byte {
	ip := d[8+14:]
	words := slices.Concat(ip[12:20], []byte{0, ip[9]}, ip[24:26])
	sum := uint32(0)
	for pair := range slices.Chunk(words, 2) {
		sum += uint32(binary.BigEndian.Uint16(pair))
	}
	sum = sum>>16 + sum&0xffff
	return with(d, at, byte(sum>>8), byte(sum))
}

// Of two VXLAN devices that are set up wrongly weft says what is wrong with each.
func TestWrongVXLANDevice(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	a := c.members[0]
	otherVNI, otherMAC := c.linuxNode("othervni", 8, false), c.linuxNode("othermac", 9, false)
	a.start(append(a.dualStack(), "--mode", "vxlan", "--join", "", "--static-peers", otherVNI.static()+","+otherMAC.static())...)
	a.ready()
	here := a.pod(10)
	otherVNI.vxlan(a, 2, false)
	otherMAC.vxlan(a, 1, false)
	otherMAC.commands(t,
		"bridge fdb append 02:00:00:00:00:77 dev vxlan0 dst "+a.Addr.String(),
		"ip neigh replace 10.244.1.0 lladdr 02:00:00:00:00:77 dev vxlan0 nud permanent")
	before := c.settled()[a].Ingress
	for n, reason := range map[*linuxNode]string{otherVNI: "wrong-vni", otherMAC: "wrong-vtep"} {
		n.commands(t, "ethtool -K eth0 tx off")
		if _, err := n.Run(t.Context(), "ping", "-c", "3", "-i", "0.1", "-W", "1", "-I", fmt.Sprintf("10.244.%d.0", n.number), here.Addr.String()); err == nil {
			t.Errorf("%s reaches a pod", n)
		}
		if got := c.settled()[a].Ingress.Drops[reason] - before.Drops[reason]; got != 3 {
			t.Errorf("of 3 packets of %s %d were dropped as %s", n, got, reason)
		}
	}
	diagnosis, err := a.client.Doctor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(diagnosis.Findings, func(f control.Finding) bool {
		return strings.Contains(f.What, "3 packets were dropped as wrong-vni") && f.Fix != ""
	}) {
		t.Errorf("weft doctor says nothing of wrong-vni: %+v", diagnosis.Findings)
	}
}
