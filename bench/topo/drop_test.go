//go:build netns && linux

package topo

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

const (
	dropPort = 4789
	openPort = 8285
)

// A receiver gets what is sent to any address of its namespace, at two ports.
type receiver map[uint16]*net.UDPConn

func receive(t *testing.T, in *Namespace) receiver {
	t.Helper()
	r := make(receiver)
	for _, port := range []uint16{dropPort, openPort} {
		r[port] = listenUDP(t, in, netip.AddrPortFrom(netip.IPv6Unspecified(), port))
	}
	return r
}

func listenUDP(t *testing.T, in *Namespace, addr netip.AddrPort) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	err := in.Do(func() (err error) {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// arrives sends one datagram and says whether it comes. It waits long only for one that does.
func (r receiver) arrives(t *testing.T, from *Namespace, source netip.Addr, to netip.AddrPort, want bool) bool {
	t.Helper()
	patience := 5 * time.Second
	if !want {
		patience = 50 * time.Millisecond
	}
	conn := listenUDP(t, from, netip.AddrPortFrom(source, 0))
	if _, err := conn.WriteToUDPAddrPort([]byte(t.Name()), to); err != nil {
		t.Fatal(err)
	}
	in := r[to.Port()]
	if err := in.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	n, _, err := in.ReadFromUDPAddrPort(make([]byte, 100))
	if err != nil && !os.IsTimeout(err) {
		t.Fatal(err)
	}
	return err == nil && n == len(t.Name())
}

// A filter at either end of the way works, on packets that come out of the node and that go into it, and on those of a
// remote node.
func TestDrop(t *testing.T) {
	topology := newTopology(t)
	a, b := addNode(t, topology, "a"), addNode(t, topology, "b")
	remote, _ := addRemote(t, topology, "r")
	enableIPv6(t, a, b)
	// Addresses that are not the nodes' own, as pods' are.
	for ns, addrs := range map[*Namespace][]string{
		a.Namespace: {"10.244.1.1/32", "fd00:10:244:1::1/128"},
		b.Namespace: {"10.244.2.1/32", "fd00:10:244:2::1/128"},
	} {
		for _, addr := range addrs {
			mustRun(t, ns, "ip", "addr", "add", addr, "dev", "lo")
		}
	}
	mustRun(t, a.Namespace, "ip", "route", "add", "10.244.2.0/24", "via", b.Addr.String())
	mustRun(t, a.Namespace, "ip", "route", "add", "fd00:10:244:2::/64", "via", b.Addr6.String())
	addr := netip.MustParseAddr
	flows := []struct {
		source  netip.Addr
		to      netip.AddrPort
		foreign bool
	}{
		{a.Addr, netip.AddrPortFrom(b.Addr, openPort), false},
		{a.Addr6, netip.AddrPortFrom(b.Addr6, dropPort), false},
		{addr("10.244.1.1"), netip.AddrPortFrom(b.Addr, openPort), true},
		{a.Addr, netip.AddrPortFrom(addr("10.244.2.1"), openPort), true},
		{addr("fd00:10:244:1::1"), netip.AddrPortFrom(b.Addr6, openPort), true},
		{a.Addr6, netip.AddrPortFrom(addr("fd00:10:244:2::1"), openPort), true},
	}
	at := receive(t, b.Namespace)
	check := func(state string, passes func(i int) bool) {
		t.Helper()
		for i, flow := range flows {
			if want := passes(i); at.arrives(t, a.Namespace, flow.source, flow.to, want) != want {
				t.Errorf("%s: from %s to %s: arrives %v, want %v", state, flow.source, flow.to, !want, want)
			}
		}
	}
	check("without filters", func(int) bool { return true })
	for _, node := range []*Node{a, b} {
		must(t, node.DropAddresses(netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")))
		check("addresses at "+node.String(), func(i int) bool { return !flows[i].foreign })
		must(t, node.DropPorts(dropPort, 1))
		check("ports too", func(i int) bool { return !flows[i].foreign && flows[i].to.Port() != dropPort })
		must(t, node.DropAddresses())
		check("only ports at "+node.String(), func(i int) bool { return flows[i].to.Port() != dropPort })
		must(t, node.DropPorts())
		check("no longer at "+node.String(), func(int) bool { return true })
	}

	must(t, remote.DropPorts(openPort))
	from, to := remote.Addr, netip.AddrPortFrom(b.Addr, openPort)
	if at.arrives(t, remote.Namespace, from, to, false) {
		t.Error("a remote node's packets pass its filter")
	}
	must(t, remote.DropPorts())
	if !at.arrives(t, remote.Namespace, from, to, true) {
		t.Error("a remote node's packets are dropped without a filter")
	}
}
