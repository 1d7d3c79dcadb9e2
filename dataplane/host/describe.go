package host

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linkNames are the names of interfaces by index.
type linkNames map[int]string

func namesOf(links []netlink.Link) linkNames {
	names := make(linkNames, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	return names
}

// describe writes r as `ip route` does, so that the text can be pasted behind `ip route del`.
func (n linkNames) describe(r netlink.Route) string {
	var b strings.Builder
	switch r.Type {
	case unix.RTN_UNREACHABLE:
		b.WriteString("unreachable ")
	case unix.RTN_BLACKHOLE:
		b.WriteString("blackhole ")
	case unix.RTN_PROHIBIT:
		b.WriteString("prohibit ")
	case unix.RTN_THROW:
		b.WriteString("throw ")
	}
	to := prefixOf(r.Dst)
	b.WriteString(to.String())
	if r.Tos != 0 {
		fmt.Fprintf(&b, " tos %#x", r.Tos)
	}
	n.describeHop(&b, to, &netlink.NexthopInfo{LinkIndex: r.LinkIndex, Gw: r.Gw, Via: r.Via})
	if r.Table != unix.RT_TABLE_MAIN {
		fmt.Fprintf(&b, " table %d", r.Table)
	}
	fmt.Fprintf(&b, " proto %v", r.Protocol)
	if r.Src != nil {
		fmt.Fprintf(&b, " src %v", r.Src)
	}
	if r.Priority != 0 {
		fmt.Fprintf(&b, " metric %d", r.Priority)
	}
	for _, hop := range r.MultiPath {
		b.WriteString(" nexthop")
		n.describeHop(&b, to, hop)
	}
	if r.Flags&unix.RTNH_F_ONLINK != 0 {
		b.WriteString(" onlink")
	}
	switch {
	case r.MTULock:
		fmt.Fprintf(&b, " mtu lock %d", r.MTU)
	case r.MTU != 0:
		fmt.Fprintf(&b, " mtu %d", r.MTU)
	}
	return b.String()
}

func (n linkNames) describeHop(b *strings.Builder, to netip.Prefix, hop *netlink.NexthopInfo) {
	if via := gateway(hop); via.IsValid() {
		b.WriteString(" via ")
		if via.Is6() && to.Addr().Is4() {
			b.WriteString("inet6 ")
		}
		b.WriteString(via.String())
	}
	if hop.LinkIndex == 0 {
		return
	}
	name, ok := n[hop.LinkIndex]
	if !ok {
		name = fmt.Sprint("if", hop.LinkIndex) // as ip prints an interface that went away meanwhile
	}
	b.WriteString(" dev " + name)
}

// gateway is the next hop's address, zero when the destination is on the link. An IPv4 route may have an IPv6
// gateway (RTA_VIA, RFC 5549).
func gateway(hop *netlink.NexthopInfo) netip.Addr {
	if via, ok := hop.Via.(*netlink.Via); ok {
		return addrOf(via.Addr)
	}
	return addrOf(hop.Gw)
}
