//go:build netns

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sync/errgroup"

	"github.com/weft-net/weft/bench/topo"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
)

// flannel's udp backend sends and takes bare IP packets in UDP. What a pod is sent so,
// it gets, and its answers have nothing around them and nothing left to do, also where
// they leave the pod as a superpacket.
func TestFlannelUDP(t *testing.T) {
	c := newCluster(t, 1)
	a := c.members[0]
	node, err := c.Node("flannel")
	if err != nil {
		t.Fatal(err)
	}
	a.start(append(a.dualStack(), "--join", "", "--static-peers", "name=flannel mode=udp podCIDR=10.244.9.0/24,fd00:10:244:9::/64 address="+node.Addr.String())...)
	a.ready()
	pod := dualPod(t, a.Node, byte(a.number), a.mtu())
	wire := newFlannel(t, node, a.Addr)
	far := []netip.Addr{netip.MustParseAddr("10.244.9.9"), netip.MustParseAddr("fd00:10:244:9::9")}
	for i, near := range []netip.Addr{pod.Addr, pod.Addr6} {
		server := listenUDP(t, pod.Namespace)
		deadline := time.Now().Add(patience)
		if err := errors.Join(server.SetDeadline(deadline), wire.SetDeadline(deadline)); err != nil {
			t.Fatal(err)
		}
		from, to := netip.AddrPortFrom(far[i], 40000), netip.AddrPortFrom(near, echoPort)
		for _, size := range []int{1, 100, a.mtu() - 48} {
			data := bytes.Repeat([]byte{byte(size)}, size)
			var group errgroup.Group
			group.Go(func() error { return echo(server, 1) })
			if _, err := wire.WriteToUDPAddrPort(udpPacket(t, from, to, data), wire.to); err != nil {
				t.Fatal(err)
			}
			if got := wire.payload(to, from); !bytes.Equal(got, data) {
				t.Errorf("of %d bytes to %s %d others came back", size, near, len(got))
			}
			if err := group.Wait(); err != nil {
				t.Error(err)
			}
		}
		if err := segments(server, datagramSize); err != nil {
			t.Fatal(err)
		}
		data := bytes.Repeat([]byte("superpacket"), burst*datagramSize)[:burst*datagramSize]
		if _, err := server.WriteToUDPAddrPort(data, from); err != nil {
			t.Fatal(err)
		}
		for want := range slices.Chunk(data, datagramSize) {
			if got := wire.payload(to, from); !bytes.Equal(got, want) {
				t.Errorf("a segment of %d other bytes came", len(got))
			}
		}
		server.Close()
	}
	d := c.settled()[a]
	if d.Ingress.Received != 6 || d.Ingress.Forwarded != 6 {
		t.Errorf("of 6 packets %d were received and %d forwarded", d.Ingress.Received, d.Ingress.Forwarded)
	}
}

// flannel is a node's end of flannel's udp backend.
type flannel struct {
	*net.UDPConn
	t  *testing.T
	to netip.AddrPort // the other end
}

func newFlannel(t *testing.T, node *topo.Node, to netip.Addr) *flannel {
	t.Helper()
	const port = 8285
	f := &flannel{t: t, to: netip.AddrPortFrom(to, port)}
	err := node.Do(func() (err error) {
		f.UDPConn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(node.Addr, port)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// payload is that of the next packet, which is to be a whole one of UDP from pod to pod
// and nothing else, with right checksums.
func (f *flannel) payload(from, to netip.AddrPort) []byte {
	f.t.Helper()
	buf := make([]byte, 1<<16)
	n, _, err := f.ReadFromUDPAddrPort(buf)
	if err != nil {
		f.t.Fatal(err)
	}
	p := buf[:n]
	l := reference.Read(p)
	if l.Protocol != packet.ProtocolUDP || l.Fragment {
		f.t.Fatalf("no packet of UDP arrives: %x", p[:min(n, 60)])
	}
	addresses, again := p[8:40], bytes.Clone(p)
	if l.Version == 4 {
		addresses = p[12:20]
		reference.HeaderChecksum(again)
	}
	reference.Checksum(again, false)
	ports := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from.Port()), to.Port())
	if !bytes.Equal(p, again) || !bytes.Equal(addresses, slices.Concat(from.Addr().AsSlice(), to.Addr().AsSlice())) || !bytes.Equal(p[l.Transport:l.Transport+4], ports) {
		f.t.Errorf("from %s to %s a packet arrives as\n%x, and with right checksums is\n%x", from, to, p[:min(n, 60)], again[:min(n, 60)])
	}
	return p[l.Transport+8:]
}

// udpPacket is the packet of a datagram from pod to pod.
func udpPacket(t *testing.T, from, to netip.AddrPort, payload []byte) []byte {
	t.Helper()
	udp := &layers.UDP{SrcPort: layers.UDPPort(from.Port()), DstPort: layers.UDPPort(to.Port())}
	var ip interface {
		gopacket.NetworkLayer
		gopacket.SerializableLayer
	} = &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolUDP, HopLimit: 64, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
	if from.Addr().Is4() {
		ip = &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
	}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, udp, gopacket.Payload(payload))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(buf.Bytes())
}
