package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Underlay is the interface and address by which other nodes reach this one.
type Underlay struct {
	Interface string
	Address   netip.Addr
	MTU       int    // of the interface, in octets
	Why       string // how it was chosen, for the user: "interface of the default route (via 198.51.100.254, metric 0)"
}

// Underlay chooses the underlay. choice is an interface name, an IPv4 address of this host, or empty for the
// interface of the IPv4 default route with the lowest metric. Where an interface has several addresses, it takes
// the one the kernel sends from on the default route. An error lists what could have been chosen.
func (h *Host) Underlay(choice string) (Underlay, error) {
	inv, err := h.inventory()
	if err != nil {
		return Underlay{}, err
	}
	u, err := inv.choose(choice)
	if err != nil {
		return Underlay{}, fmt.Errorf("choose the underlay: %w", err)
	}
	return u, nil
}

func (inv inventory) choose(choice string) (Underlay, error) {
	if choice == "" {
		return inv.byDefaultRoute()
	}
	if addr, err := netip.ParseAddr(choice); err == nil {
		return inv.byAddress(addr.Unmap())
	}
	return inv.byName(choice)
}

func (inv inventory) byDefaultRoute() (Underlay, error) {
	route, hop := inv.defaultRoute(0)
	if route == nil {
		return Underlay{}, fmt.Errorf("this host has no IPv4 default route: set `underlay: NAME`%s", inv.candidates())
	}
	why := fmt.Sprintf("interface of the default route (metric %d)", route.Priority)
	if via := gateway(hop); via.IsValid() {
		why = fmt.Sprintf("interface of the default route (via %v, metric %d)", via, route.Priority)
	}
	return inv.onLink(inv.link(hop.LinkIndex), why)
}

func (inv inventory) byName(name string) (Underlay, error) {
	for _, l := range inv.links {
		if l.Attrs().Name == name || slices.Contains(l.Attrs().AltNames, name) {
			return inv.onLink(l, "interface named in the configuration")
		}
	}
	var names []string
	best := ""
	for _, l := range inv.links {
		other := l.Attrs().Name
		names = append(names, other)
		if best == "" || levenshtein.Distance(name, other, nil) < levenshtein.Distance(name, best, nil) {
			best = other
		}
	}
	hint := ""
	if best != "" && levenshtein.Distance(name, best, nil) <= 2 {
		hint = fmt.Sprintf("; did you mean %s?", best)
	}
	return Underlay{}, fmt.Errorf("this host has no interface %q, it has %s%s", name, strings.Join(names, ", "), hint)
}

func (inv inventory) byAddress(addr netip.Addr) (Underlay, error) {
	if !addr.Is4() {
		return Underlay{}, fmt.Errorf("%v is not an IPv4 address: the underlay must be IPv4", addr)
	}
	for _, a := range inv.addrs {
		if addrOf(a.IP) == addr {
			return underlayOn(inv.link(a.LinkIndex), addr, "address named in the configuration")
		}
	}
	return Underlay{}, fmt.Errorf("no interface of this host has the address %v: set `underlay` to an interface or address it has%s", addr, inv.candidates())
}

// onLink chooses among the addresses of one interface.
func (inv inventory) onLink(l netlink.Link, why string) (Underlay, error) {
	addr, note := inv.source(l)
	u, err := underlayOn(l, addr, why+note)
	if err == nil && !addr.IsValid() {
		err = fmt.Errorf("interface %s has no IPv4 address: give it one, or set `underlay` to another%s", u.Interface, inv.candidates())
	}
	return u, err
}

// source is the address the kernel sends from on the default route over l, or would: the route's own source, else
// as inet_select_addr (net/ipv4/devinet.c) the first address whose subnet holds the gateway, else the first. The
// note says which where there was a choice. The address is invalid when l has none.
func (inv inventory) source(l netlink.Link) (addr netip.Addr, note string) {
	if l == nil {
		return netip.Addr{}, ""
	}
	own := inv.sources(l.Attrs().Index)
	route, hop := inv.defaultRoute(l.Attrs().Index)
	switch {
	case route != nil && route.Src != nil:
		return addrOf(route.Src), "; the source address of its default route"
	case len(own) == 0:
		return netip.Addr{}, ""
	case len(own) == 1:
		return own[0].Addr(), ""
	}
	if route != nil {
		for _, p := range own {
			if p.Contains(gateway(hop)) {
				return p.Addr(), fmt.Sprintf("; of its %d addresses the one in the gateway's subnet", len(own))
			}
		}
	}
	return own[0].Addr(), fmt.Sprintf("; the first of its %d addresses", len(own))
}

// underlayOn refuses an interface that was chosen well and would never carry a packet. l is nil when it was
// removed between two dumps.
func underlayOn(l netlink.Link, addr netip.Addr, why string) (Underlay, error) {
	if l == nil {
		return Underlay{}, errors.New("the interface has just been removed: try again")
	}
	a := l.Attrs()
	switch {
	case isOurs(l):
		return Underlay{}, fmt.Errorf("interface %s is weft's own TUN: set `underlay` to the interface that reaches the other nodes", a.Name)
	case a.Flags&net.FlagUp == 0:
		return Underlay{}, fmt.Errorf("interface %s is down: `ip link set %[1]s up`", a.Name)
	}
	return Underlay{Interface: a.Name, Address: addr, MTU: a.MTU, Why: why}, nil
}

// defaultRoute is the default route with the lowest metric, of one interface or of any when index is 0, and its
// next hop there. It is nil when there is none.
func (inv inventory) defaultRoute(index int) (*netlink.Route, *netlink.NexthopInfo) {
	var best *netlink.Route
	var bestHop *netlink.NexthopInfo
	for i := range inv.routes {
		r := &inv.routes[i]
		if prefixOf(r.Dst).Bits() != 0 || best != nil && r.Priority >= best.Priority {
			continue
		}
		hops := r.MultiPath
		if len(hops) == 0 {
			hops = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw, Via: r.Via}}
		}
		for _, hop := range hops {
			if hop.LinkIndex != 0 && (index == 0 || hop.LinkIndex == index) { // 0: an unreachable default route
				best, bestHop = r, hop
				break
			}
		}
	}
	return best, bestHop
}

func (inv inventory) link(index int) netlink.Link {
	for _, l := range inv.links {
		if l.Attrs().Index == index {
			return l
		}
	}
	return nil
}

// sources are the addresses of an interface the kernel would send from, in its order: of global scope and not
// secondary.
func (inv inventory) sources(index int) []netip.Prefix {
	var own []netip.Prefix
	for _, a := range inv.addrs {
		if a.LinkIndex == index && a.Scope == int(netlink.SCOPE_UNIVERSE) && a.Flags&unix.IFA_F_SECONDARY == 0 {
			own = append(own, netip.PrefixFrom(addrOf(a.IP), prefixOf(a.IPNet).Bits()))
		}
	}
	return own
}

// candidates ends an error with the interfaces a user may mean: up, with an address, and not of the kinds that
// container runtimes and pod networks make. Nothing is refused by this list of names.
func (inv inventory) candidates() string {
	var list []string
	for _, l := range inv.links {
		a := l.Attrs()
		own := inv.sources(a.Index)
		podSide := slices.ContainsFunc([]string{"docker", "br-", "cni", "veth", "cali", "flannel", "lxc", "virbr"},
			func(prefix string) bool { return strings.HasPrefix(a.Name, prefix) })
		if a.Flags&net.FlagUp == 0 || a.Flags&net.FlagLoopback != 0 || len(own) == 0 || podSide || isOurs(l) {
			continue
		}
		list = append(list, fmt.Sprintf("%s (%v)", a.Name, own[0].Addr()))
	}
	if len(list) == 0 {
		return "; no interface with an IPv4 address is up"
	}
	return ", for example " + strings.Join(list, ", ")
}
