package host

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// Pod is an address that this host delivers to a device of its own.
type Pod struct {
	Address netip.Addr
	Device  string
}

// presentNeighbour are the states of a neighbour that has been there
// (include/uapi/linux/neighbour.h): one that was looked for in vain is none.
const presentNeighbour = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT

// Pods returns the addresses in blocks that have a host route to a device other than
// except, the TUN, or are a neighbour on one: a bridge has one route for all its pods. They
// are sorted. The bridges that weft makes are left out: their pods are on record, whereas
// a neighbour outlives its pod.
func (h *Host) Pods(blocks []netip.Prefix, except string) ([]Pod, error) {
	if len(blocks) == 0 {
		return nil, nil
	}
	all, err := h.inventory()
	if err != nil {
		return nil, fmt.Errorf("look for the pods in %v: %w", blocks, err)
	}
	names, ours := make(map[int]string), make(map[int]bool)
	for _, l := range all.links {
		names[l.Attrs().Index], ours[l.Attrs().Index] = l.Attrs().Name, isPodBridge(l)
	}
	var pods []Pod
	add := func(a netip.Addr, link int) {
		within := func(b netip.Prefix) bool { return b.Contains(a) }
		name := names[link]
		if name != "" && name != except && slices.ContainsFunc(blocks, within) {
			pods = append(pods, Pod{a, name})
		}
	}
	for _, r := range all.routes {
		if p := prefixOf(r.Dst); r.Protocol != RouteProtocol && p.IsValid() && p.IsSingleIP() {
			add(p.Addr(), r.LinkIndex)
		}
	}
	for _, family := range families() {
		neighbours, err := dump(func() ([]netlink.Neigh, error) { return h.nl.NeighList(0, family) })
		if err != nil {
			return nil, fmt.Errorf("look for the pods in %v: list neighbours: %w", blocks, err)
		}
		for _, n := range neighbours {
			if a, ok := netip.AddrFromSlice(n.IP); ok && n.State&presentNeighbour != 0 && !ours[n.LinkIndex] {
				add(a.Unmap(), n.LinkIndex)
			}
		}
	}
	slices.SortFunc(pods, func(a, b Pod) int { return a.Address.Compare(b.Address) })
	return slices.CompactFunc(pods, func(a, b Pod) bool { return a.Address == b.Address }), nil
}

// isPodBridge says whether weft made l for pods, by the beginning of its hardware address
// (macPod0 and macPod1, cni/wiring/port.go).
func isPodBridge(l netlink.Link) bool {
	return l.Type() == "bridge" && bytes.HasPrefix(l.Attrs().HardwareAddr, []byte{0x0e, 0x77})
}
