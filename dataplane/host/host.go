// Package host brings the node's kernel to the state weft wants: the TUN's attributes and address, the routes
// that lead into it and the sysctls they need. It also answers what weft must know of the host before it
// starts: the underlay, whether the pod network is free, whether the rights are there.
//
// Everything is desired state, not commands: Apply may be called at any time with the same value, changes only
// what differs and sweeps what an earlier run left behind. What belongs to weft is told by its marks alone: the
// interface alias [Alias] on a TUN and the protocol number [RouteProtocol] on a route. Beside the TUN it is given
// and ip_forward, nothing without such a mark is ever changed or removed.
//
// The package builds on 64-bit Linux only.
package host

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// Alias is the interface alias (IFLA_IFALIAS) that marks a TUN as weft's.
	Alias = "weft"
	// RouteProtocol is the routing protocol number (rtm_protocol, rtnetlink(7)) that marks a route as weft's.
	// Neither linux/rtnetlink.h nor iproute2's rt_protos assigns it.
	RouteProtocol = 119
)

// State is what Apply makes true. All addresses are IPv4.
type State struct {
	// Link is the name of the TUN. It must exist: whoever holds its descriptors made it.
	Link string
	// Address is the only address of the TUN, as a /32: a wider one would bring a connected route without
	// weft's mark.
	Address netip.Prefix
	// MTU of the TUN in octets: the largest inner packet that fits one outer packet.
	MTU int
	// Routes are all of weft's routes in the main table; no two of the same kind and prefix.
	Routes []Route
}

// Route is a route with weft's mark. It leads into State.Link, or answers "unreachable" when Unreachable is
// set; such a route takes the worst metric in use, so that any other route to a part or the whole of Prefix
// wins over it.
type Route struct {
	Prefix      netip.Prefix
	Unreachable bool
	// Source is the address the node itself sends from on this route; zero leaves the choice to the kernel.
	Source netip.Addr
}

// Host is a connection to the kernel of the network namespace whose thread opened it. Its methods may be called
// by several goroutines at once, Close last; Apply and Remove take turns. Apply also uses /proc/sys, which shows
// the calling thread's namespace: a process that lives in several must call it on a thread locked into the one
// that Open was called in.
type Host struct {
	nl *netlink.Handle

	mu  sync.Mutex // one Apply or Remove at a time, from the first dump to the last change
	tun int        // index of the TUN that Apply took charge of, 0 before
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
// removes every route with weft's mark that s does not hold and every other address on the TUN. It does as much
// as it can and returns all errors joined; calling it again after the cause is gone completes the work. A route
// without weft's mark in the place of a wanted one is an error, never replaced. Without CAP_NET_ADMIN it stops
// at the first refusal, with an error that says how to get it.
func (h *Host) Apply(s State) error {
	if err := s.validate(); err != nil {
		return fmt.Errorf("host state: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()

	tun, err := h.findTUN(s.Link)
	if err != nil {
		return err
	}
	h.tun = tun.Attrs().Index
	return explain(run([]change{
		// First, because a change of ip_forward resets the parameters of every interface
		// (Documentation/networking/ip-sysctl.rst).
		ipForward().change(),
		{"", func() error { return h.applyLink(tun, s) }},
		{"", func() error { return h.applyAddress(tun, s.Address) }},
		{"", func() error { return h.applyRoutes(tun, s.Routes) }}, // a route's source must be an address by now
	}))
}

// Remove takes away everything that carries weft's marks and nothing else: the TUN of an earlier Apply and what is
// left of others, with their addresses and routes, and routes with weft's protocol number. The process that holds
// the TUN finds its descriptors dead, so close it first. A marked TUN that another process holds is another weftd
// at work: then Remove touches nothing and returns an error. ip_forward stays on: others may have come to need it.
func (h *Host) Remove() error {
	h.mu.Lock()
	defer h.mu.Unlock()

	links, err := h.links()
	if err != nil {
		return err
	}
	var deletions []change
	for _, l := range links {
		if !isOurs(l) {
			continue
		}
		// One that is not persistent exists as long as a process has it open (TUNSETPERSIST).
		if a := l.Attrs(); a.Index != h.tun && l.(*netlink.Tuntap).NonPersist {
			return fmt.Errorf("remove weft's interface and routes: %w", anotherWeftd(a.Name))
		}
		deletions = append(deletions, change{"delete interface " + l.Attrs().Name, func() error {
			return unless(unix.ENODEV, h.nl.LinkDel(l))
		}})
	}
	return explain(run(append(deletions, change{"", func() error { return h.applyRoutes(nil, nil) }})))
}

func (s State) validate() error {
	if s.Link == "" {
		return errors.New("no link named")
	}
	if !s.Address.Addr().Is4() || !s.Address.IsSingleIP() {
		return fmt.Errorf("address %v of %s must be an IPv4 /32", s.Address, s.Link)
	}
	for _, r := range s.Routes {
		if !r.Prefix.Addr().Is4() || r.Prefix != r.Prefix.Masked() {
			return fmt.Errorf("route %v is not an IPv4 prefix, or has bits set after its length", r.Prefix)
		}
	}
	return nil
}

// change is one step towards the wanted state; what names it in an error, and is empty when do names it itself.
type change struct {
	what string
	do   func() error
}

// run makes all changes in order and joins their errors. It stops at the first one refused for want of a right:
// all others would be, and the user needs one line.
func run(changes []change) error {
	var errs []error
	for _, c := range changes {
		err := c.do()
		if err != nil && c.what != "" {
			err = fmt.Errorf("%s: %w", c.what, err)
		}
		if refused(err) {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// unless is err, or nil when err is done: what the kernel answers when somebody else has just removed the thing.
func unless(done, err error) error {
	if errors.Is(err, done) {
		return nil
	}
	return err
}
