package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/cni/wiring"
)

// Check compares three things: the record, what the runtime was told (prev; plugins after this one may have added to it and
// have changed MAC addresses), and what the kernel has. It names every difference, on one line.
func (n *Network) Check(_ context.Context, c Container, prev *types100.Result) error {
	k := ipam.Key{Container: c.ID, Interface: c.Interface}
	if err := k.Validate(); err != nil {
		return keyFault(err)
	}
	a, found, err := n.Store.Get(k)
	switch {
	case err != nil:
		return storeFault(err)
	case !found:
		return fault(codeUnknown, fmt.Errorf("%s of container %s has no reservation on record; delete the pod, and make it anew", c.Interface, c.ID))
	case a.Network != n.Name:
		return fault(codeUnknown, fmt.Errorf("%s of container %s is attached to the network %q, not to %q", c.Interface, c.ID, a.Network, n.Name))
	}
	wrong := differences(a, prev)
	p := port(a, c.Netns)
	p.Without = without(a, prev)
	if err := n.Kernel.Check(p); errors.Is(err, wiring.ErrNamespace) {
		return kernelFault(err)
	} else if err != nil {
		wrong = append(wrong, err.Error())
	}
	if len(wrong) > 0 {
		return fault(codeBroken, errors.New(strings.Join(wrong, "; ")))
	}
	return nil
}

// without are the default routes that the runtime was not told of: the container had them by another interface.
func without(a ipam.Attachment, prev *types100.Result) []netip.Prefix {
	var left []netip.Prefix
	for _, address := range a.Addresses {
		if !slices.ContainsFunc(prev.Routes, func(r *types.Route) bool {
			ones, bits := 0, 0
			if r != nil {
				ones, bits = r.Dst.Mask.Size()
			}
			return ones == 0 && bits == address.BitLen()
		}) {
			left = append(left, everywhere(address))
		}
	}
	return left
}

// differences says what of the record the runtime was told otherwise.
func differences(a ipam.Attachment, prev *types100.Result) []string {
	var wrong []string
	names := []string{a.Device, a.Interface}
	if a.Bridge != "" {
		names = append(names, a.Bridge)
	}
	for _, name := range names {
		inPod := name == a.Interface
		if !slices.ContainsFunc(prev.Interfaces, func(i *types100.Interface) bool {
			return i != nil && i.Name == name && (i.Sandbox != "") == inPod
		}) {
			wrong = append(wrong, fmt.Sprintf("prevResult lacks the interface %s", name))
		}
	}
	for _, address := range a.Addresses {
		if !slices.ContainsFunc(prev.IPs, func(ip *types100.IPConfig) bool {
			return ip != nil && ip.Address.IP.Equal(address.AsSlice())
		}) {
			wrong = append(wrong, fmt.Sprintf("%s is on record, and prevResult lacks it", address))
		}
	}
	return wrong
}
