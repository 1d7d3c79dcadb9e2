package wiring

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// The guard of a pod is a chain of nftables' with the name of its device, in a table that all pods share: `nft list table netdev weft_pods` explains
// itself. That of a routed pod is at its device's ingress, before the node sees what the pod sends. That of a bridge's port is at the bridges' hook: what
// traffic control redirects at a device's ingress and back, as the bandwidth plugin does to limit what a pod sends, passes no ingress
// hook again (tc_skip_classify, net/core/dev.c). At a port's ingress there is a chain too, for what a bridge learns from without any hook.
//
// A pod's part of the tables comes and goes in one transaction.

// addGuard makes p's guard, in the place of what a former device of the name left.
func (w *Wiring) addGuard(p Port, ends Ends) error {
	err := w.makeGuard(p, ends)
	if errors.Is(err, unix.ENOENT) {
		if err = w.makeTables(p); err == nil {
			err = w.makeGuard(p, ends)
		}
	}
	if err != nil {
		return fmt.Errorf("make the nftables rules of %s: %w%s", p.Device, err, lacking(err))
	}
	return nil
}

// A guardPart is a chain of a pod's.
type guardPart struct {
	table
	chain *nftables.Chain
	rules []rule
}

func guardOf(p Port, ends Ends) []guardPart {
	g := newGuard(p, ends)
	if !g.bridge {
		return []guardPart{{devices, devices.ingress(p.Device, nftables.ChainPolicyDrop), g.rules()}}
	}
	return []guardPart{
		{devices, devices.ingress(p.Device, nftables.ChainPolicyAccept), forLinkRules()},
		{bridges, &nftables.Chain{Table: bridges.table(), Name: p.Device}, g.rules()},
	}
}

// makeGuard fails with ENOENT where a table is missing.
func (w *Wiring) makeGuard(p Port, ends Ends) error {
	conn, err := w.nftables()
	if err != nil {
		return err
	}
	for _, part := range guardOf(p, ends) {
		conn.FlushChain(conn.AddChain(part.chain))
		addRules(conn, part.chain, part.rules)
		if part.table == bridges {
			if err := conn.SetAddElements(portsMap(), portsElement(p.Device)); err != nil {
				return err
			}
		}
	}
	return conn.Flush()
}

func addRules(conn *nftables.Conn, c *nftables.Chain, rules []rule) {
	for _, r := range rules {
		comment := userdata.AppendString(nil, userdata.TypeComment, r.comment)
		conn.AddRule(&nftables.Rule{Table: c.Table, Chain: c, Exprs: r.exprs, UserData: comment})
	}
}

// lacking says what may help where the kernel does not know what it was asked for.
func lacking(err error) string {
	for _, unknown := range []error{unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EINVAL, unix.EOPNOTSUPP, unix.ENOENT} {
		if errors.Is(err, unknown) {
			return ": the kernel lacks nf_tables or a part of it: try `modprobe nf_tables`"
		}
	}
	return ""
}

// guardRemoval holds the socket by which a guard was removed, until close.
type guardRemoval struct {
	device string
	conn   *nftables.Conn
}

// remove takes away what there is of the guard: a kernel without nf_tables, or without those of devices, has none. It goes in one
// transaction, since the kernel frees what each deletes after an RCU grace period, and the device's removal waits for those.
func (g *guardRemoval) remove(w *Wiring) (err error) {
	if g.conn, err = w.nftables(nftables.AsLasting()); err != nil {
		return err
	}
	parts, err := g.parts()
	if err == nil && len(parts) > 0 {
		err = transact(g.conn, parts...)
	}
	if isNone(err) { // others have taken a part of it
		err = nil
		for _, part := range parts {
			if one := transact(g.conn, part); !isNone(one) {
				err = errors.Join(err, one)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("remove the nftables rules of %s: %w", g.device, err)
	}
	return nil
}

// parts delete what is there, each what refers to the next. They are asked for first because a transaction that fails, such as one that deletes what there is
// not, waits for a grace period too, 10 ms (nf_tables_abort, net/netfilter/nf_tables_api.c).
func (g *guardRemoval) parts() (parts []func() error, err error) {
	for _, t := range tables() {
		there, err := t.has(g.conn, g.device)
		if err != nil {
			return nil, err
		}
		if !there {
			continue
		}
		if t == bridges {
			parts = append(parts, func() error { return g.conn.SetDeleteElements(portsMap(), portsElement(g.device)) })
		}
		parts = append(parts, func() error { g.conn.DelChain(&nftables.Chain{Table: t.table(), Name: g.device}); return nil })
	}
	return parts, nil
}

func transact(conn *nftables.Conn, parts ...func() error) error {
	for _, part := range parts {
		if err := part(); err != nil {
			return err
		}
	}
	return conn.Flush()
}

// isNone says whether it was refused to remove what there is not, or what the kernel does not know of. The library does not wrap all errors.
func isNone(err error) bool {
	return err != nil && slices.ContainsFunc([]error{unix.ENOENT, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EOPNOTSUPP},
		func(none error) bool { return errors.Is(err, none) || strings.HasSuffix(err.Error(), none.Error()) })
}

func (g *guardRemoval) close() error {
	if g.conn == nil {
		return nil
	}
	return g.conn.CloseLasting()
}

// guards are the devices that have a chain in the table, sorted.
func (w *Wiring) guards(t table) ([]string, error) {
	return steady(func() ([]string, error) {
		conn, err := w.nftables()
		if err != nil {
			return nil, err
		}
		return t.guarded(conn)
	})
}

// steady calls list until two answers are the same, but for their order, and returns that one, sorted. A list that others
// make shorter meanwhile lacks some of what stays (nf_tables_dump_tables, net/netfilter/nf_tables_api.c), and the library
// does not pass on that the kernel says so (NLM_F_DUMP_INTR).
func steady(list func() ([]string, error)) (names []string, err error) {
	for i := range 9 {
		again, err := list()
		if err != nil {
			return nil, err
		}
		slices.Sort(again)
		if again = slices.Compact(again); i > 0 && slices.Equal(names, again) {
			break
		}
		names = again
	}
	return names, nil
}

// nftables opens sockets in the node's namespace, whatever the thread: one for each transaction, unless options say else.
func (w *Wiring) nftables(options ...nftables.ConnOption) (*nftables.Conn, error) {
	if !isHere(w.home) {
		options = append(options, nftables.WithNetNSFd(int(w.home.Fd())))
	}
	conn, err := nftables.New(options...)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket to nf_tables: %w", err)
	}
	return conn, nil
}
