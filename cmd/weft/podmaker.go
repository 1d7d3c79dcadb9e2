package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/weft-net/weft/cmd/internal/node"
	"github.com/weft-net/weft/cni"
	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/cni/sandbox"
	"github.com/weft-net/weft/cni/wiring"
)

const (
	// podNetwork is the network, in the sense of the CNI, of the pods that weft makes itself, so that a runtime's garbage
	// collection leaves them alone.
	podNetwork   = "weft-pod"
	podInterface = "eth0"
	// podPrefix begins the names of their namespaces, by which others' are told apart from them.
	podPrefix = "weft-"
)

// Pod is a pod that weft made.
type Pod struct {
	Name      string       `json:"name"`
	Netns     string       `json:"netns"`     // path
	Addresses []netip.Addr `json:"addresses"` // none where it is only half made
	Device    string       `json:"device"`    // the node's end
	MTU       int          `json:"mtu"`       // bytes
	Since     time.Time    `json:"since,omitzero"`
	Broken    string       `json:"broken,omitempty"` // what of it is missing, one line
}

// podMaker makes the pods of which a store has the records.
type podMaker struct {
	cli   *cli
	store *ipam.Store
}

func podKey(name string) ipam.Key {
	return ipam.Key{Container: podPrefix + name, Interface: podInterface}
}

// network calls use with the network, and the kernel open.
func (p *podMaker) network(bridge string, use func(*cni.Network) error) error {
	kernel, done, err := p.cli.kernel()
	if err != nil {
		return err
	}
	defer done()
	n := cni.Network{Name: podNetwork, Wiring: cni.Routed, Store: p.store, Kernel: kernel, Daemon: node.New(p.cli.socket)}
	if bridge != "" {
		n.Wiring, n.Bridge = cni.Bridge, bridge
	}
	return use(&n)
}

// add makes the namespace first, where it is given none: one that is left when it is killed has the pod's name, by which
// del finds it.
func (p *podMaker) add(ctx context.Context, name, netns string, wanted []netip.Addr, bridge string) (pod Pod, err error) {
	k := podKey(name)
	there := fmt.Errorf("there is a pod %s already: see `weft pod list`, or delete it with `weft pod del %[1]s`", name)
	if _, found, _ := p.store.Get(k); found || sandbox.Exists(k.Container) {
		return Pod{}, there
	}
	err = p.network(bridge, func(n *cni.Network) error {
		if err := n.Ready(ctx); err != nil {
			return err
		}
		undo := func() error { return nil }
		if netns == "" {
			err := sandbox.Create(k.Container)
			if errors.Is(err, fs.ErrExist) { // another call has made it just before
				return there
			}
			if err != nil {
				return err
			}
			netns, undo = sandbox.Path(k.Container), func() error { return sandbox.Delete(k.Container) }
		}
		c := cni.Container{ID: k.Container, Netns: netns, Interface: k.Interface, Wanted: wanted}
		result, err := n.Attach(ctx, c)
		if err != nil {
			return errors.Join(err, undo())
		}
		pod = attachedPod(c, result, p.cli.now())
		return nil
	})
	return pod, err
}

// attachedPod is the pod that Attach has just made of c.
func attachedPod(c cni.Container, r *types100.Result, now time.Time) Pod {
	pod := Pod{
		Name: strings.TrimPrefix(c.ID, podPrefix), Netns: c.Netns,
		Device: wiring.Device(c.ID, c.Interface), Since: now.UTC().Truncate(time.Second),
	}
	for _, ip := range r.IPs {
		if a, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			pod.Addresses = append(pod.Addresses, a.Unmap())
		}
	}
	for _, i := range r.Interfaces {
		if i.Sandbox != "" {
			pod.MTU = i.Mtu
		}
	}
	return pod
}

// del removes whatever there is of the pod. A namespace that was there before it stays; so does one that only has the name
// of a pod, and in which others may have links.
func (p *podMaker) del(ctx context.Context, name string) error {
	k := podKey(name)
	a, found, _ := p.store.Get(k) // a damaged record goes as well
	if !found {
		if !sandbox.Exists(k.Container) {
			return noPod(name)
		}
		if err := unused(k.Container); err != nil {
			return err
		}
	}
	return p.network("", func(n *cni.Network) error {
		if err := n.Detach(ctx, k.Container, k.Interface); err != nil {
			return err
		}
		switch {
		case a.Netns == sandbox.Path(k.Container):
		case a.Netns != "": // the pod's is another
			return nil
		case found: // a damaged record, which does not say
			if err := unused(k.Container); err != nil {
				return err
			}
		}
		return sandbox.Delete(k.Container)
	})
}

func noPod(name string) error {
	return fmt.Errorf("there is no pod %s: `weft pod list` shows them all", name)
}

// unused refuses to delete a namespace in which somebody has a link.
func unused(namespace string) error {
	links, err := sandbox.Links(namespace)
	if err == nil && len(links) > 0 {
		err = fmt.Errorf("network namespace %s has links (%s), and no record says that weft made it: if nobody uses it, delete it with `ip netns delete %[1]s`",
			namespace, strings.Join(links, ", "))
	}
	return err
}

// all is all pods, sorted by name, those that are half made or half gone as well.
func (p *podMaker) all() ([]Pod, error) {
	namespaces, err := sandbox.Names() // before the records, so that a pod which is made meanwhile is whole
	if err != nil {
		return nil, err
	}
	attachments, damaged, err := p.store.List()
	if err != nil {
		return nil, err
	}
	all := []Pod{}
	for _, a := range attachments {
		if a.Network == podNetwork {
			all = append(all, podOf(a))
		}
	}
	for _, d := range damaged {
		if name, ours := strings.CutPrefix(d.Key.Container, podPrefix); ours {
			all = append(all, Pod{Name: name, Netns: sandbox.Path(d.Key.Container), Addresses: append([]netip.Addr{}, d.Addresses...), Broken: d.Err.Error()})
		}
	}
	for _, namespace := range namespaces {
		name, ours := strings.CutPrefix(namespace, podPrefix)
		known := slices.ContainsFunc(all, func(p Pod) bool { return p.Name == name })
		if ours && podName.MatchString(name) && !known {
			all = append(all, Pod{Name: name, Netns: sandbox.Path(namespace), Addresses: []netip.Addr{}, Broken: "it has no record, as where it is half made: delete it"})
		}
	}
	slices.SortFunc(all, func(a, b Pod) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func podOf(a ipam.Attachment) Pod {
	pod := Pod{
		Name: strings.TrimPrefix(a.Container, podPrefix), Netns: a.Netns,
		Addresses: a.Addresses, Device: a.Device, MTU: a.MTU, Since: a.Since,
	}
	_, linkErr := net.InterfaceByName(a.Device)
	switch {
	case isStale(a):
		pod.Broken = "its namespace is gone, as after a restart of the machine: delete it"
	case linkErr != nil:
		pod.Broken = "its link is gone: delete it, and add it again"
	}
	return pod
}

// exec returns only where it fails.
func (p *podMaker) exec(name string, command []string) error {
	a, found, err := p.store.Get(podKey(name))
	if err != nil {
		return err
	}
	if !found {
		return noPod(name)
	}
	program, err := exec.LookPath(command[0])
	if err != nil {
		return fmt.Errorf("run a command in pod %s: %w", name, err)
	}
	err = sandbox.Exec(a.Netns, sandbox.Interface{Name: a.Interface, Addresses: a.Addresses}, program, command, p.cli.environ)
	if errors.Is(err, sandbox.ErrOther) {
		return fmt.Errorf("%w: delete pod %s with `weft pod del %[2]s`, and add it again", err, name)
	}
	return err
}
