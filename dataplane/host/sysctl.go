package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Whose change resets the parameters of every interface (Documentation/networking/ip-sysctl.rst).
const (
	forwarding4 = "net/ipv4/ip_forward"
	forwarding6 = "net/ipv6/conf/all/forwarding"
)

// sysctl is a wanted kernel parameter. Its path is relative to /proc/sys.
type sysctl struct {
	path  string
	value string
	// hostPath is what to set outside a container in which /proc/sys is read-only, if it is not path. The TUN's own
	// parameters cannot be set there before it exists; it takes them from "default" when it is made.
	hostPath string
	ours     bool // of the TUN, with which it goes
}

// linkSysctls are the parameters of the TUN.
func linkSysctls(s State) []sysctl {
	conf := func(family, name, value string) sysctl {
		return sysctl{"net/" + family + "/conf/" + s.Link + "/" + name, value, "net/" + family + "/conf/default/" + name, true}
	}
	list := []sysctl{
		// Loose: while routes change, a pod's packet may arrive here although the way back to it leads elsewhere.
		// The higher of "all" and the interface's own value counts, so this also holds against all=1 (strict).
		conf("ipv4", "rp_filter", "2"),
		// Weft's ICMP errors enter through the TUN with the node's own TUN address as their source. IPv6 asks no
		// such question.
		conf("ipv4", "accept_local", "1"),
	}
	if s.wants(netlink.FAMILY_V6) {
		list = append(list, conf("ipv6", "disable_ipv6", "0"))
	}
	return list
}

// applyForwarding makes the host forward what State has families for, and loosens the underlay's rp_filter.
func (l *ledger) applyForwarding(s State) error {
	var changes []change
	apply := func(c sysctl) {
		changes = append(changes, change{do: func() error { return l.applySysctls([]sysctl{c}) }})
	}
	if s.wants(netlink.FAMILY_V4) {
		apply(sysctl{path: forwarding4, value: "1"})
	}
	if s.wants(netlink.FAMILY_V6) {
		changes = append(changes, change{do: func() error { return l.forwardIPv6(s.Link) }})
	}
	if s.Underlay != "" {
		changes = append(changes, change{do: func() error { return l.loosen(s.Underlay) }})
	}
	return l.run(changes)
}

// forwardIPv6 turns forwarding on. A host that forwards ignores router advertisements where accept_ra is 1, and
// drops the default routes it has from them (rt6_purge_dflt_routers, net/ipv6/route.c), unless accept_ra is 2: so
// interfaces that listened go on to listen, also when somebody has changed that. An interface that comes later does not, and must not: a pod on the other
// end of it could make itself the host's router.
func (l *ledger) forwardIPv6(tun string) error {
	forwarding := sysctl{path: forwarding6, value: "1"}
	now, err := forwarding.now()
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set sysctl %s to 1: %w: this kernel runs without IPv6: boot it without `ipv6.disable=1`, or leave IPv6 out of weft's configuration",
			sysctlName(forwarding.path), err)
	}
	if err != nil {
		return err
	}
	if err := l.keepRouterAdvertisements(tun, now != forwarding.value); err != nil {
		return fmt.Errorf("keep listening to router advertisements, before net.ipv6.conf.all.forwarding=1: %w", err)
	}
	return l.applySysctls([]sysctl{forwarding})
}

// keepRouterAdvertisements is for the interfaces that listen before the host forwards, and for those that did.
func (l *ledger) keepRouterAdvertisements(tun string, before bool) error {
	files, err := filepath.Glob("/proc/sys/net/ipv6/conf/*/accept_ra")
	if err != nil {
		return err
	}
	var listening []sysctl
	for _, file := range files {
		link := filepath.Base(filepath.Dir(file))
		c := sysctl{path: "net/ipv6/conf/" + link + "/accept_ra", value: "2"}
		skip := slices.Contains([]string{"all", "default", "lo", tun}, link)
		if now, err := c.now(); err == nil && !skip && (before && now == "1" || l.record.has(c.path)) {
			listening = append(listening, c)
		}
	}
	return l.applySysctls(listening)
}

// loosen turns a strict rp_filter of a link, its own or that of all, into a loose one. The higher of the two counts
// (Documentation/networking/ip-sysctl.rst), so where neither is strict there is nothing to do.
func (l *ledger) loosen(link string) error {
	own := sysctl{path: "net/ipv4/conf/" + link + "/rp_filter", value: "2"}
	mine, err := own.now()
	if err != nil {
		return fmt.Errorf("loosen rp_filter of the underlay: %w", err)
	}
	all, err := sysctl{path: "net/ipv4/conf/all/rp_filter"}.now()
	if err != nil {
		return fmt.Errorf("loosen rp_filter of the underlay: %w", err)
	}
	if mine == own.value || max(mine, all) == "1" {
		return l.applySysctls([]sysctl{own})
	}
	return nil
}

// applySysctls writes those that differ, so that a read-only /proc/sys with the right values will do.
func (l *ledger) applySysctls(want []sysctl) error {
	var changes []change
	for _, c := range want {
		thing := fmt.Sprintf("sysctl %s=%s", sysctlName(c.path), c.value)
		l.sysctls = append(l.sysctls, c)
		switch now, err := c.now(); {
		case err == nil && now == c.value:
			l.found(thing)
		case err == nil:
			changes = append(changes, change{kind: KindSysctl, what: "set " + thing, thing: thing, do: func() error {
				return errors.Join(l.record.note(c, now), c.set()) // pods need it, whatever becomes of the record
			}})
		default:
			changes = append(changes, change{what: "read " + thing, do: func() error { return err }})
		}
	}
	return l.run(changes)
}

func (c sysctl) now() (string, error) {
	value, err := os.ReadFile("/proc/sys/" + c.path)
	return strings.TrimSpace(string(value)), err
}

func (c sysctl) set() error {
	err := os.WriteFile("/proc/sys/"+c.path, []byte(c.value), 0o644)
	if errors.Is(err, unix.EROFS) {
		path := c.hostPath
		if path == "" {
			path = c.path
		}
		return fmt.Errorf("%w: set it on the host before weftd starts: `sysctl -w %s=%s`", err, sysctlName(path), c.value)
	}
	return err
}

// sysctlName is the dotted name, in which sysctl(8) writes the dot of an interface such as eth0.100 as a slash.
func sysctlName(path string) string {
	return strings.NewReplacer("/", ".", ".", "/").Replace(path)
}
