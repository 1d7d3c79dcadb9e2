//go:build netns

package device

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os/exec"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
)

// site is a node's end of a segment: a TAP and the near end of a veth in a bridge. The far
// end is alone in another namespace, which stands for a virtual machine.
type site struct {
	tap          *TAP
	link         netlink.Link // of the TAP
	node, inside *netlink.Handle
	nodeNS, vmNS netns.NsHandle
	vm           netlink.Link
}

// newSite leaves the test's thread in the virtual machine, whose hardware address ends in id.
func newSite(t *testing.T, id byte, queues int, want offload.Set) site {
	t.Helper()
	s := site{node: enterNamespace(t), nodeNS: thisNamespace(t)}
	snooping := false // else the bridge itself speaks first, IGMP
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}, MulticastSnooping: &snooping}
	mac := net.HardwareAddr{2, 0, 0, 0, 0, id}
	port := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "vm0"}, PeerName: "eth0", PeerHardwareAddr: mac}
	if err := errors.Join(s.node.LinkAdd(bridge), s.node.LinkSetUp(bridge), s.node.LinkAdd(port), s.node.LinkSetMaster(port, bridge), s.node.LinkSetUp(port)); err != nil {
		t.Fatal(err)
	}
	// So that what the virtual machine gets is as a wire would have it.
	if out, err := exec.Command("ethtool", "-K", "vm0", "tx", "off", "gso", "off", "tso", "off").CombinedOutput(); err != nil {
		t.Fatalf("ethtool: %v: %s", err, out)
	}
	var err error
	if s.tap, err = OpenTAP("seg-x", queues, want); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.tap.Close() })
	if s.link, err = s.node.LinkByName("seg-x"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.node.LinkSetMaster(s.link, bridge), s.node.LinkSetUp(s.link)); err != nil {
		t.Fatal(err)
	}
	s.inside, s.vmNS = enterNamespace(t), thisNamespace(t)
	peer, err := s.node.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.node.LinkSetNsFd(peer, int(s.vmNS)); err != nil {
		t.Fatal(err)
	}
	if s.vm, err = s.inside.LinkByName("eth0"); err != nil {
		t.Fatal(err)
	}
	if err := s.inside.LinkSetUp(s.vm); err != nil {
		t.Fatal(err)
	}
	s.forwards(t, "vm0") // the TAP has its carrier at once
	return s
}

func thisNamespace(t *testing.T) netns.NsHandle {
	t.Helper()
	ns, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// onNode moves the test's thread to the node for the length of a call.
func (s site) onNode(t *testing.T, call func()) {
	t.Helper()
	if err := netns.Set(s.nodeNS); err != nil {
		t.Fatal(err)
	}
	call()
	if err := netns.Set(s.vmNS); err != nil {
		t.Fatal(err)
	}
}

// forwards waits for the bridge to use a port: it learns from a thread of the kernel's that there is a
// carrier (linkwatch).
func (s site) forwards(t *testing.T, name string) {
	t.Helper()
	look, deadline := time.NewTicker(time.Millisecond), time.After(fuse)
	defer look.Stop()
	for {
		port, err := s.node.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if port.Attrs().OperState == netlink.OperUp {
			return
		}
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("bridge port %s is not up", name)
		}
	}
}

// address gives the virtual machine an address.
func (s site) address(t *testing.T, cidr string) {
	t.Helper()
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		t.Fatal(err)
	}
	addr.Flags = unix.IFA_F_NODAD
	if err := s.inside.AddrAdd(s.vm, addr); err != nil {
		t.Fatal(err)
	}
}

// knows has the virtual machine ask nobody for a neighbour's address.
func (s site) knows(t *testing.T, ip net.IP, mac net.HardwareAddr) {
	t.Helper()
	n := &netlink.Neigh{LinkIndex: s.vm.Attrs().Index, State: netlink.NUD_PERMANENT, IP: ip, HardwareAddr: mac}
	if err := s.inside.NeighAdd(n); err != nil {
		t.Fatal(err)
	}
}

// wire is the virtual machine's end of the veth, as a packet socket has it.
type wire struct{ fd int }

func (s site) wire(t *testing.T) wire {
	t.Helper()
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	tv := unix.NsecToTimeval(fuse.Nanoseconds())
	if err := errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: s.vm.Attrs().Index}),
	); err != nil {
		t.Fatal(err)
	}
	return wire{fd}
}

func (w wire) send(t *testing.T, frame []byte) {
	t.Helper()
	if _, err := unix.Write(w.fd, frame); err != nil {
		t.Fatal(err)
	}
}

// receive wants these frames to arrive, in order. The kernel keeps the outermost VLAN tag beside the frame.
func (w wire) receive(t *testing.T, frames ...[]byte) {
	t.Helper()
	buf, aux := make([]byte, MaxPacket+maxLink), make([]byte, 128)
	for i, want := range frames {
		n, m, _, _, err := unix.Recvmsg(w.fd, buf, aux, 0)
		if err != nil {
			t.Fatalf("frame %d of %d, %.60x: %v", i, len(frames), want, err)
		}
		got := bytes.Clone(buf[:n])
		controls, err := unix.ParseSocketControlMessage(aux[:m])
		if err != nil || len(controls) != 1 {
			t.Fatalf("%d control messages: %v", len(controls), err)
		}
		// struct tpacket_auxdata of include/uapi/linux/if_packet.h
		status, tag := binary.NativeEndian.Uint32(controls[0].Data), controls[0].Data[16:20]
		if status&unix.TP_STATUS_VLAN_VALID != 0 {
			tci, tpid := binary.NativeEndian.Uint16(tag), binary.NativeEndian.Uint16(tag[2:])
			rest := bytes.Clone(got[12:])
			got = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(got[:12:12], tpid), tci)
			got = append(got, rest...)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("frame %d of %d:\n%x, want\n%x", i, len(frames), got, want)
		}
	}
}

// readTAP waits for one frame, and no more.
func readTAP(t *testing.T, queues ...Queue) packet.Packet {
	t.Helper()
	pkts := make([]packet.Packet, 2)
	n, err := waitReadable(t, queues...).Read(make([]byte, 2*MaxReadTAP), pkts)
	if n != 1 || err != nil {
		t.Fatalf("Read = %d %v", n, err)
	}
	return pkts[0]
}

// frameGroup is group for a frame whose link has that many bytes.
func frameGroup(p packet.Packet, link int) packet.Group {
	whole := p.Data()
	p.Buf, p.Start = whole[link:], 0
	if p.CsumStart != 0 {
		p.CsumStart -= link
	}
	g := group(p)
	g.Link = whole[:link]
	return g
}

// untagged is frameGroup for frames without tags.
func untagged(p packet.Packet) packet.Group { return frameGroup(p, 14) }

// marker is a frame of no protocol that anybody answers.
func marker(text string) []byte {
	return append([]byte("\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x09\x88\xb5"), text...)
}
