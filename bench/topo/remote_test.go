//go:build netns && linux

package topo

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func addRemote(t *testing.T, topology *Topology, name string) (*Node, *Narrow) {
	t.Helper()
	node, narrow, err := topology.Remote(name)
	if err != nil {
		t.Fatal(err)
	}
	enableIPv6(t, node)
	return node, narrow
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestRemote(t *testing.T) {
	topology := newTopology(t)
	near := addNode(t, topology, "a")
	enableIPv6(t, near)
	far, narrow := addRemote(t, topology, "b")
	farther, same := addRemote(t, topology, "c")
	if same != narrow {
		t.Error("the second remote node has routers of its own")
	}
	for addr, want := range map[netip.Addr]string{
		far.Addr: "203.0.113.2", far.Addr6: "2001:db8:113::2", farther.Addr: "203.0.113.6", farther.Addr6: "2001:db8:113:1::2",
	} {
		if addr.String() != want {
			t.Errorf("address %s, want %s", addr, want)
		}
	}
	for _, way := range [][2]*Node{{near, far}, {far, near}, {near, farther}, {far, farther}} {
		mustReach(t, way[0].Namespace, way[1].Addr)
		mustReach(t, way[0].Namespace, way[1].Addr6)
	}
	// Two routers take two from the hop limit, and one none.
	if out, err := near.Run(t.Context(), "ping", "-c1", "-W5", "-t2", far.Addr.String()); err == nil || !strings.Contains(out, "Time to live exceeded") {
		t.Errorf("ping through two routers with a TTL of 2: %v, %s", err, out)
	}
	if far.Unplug() == nil || far.Plug() == nil {
		t.Error("a node that is not on the bridge was taken off it, or put on it")
	}
	must(t, far.SetMTU(1400))
	mustReach(t, far.Namespace, near.Addr)
	if out := mustRun(t, narrow.ends[1].router, "ip", "link", "show", "b"); !strings.Contains(out, " mtu 1400 ") {
		t.Errorf("the router's end after SetMTU(1400): %s", out)
	}
}

func TestRemotesAreAddedConcurrently(t *testing.T) {
	topology := newTopology(t)
	var added sync.WaitGroup
	nodes := make([]*Node, 4)
	for i := range nodes {
		added.Go(func() {
			var err error
			if nodes[i], _, err = topology.Remote("n" + strconv.Itoa(i)); err != nil {
				t.Error(err)
			}
		})
	}
	added.Wait()
	if t.Failed() {
		return
	}
	for _, other := range nodes[1:] {
		mustReach(t, nodes[0].Namespace, other.Addr)
	}
}

// pingOf sends one packet of size bytes, Don't Fragment set, and returns what ping says.
func pingOf(t *testing.T, from *Node, to netip.Addr, size int) (said string, arrived bool) {
	t.Helper()
	headers := 20 + 8
	if to.Is6() {
		headers = 40 + 8
	}
	out, err := from.Run(t.Context(), "ping", "-c1", "-W1", "-Mdo", "-s", strconv.Itoa(size-headers), to.String())
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Fatal(err)
	}
	return out, err == nil
}

// isTold says whether an ICMP error comes back from a closed UDP port.
func isTold(t *testing.T, from *Node, to netip.Addr) bool {
	t.Helper()
	var conn net.Conn
	must(t, from.Do(func() (err error) {
		conn, err = net.Dial("udp", netip.AddrPortFrom(to, 9).String())
		return err
	}))
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(500*time.Millisecond)))
	_, err := conn.Write([]byte("x"))
	must(t, err)
	_, err = conn.Read(make([]byte, 1))
	return errors.Is(err, unix.ECONNREFUSED)
}

func TestNarrow(t *testing.T) {
	const mtu = 1400
	topology := newTopology(t)
	near := addNode(t, topology, "a")
	enableIPv6(t, near)
	far, narrow := addRemote(t, topology, "b")
	ways := []struct {
		from *Node
		to   netip.Addr
		told string
	}{
		{near, far.Addr, "Frag needed and DF set (mtu = 1400)"},
		{far, near.Addr, "Frag needed and DF set (mtu = 1400)"},
		{near, far.Addr6, "Packet too big: mtu=1400"},
		{far, near.Addr6, "Packet too big: mtu=1400"},
	}
	must(t, WaitUntil(t.Context(), 10*time.Second, func(context.Context) error {
		if !isTold(t, near, far.Addr) {
			return errors.New("a closed port of a remote node is not reported")
		}
		return nil
	}, func() error { return nil }))
	must(t, narrow.SetMTU(mtu), narrow.DropICMP(true))
	if isTold(t, near, far.Addr) {
		t.Error("an ICMP error of a remote node has passed")
	}
	for _, way := range ways {
		if said, arrived := pingOf(t, way.from, way.to, mtu); !arrived {
			t.Errorf("a packet as large as the narrow link takes, to %s: %s", way.to, said)
		}
		if said, arrived := pingOf(t, way.from, way.to, mtu+1); arrived || !strings.Contains(said, "100% packet loss") || strings.Contains(said, "errors") {
			t.Errorf("a larger one to %s, and nobody to tell of it: %s", way.to, said)
		}
	}
	must(t, narrow.DropICMP(false))
	for _, way := range ways {
		if said, arrived := pingOf(t, way.from, way.to, mtu+1); arrived || !strings.Contains(said, way.told) {
			t.Errorf("a larger one to %s: %s", way.to, said)
		}
	}
	must(t, narrow.SetMTU(1500))
	mustRun(t, near.Namespace, "ip", "route", "flush", "cache") // what it was told
	if said, arrived := pingOf(t, near, far.Addr, 1500); !arrived {
		t.Errorf("after SetMTU(1500): %s", said)
	}

	atNear, atFar := receive(t, near.Namespace), receive(t, far.Namespace)
	must(t, narrow.Cut(true), narrow.Cut(true))
	if atFar.arrives(t, near.Namespace, near.Addr, netip.AddrPortFrom(far.Addr, openPort), false) ||
		atNear.arrives(t, far.Namespace, far.Addr6, netip.AddrPortFrom(near.Addr6, openPort), false) {
		t.Error("a link that is cut carries one direction")
	}
	for _, way := range ways {
		if said, arrived := pingOf(t, way.from, way.to, 100); arrived || strings.Contains(said, "errors") {
			t.Errorf("over a link that is cut, to %s: %s", way.to, said)
		}
	}
	must(t, narrow.Cut(false), narrow.Cut(false))
	for _, way := range ways {
		mustReach(t, way.from.Namespace, way.to)
	}
}
