package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

const (
	tunDevice = "/dev/net/tun"

	// named bounds the things of one kind that a finding names.
	named = 3
)

// links checks what packets pass on this machine.
func (x *Examination) links(n Node, m *Machine) {
	x.Looked("interfaces and MTUs")
	if !slices.Contains(m.Files, tunDevice) {
		x.problem("W104", "load the driver with `modprobe tun`; in a container pass the device in", "there is no %s, by which weft takes pods' packets", tunDevice)
	}
	if n.Running {
		x.tun(n, m)
	}
	x.underlay(n, m)
	x.choice(n, m)
	x.pods(n, m)
}

func (x *Examination) tun(n Node, m *Machine) {
	tun := m.link(n.Tun)
	switch {
	case tun == nil:
		if len(m.Links) > 0 {
			x.problem("W103", "see `journalctl -u weftd`: weftd makes it anew within seconds", "the TUN device %s is gone", n.Tun)
		}
	case !tun.Up:
		x.problem("W103", "see `journalctl -u weftd`: weftd sets it up within seconds, unless another program sets it down again", "the TUN device %s is set down", n.Tun)
	case n.MTU != 0 && tun.MTU != n.MTU:
		x.problem("W103", "see `journalctl -u weftd`: weftd sets it back within seconds, unless another program sets it again",
			"the TUN device %s has an MTU of %d, and pods' packets are %d bytes", n.Tun, tun.MTU, n.MTU)
	}
}

func (x *Examination) underlay(n Node, m *Machine) {
	l := m.link(n.Underlay)
	switch {
	case l == nil:
		if n.Underlay != "" && len(m.Links) > 0 {
			x.problem("W105", "bring it back, or set `underlay` to another", "the underlay %s is gone", n.Underlay)
		}
		return
	case !l.Up:
		x.problem("W105", fmt.Sprintf("set it up: `ip link set %s up`", l.Name), "the underlay %s is set down", l.Name)
	case !l.Carrier:
		x.problem("W105", "see to its cable, or to what it is connected to", "the underlay %s is not connected (no carrier)", l.Name)
	}
	// Larger is harmless: pods' packets are smaller than they could be.
	if n.UnderlayMTU != 0 && l.MTU < n.UnderlayMTU {
		x.problem("W101", fmt.Sprintf("set it back with `ip link set %s mtu %d`, or restart weftd, and then the pods, for a smaller MTU of theirs", l.Name, n.UnderlayMTU),
			"the underlay %s has an MTU of %d, and weft sends packets of up to %d", l.Name, l.MTU, n.UnderlayMTU)
	}
}

// choice checks whether the underlay is the interface that it should be (flannel #1192: the first of several was not).
func (x *Examination) choice(n Node, m *Machine) {
	if n.Named || n.Underlay == "" {
		return
	}
	fix := func(link string) string {
		return fmt.Sprintf("if the nodes are to talk over %s, set `underlay: %[1]s` on each, and restart weftd", link)
	}
	var elsewhere []string
	via := ""
	for _, p := range n.Peers {
		if l := m.onLink(p.Endpoint); l != nil && l.Name != n.Underlay {
			elsewhere = append(elsewhere, p.Name)
			via = l.Name
		}
	}
	if len(elsewhere) > 0 {
		x.warning("W106", fix(via), "the underlay is %s (%s), but %s on the network of %s",
			n.Underlay, cmp.Or(n.UnderlayWhy, "of the default route"), are(elsewhere), via)
		return
	}
	if others := m.otherDefaults(n.Underlay); len(others) > 0 {
		x.warning("W107", fmt.Sprintf("say which of them it shall be: `underlay: %s`, or %s", n.Underlay, strings.Join(others, ", ")),
			"there are default routes of the same metric by %s and %s: which of them is the underlay may change with a restart", n.Underlay, strings.Join(others, ", "))
	}
}

// onLink is the link on whose network a is, or nil; the longest prefix counts.
func (m *Machine) onLink(a netip.Addr) (found *Link) {
	longest := -1
	for i := range m.Links {
		for _, p := range m.Links[i].Addresses {
			if p.Masked().Contains(a) && p.Bits() > longest && p.Bits() < p.Addr().BitLen() {
				found, longest = &m.Links[i], p.Bits()
			}
		}
	}
	return found
}

// otherDefaults are the links, apart from one, that have a default route of the least metric of a family.
func (m *Machine) otherDefaults(underlay string) (names []string) {
	for _, v4 := range []bool{true, false} {
		least, by := 0, []string(nil)
		for _, r := range m.Routes {
			l := m.linkAt(r.Link)
			if r.Prefix.Bits() != 0 || r.Prefix.Addr().Is4() != v4 || !r.Main || !r.Unicast || l == nil {
				continue
			}
			if len(by) == 0 || r.Metric < least {
				least, by = r.Metric, nil
			}
			if r.Metric == least && !slices.Contains(by, l.Name) {
				by = append(by, l.Name)
			}
		}
		if slices.Contains(by, underlay) {
			for _, name := range by {
				if name != underlay && !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
	}
	return names
}

// pods checks that no pod makes packets that the TUN does not take.
func (x *Examination) pods(n Node, m *Machine) {
	if n.MTU == 0 {
		return
	}
	var large []string
	for i := range m.Links {
		if l := &m.Links[i]; l.MTU > n.MTU && m.isPod(n, l) {
			large = append(large, fmt.Sprintf("%s (%d)", l.Name, l.MTU))
		}
	}
	if len(large) > 0 {
		x.warning("W102", "start them anew, since weft gives pods the right MTU; who makes pods otherwise sets it himself",
			"pods have a larger MTU than the %d that the pod network carries, so that what is larger is refused, and lost where they do not heed it: %s", n.MTU, some(large))
	}
}

// isPod says whether a pod of this node is at the other end of l: a route to an address of a block of the node's leads
// there, or the node's bridge.
func (m *Machine) isPod(n Node, l *Link) bool {
	if l.Kind != "veth" {
		return false
	}
	return slices.ContainsFunc(m.Routes, func(r Route) bool {
		return r.Link != 0 && r.Unicast && (r.Link == l.Index || r.Link == l.Master) && within(n.PodCIDRs, r.Prefix)
	})
}

// some lists the first few of all.
func some(all []string) string {
	if len(all) <= named {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s, and %d more", strings.Join(all[:named], ", "), len(all)-named)
}

// are is some, with its verb.
func are(all []string) string {
	if len(all) == 1 {
		return all[0] + " is"
	}
	return some(all) + " are"
}

// offloads checks those of the underlay, without which each packet is sent and received alone. The kernel refuses
// UDP_SEGMENT where a device does not sum (udp_send_skb, net/ipv4/udp.c, up to 6.10).
func (x *Examination) offloads(n Node, m *Machine) {
	x.Looked("offloads of the underlay")
	l := m.link(n.Underlay)
	if l == nil {
		return
	}
	for _, o := range l.Off {
		code, short, cost := "W202", "gso", "throughput suffers"
		switch o {
		case "tx-checksumming":
			code, short, cost = "W201", "tx", "older kernels then send each packet by a call of its own, and throughput suffers"
		case "generic-receive-offload":
			code, short = "W203", "gro"
		}
		x.warning(code, fmt.Sprintf("unless it was turned off for a fault of this hardware: `ethtool -K %s %s on`, and restart weftd", l.Name, short),
			"%s is off on the underlay %s: %s", o, l.Name, cost)
	}
}
