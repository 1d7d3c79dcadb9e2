//go:build netns

package device

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// fuse ends a test that would wait for ever.
const fuse = 30 * time.Second

// enterNamespace moves the test to a network namespace of its own and returns a
// netlink handle there, which stays there when the test goes on to another. The
// thread stays locked and ends with the test.
func enterNamespace(t *testing.T) *netlink.Handle {
	t.Helper()
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	ns.Close() // the thread keeps it, and so does the handle
	handle, err := netlink.NewHandle()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(handle.Close)
	// Else the kernel speaks first on every new device: router solicitations
	// and multicast reports, which the tests would read.
	for _, key := range []string{"all", "default"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+key+"/disable_ipv6", []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
	return handle
}

// open opens a TUN device with an address and sets it up, for the length of the test.
func open(t *testing.T, handle *netlink.Handle, name, cidr string) (*TUN, netlink.Link) {
	t.Helper()
	dev, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	link, err := handle.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(handle.AddrAdd(link, addr), handle.LinkSetUp(link)); err != nil {
		t.Fatal(err)
	}
	return dev, link
}

// statistics reads the device's counters, in superpackets.
func statistics(t *testing.T, handle *netlink.Handle, link netlink.Link) netlink.LinkStatistics {
	t.Helper()
	link, err := handle.LinkByIndex(link.Attrs().Index)
	if err != nil {
		t.Fatal(err)
	}
	return *link.Attrs().Statistics
}

// writable is packets as Write wants them: behind headroom, with room to merge.
func writable(packets ...[]byte) [][]byte {
	bufs := make([][]byte, len(packets))
	for i, p := range packets {
		bufs[i] = append(make([]byte, Headroom, Headroom+MaxPacket), p...)
	}
	return bufs
}

// readable is what Read wants, for n packets.
func readable(n int) (bufs [][]byte, sizes []int) {
	for range n {
		bufs = append(bufs, make([]byte, Headroom+MaxPacket))
	}
	return bufs, make([]int, n)
}

// udp is a whole packet from 10.244.1.7 port 40000 to 10.244.2.9 port 5353.
func udp(t *testing.T, payload []byte) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: []byte{10, 244, 1, 7}, DstIP: []byte{10, 244, 2, 9}}
	header := &layers.UDP{SrcPort: 40000, DstPort: 5353}
	if err := header.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	out := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(out, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		ip, header, gopacket.Payload(payload)); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// waitAsleep returns once a goroutine is in function and waits for the kernel.
func waitAsleep(t *testing.T, function string) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	for end := time.Now().Add(fuse); time.Now().Before(end); runtime.Gosched() {
		for g := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			state, _, _ := strings.Cut(g, "\n")
			if strings.Contains(state, "[IO wait") && strings.Contains(g, function+"(") {
				return
			}
		}
	}
	t.Fatalf("no goroutine waits in %s", function)
}
