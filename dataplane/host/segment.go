package host

import (
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
)

// Segment is what KeepSegment makes true of the TAP of a layer-2 segment.
type Segment struct {
	// Device is the name of the TAP. It must exist: whoever holds its descriptors made it.
	Device string
	// Bridge is the bridge that the TAP is a port of. Where it is empty, the TAP is left where it is: the host's own
	// interface to the segment, or a port of what the user put it into.
	Bridge string
	// MTU in octets, of what is behind the Ethernet header and its VLAN tags. A bridge has the MTU of its smallest port, unless somebody
	// has set it (br_mtu_auto_adjust, net/bridge/br_if.c).
	MTU int
	// Alias follows weft's mark in the interface alias, as "segment office".
	Alias string
}

// KeepSegment makes s true, and says what it changed, as "mtu 1450 on interface seg-office". It changes only what
// differs, so a second call changes nothing, and does as much as it can: all errors are joined, of which one is that there is no
// such bridge. It does not make one: that is somebody's who has put other ports into it.
func (h *Host) KeepSegment(s Segment) (changed []string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	links, err := h.links()
	if err != nil {
		return nil, err
	}
	tap, err := findTAP(links, s.Device)
	if err != nil {
		return nil, err
	}
	l := ledger{after: make(map[string]bool)}
	changes := h.dress(&l, tap, strings.TrimSpace(Alias+" "+s.Alias), s.MTU, tap.Queues)
	if s.Bridge != "" {
		changes = append(changes, change{what: "set addrgenmode none on interface " + s.Device, do: func() error { return h.stopIPv6Autoconf(tap) }})
		changes = append(changes, h.yield(&l, tap)...)
		changes = append(changes, h.join(&l, links, tap, s.Bridge)...)
	}
	err = l.run(append(changes, h.raise(&l, tap)...))
	return l.made, explain(err)
}

// yield is the change that gives the TAP a hardware address that its bridge does not take for its own: that is the lowest of its ports'
// where nobody has set it (br_stp_recalculate_bridge_id, net/bridge/br_stp_if.c), and with it the host would be another to
// its neighbours. The kernel has made the rest at random.
func (h *Host) yield(l *ledger, tap netlink.Link) []change {
	const highest = 0xfe // of those that are local and unicast
	now := tap.Attrs().HardwareAddr
	want := append(net.HardwareAddr{highest}, now[1:]...)
	return l.set(tap, now[0] == highest, "address "+want.String(), func() error { return h.nl.LinkSetHardwareAddr(tap, want) })
}

// join is the change that makes the TAP a port of the bridge.
func (h *Host) join(l *ledger, links []netlink.Link, tap netlink.Link, name string) []change {
	bridge, err := findBridge(links, name)
	if err != nil {
		return []change{{what: "join interface " + tap.Attrs().Name + " to its bridge", do: func() error { return err }}}
	}
	return l.set(tap, tap.Attrs().MasterIndex == bridge.Attrs().Index, "master "+name, func() error { return h.nl.LinkSetMaster(tap, bridge) })
}

func findBridge(links []netlink.Link, name string) (netlink.Link, error) {
	for _, l := range links {
		if l.Attrs().Name != name {
			continue
		}
		if l.Type() != "bridge" {
			return nil, fmt.Errorf("interface %s is not a bridge (its type is %s): name another with `bridge`", name, l.Type())
		}
		return l, nil
	}
	return nil, fmt.Errorf("bridge %s does not exist: make it with `ip link add %[1]s up type bridge`, or leave `bridge` out of the segment", name)
}

func findTAP(links []netlink.Link, name string) (*netlink.Tuntap, error) {
	for _, l := range links {
		if l.Attrs().Name != name {
			continue
		}
		if tap, ok := l.(*netlink.Tuntap); ok && tap.Mode == netlink.TUNTAP_MODE_TAP {
			return tap, nil
		}
		return nil, fmt.Errorf("interface %s is not a TAP (its type is %s): give the segment another name", name, l.Type())
	}
	return nil, fmt.Errorf("interface %s does not exist: it must be created before it is set up", name)
}

// isSegment says whether l is the TAP of a segment.
func isSegment(l netlink.Link) bool {
	t, ok := l.(*netlink.Tuntap)
	return ok && t.Mode == netlink.TUNTAP_MODE_TAP && (t.Alias == Alias || strings.HasPrefix(t.Alias, Alias+" "))
}
