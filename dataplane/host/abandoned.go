package host

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// held says whether some process has the TUN or TAP l open: one that is persistent (TUNSETPERSIST) stays without.
func held(l netlink.Link) bool {
	t := l.(*netlink.Tuntap)
	return t.NonPersist || t.Queues+t.DisabledQueues > 0
}

// Abandoned names the TUNs with weft's mark that no process has open: their weftd was killed.
func (h *Host) Abandoned() (names []string, err error) { return h.abandoned(isOurs) }

// SegmentsLeft is Abandoned for the TAPs of segments.
func (h *Host) SegmentsLeft() (names []string, err error) { return h.abandoned(isSegment) }

func (h *Host) abandoned(kind func(netlink.Link) bool) (names []string, err error) {
	links, err := h.links()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		if kind(l) && !held(l) {
			names = append(names, l.Attrs().Name)
		}
	}
	return names, nil
}

// Discard deletes the TUN or TAP called name, which must carry weft's mark. That there is none is no error.
func (h *Host) Discard(name string) error {
	links, err := h.links()
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Attrs().Name == name && (isOurs(l) || isSegment(l)) {
			if err := h.nl.LinkDel(l); err != nil {
				return explain(fmt.Errorf("delete interface %s: %w", name, err))
			}
		}
	}
	return nil
}
