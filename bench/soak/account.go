//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/weft-net/weft/bench/topo"
)

// An exchange is packets that pods of one node sent to pods of another, with nothing else going on, and where
// they are accounted for.
type exchange struct {
	From      string `json:"from"` // nodes
	To        string `json:"to"`
	Sent      int64  `json:"sent"` // by the pod
	TUN       int64  `json:"tun"`  // dropped at the sender's TUN, whose queue was full
	Egress    int64  `json:"egress"`
	Forwarded int64  `json:"forwarded"` // to the other node
	Underlay  int64  `json:"underlay"`  // lost at the nodes' own links
	Backlog   int64  `json:"backlog"`   // dropped before a processor's queue, of all that this machine received
	Overflow  int64  `json:"overflow"`  // of the receiver's sockets
	Ingress   int64  `json:"ingress"`
}

// wrong says what does not add up, or is nil.
func (e exchange) wrong() error {
	var errs []error
	if e.Sent != e.Egress+e.TUN {
		errs = append(errs, fmt.Errorf("%s to %s: a pod sent %d packets, %d reached weftd and %d were dropped at the TUN", e.From, e.To, e.Sent, e.Egress, e.TUN))
	}
	// A superpacket that a link drops counts once there, and is up to 64 packets.
	if lost := e.Forwarded - e.Ingress - e.Overflow; lost < e.Underlay || lost > 64*(e.Underlay+e.Backlog) {
		errs = append(errs, fmt.Errorf("%s to %s: %d packets went out, %d came in, %d overflowed, the underlay lost %d and the machine's backlogs %d", e.From, e.To, e.Forwarded, e.Ingress, e.Overflow, e.Underlay, e.Backlog))
	}
	return errors.Join(errs...)
}

// exchanges sends a burst each way between each two nodes, and takes the accounts around it. The nodes' own must
// close at any time, those of two nodes with the kernel's when nothing moves.
func exchanges(ctx context.Context, c *cluster) (all []exchange, err error) {
	for _, from := range c.members {
		for _, to := range c.members {
			if from == to {
				continue
			}
			e, err := oneExchange(ctx, c, from, to)
			if err != nil {
				return all, err
			}
			all = append(all, e)
		}
	}
	return all, nil
}

func oneExchange(ctx context.Context, c *cluster, from, to *member) (exchange, error) {
	const burst = 20_000
	e := exchange{From: from.String(), To: to.String()}
	before, err := c.settled(ctx)
	if err != nil {
		return e, err
	}
	lost, err := c.underlayLoss(ctx)
	if err != nil {
		return e, err
	}
	full, err := backlogDrops()
	if err != nil {
		return e, err
	}
	// Someone must listen, or the answers of the receiver's kernel are packets as well.
	sink, err := listenUDP(to.pods[0])
	if err != nil {
		return e, err
	}
	defer sink.Close()
	socket, err := dialUDP(from.pods[0].Namespace, to.pods[0].addr, discardPort)
	if err != nil {
		return e, err
	}
	defer socket.Close()
	for range burst {
		if _, err := socket.Write(make([]byte, 200)); err == nil {
			e.Sent++
		}
	}
	after, err := c.settled(ctx)
	if err != nil {
		return e, err
	}
	lostAfter, err := c.underlayLoss(ctx)
	if err != nil {
		return e, err
	}
	fullAfter, err := backlogDrops()
	e.Underlay, e.Backlog = lostAfter-lost, fullAfter-full
	a, b, a2, b2 := before[from.String()], before[to.String()], after[from.String()], after[to.String()]
	e.TUN = a2.Kernel.TunTxDropped - a.Kernel.TunTxDropped
	e.Egress = a2.Egress.Received - a.Egress.Received
	e.Forwarded = a2.Egress.Forwarded - a.Egress.Forwarded
	e.Overflow = b2.Kernel.SocketOverflow - b.Kernel.SocketOverflow
	e.Ingress = b2.Ingress.Received - b.Ingress.Received
	return e, err
}

// settled waits until nothing moves, and returns the accounts by node. Those that do not close are an error.
func (c *cluster) settled(ctx context.Context) (map[string]accounts, error) {
	var last map[string]accounts
	err := eventually(ctx, time.Minute, func(ctx context.Context) error {
		now := make(map[string]accounts)
		for _, m := range c.members {
			a, err := query[accounts](ctx, m, "drops")
			if err != nil {
				return err
			}
			now[m.String()] = a
		}
		still := reflect.DeepEqual(now, last)
		if last = now; !still {
			return errors.New("packets are still moving")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return last, closed(last)
}

// closed says whose account does not close, or is nil.
func closed(all map[string]accounts) error {
	var errs []error
	for name, a := range all {
		for way, d := range map[string]direction{"egress": a.Egress, "ingress": a.Ingress} {
			if n := d.unaccounted(); n != 0 {
				errs = append(errs, fmt.Errorf("%s %s: %d packets are not accounted for: %+v", name, way, n, d))
			}
		}
	}
	return errors.Join(errs...)
}

// backlogDrops is how many packets found a processor's input queue full (netdev_max_backlog): the second
// column of /proc/net/softnet_stat, hexadecimal, a line for each processor. It is that of all namespaces.
func backlogDrops() (sum int64, err error) {
	text, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			return 0, fmt.Errorf("read /proc/net/softnet_stat: %q", line)
		}
		n, err := strconv.ParseInt(fields[1], 16, 64)
		if err != nil {
			return 0, fmt.Errorf("read /proc/net/softnet_stat: %w", err)
		}
		sum += n
	}
	return sum, nil
}

// underlayLoss adds up what the links of the underlay have dropped on sending, at both ends. A superpacket counts once.
func (c *cluster) underlayLoss(ctx context.Context) (sum int64, err error) {
	places := []*topo.Namespace{c.topology.Underlay()}
	for _, m := range c.members {
		places = append(places, m.Namespace)
	}
	for _, ns := range places {
		out, err := ns.Run(ctx, "ip", "-s", "-j", "link")
		if err != nil {
			return 0, err
		}
		var links []struct {
			Name  string `json:"ifname"`
			Stats struct {
				TX struct {
					Dropped int64 `json:"dropped"`
				} `json:"tx"`
			} `json:"stats64"`
		}
		if err := json.Unmarshal([]byte(out), &links); err != nil {
			return 0, fmt.Errorf("ip -j link in %s: %w", ns, err)
		}
		for _, link := range links {
			if ns == c.topology.Underlay() || link.Name == "eth0" {
				sum += link.Stats.TX.Dropped
			}
		}
	}
	return sum, nil
}

// settleModes has everything pass weftd, and waits until it does.
func (c *cluster) settleModes(ctx context.Context, patience time.Duration) error {
	for _, m := range c.members {
		if err := m.configure(settled); err != nil {
			return err
		}
		if _, err := m.weft(ctx, "reload"); err != nil {
			return err
		}
	}
	return eventually(ctx, patience, func(ctx context.Context) error {
		for _, m := range c.members {
			if err := m.seesAll(ctx); err != nil {
				return err
			}
			list, err := query[peerList](ctx, m, "peers")
			if err != nil {
				return err
			}
			for _, peer := range list.Peers {
				if peer.Mode != settled.mode {
					return fmt.Errorf("%s reaches %s by %s: %s", m, peer.Name, peer.Mode, peer.Why)
				}
			}
		}
		return nil
	})
}

// listenUDP takes what is sent to a pod's discard port, and reads none of it.
func listenUDP(p *pod) (socket *net.UDPConn, err error) {
	err = p.Do(func() (err error) {
		socket, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.addr, discardPort)))
		return err
	})
	return socket, err
}
