//go:build netns

package encap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
)

// Of the kernel's end of a VXLAN network, and of a pod behind the other end.
var (
	kernelAddrs = [2]netip.Addr{netip.MustParseAddr("10.244.2.0"), netip.MustParseAddr("fd00:10:244:2::1")}
	podAddrs    = [2]netip.Addr{netip.MustParseAddr("10.244.1.7"), netip.MustParseAddr("fd00:10:244:1::7")}
	gateways    = []netip.Addr{netip.MustParseAddr("10.244.1.0"), netip.MustParseAddr("fd00:10:244:1::1")}
)

const kernelPort = 5353

// run runs a command in the namespace of the thread.
func run(t *testing.T, command string) {
	t.Helper()
	words := strings.Fields(command)
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
}

// kernelVTEP makes a VXLAN device at end 1 of the cable. It learns where VTEPs are,
// and routes the pods of end 0 by a gateway that it must resolve.
func kernelVTEP(t *testing.T, family int, flags string) {
	t.Helper()
	local, remote := cableAddrs[family][1], cableAddrs[family][0]
	run(t, fmt.Sprintf("ip link add vxlan0 address %s type vxlan id %d dstport 4789 local %s remote %s learning %s",
		vxlan.Remote, vxlan.VNI, local, remote, flags))
	run(t, "ip address add "+kernelAddrs[0].String()+"/32 dev vxlan0")
	run(t, "ip address add "+kernelAddrs[1].String()+"/128 dev vxlan0 nodad")
	run(t, "ip link set vxlan0 up")
	for i, pod := range podAddrs {
		run(t, fmt.Sprintf("ip route add %s via %s dev vxlan0 onlink", pod, gateways[i]))
	}
	// Else the device at the other end gets what checksum offload leaves undone.
	run(t, "ethtool -K cable tx off")
}

// A kernel's VXLAN device and this package understand each other: addresses are
// resolved and learnt, packets go both ways, with remote checksums and without.
func TestKernelVXLAN(t *testing.T) {
	for outer := range cableAddrs {
		for name, flags := range map[string]string{
			"checksums":        "udpcsum noudp6zerocsumtx",
			"remote checksums": "udpcsum noudp6zerocsumtx remcsumtx remcsumrx",
			"none outside":     "noudpcsum udp6zerocsumtx",
		} {
			t.Run(fmt.Sprintf("%s/%s", cableAddrs[outer][0], name), func(t *testing.T) {
				rco := strings.Contains(flags, "remcsumtx")
				c := newCable(t)
				var p *Port
				c.in(0, func() {
					p = listenAs(t, ListenConfig{
						Addrs: []netip.Addr{netip.MustParseAddr(cableAddrs[outer][0])},
						Ports: map[Codec]uint16{VXLAN: 4789}, Need: VXLAN, VNI: vxlan.VNI, Workers: 1, Want: offload.All,
					})
				})
				c.in(1, func() {
					kernelVTEP(t, outer, flags)
					to := netip.AddrPortFrom(netip.MustParseAddr(cableAddrs[outer][1]), 4789)
					resolve(t, p, to)
					for inner := range kernelAddrs {
						(&conversation{t: t, port: p, to: to, inner: inner, rco: rco}).hold()
					}
				})
			})
		}
	}
}

// conversation is between a socket of the kernel behind its VXLAN device, and a pod
// that the test plays.
type conversation struct {
	t     *testing.T
	port  *Port
	to    netip.AddrPort // the kernel's VTEP
	inner int            // family
	rco   bool

	fd int // the kernel's socket
}

func (c *conversation) hold() {
	local, pod := netip.AddrPortFrom(kernelAddrs[c.inner], kernelPort), netip.AddrPortFrom(podAddrs[c.inner], 40000)
	c.fd = kernelSocket(c.t, local)
	for _, size := range []int{1, 2, 17, 1300} {
		question := bytes.Repeat([]byte{byte(size)}, size)
		if err := unix.Sendto(c.fd, question, 0, socketAddress(pod)); err != nil {
			c.t.Fatal(err)
		}
		got, sum := c.packet()
		if want := udpPacket(c.t, local, pod, question); !bytes.Equal(bare(got), bare(want)) {
			c.t.Errorf("of %d bytes the kernel sent\n%x, want\n%x", size, got[:min(70, len(got))], want[:min(70, len(want))])
		}
		if want := c.checksum(); sum != want {
			c.t.Errorf("the kernel sent the checksum %v, want %v", sum, want)
		}
		answer := bytes.Repeat([]byte{byte(size + 1)}, size+1)
		c.answer(udpPacket(c.t, pod, local, answer))
		buf := make([]byte, 2000)
		if n, _, err := unix.Recvfrom(c.fd, buf, 0); err != nil || !bytes.Equal(buf[:n], answer) {
			c.t.Errorf("the kernel received %x %v, want %x", buf[:n], err, answer)
		}
	}
	c.checkLearnt()
}

// kernelSocket is a UDP socket that waits, but not for ever.
func kernelSocket(t *testing.T, local netip.AddrPort) (fd int) {
	t.Helper()
	family := unix.AF_INET6
	if local.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	limit := unix.NsecToTimeval(fuse.Nanoseconds())
	if err := errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit), bind(fd, local)); err != nil {
		t.Fatal(err)
	}
	return fd
}

// checksum is what both sides leave to the other.
func (c *conversation) checksum() Checksum {
	header := []int{20, 40}[c.inner]
	if !c.rco {
		return Checksum{}
	}
	return Checksum{Start: header, Field: header + 6}
}

// resolve answers the kernel's questions for the pod's VTEP, for the length of the test.
func resolve(t *testing.T, p *Port, to netip.AddrPort) {
	t.Helper()
	pod := &Station{VNI: vxlan.VNI, MAC: vxlan.Local}
	serveControl(t, p, func(_ *ControlSocket, datagram []byte) {
		inner, _, kind := pod.Decap(VXLAN, datagram)
		if kind != Neighbour {
			return
		}
		if answer, ok := pod.AppendNeighbour(nil, inner, gateways, vxlan); ok {
			if err := p.SendOne(answer, to); err != nil {
				t.Error(err)
			}
		}
	})
}

// packet waits until the kernel sends a packet, and returns that with a complete checksum.
func (c *conversation) packet() ([]byte, Checksum) {
	s := c.port.Sockets()[0]
	msgs := []Received{{Buf: make([]byte, MaxDatagram)}}
	pod := &Station{VNI: vxlan.VNI, MAC: vxlan.Local}
	for end := time.Now().Add(fuse); time.Now().Before(end); {
		if !poll(c.t, unix.POLLIN, s.Receivers()[0].FD) {
			break
		}
		n, err := s.Recv(0, msgs)
		if err != nil {
			c.t.Fatal(err)
		}
		if n == 0 {
			continue
		}
		inner, sum, kind := pod.Decap(VXLAN, msgs[0].Buf[:msgs[0].N])
		if kind == Packet {
			if sum != (Checksum{}) {
				complete(inner, sum)
			}
			return bytes.Clone(inner), sum
		}
	}
	c.t.Fatal("the kernel sent nothing")
	return nil, Checksum{}
}

// complete fills in a checksum whose field holds the pseudo header's sum.
func complete(p []byte, sum Checksum) {
	total := uint32(0)
	for i, b := range p[sum.Start:] {
		total += uint32(b) << (8 * (1 - i%2))
	}
	for total>>16 != 0 {
		total = total>>16 + total&0xffff
	}
	binary.BigEndian.PutUint16(p[sum.Field:], ^uint16(total))
}

// answer sends p to the kernel. With remote checksums it first goes without one and
// then with: the kernel takes it once.
func (c *conversation) answer(p []byte) {
	sum := c.checksum()
	if c.rco {
		binary.BigEndian.PutUint16(p[sum.Field:], pseudoSum(p, sum.Start))
		c.send(p, Checksum{})
	}
	c.send(p, sum)
}

func (c *conversation) send(p []byte, sum Checksum) {
	buf := slices.Concat(make([]byte, Headroom), p)
	datagram := buf[vxlan.Encap(buf, Headroom, sum):]
	send(c.t, c.port.Sockets()[0], []Message{{Pieces: [][]byte{datagram}, PerSegment: 1, Segments: 1, SegmentSize: len(datagram), Addr: c.to}})
}

// pseudoSum is the sum of the pseudo header of a UDP packet.
func pseudoSum(p []byte, header int) uint16 {
	addresses := p[map[int]int{20: 12, 40: 8}[header]:header]
	b := slices.Concat(addresses, []byte{0, unix.IPPROTO_UDP, 0, 0}, p[header+4:header+6])
	complete(b, Checksum{Start: 0, Field: len(b) - 4})
	return ^binary.BigEndian.Uint16(b[len(b)-4:])
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
		ip = &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, Flags: layers.IPv4DontFragment, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
	}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return serialize(t, ip, udp, gopacket.Payload(payload))
}

// bare is a packet without what its sender chooses: identification, flags and with
// them the checksum of an IPv4 header, and the flow label.
func bare(p []byte) []byte {
	b := bytes.Clone(p)
	if b[0]>>4 == 4 {
		clear(b[4:8])
		clear(b[10:12])
	} else {
		clear(b[1:4])
	}
	return b
}

// checkLearnt wants the device to know where the VTEP is that answered it.
func (c *conversation) checkLearnt() {
	link, err := netlink.LinkByName("vxlan0")
	if err != nil {
		c.t.Fatal(err)
	}
	table, err := netlink.NeighList(link.Attrs().Index, unix.AF_BRIDGE)
	if err != nil {
		c.t.Fatal(err)
	}
	if !slices.ContainsFunc(table, func(n netlink.Neigh) bool {
		return n.HardwareAddr.String() == vxlan.Local.String() && n.IP.String() == c.port.Addrs()[0].String()
	}) {
		c.t.Errorf("the kernel has not learnt %s: %v", vxlan.Local, table)
	}
}

// The kernel holds the port of its VXLAN device at all addresses.
func TestKernelHoldsThePort(t *testing.T) {
	c := newCable(t)
	c.in(1, func() {
		kernelVTEP(t, 0, "udpcsum")
		p := listenAs(t, ListenConfig{
			Addrs: []netip.Addr{netip.MustParseAddr(cableAddrs[0][1])},
			Ports: map[Codec]uint16{UDP: 8285, VXLAN: 4789}, Workers: 1,
		})
		if why := p.Closed()[VXLAN]; !errors.Is(why, unix.EADDRINUSE) {
			t.Errorf("Closed = %v", p.Closed())
		}
	})
}

// A kernel's superpacket that meets no real device arrives as one datagram, larger
// than any link takes, and nothing says what it is.
func TestKernelSuperpacket(t *testing.T) {
	c := newCable(t)
	var p *Port
	c.in(0, func() {
		p = listenAs(t, ListenConfig{
			Addrs: []netip.Addr{netip.MustParseAddr(cableAddrs[0][0])},
			Ports: map[Codec]uint16{VXLAN: 4789}, Need: VXLAN, VNI: vxlan.VNI, Workers: 1, Want: offload.All,
		})
	})
	c.in(1, func() {
		kernelVTEP(t, 0, "udpcsum")
		run(t, "ethtool -K cable tx on")
		to := netip.AddrPortFrom(netip.MustParseAddr(cableAddrs[0][1]), 4789)
		resolve(t, p, to)
		talk := &conversation{t: t, port: p, to: to}
		talk.fd = kernelSocket(t, netip.AddrPortFrom(kernelAddrs[0], kernelPort))
		if err := unix.SetsockoptInt(talk.fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 1000); err != nil {
			t.Fatal(err)
		}
		if err := unix.Sendto(talk.fd, make([]byte, 9500), 0, socketAddress(netip.AddrPortFrom(podAddrs[0], 40000))); err != nil {
			t.Fatal(err)
		}
		if got, sum := talk.packet(); len(got) != 20+8+9500 || sum != (Checksum{}) {
			t.Errorf("%d bytes arrive, with the checksum %v", len(got), sum)
		}
	})
}
