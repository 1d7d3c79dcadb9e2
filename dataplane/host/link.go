package host

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/packet"
)

const (
	// txQueueLen is how many packets the TUN's queues hold together, where no queue gets less than
	// leastTxQueueLen; the kernel has one length for all. It must last while nobody drains them:
	// a restart of weftd by systemd takes some 100 ms, in which 50,000 packets a second are 5,000, and a machine
	// that is busy takes twice as long. It cannot be longer at such times only: to change it takes the device's
	// queueing discipline away for a moment, and packets with it (dev_qdisc_change_tx_queue_len, net/sched/sch_generic.c). More
	// adds delay where a worker is overloaded: at the 290,000 packets a second that one carries these are
	// 34 ms. Of superpackets of 64 KiB as many are 640 MB, which only UDP's could come to: TCP's windows end before.
	txQueueLen = 10_000

	// leastTxQueueLen is 50 ms of 50,000 packets a second that all are of one queue's flows, which many queues
	// make less likely.
	leastTxQueueLen = 2500

	// gsoMaxSegs is the most segments a superpacket from the kernel may stand for.
	gsoMaxSegs = packet.MaxSegments

	// minMTU is the least MTU of IPv6 (RFC 8200 section 5).
	minMTU = 1280

	// ip6AddrGenModeNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h: no link-local address is made.
	ip6AddrGenModeNone = 1
)

// claimTUN returns all links, and among them the TUN that Apply takes charge of: the one of the Apply before, which
// gets its name back where somebody gave it another, or else the one of that name.
func (h *Host) claimTUN(l *ledger, name string) (links []netlink.Link, tun netlink.Link, err error) {
	if links, err = h.links(); err != nil {
		return nil, nil, err
	}
	thing := "interface " + name
	for _, tun := range links {
		now := tun.Attrs().Name
		if tun.Attrs().Index != h.tun || name != h.name || !isTUN(tun) || now == name {
			continue
		}
		back := change{kind: KindLink, what: fmt.Sprintf("rename interface %s back to %s", now, name), thing: thing, do: func() error { return h.rename(tun, name) }}
		if err := l.run([]change{back}); err != nil {
			return nil, nil, err
		}
		if links, err = h.links(); err != nil {
			return nil, nil, err
		}
	}
	l.found(thing)
	tun, err = findTUN(links, name)
	return links, tun, err
}

// rename takes the link down where the kernel asks for that (before 6.2).
func (h *Host) rename(l netlink.Link, name string) error {
	err := h.nl.LinkSetName(l, name)
	if errors.Is(err, unix.EBUSY) {
		if err := h.nl.LinkSetDown(l); err != nil {
			return err
		}
		return h.nl.LinkSetName(l, name)
	}
	return err
}

// findTUN returns the TUN named name. Another TUN with weft's mark is an error: two daemons in one network
// namespace would take each other's routes for leftovers.
func findTUN(links []netlink.Link, name string) (netlink.Link, error) {
	var tun netlink.Link
	for _, l := range links {
		switch {
		case l.Attrs().Name == name:
			tun = l
		case isOurs(l):
			return nil, anotherWeftd(l.Attrs().Name)
		}
	}
	if tun == nil {
		return nil, fmt.Errorf("interface %s does not exist: it must be created before it is set up", name)
	}
	if !isTUN(tun) {
		return nil, fmt.Errorf("interface %s is not a TUN (its type is %s): give weft another TUN name", name, tun.Type())
	}
	return tun, nil
}

// ErrAnother is wrapped by Apply and Remove where another process's TUN carries weft's mark; they changed nothing.
var ErrAnother = errors.New("another weftd runs in this network namespace")

// CheckAlone returns an error that wraps ErrAnother where some process has a TUN open that carries weft's mark. It is for
// a process that has not made its own yet, and has inherited none but, it may be, the one called inherited.
func (h *Host) CheckAlone(inherited string) error {
	links, err := h.links()
	if err != nil {
		return err
	}
	for _, l := range links {
		if isOurs(l) && held(l) && l.Attrs().Name != inherited {
			return anotherWeftd(l.Attrs().Name)
		}
	}
	return nil
}

func anotherWeftd(link string) error {
	return fmt.Errorf("%w: interface %s carries weft's mark (alias %q): stop it, or remove what it left with `ip link del %[2]s`",
		ErrAnother, link, Alias)
}

func isTUN(l netlink.Link) bool {
	t, ok := l.(*netlink.Tuntap)
	return ok && t.Mode == netlink.TUNTAP_MODE_TUN
}

// isOurs asks for the type as well, so that an alias somebody gave his network card never makes it weft's.
func isOurs(l netlink.Link) bool {
	return l.Attrs().Alias == Alias && isTUN(l)
}

// applyLink sets the attributes of the TUN, and brings it up when they are in place.
func (h *Host) applyLink(l *ledger, tun netlink.Link, s State) error {
	return l.run(slices.Concat(
		h.dress(l, tun, Alias, s.MTU, s.Queues),
		[]change{
			{what: "set addrgenmode none on interface " + tun.Attrs().Name, do: func() error { return h.stopIPv6Autoconf(tun) }},
			{do: func() error { return l.applySysctls(linkSysctls(s)) }},
		},
		h.raise(l, tun)))
}

// dress is the changes that give a device of weft's its attributes: the mark first, so that a crash at any point leaves
// nothing unmarked.
func (h *Host) dress(l *ledger, link netlink.Link, alias string, mtu, queues int) []change {
	now := link.Attrs()
	length := max(txQueueLen/max(queues, 1), leastTxQueueLen)
	return slices.Concat(
		l.set(link, now.Alias == alias, "alias "+alias, func() error { return h.nl.LinkSetAlias(link, alias) }),
		l.set(link, now.MTU == mtu, fmt.Sprint("mtu ", mtu), func() error { return h.nl.LinkSetMTU(link, mtu) }),
		l.set(link, now.TxQLen == length, fmt.Sprint("txqueuelen ", length), func() error { return h.nl.LinkSetTxQLen(link, length) }),
		l.set(link, now.GSOMaxSegs == gsoMaxSegs, fmt.Sprint("gso_max_segs ", gsoMaxSegs), func() error { return h.nl.LinkSetGSOMaxSegs(link, gsoMaxSegs) }))
}

// raise is the change that brings a device up.
func (h *Host) raise(l *ledger, link netlink.Link) []change {
	return l.set(link, link.Attrs().Flags&net.FlagUp != 0, "up", func() error { return h.nl.LinkSetUp(link) })
}

// set is the change that sets an attribute of a link, none where that is done.
func (l *ledger) set(link netlink.Link, done bool, attr string, do func() error) []change {
	thing := fmt.Sprintf("%s on interface %s", attr, link.Attrs().Name)
	if done {
		l.found(thing)
		return nil
	}
	return []change{{kind: KindLink, what: "set " + thing, thing: thing, do: do}}
}

// stopIPv6Autoconf keeps the kernel from giving a device a link-local address, also when IPv6 is enabled on it
// later. Without one it sends no router solicitation either: what enters the device and no pod sent are two MLD reports
// from the unspecified address, where the host forwards IPv6, when the device comes up. netlink does not parse the
// present mode, so it is read from /proc, after the MTU is set: the file is missing, and there is nothing to do,
// where the kernel has no IPv6.
func (h *Host) stopIPv6Autoconf(link netlink.Link) error {
	mode, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + link.Attrs().Name + "/addr_gen_mode")
	if errors.Is(err, fs.ErrNotExist) || strings.TrimSpace(string(mode)) == fmt.Sprint(ip6AddrGenModeNone) {
		return nil
	}
	return h.nl.LinkSetIP6AddrGenMode(link, ip6AddrGenModeNone)
}

// TxDropped is how many packets the TUN named link had no room for in its queue, since it was made: the kernel's
// tx_dropped. A superpacket is one packet there.
func (h *Host) TxDropped(link string) (uint64, error) {
	l, err := h.nl.LinkByName(link)
	if err != nil {
		return 0, fmt.Errorf("read the counters of interface %s: %w", link, err)
	}
	s := l.Attrs().Statistics
	if s == nil {
		return 0, fmt.Errorf("read the counters of interface %s: the kernel sent none", link)
	}
	return s.TxDropped, nil
}
