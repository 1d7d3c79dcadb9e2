package wiring

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// The guard is an nftables table of its own for each device, named as the device: `nft list table netdev DEVICE` explains
// itself. A chain at the device's ingress sees all that the pod sends, before
// the node or a bridge does.
const (
	chainIngress = "ingress"
	chainICMPv6  = "discovery" // a name that is no word of nft's
	// priorityGuard is that of raw (netfilter_ipv4.h): before anybody's filters.
	priorityGuard = -300
)

func guardTable(device string) *nftables.Table {
	return &nftables.Table{Name: device, Family: nftables.TableFamilyNetdev}
}

func ingressChain(t *nftables.Table) *nftables.Chain {
	policy, priority := nftables.ChainPolicyDrop, nftables.ChainPriority(priorityGuard)
	return &nftables.Chain{Name: chainIngress, Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookIngress, Priority: &priority, Policy: &policy, Device: t.Name}
}

// addGuard makes p's guard in one transaction, in the place of what a former device of the name left.
func (w *Wiring) addGuard(p Port, ends Ends) error {
	err := w.makeGuard(p, ends, guardParts(p)...)
	if errors.Is(err, unix.EEXIST) {
		former := &guardRemoval{device: p.Device}
		if err = errors.Join(former.remove(w), former.close()); err == nil {
			err = w.makeGuard(p, ends, guardParts(p)...)
		}
	}
	return err
}

// A guardPart is in one table. It is called with the transaction that makes it.
type guardPart func(conn *nftables.Conn, p Port, ends Ends) error

func guardParts(p Port) []guardPart {
	if p.Bridge == "" {
		return []guardPart{deviceGuard}
	}
	return []guardPart{deviceGuard, bridgeGuard}
}

func (w *Wiring) makeGuard(p Port, ends Ends, parts ...guardPart) error {
	err := w.makeParts(p, ends, parts)
	if p.Bridge != "" && errors.Is(err, unix.ENOENT) {
		if err = w.makeBridgeTable(); err == nil {
			err = w.makeParts(p, ends, parts)
		}
	}
	if err != nil {
		return fmt.Errorf("make the nftables rules of %s: %w%s", p.Device, err, lacking(err))
	}
	return nil
}

func (w *Wiring) makeParts(p Port, ends Ends, parts []guardPart) error {
	conn, err := w.nftables()
	if err != nil {
		return err
	}
	for _, part := range parts {
		if err := part(conn, p, ends); err != nil {
			return err
		}
	}
	return conn.Flush()
}

// deviceGuard fails where the table exists.
func deviceGuard(conn *nftables.Conn, p Port, ends Ends) error {
	t := conn.CreateTable(guardTable(p.Device))
	first, second := conn.AddChain(ingressChain(t)), conn.AddChain(&nftables.Chain{Name: chainICMPv6, Table: t})
	ingress, icmpv6 := newGuard(p, ends, chainICMPv6).rules()
	addRules(conn, first, ingress)
	addRules(conn, second, icmpv6)
	return nil
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
	table := guardTable(g.device)
	if _, err := g.conn.ListTableOfFamily(table.Name, table.Family); err == nil {
		parts = append(parts, func() error { g.conn.DelTable(table); return nil })
	} else if !isNone(err) {
		return nil, err
	}
	if there, err := inBridgeTable(g.conn, g.device); err != nil || !there {
		return parts, err
	}
	return append(parts, bridgeParts(g.conn, g.device)...), nil
}

func transact(conn *nftables.Conn, parts ...func() error) error {
	for _, part := range parts {
		if err := part(); err != nil {
			return err
		}
	}
	return conn.Flush()
}

// isNone says whether it was refused to remove what there is not, or what the kernel does not know of.
func isNone(err error) bool {
	return slices.ContainsFunc([]error{unix.ENOENT, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EOPNOTSUPP},
		func(none error) bool { return errors.Is(err, none) })
}

func (g *guardRemoval) close() error {
	if g.conn == nil {
		return nil
	}
	return g.conn.CloseLasting()
}

// guards are the devices that have a guard's table, sorted.
func (w *Wiring) guards() ([]string, error) {
	return steady(func() (devices []string, err error) {
		conn, err := w.nftables()
		if err != nil {
			return nil, err
		}
		tables, err := conn.ListTablesOfFamily(nftables.TableFamilyNetdev)
		if err != nil {
			return nil, fmt.Errorf("list nftables tables: %w", err)
		}
		for _, t := range tables {
			if isDevice(t.Name) {
				devices = append(devices, t.Name)
			}
		}
		return devices, nil
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
