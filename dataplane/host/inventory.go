package host

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inventory is one look at all of the host's network, both families.
type inventory struct {
	links  []netlink.Link
	addrs  []netlink.Addr
	routes []netlink.Route // of the main table
}

func (h *Host) inventory() (inventory, error) {
	links, err := h.links()
	if err != nil {
		return inventory{}, err
	}
	addrs, err := h.addresses(nil, netlink.FAMILY_ALL)
	if err != nil {
		return inventory{}, err
	}
	routes, err := h.routes()
	if err != nil {
		return inventory{}, err
	}
	routes = slices.DeleteFunc(routes, func(r netlink.Route) bool { return r.Table != unix.RT_TABLE_MAIN })
	return inventory{links, addrs, routes}, nil
}

// links, addresses, routes and rules are the kernel's present state.
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

// routes lists the main table and [Table], IPv4 first.
func (h *Host) routes() ([]netlink.Route, error) {
	var all []netlink.Route
	for _, family := range families() {
		routes, err := dump(func() ([]netlink.Route, error) {
			return h.nl.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		all = append(all, routes...)
	}
	return slices.DeleteFunc(all, func(r netlink.Route) bool {
		return r.Table != unix.RT_TABLE_MAIN && r.Table != Table
	}), nil
}

// rules lists those of one family, none where the kernel does not have the family.
func (h *Host) rules(family int) ([]netlink.Rule, error) {
	rules, err := dump(func() ([]netlink.Rule, error) { return h.nl.RuleList(family) })
	if err := unless(unix.EAFNOSUPPORT, err); err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	return slices.DeleteFunc(rules, func(r netlink.Rule) bool { return r.Family != family }), nil
}

func families() []int {
	return []int{netlink.FAMILY_V4, netlink.FAMILY_V6}
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
