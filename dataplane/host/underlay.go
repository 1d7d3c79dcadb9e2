package host

import (
	"cmp"
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

// Underlay is the interface and the addresses by which other nodes reach this one.
type Underlay struct {
	Interface string
	Index     int          // of the interface: one that was removed and made again has another
	Addresses []netip.Addr // one of a family at the most, one at the least, IPv4 first
	MTU       int          // of the interface, in octets
	Why       string       // how it was chosen, for the user: "interface of the default route (via 198.51.100.254, metric 0)"
}

// Address is the first of the addresses.
func (u Underlay) Address() netip.Addr {
	return u.Addresses[0]
}

// Underlay chooses the underlay. choice is an interface name, an address of this host, or empty for the interface of
// the default route with the lowest metric: the IPv4 one or, where there is none, the IPv6 one. A named address is
// taken alone. Of an interface it takes one address of each family that it has: of IPv4 the one the kernel sends from
// on the default route, of IPv6 one that lasts, neither link-local nor temporary (RFC 8981). An error lists what
// could have been chosen.
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

// UnderlayAfter is Underlay for a node that has one: on the same interface it keeps each of its addresses that is
// still as good as any, though one that came later might be chosen at a start.
func (h *Host) UnderlayAfter(choice string, before Underlay) (Underlay, error) {
	inv, err := h.inventory()
	if err != nil {
		return Underlay{}, err
	}
	u, err := inv.choose(choice)
	if err != nil {
		return Underlay{}, fmt.Errorf("choose the underlay: %w", err)
	}
	return inv.keep(choice, u, before), nil
}

func (inv inventory) keep(choice string, u, before Underlay) Underlay {
	if _, err := netip.ParseAddr(choice); err == nil || u.Index != before.Index {
		return u
	}
	for i, a := range u.Addresses {
		for _, b := range before.Addresses {
			stays := func(p netip.Prefix) bool { return p.Addr() == b }
			if a.Is4() == b.Is4() && slices.ContainsFunc(inv.sources(familyOf(b), u.Index), stays) {
				u.Addresses[i] = b
			}
		}
	}
	return u
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
	what := "interface of the default route"
	route, hop := inv.defaultRoute(netlink.FAMILY_V4, 0)
	if route == nil {
		what = "interface of the IPv6 default route"
		route, hop = inv.defaultRoute(netlink.FAMILY_V6, 0)
	}
	if route == nil {
		return Underlay{}, fmt.Errorf("this host has no default route: set `underlay: NAME`%s", inv.candidates())
	}
	why := fmt.Sprintf("%s (metric %d)", what, route.Priority)
	if via := gateway(hop); via.IsValid() {
		why = fmt.Sprintf("%s (via %v, metric %d)", what, via, route.Priority)
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
	if addr.Is6() && addr.IsLinkLocalUnicast() {
		return Underlay{}, fmt.Errorf("%v is link-local, which means nothing on another link: set `underlay` to an interface or another address%s", addr, inv.candidates())
	}
	for _, a := range inv.addrs {
		if addrOf(a.IP) == addr {
			return underlayOn(inv.link(a.LinkIndex), []netip.Addr{addr}, "address named in the configuration")
		}
	}
	return Underlay{}, fmt.Errorf("no interface of this host has the address %v: set `underlay` to an interface or address it has%s", addr, inv.candidates())
}

// onLink chooses among the addresses of one interface.
func (inv inventory) onLink(l netlink.Link, why string) (Underlay, error) {
	var addrs []netip.Addr
	if l != nil {
		for _, source := range []func(int) (netip.Addr, string){inv.source4, inv.source6} {
			if addr, note := source(l.Attrs().Index); addr.IsValid() {
				addrs, why = append(addrs, addr), why+note
			}
		}
	}
	u, err := underlayOn(l, addrs, why)
	if err == nil && len(addrs) == 0 {
		return Underlay{}, fmt.Errorf("interface %s has no address that other nodes could reach: give it one, or set `underlay` to another%s", u.Interface, inv.candidates())
	}
	return u, err
}

// source4 is the address the kernel sends from on the IPv4 default route over a link, or would: the route's own
// source, else as inet_select_addr (net/ipv4/devinet.c) the first address whose subnet holds the gateway, else the
// first. The note says which where there was a choice. The address is invalid when the link has none.
func (inv inventory) source4(index int) (addr netip.Addr, note string) {
	own := inv.sources(netlink.FAMILY_V4, index)
	route, hop := inv.defaultRoute(netlink.FAMILY_V4, index)
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

// source6 is the source of the IPv6 default route over a link, if that names one, else the first of the link's
// addresses.
func (inv inventory) source6(index int) (addr netip.Addr, note string) {
	if route, _ := inv.defaultRoute(netlink.FAMILY_V6, index); route != nil && route.Src != nil {
		return addrOf(route.Src), "; the source address of its IPv6 default route"
	}
	own := inv.sources(netlink.FAMILY_V6, index)
	switch len(own) {
	case 0:
		return netip.Addr{}, ""
	case 1:
		return own[0].Addr(), ""
	}
	return own[0].Addr(), fmt.Sprintf("; the most lasting of its %d IPv6 addresses", len(own))
}

// underlayOn refuses an interface that was chosen well and would never carry a packet. l is nil when it was
// removed between two dumps.
func underlayOn(l netlink.Link, addrs []netip.Addr, why string) (Underlay, error) {
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
	return Underlay{Interface: a.Name, Index: a.Index, Addresses: addrs, MTU: a.MTU, Why: why}, nil
}

// defaultRoute is the default route of a family with the lowest metric, of one interface or of any when index is 0,
// and its next hop there. It is nil when there is none.
func (inv inventory) defaultRoute(family, index int) (*netlink.Route, *netlink.NexthopInfo) {
	var best *netlink.Route
	var bestHop *netlink.NexthopInfo
	for i := range inv.routes {
		r := &inv.routes[i]
		to := prefixOf(r.Dst)
		if to.Bits() != 0 || familyOf(to.Addr()) != family || r.Type != unix.RTN_UNICAST || best != nil && r.Priority >= best.Priority {
			continue
		}
		hops := r.MultiPath
		if len(hops) == 0 {
			hops = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw, Via: r.Via}}
		}
		for _, hop := range hops {
			if index == 0 || hop.LinkIndex == index {
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

// sources are the addresses of an interface by which others may reach it for long: of global scope and not
// secondary, which for IPv6 means temporary, nor deprecated or unconfirmed. IPv4's are in the order in which the
// kernel would send from them; IPv6's, which the kernel lists by age, with what does not expire first, then what is
// no unique local address (RFC 4193), then the lowest.
func (inv inventory) sources(family, index int) []netip.Prefix {
	const unfit = unix.IFA_F_SECONDARY | unix.IFA_F_DEPRECATED | unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED
	var own []netip.Prefix
	expires := make(map[netip.Addr]bool)
	for _, a := range inv.addrs {
		p := prefixOf(a.IPNet)
		if a.LinkIndex == index && familyOf(p.Addr()) == family && a.Scope == int(netlink.SCOPE_UNIVERSE) && a.Flags&unfit == 0 {
			own = append(own, p)
			expires[p.Addr()] = a.Flags&unix.IFA_F_PERMANENT == 0
		}
	}
	if family == netlink.FAMILY_V6 {
		slices.SortFunc(own, func(a, b netip.Prefix) int {
			x, y := a.Addr(), b.Addr()
			return cmp.Or(falseFirst(expires[x], expires[y]), falseFirst(x.IsPrivate(), y.IsPrivate()), x.Compare(y))
		})
	}
	return own
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// candidates ends an error with the interfaces a user may mean: up, with an address, and not of the kinds that
// container runtimes and pod networks make. Nothing is refused by this list of names.
func (inv inventory) candidates() string {
	var list []string
	for _, l := range inv.links {
		a := l.Attrs()
		own := append(inv.sources(netlink.FAMILY_V4, a.Index), inv.sources(netlink.FAMILY_V6, a.Index)...)
		podSide := slices.ContainsFunc([]string{"docker", "br-", "cni", "veth", "cali", "flannel", "lxc", "virbr"},
			func(prefix string) bool { return strings.HasPrefix(a.Name, prefix) })
		if a.Flags&net.FlagUp == 0 || a.Flags&net.FlagLoopback != 0 || len(own) == 0 || podSide || isOurs(l) {
			continue
		}
		list = append(list, fmt.Sprintf("%s (%v)", a.Name, own[0].Addr()))
	}
	if len(list) == 0 {
		return "; no interface with an address is up"
	}
	return ", for example " + strings.Join(list, ", ")
}
