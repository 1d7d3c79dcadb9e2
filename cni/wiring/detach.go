package wiring

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Detach removes the device, with the pod's end of it, its routes and its guard. That there is nothing left is no
// error; that the device is no veth pair is one, and then it stays. It does as much as it can and joins all errors.
func (w *Wiring) Detach(device string) error {
	return w.detach(device, func() {})
}

// detach calls unguarded before it removes the device, where nothing has failed until then.
func (w *Wiring) detach(device string, unguarded func()) error {
	if !isDevice(device) {
		return fmt.Errorf("detach device %q: it is not the name of a pod's device", device)
	}
	if err := w.remove(device, w.step, unguarded); err != nil {
		return explain(fmt.Errorf("detach device %s: %w", device, err))
	}
	return nil
}

// remove sets the device down first, so that it never carries a packet without its guard: while it is up the guard
// stays. The guard goes before the device, and its socket is closed behind it: the kernel has the close of such a socket wait until what was deleted is
// freed (nft_rcv_nl_event, net/netfilter/nf_tables_api.c), as long as the removal of the device takes anyway.
func (w *Wiring) remove(device string, before func(step string) error, unguarded func()) error {
	link, err := find(w.nl, device)
	if err == nil && link != nil && link.Type() != "veth" {
		err = fmt.Errorf("it is a %s, and not weft's: rename it", link.Type())
	}
	if err != nil {
		return err
	}
	try := func(name string, do func() error) error {
		if err := before(name); err != nil {
			return err
		}
		return do()
	}
	guard := &guardRemoval{device: device}
	var errs []error
	if link != nil {
		errs = append(errs, try("device down", func() error { return w.change(w.nl.LinkSetDown, link, "set the device down") }))
	}
	if errors.Join(errs...) == nil {
		errs = append(errs, try("remove guard", func() error { return guard.remove(w) }))
	}
	if errors.Join(errs...) == nil {
		unguarded()
	}
	if link != nil {
		errs = append(errs, try("remove device", func() error { return w.change(w.nl.LinkDel, link, "delete the device") }))
	}
	return errors.Join(append(errs, guard.close())...)
}

// Forget removes what the node has learned by a bridge of the hardware addresses that a pod's addresses had, or for a routed pod that
// bridges stand for it, for whoever gets the addresses next. It is for behind Detach, with the bridge on record; that there is none is no error.
func (w *Wiring) Forget(bridge string, addresses []netip.Addr) error {
	if bridge == "" {
		return w.forgetProxies(addresses)
	}
	link, err := find(w.nl, bridge)
	if err != nil || link == nil {
		return err
	}
	var errs []error
	for _, a := range addresses {
		err := w.nl.NeighDel(&netlink.Neigh{LinkIndex: link.Attrs().Index, Family: familyOf(a), IP: a.AsSlice()})
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, explain(fmt.Errorf("remove the neighbour %v of bridge %s: %w", a, bridge, err)))
		}
	}
	return errors.Join(errs...)
}

// change does something to a link that may have gone, with the pod's namespace.
func (w *Wiring) change(do func(netlink.Link) error, link netlink.Link, what string) error {
	if err := do(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// find is nil for an interface that does not exist.
func find(nl *netlink.Handle, name string) (netlink.Link, error) {
	link, err := nl.LinkByName(name)
	if _, none := errors.AsType[netlink.LinkNotFoundError](err); none {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find interface %s: %w", name, err)
	}
	return link, nil
}

// Devices are the names of which anything is left, a host end or a guard, sorted.
func (w *Wiring) Devices() ([]string, error) {
	fail := func(err error) ([]string, error) {
		return nil, explain(fmt.Errorf("list the pods' devices: %w", err))
	}
	links, err := dump(w.nl.LinkList)
	if err != nil {
		return fail(err)
	}
	var names []string
	for _, t := range tables() {
		guarded, err := w.guards(t)
		if err != nil {
			return fail(err)
		}
		names = append(names, guarded...)
	}
	for _, l := range links {
		if name := l.Attrs().Name; isDevice(name) && l.Type() == "veth" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// dump calls list until its answer is whole: the kernel says when a change came in between.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	for range 9 {
		if got, err := list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return got, err
		}
	}
	return list()
}
