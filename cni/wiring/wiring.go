// Package wiring connects pods to the node in the kernel: veth pairs, addresses and routes, a bridge where one is wanted,
// and for every pod a guard, nftables rules that let it send from its own addresses only.
//
// There are two wirings. Routed, the default, has no bridge: the node routes each pod's addresses to the host end of
// its veth pair, and the pod sends everything to the link-local addresses that every host end has. With a bridge pods
// share a link, as flannel's users know it.
//
// Nothing is kept here: what there is the kernel knows, under the name that [Device] gives. An attachment is
// complete or undone; whatever the moment at which a process dies, [Wiring.Detach] of the device removes all of it.
package wiring

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrExists is that of Attach where the device or the pod's interface exists. Then it has made neither.
var ErrExists = errors.New("it exists")

// ErrNamespace is that of Attach, Check and DefaultRoutes where the path is of no other network namespace.
var ErrNamespace = errors.New("it is not the network namespace of a pod")

// Port is the attachment of one interface of a pod, as wanted.
type Port struct {
	Device    string         // host end of the veth pair: [Device]
	Owner     string         // interface alias of the host end, for people, at most 255 octets: who has it
	Netns     string         // path of the pod's network namespace
	Interface string         // name of the pod's end
	Addresses []netip.Prefix // the pod's, one of each family at most, with the length of its block (10.244.1.7/24)
	MTU       int            // octets
	Bridge    string         // name; empty where routed

	// Without are default routes, 0.0.0.0/0 or ::/0, which are left out, since the pod has them by another interface:
	// [Wiring.DefaultRoutes].
	Without []netip.Prefix
}

// Ends are the hardware addresses of what Attach made. Bridge is nil where routed.
type Ends struct{ Host, Pod, Bridge net.HardwareAddr }

// Wiring is a connection to the kernel of the network namespace whose thread opened it: the node's. Its methods may
// be called by several goroutines at once, and by several processes, but one device by one at a time. Close last.
type Wiring struct {
	nl   *netlink.Handle
	home *os.File // the node's network namespace
	step func(name string) error
}

// Open connects to the kernel. The caller closes it.
func Open() (*Wiring, error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open the node's network namespace: %w", err)
	}
	nl, err := dial(home)
	if err != nil {
		home.Close()
		return nil, err
	}
	return &Wiring{nl: nl, home: home, step: func(string) error { return nil }}, nil
}

// Close closes the connection, and leaves the kernel's state as it is.
func (w *Wiring) Close() {
	w.nl.Close()
	w.home.Close()
}

// Inject has step called with the name of each step of Attach, Detach and RestoreGuards before it is taken; an error of step's is the
// step's. It is for tests, and must not be called while another method runs.
func (w *Wiring) Inject(step func(name string) error) { w.step = step }

// dial opens a netlink socket in the network namespace ns. It bounds how long an answer may take: the kernel answers from
// the system call itself, so only a lost answer (a full socket buffer) takes longer.
func dial(ns *os.File) (*netlink.Handle, error) {
	at := netns.NsHandle(ns.Fd())
	if isHere(ns) {
		at = netns.None()
	}
	nl, err := netlink.NewHandleAt(at, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket in the network namespace %s: %w", ns.Name(), err)
	}
	if err := nl.SetSocketTimeout(5 * time.Second); err != nil {
		nl.Close()
		return nil, fmt.Errorf("bound the wait on the netlink socket: %w", err)
	}
	return nl, nil
}

// A step is a change of the kernel's state that is either made or not. A process may die before and behind each.
type step struct {
	name string
	do   func() error
}

func (w *Wiring) take(steps []step) error {
	for _, s := range steps {
		err := w.step(s.name)
		if err == nil {
			err = s.do()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// explain ends a refusal with what prevents it.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: this takes the capability CAP_NET_ADMIN: run it as root", err)
	}
	return err
}
