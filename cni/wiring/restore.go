package wiring

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// RestoreGuards puts back the guards that are missing of ports which are attached, as after `nft flush ruleset`, and
// returns the names of their devices. It changes nothing else, and looks at no rule of a guard that is there. It may run
// beside Attach and Detach of the same ports in other processes: those have a device down while it lacks a
// guard, and a device that is down is left as it is. It goes on after an error, and joins all of them.
func (w *Wiring) RestoreGuards(ports []Port) (restored []string, err error) {
	there := make(map[table][]string)
	for _, t := range tables() {
		if there[t], err = w.guards(t); err != nil {
			return nil, explain(fmt.Errorf("restore the pods' guards: %w", err))
		}
	}
	var errs []error
	for _, p := range ports {
		missing := func(t table) bool { return !slices.Contains(there[t], p.Device) }
		if !slices.ContainsFunc(tablesOf(p), missing) {
			continue
		}
		done, err := w.restoreGuard(p)
		if err != nil {
			errs = append(errs, explain(fmt.Errorf("restore the guard of device %s: %w", p.Device, err)))
		} else if done {
			restored = append(restored, p.Device)
		}
	}
	return restored, errors.Join(errs...)
}

// restoreGuard makes the guard of a device that is up, and takes it back where the device was set down meanwhile: then
// somebody detaches it, and may have looked for the guard before.
func (w *Wiring) restoreGuard(p Port) (done bool, err error) {
	if err := p.validate(); err != nil {
		return false, err
	}
	index, err := w.upIndex(p.Device)
	if err != nil || index == 0 {
		return false, err
	}
	// Attach has made it before the device was up.
	if guarded, err := w.guarded(p); err != nil || guarded {
		return false, err
	}
	if err := w.step("restore guard"); err != nil {
		return false, err
	}
	err = w.addGuard(p, p.ends())
	now, findErr := w.upIndex(p.Device)
	if findErr == nil && now == index {
		return err == nil, err
	}
	gone := &guardRemoval{device: p.Device}
	return false, errors.Join(findErr, gone.remove(w), gone.close())
}

// guarded says whether all parts of p's guard are there.
func (w *Wiring) guarded(p Port) (bool, error) {
	conn, err := w.nftables()
	if err != nil {
		return false, err
	}
	for _, t := range tablesOf(p) {
		if there, err := t.has(conn, p.Device); err != nil || !there {
			return false, err
		}
	}
	return true, nil
}

// upIndex is 0 for a device that is down, that does not exist, or that is no veth.
func (w *Wiring) upIndex(device string) (int, error) {
	link, err := find(w.nl, device)
	if err != nil || link == nil || link.Type() != "veth" || link.Attrs().RawFlags&unix.IFF_UP == 0 {
		return 0, err
	}
	return link.Attrs().Index, nil
}
