//go:build netns

package host

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestKernelAnswersForAddressesNoPodHas(t *testing.T) {
	h := newNamespace(t)
	newTUN(t, "weft0")
	apply(t, h, testState())

	// From this node: refused at once, while another node's pod is reached through the TUN.
	if _, err := net.Dial("udp4", "10.244.1.9:9"); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("dial an address of our block that no pod has: %v, want %v", err, unix.EHOSTUNREACH)
	}
	c, err := net.Dial("udp4", "10.244.2.5:9")
	must(t, err)
	defer c.Close()
	if got := c.LocalAddr().(*net.UDPAddr).IP.String(); got != "10.244.1.0" {
		t.Errorf("the node sends from %s, want the TUN's address", got)
	}

	// From another node's pod, as the kernel routes a packet that enters by the TUN. The ICMP message itself is
	// not waited for: all namespaces of a machine share one ICMP socket for each CPU, and traffic elsewhere can
	// fill it.
	arriving := &netlink.RouteGetOptions{Iif: "weft0", SrcAddr: net.ParseIP("10.244.2.5")}
	if r, err := h.nl.RouteGetWithOptions(net.ParseIP("10.244.1.9"), arriving); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("route to an address that no pod has: %v, %v; want %v", r, err, unix.EHOSTUNREACH)
	}
	pod := newVeth(t, h, "pod1", "pod1p")
	must(t, h.nl.RouteAdd(&netlink.Route{Dst: hostNet("10.244.1.9/32"), LinkIndex: pod.Attrs().Index, Scope: netlink.SCOPE_LINK}))
	r, err := h.nl.RouteGetWithOptions(net.ParseIP("10.244.1.9"), arriving)
	if err != nil || len(r) != 1 || r[0].LinkIndex != pod.Attrs().Index {
		t.Errorf("route to a pod: %v, %v; want it through its interface", r, err)
	}
}

// The queues share the length, down to one that lasts for a restart.
func TestQueuesShareTheLength(t *testing.T) {
	h := newNamespace(t)
	newTUN(t, "weft0")
	s := oneFamily(testState(), true)
	for _, c := range []struct{ queues, want int }{{1, 10_000}, {2, 5000}, {4, 2500}, {64, 2500}} {
		s.Queues = c.queues
		apply(t, h, s)
		if got := link(t, h, "weft0").Attrs().TxQLen; got != c.want {
			t.Errorf("txqueuelen %d of %d queues, want %d", got, c.queues, c.want)
		}
	}
}

func TestTxDroppedCountsWhatTheQueueLost(t *testing.T) {
	h := newNamespace(t)
	newTUN(t, "weft0")
	apply(t, h, oneFamily(testState(), true)) // with IPv6 the kernel sends MLD reports of its own
	before, err := h.TxDropped("weft0")
	must(t, err)

	c, err := net.Dial("udp4", "10.244.2.5:9")
	must(t, err)
	defer c.Close()
	const lost = 200
	for range txQueueLen + lost {
		_, err := c.Write([]byte("x"))
		must(t, err)
	}
	after, err := h.TxDropped("weft0")
	must(t, err)
	if got := after - before; got != lost {
		t.Errorf("tx_dropped %d after %d packets into a queue of %d, want %d", got, txQueueLen+lost, txQueueLen, lost)
	}
	if _, err := h.TxDropped("weft7"); err == nil || !strings.Contains(err.Error(), "weft7") {
		t.Errorf("TxDropped of a missing interface: %v", err)
	}
}
