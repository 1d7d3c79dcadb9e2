package host

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// inventory is one look at all of the host's IPv4 network.
type inventory struct {
	links  []netlink.Link
	addrs  []netlink.Addr
	routes []netlink.Route
}

func (h *Host) inventory() (inventory, error) {
	links, err := h.links()
	if err != nil {
		return inventory{}, err
	}
	addrs, err := h.addresses(nil, netlink.FAMILY_V4)
	if err != nil {
		return inventory{}, err
	}
	routes, err := h.routes()
	if err != nil {
		return inventory{}, err
	}
	return inventory{links, addrs, routes}, nil
}

// links, addresses and routes are the kernel's present state; routes are those of the main table.
func (h *Host) links() ([]netlink.Link, error) {
	links, err := dump(h.nl.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	return links, nil
}

// addresses lists those of one link, or of all when link is nil.
func (h *Host) addresses(link netlink.Link, family int) ([]netlink.Addr, error) {
	addrs, err := dump(func() ([]netlink.Addr, error) { return h.nl.AddrList(link, family) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return addrs, nil
}

func (h *Host) routes() ([]netlink.Route, error) {
	routes, err := dump(func() ([]netlink.Route, error) { return h.nl.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return routes, nil
}

// dump repeats a dump that a change elsewhere interrupted (NLM_F_DUMP_INTR): such an answer may lack entries.
// A node that starts many pods at once interrupts several in a row, hardly ten.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	for range 9 {
		if got, err := list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return got, err
		}
	}
	return list()
}
