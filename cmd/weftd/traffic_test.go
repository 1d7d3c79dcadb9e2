//go:build netns || partition

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/bench/topo"
	"github.com/weft-net/weft/cmd/internal/control"
)

// echoPort is where the pods' servers listen.
const echoPort = 5000

// listenTCP, listenUDP and dial open sockets inside a namespace; they go on
// working outside of it.
func listenTCP(t *testing.T, in *topo.Namespace) net.Listener {
	t.Helper()
	var l net.Listener
	listen(t, in, func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprintf(":%d", echoPort))
		return err
	})
	t.Cleanup(func() { l.Close() })
	return l
}

func listenUDP(t *testing.T, in *topo.Namespace) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	listen(t, in, func() (err error) {
		c, err = net.ListenUDP("udp", &net.UDPAddr{Port: echoPort})
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// listen has open take a port inside a namespace. A process that another test is just starting holds
// copies of all sockets of this one until its exec, among them the one that was closed last.
func listen(t *testing.T, in *topo.Namespace, open func() error) {
	t.Helper()
	var err error
	waited := topo.WaitUntil(t.Context(), patience, func(context.Context) error {
		err = in.Do(open)
		return err
	}, func() error {
		if errors.Is(err, unix.EADDRINUSE) {
			return nil
		}
		return err
	})
	if waited != nil {
		t.Fatal(waited)
	}
}

func dial(in *topo.Namespace, network string, to netip.Addr, port uint16) (net.Conn, error) {
	var c net.Conn
	err := in.Do(func() (err error) {
		c, err = net.DialTimeout(network, netip.AddrPortFrom(to, port).String(), patience)
		return err
	})
	return c, err
}

// transfer sends random bytes over TCP from one pod to another, and checks that
// they arrive, from the sender's own address.
func transfer(t *testing.T, from, to *topo.Pod, bytes int64) error {
	t.Helper()
	l := listenTCP(t, to.Namespace)
	defer l.Close()
	var sent, got [sha256.Size]byte
	var group errgroup.Group
	group.Go(func() error {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		defer c.Close()
		if addr := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(); addr != from.Addr {
			return fmt.Errorf("the receiver sees %s, the sender is %s", addr, from.Addr)
		}
		if err := c.SetDeadline(time.Now().Add(2 * patience)); err != nil {
			return err
		}
		h := sha256.New()
		n, err := io.Copy(h, c)
		if err == nil && n != bytes {
			err = fmt.Errorf("%d of %d bytes arrived", n, bytes)
		}
		h.Sum(got[:0])
		return err
	})
	group.Go(func() error {
		c, err := dial(from.Namespace, "tcp", to.Addr, echoPort)
		if err != nil {
			l.Close()
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(2 * patience)); err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.CopyN(io.MultiWriter(c, h), rand.NewChaCha8([32]byte{1}), bytes)
		h.Sum(sent[:0])
		return err
	})
	if err := group.Wait(); err != nil {
		return fmt.Errorf("transfer from %s to %s: %w", from, to, err)
	}
	if got != sent {
		return fmt.Errorf("transfer from %s to %s: other bytes arrived than were sent", from, to)
	}
	return nil
}

// drops asks m for its account.
func (m *member) drops() control.Drops {
	m.c.t.Helper()
	d, err := m.client.Drops(context.Background())
	if err != nil {
		m.c.t.Fatal(err)
	}
	return d
}

// settled waits until nothing moves any more, and returns everybody's account.
func (c *cluster) settled() map[*member]control.Drops {
	c.t.Helper()
	var last map[*member]control.Drops
	const looks = 5 // a worker that does not get a CPU between two of them has not yet read what waits for it
	still := 0
	c.eventually("the traffic to end", func(context.Context) error {
		now := make(map[*member]control.Drops)
		moved := last == nil
		for _, m := range c.members {
			now[m] = m.drops()
			moved = moved || now[m].Egress.Received != last[m].Egress.Received || now[m].Ingress.Received != last[m].Ingress.Received
		}
		still++
		if last = now; moved {
			still = 0
		}
		if still < looks {
			return errors.New("packets are still moving")
		}
		return nil
	})
	for m, d := range last {
		for name, direction := range map[string]control.Direction{"egress": d.Egress, "ingress": d.Ingress} {
			if n := direction.Unaccounted(); n != 0 {
				c.t.Errorf("%s %s: %d packets are not accounted for: %+v", m, name, n, direction)
			}
		}
	}
	return last
}
