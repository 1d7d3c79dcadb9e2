// Package firewall keeps weft's own nftables table, `table inet weft`, and finds out what the host's own firewall
// would do to pod traffic.
//
// The table does what weft's workers cannot, since they do not see the packets: directly routed packets are guarded
// against forged addresses, pods' traffic to the outside is masqueraded, but for what would reach a peer's data port,
// and the data ports are exempt from connection tracking. `nft list table inet weft` explains itself. No nft binary is
// needed.
//
// Everything is desired state: Apply may be called at any time with the same value, and changes only what differs.
// In the tables of others nothing is changed but with [State.Manage], and then only rules with weft's comment.
package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// State is what Apply makes true. Prefixes may be of both families, in any order, and repeat each other.
type State struct {
	// Tun is the name of weft's TUN, Underlay that of the interface that leads to the peers.
	Tun, Underlay string
	// PodNetworks are the addresses of all pods, PodCIDRs this node's own blocks within them.
	PodNetworks, PodCIDRs []netip.Prefix
	// Direct are the blocks of peers that may send without encapsulation over the underlay. A peer decides for itself
	// when to do so: it belongs here from the moment it could.
	Direct []netip.Prefix
	// Keep adds to Direct what an earlier run of the daemon has left there in the kernel, but for PodCIDRs: for the
	// time in which this run does not know the peers yet, and they go on sending.
	Keep bool
	// DataPorts are the UDP ports of the underlay that are exempt from connection tracking, and to which pods may send
	// within PodNetworks only.
	DataPorts []uint16
	// Endpoints are this node's addresses on the underlay, and GossipPort is where it gossips, by TCP and UDP (0 for
	// none). They make no rules: Findings looks whether packets to DataPorts and to GossipPort come in there.
	Endpoints  []netip.Addr
	GossipPort uint16
	// Masquerade gives what pods send to addresses outside PodNetworks the node's own address.
	Masquerade bool
	// Manage adds accepts for pod traffic to the host's forward chains that would drop it.
	Manage bool
}

// Firewall is a connection to the kernel's nf_tables, in the network namespace of the thread that called Open. Its
// methods may be called by several goroutines at once, and take turns; Close last. Findings also reads /proc and may
// run iptables-legacy, which show the calling thread's namespace: a process that lives in several must call it on a
// thread locked into the one that Open was called in.
type Firewall struct {
	mu      sync.Mutex
	conn    *nftables.Conn
	query   *netlink.Conn // for what conn has no method for
	state   State         // of the last Apply
	settled uint32        // generation of the ruleset in which the kernel was seen to hold state, 0 for none
	made    *table        // of the last Apply that succeeded, nil before one
	swept   bool          // there are no accepts of weft's in the chains of others, since this Firewall makes none
}

// socketBuffer is the size of the netlink socket's buffers in octets. A transaction is one send and must fit: 60,000
// IPv6 blocks of 64 octets each.
const socketBuffer = 4 << 20

// Open connects to the kernel. The caller closes it.
func Open() (*Firewall, error) {
	conn, err := dial()
	if err != nil {
		return nil, explain(err)
	}
	query, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, errors.Join(explain(fmt.Errorf("open a netlink socket to nf_tables: %w", err)), conn.CloseLasting())
	}
	f := &Firewall{conn: conn, query: query}
	if _, err := f.generation(); err != nil {
		return nil, errors.Join(explain(err), f.Close())
	}
	return f, nil
}

func dial() (*nftables.Conn, error) {
	buffers := func(c *netlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(socketBuffer), c.SetReadBuffer(socketBuffer))
	}
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(buffers))
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket to nf_tables: %w", err)
	}
	return conn, nil
}

// Close closes the connection and leaves the rules as they are.
func (f *Firewall) Close() error {
	if err := errors.Join(f.conn.CloseLasting(), f.query.Close()); err != nil {
		return fmt.Errorf("close the netlink sockets to nf_tables: %w", err)
	}
	return nil
}

// Apply makes s true. Weft's table changes in one transaction: every packet meets either the former rules or the
// wanted ones. Where the kernel holds s already nothing is changed; what others changed or flushed is repaired. Where
// only prefixes or ports differ, the rules and their counters stay. The slices of s are copied. All errors are
// joined; without CAP_NET_ADMIN there is one that says how to get it, and ErrNoMasquerade is among them where Apply would
// do without s.Masquerade. repaired says that weft's table was found gone or changed since the Apply before: somebody
// else did that.
func (f *Firewall) Apply(s State) (repaired bool, err error) {
	if err := s.validate(); err != nil {
		return false, fmt.Errorf("firewall state: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()

	now, err := f.generation() // before the look at the rules, so that a change during it is seen the next time
	if err != nil {
		return false, explain(err)
	}
	if now == f.settled && reflect.DeepEqual(s, f.state) {
		return false, nil
	}
	f.settled = 0
	if s.Keep {
		kept, err := f.directOfBefore(s.PodCIDRs)
		if err != nil {
			return false, explain(err)
		}
		s.Direct = slices.Concat(s.Direct, kept)
	}
	f.state = s.clone()
	ownChanged, repaired, ownErr := f.applyTable(wantedTable(s))
	foreignChanged, foreignErr := false, error(nil)
	if s.Manage || !f.swept { // else the rulesets of others, which may be large, are none of weft's business
		foreignChanged, foreignErr = f.applyForeign(s)
		f.swept = !s.Manage && foreignErr == nil
	}
	if err := errors.Join(ownErr, foreignErr); err != nil {
		return repaired, explain(err)
	}
	if !ownChanged && !foreignChanged {
		f.settled = now
	}
	return repaired, nil
}

// Remove takes away weft's table, and weft's rules in the tables of others, and names what there was of it.
func (f *Firewall) Remove() (removed []string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.generation(); err != nil { // for one refusal rather than two
		return nil, explain(err)
	}
	f.settled, f.made = 0, nil
	had, ownErr := f.removeTable()
	if had {
		removed = append(removed, "nftables table inet weft")
	}
	did, foreignErr := f.applyForeign(State{})
	if did {
		removed = append(removed, "the accepts for pods in nftables forward chains of others")
	}
	return removed, explain(errors.Join(ownErr, foreignErr))
}

// Spoofed is how many packets the anti-spoof rules have dropped since the table was made, pods' to data ports among
// them. Without a table it is 0.
func (f *Firewall) Spoofed() (packets uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	have, err := f.listTable()
	if err != nil {
		return 0, explain(err)
	}
	if have == nil {
		return 0, nil
	}
	return have.dropped(), nil
}

func (s State) validate() error {
	for _, name := range []string{s.Tun, s.Underlay} {
		if name == "" || len(name) >= unix.IFNAMSIZ {
			return fmt.Errorf("%q is not the name of an interface", name)
		}
	}
	for _, p := range slices.Concat(s.PodNetworks, s.PodCIDRs, s.Direct) {
		if !p.IsValid() || p.Addr().Is4In6() || p != p.Masked() {
			return fmt.Errorf("%v is not a prefix, or has bits set after its length", p)
		}
	}
	return nil
}

func (s State) clone() State {
	s.PodNetworks, s.PodCIDRs = slices.Clone(s.PodNetworks), slices.Clone(s.PodCIDRs)
	s.Direct, s.DataPorts, s.Endpoints = slices.Clone(s.Direct), slices.Clone(s.DataPorts), slices.Clone(s.Endpoints)
	return s
}

// transact sends what queue queues as one transaction: the kernel does all of it or nothing. Where queue or the kernel
// fails another connection takes the place of this, in which messages may be left that were not sent, and answers that
// were not read.
func (f *Firewall) transact(what string, queue func() (changed bool, err error)) (changed bool, err error) {
	changed, err = queue()
	if err == nil && changed {
		if err = f.conn.Flush(); err != nil {
			err = fmt.Errorf("%s: %w", what, err)
		}
	}
	if err != nil {
		return false, errors.Join(err, f.reconnect())
	}
	return changed, nil
}

func (f *Firewall) reconnect() error {
	closeErr := f.conn.CloseLasting()
	conn, err := dial()
	if err != nil {
		conn = &nftables.Conn{} // opens a socket whenever it needs one
	}
	f.conn = conn
	return errors.Join(closeErr, err)
}

// explain ends a refusal with what prevents it.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: weftd needs the capability CAP_NET_ADMIN: start it with `sudo`, or as a service with "+
			"`systemctl start weftd`", err)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: the kernel lacks nf_tables or a part of it: try `modprobe nf_tables`", err)
	default:
		return err
	}
}
