// Package cni attaches pods to the pod network and detaches them: the verbs of the Container Network Interface
// (CNI specification 1.1.0, https://www.cni.dev/docs/spec), for any runtime by way of Plugin, and for `weft pod` by way
// of Network.
//
// An attachment is a container ID and the name of an interface in that container. What it has on this node is a record
// with its addresses (package ipam), and links, routes and a guard in the kernel (package wiring). The record is durable
// before the kernel is touched, and goes after what the kernel has; and all names in the kernel follow from the
// attachment's own. So whenever a call is killed, Detach or Collect finds what is left.
package cni

import (
	"context"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/cni/wiring"
)

// Wirings of a node.
const (
	Routed = "routed" // a route for each pod
	Bridge = "bridge" // pods are ports of one bridge
)

// Defaults of the network configuration.
const (
	DefaultBridge  = "cni0"
	DefaultDataDir = "/var/lib/weft/attachments"
)

const (
	minMTU      = 1280  // IPv6's least (RFC 8200, section 5), which weft keeps to in IPv4 too
	maxMTU      = 65535 // a veth's largest (ETH_MAX_MTU)
	maxLinkName = 15    // bytes (IFNAMSIZ - 1)
	maxAlias    = 255   // bytes (IFALIASZ - 1)
)

// Network is one network of this node's, and how to change it. All networks of a node share one store, as they share its
// blocks. The fields do not change while it is used; it may be used by several goroutines and, since the store
// locks, beside other processes. Errors are one line that ends with what to do, and have a code of the CNI: see Code.
type Network struct {
	Name   string    // which attachments are this network's
	Wiring string    // Routed or Bridge; for Attach
	Bridge string    // name of the bridge; for Attach, where Wiring is Bridge
	MTU    int       // bytes; 0, or larger than what weftd carries, takes weftd's; for Attach
	DNS    types.DNS // handed on to the runtime
	Store  Store
	Kernel Kernel
	Daemon Daemon // nil where Attach and Ready are not called, and Detach is not to be quick
}

// Container is what a runtime says of the container that it attaches.
type Container struct {
	ID        string
	Netns     string       // path of its network namespace
	Interface string       // name that the interface has, or shall have, in there
	Pod       string       // "namespace/name", for people; may be ""
	Wanted    []netip.Addr // addresses that it is to have, one of a family at most; of the other families it gets any
}

// Store holds the attachments; *ipam.Store is one.
type Store interface {
	Vacant(ipam.Key) error
	Add(context.Context, ipam.Attachment, ipam.Request) (ipam.Attachment, error)
	Get(ipam.Key) (ipam.Attachment, bool, error)
	Remove(context.Context, ...ipam.Key) error
	List() ([]ipam.Attachment, []ipam.Damaged, error)
}

// Kernel holds the pods' links; *wiring.Wiring is one.
type Kernel interface {
	DefaultRoutes(netns string) ([]netip.Prefix, error)
	Attach(wiring.Port) (wiring.Ends, error)
	Detach(device string) error
	Forget(bridge string, addresses []netip.Addr) error
	Check(wiring.Port) error
	Devices() ([]string, error)
}

// Node is what this node has for pods.
type Node struct {
	Ready  bool           // it carries their packets
	Reason string         // why not; one line
	Blocks []netip.Prefix // that new pods may have addresses of
	MTU    int            // of a pod's interface, bytes
}

// Daemon knows the node; weftd does.
type Daemon interface {
	// Node returns an error where weftd does not answer: one line that ends with how to start it.
	Node(context.Context) (Node, error)
	// Detach does what Kernel.Detach does, in less time: a daemon stays while the kernel frees what was removed. An error says that it
	// may not have been done.
	Detach(ctx context.Context, device string) error
}

// Ports returns what the kernel has for attachments on record, in their order.
func Ports(attachments []ipam.Attachment) []wiring.Port {
	ports := make([]wiring.Port, len(attachments))
	for i, a := range attachments {
		ports[i] = port(a, a.Netns)
	}
	return ports
}

// port returns what the kernel has for an attachment.
func port(a ipam.Attachment, netns string) wiring.Port {
	owner := "weft pod " + a.Network + " " + a.Container + " " + a.Interface
	p := wiring.Port{
		Device:    wiring.Device(a.Container, a.Interface),
		Owner:     owner[:min(len(owner), maxAlias)],
		Netns:     netns,
		Interface: a.Interface,
		MTU:       a.MTU,
		Bridge:    a.Bridge,
	}
	for i, address := range a.Addresses {
		p.Addresses = append(p.Addresses, netip.PrefixFrom(address, a.Blocks[i].Bits()))
	}
	return p
}
