//go:build netns

package packet_test

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/packet"
)

// tap opens a TAP as tun does a TUN, and says which MAC the kernel has there.
func tap(t *testing.T, cidrs ...string) (fd int, mac packet.MAC) {
	t.Helper()
	fd = open(t, unix.IFF_TAP, cidrs)
	link, err := netlink.LinkByName("tun0")
	if err != nil {
		t.Fatal(err)
	}
	return fd, packet.MAC(link.Attrs().HardwareAddr)
}

// The kernel asks, believes the answer, and sends what it has to where that says.
func TestKernelBelievesNeighbourAnswers(t *testing.T) {
	fd, mac := tap(t, "192.168.1.10/24", "fd00::a/64")
	for _, target := range []netip.Addr{b4, b6} {
		conn, err := net.Dial("udp", netip.AddrPortFrom(target, 4433).String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		var e packet.Ethernet
		frame := await(t, fd, func(frame []byte) bool {
			if e, _ = checkEthernet(t, frame); e.Src != mac {
				t.Fatalf("%x is not from %s", frame, mac)
			}
			return checkNeighbour(t, frame).asks == target
		})
		write(t, fd, packet.AppendNeighbourAnswer(nil, frame, &e, target, hostB))
		await(t, fd, func(frame []byte) bool {
			var h packet.Header
			e, _ := checkEthernet(t, frame)
			return e.Dst == hostB && packet.ParseFrame(frame, &e, &h) && h.Protocol == packet.ProtocolUDP && h.Dst == target
		})
	}
}

// What the kernel says of itself is heard, but when it is a router.
func TestKernelClaimsAreHeard(t *testing.T) {
	own4, own6 := b4, b6
	fd, mac := tap(t, own4.String()+"/24", own6.String()+"/64")
	group := packet.MAC{0x33, 0x33, 0xff, 0x12, 0x34, 0x5b}
	asks6 := netip.MustParseAddr("fd00::a")
	request := arpFrame(t, broadcast, hostA, nil, 1, hostA, a4, packet.MAC{}, own4)
	solicitation := nsFrame(t, group, nil, asks6, groupB, own6, says(1, hostA))

	for question, claimed := range map[string]netip.Addr{string(request): own4, string(solicitation): own6} {
		write(t, fd, []byte(question))
		frame := await(t, fd, func(frame []byte) bool { return checkNeighbour(t, frame).claims.IsValid() })
		e, _ := checkEthernet(t, frame)
		if ip, said, _ := packet.NeighbourClaim(frame, &e); ip != claimed || said != mac || e.Dst != hostA {
			t.Errorf("%x says that %s is at %s, want %s at %s", frame, ip, said, claimed, mac)
		}
	}

	if err := os.WriteFile("/proc/sys/net/ipv6/conf/tun0/forwarding", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	write(t, fd, solicitation)
	frame := await(t, fd, func(frame []byte) bool { return len(frame) > 54 && frame[54] == 136 })
	if h := checkNeighbour(t, frame); h.claims.IsValid() || frame[58]&0x80 == 0 {
		t.Errorf("%x of a router says where %s is", frame, h.claims)
	}
}
