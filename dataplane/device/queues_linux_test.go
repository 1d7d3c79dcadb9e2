//go:build netns

package device

import (
	"net/netip"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
)

// The kernel keeps a flow in its queue while its answers come in through others,
// since it learns nothing from Write.
func TestFlowsKeepTheirQueue(t *testing.T) {
	kinds(t, func(t *testing.T, want offload.Set) {
		const queues, flows = 3, 48
		handle := enterNamespace(t)
		dev, link := mustOpen(t, handle, queues, want, theKernel, "10.244.2.9/16")
		conn := kernelSocket(t)
		if len(dev.Queues()) != queues {
			t.Fatalf("%d queues", len(dev.Queues()))
		}
		port := func(flow int) uint16 { return uint16(40000 + flow) }
		// out is the queue that a flow's packet comes out of.
		out := func(flow int) int {
			t.Helper()
			if _, err := conn.WriteToUDPAddrPort([]byte("there"), netip.AddrPortFrom(peer.Addr(), port(flow))); err != nil {
				t.Fatal(err)
			}
			q := waitReadable(t, dev.Queues()...)
			if p := readOne(t, q); p.Data()[22] != byte(port(flow)>>8) || p.Data()[23] != byte(port(flow)) {
				t.Fatalf("another packet: %x", p.Data())
			}
			return slices.Index(dev.Queues(), q)
		}
		// answer is a packet of the flow from the far end.
		answer := func(flow int) []byte {
			p := datagram(t, []byte("back"))
			p[20], p[21] = byte(port(flow)>>8), byte(port(flow))
			p[26], p[27] = 0, 0 // no checksum
			return p
		}

		first := make([]int, flows)
		count := make([]int, queues)
		for flow := range flows {
			first[flow] = out(flow)
			count[first[flow]]++
		}
		t.Logf("flows of each queue: %v", count)
		if slices.Min(count) == 0 {
			t.Errorf("a queue got none of %d flows: %v", flows, count)
		}
		for other := 1; other < queues; other++ {
			for flow := range flows {
				q := dev.Queues()[(first[flow]+other)%queues]
				if refused, err := q.Write([]packet.Group{single(answer(flow))}); refused != 0 || err != nil {
					t.Fatalf("Write = %d %v", refused, err)
				}
				if got := out(flow); got != first[flow] {
					t.Errorf("flow %d moved from queue %d to %d", flow, first[flow], got)
				}
			}
		}
		if n := statistics(t, handle, link).RxPackets; n != (queues-1)*flows {
			t.Errorf("the kernel took %d packets of %d", n, (queues-1)*flows)
		}

		// Were they written to the descriptors that are read from, the flows would move.
		moved := 0
		for flow := range flows {
			q := dev.Queues()[(first[flow]+1)%queues]
			if errno := writev(q.FD(), []unix.Iovec{piece(make([]byte, virtioLen)), piece(answer(flow))}); errno != 0 {
				t.Fatal(errno)
			}
			if out(flow) != first[flow] {
				moved++
			}
		}
		if moved != flows {
			t.Errorf("%d of %d flows moved to the queue that the kernel learnt of: has it learnt nothing anyway?", moved, flows)
		}
	})
}

// The kernel counts the attached queues only, and their indices are 0 up.
func TestQueuesOfTheDevice(t *testing.T) {
	handle := enterNamespace(t)
	for _, queues := range []int{1, 2, 5} {
		dev, _ := mustOpen(t, handle, queues, both, theKernel, "10.244.2.9/16")
		for _, direction := range []string{"rx", "tx"} {
			n := 0
			for _, q := range sysfsQueues(t, dev.Name()) {
				if q[:2] == direction {
					n++
				}
			}
			if n != queues {
				t.Errorf("%d %s queues, want %d", n, direction, queues)
			}
		}
		if err := dev.Close(); err != nil {
			t.Fatal(err)
		}
		if link, err := handle.LinkByName("weft0"); err == nil {
			t.Errorf("after Close there still is %+v", link)
		}
	}
}

// sysfsQueues lists the queues that a mount of sysfs in the test's namespace shows.
func sysfsQueues(t *testing.T, name string) (names []string) {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("sysfs", dir, "sysfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir + "/class/net/" + name + "/queues")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		t.Error(err)
	}
	return names
}

// The kernel has 256 queues for a device, of which each of ours takes two.
func TestTooManyQueues(t *testing.T) {
	enterNamespace(t)
	before := descriptors(t)
	refused(t, "weft0", 129, unix.E2BIG, "set fewer workers")
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
	dev, err := Open("weft0", 128, offload.All)
	if err != nil {
		t.Fatal(err)
	}
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
}
