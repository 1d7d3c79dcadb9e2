//go:build netns

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/bench/topo"
	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/dataplane/packet"
)

// narrowPath is a node of both families on one side of a narrow path, which swallows
// what is too large without a word, and on its other side a node for each codec and
// family of the underlay.
type narrowPath struct {
	*cluster
	link    *topo.Narrow
	near    *member
	pod     *topo.Pod // of the near node
	far     []*farNode
	streams []*stream
}

type farNode struct {
	*member
	mode           string     // of what is sent to it; back comes plain UDP
	endpoint       netip.Addr // on the underlay, of the one family that it uses
	overhead, back int        // bytes of headers to it and from it
	pod            *topo.Pod
}

// newNarrowPath starts them, on a path of 1500 bytes, and has pods transfer something all
// the time. The flags are the near node's.
func newNarrowPath(t *testing.T, flags ...string) *narrowPath {
	t.Helper()
	n := &narrowPath{cluster: newCluster(t, 1)}
	n.near = n.members[0]
	if err := n.near.EnableIPv6(); err != nil {
		t.Fatal(err)
	}
	n.near.start(append(n.near.pathFlags(n.near, "udp"), flags...)...)
	for i, kind := range []struct {
		mode           string
		ipv6           bool
		overhead, back int
	}{
		{"udp", false, 40, 40}, {"vxlan", false, 50, 40}, {"udp", true, 60, 60}, {"vxlan", true, 70, 60},
	} {
		node, link, err := n.Remote(fmt.Sprintf("far%d", i))
		if err != nil {
			t.Fatal(err)
		}
		if err := node.EnableIPv6(); err != nil {
			t.Fatal(err)
		}
		n.link = link
		far := &farNode{member: n.addMember(node, 2+i), mode: kind.mode, endpoint: node.Addr, overhead: kind.overhead, back: kind.back}
		if kind.ipv6 {
			far.endpoint = node.Addr6
		}
		far.start(append(far.pathFlags(n.near, kind.mode), "--underlay", far.endpoint.String())...)
		n.far = append(n.far, far)
	}
	if err := n.link.DropICMP(true); err != nil {
		t.Fatal(err)
	}
	n.converged()
	n.transfer()
	n.takes(1500)
	return n
}

// transfer makes the pods, and has them transfer something to each far node, and back by
// either family of the underlay.
func (n *narrowPath) transfer() {
	n.t.Helper()
	t := n.t
	n.pod = dualPod(t, n.near.Node, byte(n.near.number), n.near.mtu())
	for i, f := range n.far {
		f.pod = dualPod(t, f.Node, byte(f.number), f.mtu())
		from, to := n.pod, f.pod
		if i%2 == 0 {
			from, to = overIPv6(from), overIPv6(to)
		}
		n.streams = append(n.streams, n.stream(from, to))
	}
	n.streams = append(n.streams, n.stream(n.far[0].pod, n.pod), n.stream(overIPv6(n.far[2].pod), overIPv6(n.pod)))
}

// pathFlags let m gossip by IPv6, whatever its packets go by.
func (m *member) pathFlags(seed *member, mode string) []string {
	return append(m.dualStack(), "--mode", mode, "--gossip-addr", m.Addr6.String(), "--join", seed.seed6())
}

// takes waits until both ends of every path know that it takes packets of mtu bytes and
// no more, and says how long that took.
func (n *narrowPath) takes(mtu int) {
	n.t.Helper()
	began := time.Now()
	for _, f := range n.far {
		n.within(recovery, fmt.Sprintf("a path MTU of %d", mtu), func(ctx context.Context) error {
			there, err := n.near.peer(ctx, f.member)
			if err != nil {
				return err
			}
			back, err := f.peer(ctx, n.near)
			if err != nil {
				return err
			}
			for _, p := range []control.Peer{there, back} {
				if p.PathMTU != mtu || !p.PathProven {
					return fmt.Errorf("to %s by %s at %s it is %d, proven %v", p.Name, p.Mode, p.Endpoint, p.PathMTU, p.PathProven)
				}
			}
			if back.MTU != min(mtu-f.back, n.near.mtu()) {
				return fmt.Errorf("%s sends %d bytes, want %d", f, back.MTU, mtu-f.back)
			}
			if want := min(mtu-f.overhead, f.mtu()); there.Mode != f.mode || there.MTU != want {
				return fmt.Errorf("%s is sent %d bytes by %s, want %d by %s", f, there.MTU, there.Mode, want, f.mode)
			}
			return nil
		})
	}
	n.t.Logf("path MTU %d after %s", mtu, time.Since(began).Round(10*time.Millisecond))
}

// narrow makes the path one of mtu bytes, and waits until all is well again.
func (n *narrowPath) narrow(mtu int) {
	n.t.Helper()
	if err := n.link.SetMTU(mtu); err != nil {
		n.t.Fatal(err)
	}
	n.takes(mtu)
	for _, s := range n.streams {
		s.goesOn(fmt.Sprintf("a path of %d bytes", mtu))
	}
}

// Where a path becomes narrower without a word, transfers between pods go on within
// seconds, and the path MTU is found to the byte.
func TestPathShrinks(t *testing.T) {
	t.Parallel()
	n := newNarrowPath(t)
	for _, s := range n.streams {
		s.goesOn("on the whole path")
	}
	n.narrow(1400)
	n.narrow(1300)
}

// pathMTU waits until m knows that the path to other takes packets of mtu bytes and no
// more, and its pods' packets of inner bytes go uncut.
func (m *member) pathMTU(other *member, mtu, inner int) {
	m.c.t.Helper()
	m.c.within(recovery, fmt.Sprintf("%s to find a path MTU of %d", m, mtu), func(ctx context.Context) error {
		p, err := m.peer(ctx, other)
		if err == nil && (p.PathMTU != mtu || !p.PathProven || p.MTU != inner) {
			err = fmt.Errorf("it is %d, proven %v, and %d bytes go uncut", p.PathMTU, p.PathProven, p.MTU)
		}
		return err
	})
}

// Jumbo frames are found and used, and a link of smaller MTU is noticed without a
// restart, at both ends of the path.
func TestLinkMTU(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.members[0], c.members[1]
	for _, m := range c.members {
		if err := m.SetMTU(9000); err != nil {
			t.Fatal(err)
		}
	}
	c.startAll()
	a.pathMTU(b, 9000, 8948)
	b.pathMTU(a, 9000, 8948)
	from, to := a.pod(10), b.pod(10)
	whole(t, from, to, 8948)
	streams := []*stream{c.stream(from, to), c.stream(to, from)}
	for _, s := range streams {
		s.goesOn("jumbo frames")
	}
	if err := a.SetMTU(1400); err != nil {
		t.Fatal(err)
	}
	a.pathMTU(b, 1400, 1360)
	b.pathMTU(a, 1400, 1348) // what the pods get on the underlay that a has since
	for _, s := range streams {
		s.goesOn("a link of 1400 bytes")
	}
	if err := a.SetMTU(9000); err != nil {
		t.Fatal(err)
	}
	a.pathMTU(b, 9000, 8948)
}

// Who sends ICMP errors with an MTU does not make a node send smaller packets.
func TestForgedICMP(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.startAll()
	a, b := c.members[0], c.members[1]
	a.pathMTU(b, 1500, 1444)
	forger, err := c.Node("forger")
	if err != nil {
		t.Fatal(err)
	}
	from, to := a.pod(10), b.pod(10)
	s := c.stream(from, to)
	for port := uint16(61440); port <= 61448; port++ { // those that weft sends from
		forgeNeedsFragments(t, forger, a.Addr, b.Addr, port)
	}
	c.eventually("the kernel to believe it", func(ctx context.Context) error {
		out, err := a.Run(ctx, "ip", "route", "get", b.Addr.String())
		if err == nil && !strings.Contains(out, " mtu 600") {
			err = errors.New(out)
		}
		return err
	})
	whole(t, from, to, 1444)
	s.goesOn("ICMP is forged")
	for _, ends := range [][2]*member{{a, b}, {b, a}} {
		ends[0].pathMTU(ends[1], 1500, 1444)
	}
	if n := a.drops().Egress.Drops["too-big"]; n > 0 {
		t.Errorf("%d packets were dropped as too large", n)
	}
}

// forgeNeedsFragments tells the node at sender that a datagram of its own to receiver
// had to be fragmented, to 600 bytes.
func forgeNeedsFragments(t *testing.T, from *topo.Node, sender, receiver netip.Addr, port uint16) {
	t.Helper()
	lost := innerPacket(t, sender.String(), receiver.String(), 1400)
	binary.BigEndian.PutUint16(lost[20:], port)
	binary.BigEndian.PutUint16(lost[22:], 8285)
	answer := make([]byte, packet.MaxICMPError)
	answer = answer[:packet.ICMPError(answer, from.Addr, lost, packet.TooBig, 600)]
	err := from.Do(func() error {
		conn, err := net.Dial("ip4:icmp", sender.String())
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write(answer[20:]) // the kernel makes the IP header
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
