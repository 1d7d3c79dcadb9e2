package cni

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/cni/wiring"
)

// Attach gives a container an interface in the network: addresses that are on record, then what the kernel has for
// them. It is done whole, or has changed nothing; where it cannot undo what the kernel has, the record stays for Detach.
// An attachment that there is already is an error, and stays as it is, unless its namespace is gone. A default route that the
// container has by another interface stays the only one of its family.
func (n *Network) Attach(ctx context.Context, c Container) (*types100.Result, error) {
	k := ipam.Key{Container: c.ID, Interface: c.Interface}
	if err := k.Validate(); err != nil {
		return nil, keyFault(err)
	}
	if !isLinkName(c.Interface) {
		return nil, keyFault(fmt.Errorf("%q is no name for a link; take one such as eth0", c.Interface))
	}
	if err := n.vacate(ctx, k); err != nil {
		return nil, err
	}
	node, err := n.node(ctx)
	if err != nil {
		return nil, fault(codeTryAgain, err)
	}
	without, err := n.Kernel.DefaultRoutes(c.Netns)
	if err != nil {
		return nil, kernelFault(err)
	}
	a, err := n.Store.Add(ctx, n.attachment(c, node), ipam.Request{Blocks: node.Blocks, Wanted: c.Wanted})
	if err != nil {
		return nil, storeFault(err)
	}
	p := port(a, c.Netns)
	p.Without = without
	ends, err := n.Kernel.Attach(p)
	if err != nil {
		return nil, joined(kernelFault(err), n.undo(ctx, a, err))
	}
	return n.result(p, ends), nil
}

// vacate refuses a key that is on record, but for a record that has outlived its container's namespace, and the link with that: a
// reboot leaves such ones. A runtime that starts its containers again by their IDs may not have had them detached: Podman does not
// (refresh in libpod/container_internal.go). A runtime makes no two calls for a container at once (CNI specification, section 3).
func (n *Network) vacate(ctx context.Context, k ipam.Key) error {
	exists := n.Store.Vacant(k)
	if exists == nil {
		return nil
	}
	a, _, err := n.Store.Get(k)
	if err != nil {
		return storeFault(exists)
	}
	if stale, err := a.Stale(); err != nil || !stale {
		return storeFault(exists)
	}
	devices, err := n.Kernel.Devices()
	if err != nil {
		return kernelFault(err)
	}
	if slices.Contains(devices, wiring.Device(k.Container, k.Interface)) {
		return storeFault(exists)
	}
	return n.Detach(ctx, k.Container, k.Interface)
}

// undo frees what an attachment holds that the kernel refused, once nothing of it is left there: Attach may have failed to
// undo its own. A device that existed before is another's.
func (n *Network) undo(ctx context.Context, a ipam.Attachment, refusal error) error {
	if !errors.Is(refusal, wiring.ErrExists) {
		if err := n.Kernel.Detach(a.Device); err != nil {
			return kernelFault(err)
		}
	}
	undo, cancel := undoing(ctx)
	defer cancel()
	return storeFault(n.Store.Remove(undo, a.Key()))
}

// undoing returns a context for taking back what was done, which has time for that even where ctx's has run out.
func undoing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), patience)
}

// Ready says why no pod can be attached, or nil: code 51 where weftd carries no packets, 50 where this node has no
// block. That all addresses are taken is no reason, although the specification would allow it: kubelet takes the error
// for a node that is out of order, and the pods which hold the addresses would be evicted.
func (n *Network) Ready(ctx context.Context) error {
	_, err := n.node(ctx)
	return err
}

// node returns what this node has for pods, or why that is nothing.
func (n *Network) node(ctx context.Context) (Node, error) {
	node, err := n.Daemon.Node(ctx)
	switch {
	case err != nil:
		return node, fault(codeLimited, err)
	case !node.Ready:
		return node, fault(codeLimited, fmt.Errorf("weftd is not ready: %s; see `weft status`", node.Reason))
	case len(node.Blocks) == 0:
		return node, fault(codeUnavailable, errors.New("this node has no block for its pods; see `weft status`"))
	}
	return node, nil
}

// attachment is the record of a container, but for the addresses.
func (n *Network) attachment(c Container, node Node) ipam.Attachment {
	a := ipam.Attachment{
		Network: n.Name, Container: c.ID, Interface: c.Interface,
		Netns: c.Netns, Pod: c.Pod,
		Device: wiring.Device(c.ID, c.Interface),
		MTU:    node.MTU,
		Since:  time.Now(),
	}
	if n.MTU != 0 {
		a.MTU = min(n.MTU, node.MTU)
	}
	if n.Wiring == Bridge {
		a.Bridge = n.Bridge
	}
	return a
}

// result is what the runtime is told: the bridge if there is one, the ends of the pod's link, its addresses with the
// prefix lengths that they have in the pod, and the default routes.
func (n *Network) result(p wiring.Port, ends wiring.Ends) *types100.Result {
	r := &types100.Result{CNIVersion: types100.ImplementedSpecVersion, DNS: n.DNS}
	if p.Bridge != "" {
		r.Interfaces = append(r.Interfaces, &types100.Interface{Name: p.Bridge, Mac: ends.Bridge.String()})
	}
	r.Interfaces = append(r.Interfaces,
		&types100.Interface{Name: p.Device, Mac: ends.Host.String(), Mtu: p.MTU},
		&types100.Interface{Name: p.Interface, Mac: ends.Pod.String(), Mtu: p.MTU, Sandbox: p.Netns})
	pod := len(r.Interfaces) - 1
	for i, gateway := range wiring.Gateways(p) {
		a := p.Addresses[i]
		bits := a.Bits()
		if p.Bridge == "" {
			bits = a.Addr().BitLen()
		}
		r.IPs = append(r.IPs, &types100.IPConfig{Interface: types100.Int(pod), Address: ipNet(a.Addr(), bits), Gateway: gateway.AsSlice()})
		if everywhere := everywhere(a.Addr()); !slices.Contains(p.Without, everywhere) {
			r.Routes = append(r.Routes, &types.Route{Dst: ipNet(everywhere.Addr(), 0), GW: gateway.AsSlice()})
		}
	}
	return r
}

// everywhere is the destination of the default route of a's family.
func everywhere(a netip.Addr) netip.Prefix {
	if a.Is6() {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

func ipNet(a netip.Addr, bits int) net.IPNet {
	return net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}
}
