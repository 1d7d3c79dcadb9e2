// Package host brings the node's kernel to the state weft wants: the TUN's attributes and addresses, the routes
// that lead into it or directly to a peer, the rule for marked packets, and the sysctls they need. It also answers what
// weft must know of the host: the underlay, the way to a peer, whether the pod network is free, whether the rights
// are there, and when something changed.
//
// Everything is desired state, not commands: Apply may be called at any time with the same value, changes only
// what differs and sweeps what an earlier run left behind. What belongs to weft is told by its marks alone: the
// interface alias [Alias] on a TUN or TAP and the protocol number [RouteProtocol] on a route or rule. Beside the TUN it is
// given, forwarding, what forwarding takes from interfaces that listen to router advertisements, and a strict
// rp_filter of the underlay, nothing without such a mark is ever changed or removed.
//
// The package builds on 64-bit Linux only.
package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// Alias is the interface alias (IFLA_IFALIAS) that marks a TUN as weft's.
	Alias = "weft"
	// RouteProtocol is the routing protocol number (rtm_protocol, rtnetlink(7); FRA_PROTOCOL, linux/fib_rules.h)
	// that marks a route or a rule as weft's. Neither linux/rtnetlink.h nor iproute2's rt_protos assigns it.
	RouteProtocol = 119
	// Table is the routing table of Route.Marked.
	Table = 119
	// Mark is the SO_MARK of packets that are routed by Table first. These are bits 1, 2, 3 and 12, which
	// leave alone what others test by itself (github.com/fwmark/registry): 0x80 AWS, 0xf00 Cilium, 0x2000 the CNI
	// portmap plugin, 0x4000 and 0x8000 Kubernetes, 0x40 Istio, and the upper half of Calico, Weave Net and
	// Tailscale. The rule tests no other bits, so that those may be set or cleared on the way.
	Mark = 0x100e
)

// State is what Apply makes true. Either family may be absent.
type State struct {
	// Link is the name of the TUN. It must exist: whoever holds its descriptors made it.
	Link string
	// Addresses are the only addresses of the TUN, as /32 and /128, none where the node has no block: a wider one would bring a
	// connected route without weft's mark.
	Addresses []netip.Prefix
	// MTU of the TUN in octets: the largest inner packet that fits one outer packet. It is 1280 at least: the
	// kernel takes IPv6 off an interface with less (RFC 8200 section 5).
	MTU int
	// Queues is how many queues the TUN has; 0 is 1.
	Queues int
	// Underlay is the interface whose strict rp_filter is loosened, since of a conversation one side may come
	// directly and the other through the TUN. It is empty for none.
	Underlay string
	// Routes are all of weft's routes; no two of the same kind, table and prefix.
	Routes []Route
}

// Route is a route with weft's mark. It leads into State.Link, or where Device is set out of that, to Via or straight
// to the destination; or it answers "unreachable" when Unreachable is set. Such a route takes the worst metric in
// use, so that any other route to a part or the whole of Prefix wins over it.
type Route struct {
	Prefix      netip.Prefix
	Unreachable bool
	// Source is the address the node itself sends from on this route, of Prefix's family; zero leaves the choice
	// to the kernel.
	Source netip.Addr
	// Via is the underlay address of a peer on the link of Device. An IPv4 prefix may go via an IPv6 address
	// (RFC 5549), not the other way round. The route is "onlink": that no connected route holds Via, as where
	// the underlay's addresses are /32, is no error.
	Via    netip.Addr
	Device string
	// MTU is what the path takes, in octets, where that is less than the link; 0 leaves it to the link. The kernel
	// cuts by it the packets of sockets that let it (IPV6_MTU_DISCOVER below IPV6_PMTUDISC_PROBE, ip6_skb_dst_mtu,
	// include/net/ip6_route.h). It is locked: else a change of the link's MTU may carry it along
	// (rt6_mtu_change_route, net/ipv6/route.c).
	MTU int
	// Probe gives the route the worst metric but one: the packets of a socket that is bound to Device go by it
	// (ListenProbe), and all others by another route to Prefix, which must be there where that leads elsewhere.
	Probe bool
	// Marked puts the route into Table in place of the main table. Packets with Mark consult that first. What it
	// does not hold goes as all else does.
	Marked bool
}

// Host is a connection to the kernel of the network namespace whose thread opened it. Its methods may be called
// by several goroutines at once, Close last; Apply and Remove take turns. Apply also uses /proc/sys, which shows
// the calling thread's namespace, and Watch opens a socket there: a process that lives in several must call them
// on a thread locked into the one that Open was called in.
type Host struct {
	nl *netlink.Handle

	mu      sync.Mutex      // one Apply or Remove at a time, from the first dump to the last change
	tun     int             // index of the TUN that Apply took charge of, 0 before
	name    string          // that it was given
	held    map[string]bool // what the last Apply left in place, by name
	sysctls []sysctl        // of the last Apply
	record  *record         // nil without Remember
}

// Open connects to the kernel. The caller closes it.
func Open() (*Host, error) {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	// The kernel answers from the system call itself; only a lost answer (a full socket buffer) takes longer.
	if err := nl.SetSocketTimeout(5 * time.Second); err != nil {
		nl.Close()
		return nil, fmt.Errorf("bound the wait on the netlink socket: %w", err)
	}
	return &Host{nl: nl}, nil
}

// Close closes the connection and leaves the kernel's state as it is.
func (h *Host) Close() error {
	h.nl.Close()
	return nil
}

// Apply makes s true. It changes only what differs, so a second call with the same s changes nothing, and it
// removes every route and rule with weft's mark that s does not hold and every other address on the TUN. It does
// as much as it can and returns all errors joined; calling it again after the cause is gone completes the work. A
// route without weft's mark in the place of a wanted one is an error, never replaced. Without CAP_NET_ADMIN it
// stops at the first refusal, with an error that says how to get it.
//
// repaired is what the Apply before left in place, s wants too, and was found gone or changed: somebody else did that.
// A TUN that was renamed since gets its name back.
func (h *Host) Apply(s State) (repaired []Repair, err error) {
	if err := s.validate(); err != nil {
		return nil, fmt.Errorf("host state: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()

	l := ledger{before: h.held, after: make(map[string]bool), record: h.record}
	links, tun, err := h.claimTUN(&l, s.Link)
	if err != nil {
		return nil, explain(err)
	}
	h.tun, h.name = tun.Attrs().Index, s.Link
	err = explain(l.run([]change{
		// First, because a change of ip_forward resets the parameters of every interface
		// (Documentation/networking/ip-sysctl.rst).
		{do: func() error { return l.applyForwarding(s) }},
		{do: func() error { return h.applyLink(&l, tun, s) }},
		{do: func() error { return h.applyAddresses(&l, tun, s.Addresses) }},
		{do: func() error { return h.applyRoutes(&l, links, s) }}, // a route's source must be an address by now
		{do: func() error { return h.applyRules(&l, s.marked()) }},
	}))
	h.held, h.sysctls = l.after, l.sysctls
	return l.repaired, err
}

// Forget has the next Apply find nothing to be a repair. It is for when the TUN is gone, and all that was on it.
func (h *Host) Forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = nil
}

// Remember has Apply note in file, before it first sets a sysctl that outlives the TUN, what that was. It comes
// before the first Apply, or before RestoreSysctls.
func (h *Host) Remember(file string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := openRecord(file)
	if err != nil {
		return fmt.Errorf("open the record of what sysctls were: %w", err)
	}
	h.record = r
	return nil
}

// RestoreSysctls puts back the sysctls of the file that Remember was given, where they are as weft set them, removes it,
// and names what it put back, each as "sysctl net.ipv4.ip_forward=0".
func (h *Host) RestoreSysctls() (restored []string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.record == nil {
		return nil, nil
	}
	restored, err = h.record.restore()
	return restored, explain(err)
}

// Drifted says whether a sysctl of the last Apply has another value now. The kernel announces changes of a few of them
// only (Watch).
func (h *Host) Drifted() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.sysctls, func(c sysctl) bool {
		now, err := c.now()
		return err == nil && now != c.value
	})
}

// Remove takes away everything that carries weft's marks and nothing else: the TUN of an earlier Apply and what is
// left of others, with their addresses and routes, segments' TAPs, and routes and rules with weft's protocol number. The
// process that holds the TUN finds its descriptors dead, so close it first, and TAPs too. One more marked device that a
// process holds is another weftd at work: then Remove touches nothing and returns an error. Sysctls stay, but for those of the TUN: see
// RestoreSysctls. What was removed it names, each as "interface weft0"; the routes of that are not.
func (h *Host) Remove() (removed []string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()

	links, err := h.links()
	if err != nil {
		return nil, err
	}
	var deletions []change
	for _, l := range links {
		if !isOurs(l) && !isSegment(l) {
			continue
		}
		if a := l.Attrs(); a.Index != h.tun && held(l) {
			return nil, fmt.Errorf("remove weft's interface and routes: %w", anotherWeftd(a.Name))
		}
		gone := "interface " + l.Attrs().Name
		deletions = append(deletions, change{what: "delete " + gone, gone: gone, do: func() error {
			return unless(unix.ENODEV, h.nl.LinkDel(l))
		}})
	}
	h.held, h.sysctls = nil, nil
	var l ledger
	err = explain(l.run(append(deletions,
		change{do: func() error { return h.applyRules(&l, nil) }},
		change{do: func() error { return h.applyRoutes(&l, links, State{}) }},
	)))
	return l.removed, err
}

// validate refuses what no kernel could be brought to, with the caller's mistake in the error.
func (s State) validate() error {
	if s.Link == "" {
		return errors.New("no link named")
	}
	for _, a := range s.Addresses {
		if !a.IsSingleIP() || a.Addr().Is4In6() {
			return fmt.Errorf("address %v of %s must be a /32 or /128", a, s.Link)
		}
	}
	if s.MTU < minMTU {
		return fmt.Errorf("MTU %d of %s is below %d, the least of IPv6", s.MTU, s.Link, minMTU)
	}
	for _, r := range s.Routes {
		if err := r.validate(); err != nil {
			return fmt.Errorf("route %v: %w", r.Prefix, err)
		}
	}
	return nil
}

func (r Route) validate() error {
	v4 := r.Prefix.Addr().Is4()
	switch {
	case !r.Prefix.IsValid(), r.Prefix != r.Prefix.Masked(), r.Prefix.Addr().Is4In6():
		return errors.New("not a prefix, or has bits set after its length, or is IPv4 mapped into IPv6")
	case r.Source.IsValid() && r.Source.Is4() != v4:
		return fmt.Errorf("the source %v is of the other family", r.Source)
	case r.Via.IsValid() && r.Device == "":
		return errors.New("a next hop is on an interface")
	case r.Probe && (!r.Via.IsValid() || r.Marked):
		return errors.New("a probe goes to a next hop, and by no table of its own")
	case r.Unreachable && (r.Device != "" || r.MTU != 0):
		return errors.New("unreachable, and yet it leads somewhere")
	case r.Via.Is4() && !v4, r.Via.Is4In6(), r.Via.Zone() != "":
		return fmt.Errorf("cannot go via %v", r.Via)
	}
	return nil
}

// wants reports whether s has an address or route of a family.
func (s State) wants(family int) bool {
	for _, a := range s.Addresses {
		if familyOf(a.Addr()) == family {
			return true
		}
	}
	for _, r := range s.Routes {
		if familyOf(r.Prefix.Addr()) == family {
			return true
		}
	}
	return false
}

// marked are the families that have a marked route.
func (s State) marked() (with []int) {
	for _, family := range families() {
		for _, r := range s.Routes {
			if r.Marked && familyOf(r.Prefix.Addr()) == family {
				with = append(with, family)
				break
			}
		}
	}
	return with
}
