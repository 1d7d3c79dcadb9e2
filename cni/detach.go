package cni

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/cni/wiring"
)

// Detach removes an attachment: what the kernel has first, the record last, so that no address is given to another
// while a route still leads to its last holder. It does without the daemon, if it has to, without the container's namespace, and
// without knowing how the network is wired. Where nothing is left it does nothing.
func (n *Network) Detach(ctx context.Context, id, ifname string) error {
	k := ipam.Key{Container: id, Interface: ifname}
	if k.Validate() != nil {
		return nil // Attach has refused it too
	}
	a, _, _ := n.Store.Get(k) // of one that is damaged nothing but the key is known, which does
	if err := n.unwire(ctx, k, a); err != nil {
		return err
	}
	return storeFault(n.Store.Remove(ctx, k))
}

// unwire removes what the kernel has of an attachment, of which a is on record.
func (n *Network) unwire(ctx context.Context, k ipam.Key, a ipam.Attachment) error {
	device := wiring.Device(k.Container, k.Interface)
	if n.Daemon == nil || n.Daemon.Detach(ctx, device) != nil {
		if err := n.Kernel.Detach(device); err != nil {
			return kernelFault(err)
		}
	}
	return kernelFault(n.Kernel.Forget(a.Bridge, a.Addresses))
}

// Collect removes this network's attachments that are not among the valid ones, the links of pods that are neither
// valid nor on any network's record, and what a killed Attach has left. A damaged record goes where it may be this
// network's and its link is gone; where the link is there, that is reported. It goes on after an error, and returns all of
// them in one line.
func (n *Network) Collect(ctx context.Context, valid []ipam.Key) error {
	// Links first: whatever is being attached meanwhile has its record before its link, and so is found on record.
	devices, err := n.Kernel.Devices()
	if err != nil {
		return kernelFault(err)
	}
	attachments, damaged, err := n.Store.List()
	if err != nil {
		return storeFault(err)
	}
	owned := make(map[string]bool)
	for _, k := range valid {
		owned[wiring.Device(k.Container, k.Interface)] = true // whatever has become of its record
	}
	var free []ipam.Key
	var errs []error
	for _, a := range attachments {
		owned[wiring.Device(a.Container, a.Interface)] = true
		if a.Network != n.Name || slices.Contains(valid, a.Key()) {
			continue
		}
		if err := n.unwire(ctx, a.Key(), a); err != nil {
			errs = append(errs, err) // as long as the link is there, its addresses are not free
		} else {
			free = append(free, a.Key())
		}
	}
	for _, d := range damaged {
		device := wiring.Device(d.Key.Container, d.Key.Interface)
		owned[device] = true
		switch {
		case d.Network != "" && d.Network != n.Name, slices.Contains(valid, d.Key):
		case errors.Is(d.Err, ipam.ErrDamaged) && !slices.Contains(devices, device):
			free = append(free, d.Key)
		default:
			errs = append(errs, storeFault(fmt.Errorf("%w; if the pod is gone, free what it holds with `weft ipam release %s`", d.Err, d.Key)))
		}
	}
	for _, device := range devices {
		if !owned[device] {
			errs = append(errs, kernelFault(n.Kernel.Detach(device)))
		}
	}
	return joined(append(errs, storeFault(n.Store.Remove(ctx, free...)))...)
}
