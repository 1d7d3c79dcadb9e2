//go:build linux

package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/weft-net/weft/bench/topo"
)

// discardPort is where pods take packets that nobody reads (RFC 863).
const discardPort = 9

// loadNodes does one thing after the other beside the abuses, until ctx ends. What fails because the node is being
// abused counts as failed in the report, and is no fault.
func loadNodes(ctx context.Context, c *cluster, p plan, rep *report) error {
	loads := []struct {
		kind string
		do   func(ctx context.Context, c *cluster, r *rand.Rand) error
	}{
		{"garbage", garbage},
		{"flood", flood},
		{"pods made and deleted", churn},
		{"capture abandoned", capture},
		{"iperf3", iperf},
	}
	r := rand.New(rand.NewPCG(p.seed, 2))
	for ctx.Err() == nil {
		l := loads[r.IntN(len(loads))]
		err := l.do(ctx, c, r)
		if ctx.Err() == nil {
			rep.count(l.kind, err)
		}
		pause(ctx, between(r, 200*time.Millisecond, 2*time.Second))
	}
	return nil
}

// garbage sends what nobody understands to all ports of a node: from a host that is no node, and from a peer's
// address, where what it says is looked into.
func garbage(ctx context.Context, c *cluster, r *rand.Rand) error {
	to := c.members[r.IntN(nodeCount)]
	from := []*topo.Namespace{c.stranger.Namespace, c.members[r.IntN(nodeCount)].Namespace}[r.IntN(2)]
	for _, port := range []uint16{8285, 4789, 7946} {
		if err := garbageTo(from, netip.AddrPortFrom(to.Addr, port), r); err != nil {
			return err
		}
	}
	return garbageConn(ctx, from, netip.AddrPortFrom(to.Addr, 7946), r)
}

func garbageTo(from *topo.Namespace, to netip.AddrPort, r *rand.Rand) error {
	var socket *net.UDPConn
	err := from.Do(func() (err error) {
		socket, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
		return err
	})
	if err != nil {
		return err
	}
	defer socket.Close()
	for range 1000 {
		if _, err := socket.Write(nonsense(r)); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			return err
		}
	}
	return nil
}

// nonsense is random, but begins as something that is known in half of the cases: IP, GUE, a VXLAN header, a frame
// of weft's own probes, a message of memberlist's.
func nonsense(r *rand.Rand) []byte {
	data := make([]byte, r.IntN(1472))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	known := []string{"\x45\x00", "\x60\x00", "\x40\x04\x00\x00\x45\x00", "\x20\x00\x00\x00", "\x08\x00\x00\x00\x00\x00\x01\x00", "\x0c", "\x01", "\xf4"}
	copy(data, known[r.IntN(len(known))])
	return data
}

// garbageConn opens some connections to the gossip port, says something, and leaves half of them without a word.
func garbageConn(ctx context.Context, from *topo.Namespace, to netip.AddrPort, r *rand.Rand) error {
	for range 5 {
		var conn net.Conn
		err := from.Do(func() (err error) {
			conn, err = (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp4", to.String())
			return err
		})
		if err != nil {
			return err
		}
		_, err = conn.Write(nonsense(r))
		if r.IntN(2) == 0 {
			pause(ctx, between(r, time.Millisecond, 300*time.Millisecond))
		}
		if err := errors.Join(err, conn.Close()); err != nil {
			return err
		}
	}
	return nil
}

// flood has a pod send as fast as it can, to a pod, or to where nobody is.
func flood(ctx context.Context, c *cluster, r *rand.Rand) error {
	from := c.pods[r.IntN(len(c.pods))]
	to := c.pods[r.IntN(len(c.pods))].addr
	if r.IntN(3) == 0 {
		to = netip.AddrFrom4([4]byte{10, 244, byte(r.Uint32()), byte(r.Uint32())})
	}
	socket, err := dialUDP(from.Namespace, to, discardPort)
	if err != nil {
		return err
	}
	defer socket.Close()
	packet := make([]byte, 18+r.IntN(1300))
	for end := time.Now().Add(between(r, 200*time.Millisecond, 2*time.Second)); time.Now().Before(end) && ctx.Err() == nil; {
		for range 64 {
			if _, err := socket.Write(packet); err != nil && !refusal(err) {
				return err
			}
		}
	}
	return nil
}

// refusal says whether err is what a network tells a sender.
func refusal(err error) bool {
	for _, errno := range []error{syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EMSGSIZE, syscall.ENOBUFS, syscall.EACCES, syscall.EPERM} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

func dialUDP(ns *topo.Namespace, to netip.Addr, port uint16) (socket *net.UDPConn, err error) {
	err = ns.Do(func() (err error) {
		socket, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, port)))
		return err
	})
	return socket, err
}

// churn makes a pod and deletes it, a few times. Deleting needs no daemon, and must succeed.
func churn(ctx context.Context, c *cluster, r *rand.Rand) error {
	m := c.members[r.IntN(nodeCount)]
	var errs []error
	for range 1 + r.IntN(4) {
		_, err := m.wire(context.WithoutCancel(ctx), "churn", m.churn)
		errs = append(errs, err)
		if _, err := m.weft(context.WithoutCancel(ctx), "pod", "del", "churn"); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// capture begins to capture and goes away without a word, or stops reading before that.
func capture(ctx context.Context, c *cluster, r *rand.Rand) error {
	m := c.members[r.IntN(nodeCount)]
	reader, err := m.Start(c.binaries.weft, "--socket", m.socket, "capture", "-w", os.DevNull, "--snaplen", "65535")
	if err != nil {
		return err
	}
	pause(ctx, between(r, 100*time.Millisecond, time.Second))
	if r.IntN(2) == 0 {
		if err := reader.Signal(syscall.SIGSTOP); err == nil {
			pause(ctx, between(r, time.Second, 4*time.Second))
		}
	}
	return reader.Kill()
}

// iperf is two seconds of TCP between two pods of different nodes.
func iperf(ctx context.Context, c *cluster, r *rand.Rand) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("iperf3 has not finished within 30 s"))
	defer cancel()
	from, to := c.pods[r.IntN(len(c.pods))], c.pods[r.IntN(len(c.pods))]
	for from.node == to.node {
		to = c.pods[r.IntN(len(c.pods))]
	}
	server, err := to.Start("iperf3", "--server", "--one-off", "--forceflush")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Kill()) }()
	err = topo.WaitUntil(ctx, 5*time.Second, func(context.Context) error {
		log, err := server.Log()
		if err == nil && !strings.Contains(log, "Server listening") {
			err = errors.New("iperf3 does not listen")
		}
		return err
	}, func() error { return nil })
	if err != nil {
		return err
	}
	_, err = from.Run(ctx, "iperf3", "--client", to.addr.String(), "--time", "2")
	return err
}

// askNodes asks all daemons everything, one question after the other, until ctx ends.
func askNodes(ctx context.Context, c *cluster, rep *report) error {
	for ctx.Err() == nil {
		for _, m := range c.members {
			for _, verb := range []string{"status", "metrics", "doctor", "peers", "routes"} {
				_, err := m.weft(ctx, verb)
				if verb == "doctor" && ctx.Err() == nil && err != nil && strings.Contains(err.Error(), "exit status 1") {
					err = nil // it found something, which is what the abuses are for
				}
				if ctx.Err() == nil {
					rep.count("weft "+verb, err)
				}
				pause(ctx, 200*time.Millisecond)
			}
		}
	}
	return nil
}
