package wiring

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// The guard is an nftables table of its own for each device, named as the device, so that attachments share nothing:
// `nft list table netdev DEVICE` explains itself. A chain at the device's ingress sees all that the pod sends, before
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
	err := w.makeGuard(p, ends)
	if errors.Is(err, unix.EEXIST) {
		former := &guardRemoval{device: p.Device}
		if err = errors.Join(former.remove(w), former.close()); err == nil {
			err = w.makeGuard(p, ends)
		}
	}
	return err
}

func (w *Wiring) makeGuard(p Port, ends Ends) error {
	conn, err := w.nftables()
	if err != nil {
		return err
	}
	t := conn.CreateTable(guardTable(p.Device))
	chains := []*nftables.Chain{
		conn.AddChain(ingressChain(t)),
		conn.AddChain(&nftables.Chain{Name: chainICMPv6, Table: t}),
	}
	rules := newGuard(p, ends).rules()
	for _, c := range chains {
		for _, r := range rules[c.Name] {
			comment := userdata.AppendString(nil, userdata.TypeComment, r.comment)
			conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: r.exprs, UserData: comment})
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("make nftables table netdev %s: %w%s", p.Device, err, lacking(err))
	}
	return nil
}

// lacking says what may help where the kernel does not know what it was asked for.
func lacking(err error) string {
	for _, unknown := range []error{unix.EPROTONOSUPPORT, unix.EINVAL, unix.EOPNOTSUPP, unix.ENOENT} {
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

// remove takes the guard away, if there is one: a kernel without nf_tables, or without those of devices, has none.
func (g *guardRemoval) remove(w *Wiring) (err error) {
	if g.conn, err = w.nftables(nftables.AsLasting()); err == nil {
		g.conn.DelTable(guardTable(g.device))
		err = g.conn.Flush()
	}
	for _, none := range []error{unix.ENOENT, unix.EPROTONOSUPPORT, unix.EOPNOTSUPP} {
		if errors.Is(err, none) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("remove nftables table netdev %s: %w", g.device, err)
	}
	return nil
}

func (g *guardRemoval) close() error {
	if g.conn == nil {
		return nil
	}
	return g.conn.CloseLasting()
}

// guards are the devices that have a guard.
func (w *Wiring) guards() ([]string, error) {
	conn, err := w.nftables()
	if err != nil {
		return nil, err
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return nil, fmt.Errorf("list nftables tables: %w", err)
	}
	var devices []string
	for _, t := range tables {
		if isDevice(t.Name) {
			devices = append(devices, t.Name)
		}
	}
	return devices, nil
}

// nftables opens sockets in the node's namespace, whatever the thread: one for each transaction, unless options say else.
func (w *Wiring) nftables(options ...nftables.ConnOption) (*nftables.Conn, error) {
	conn, err := nftables.New(append(options, nftables.WithNetNSFd(int(w.home.Fd())))...)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket to nf_tables: %w", err)
	}
	return conn, nil
}
