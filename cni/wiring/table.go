package wiring

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A table has the guards of this node's pods in a family. Who attaches the first pod makes it, and nobody but RemoveBridges removes it.
type table nftables.TableFamily

const (
	devices = table(nftables.TableFamilyNetdev)
	bridges = table(nftables.TableFamilyBridge)
)

const (
	tableName = "weft_pods"
	// chainShared has what few of a pod's packets meet, and what is the same for all.
	chainShared = "shared"
	// mapPorts leads from bridges' ports to their chains by one lookup, where a base chain for each would cost every frame a comparison for each.
	chainPorts = "prerouting"
	mapPorts   = "ports"
	// priorityGuard is that of raw (netfilter_ipv4.h): before anybody's filters.
	priorityGuard = -300
)

func tables() []table { return []table{devices, bridges} }

// tablesOf are those that p's guard is in.
func tablesOf(p Port) []table {
	if p.Bridge == "" {
		return []table{devices}
	}
	return tables()
}

func (t table) table() *nftables.Table {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamily(t)}
}

// String is the table as nft names it.
func (t table) String() string {
	if t == bridges {
		return "bridge " + tableName
	}
	return "netdev " + tableName
}

// has says whether the device has a chain. A list of all would lack some while others come and go.
func (t table) has(conn *nftables.Conn, device string) (bool, error) {
	_, err := conn.ListChain(t.table(), device)
	if isNone(err) {
		return false, nil
	}
	return err == nil, err
}

// guarded are the devices that have a chain.
func (t table) guarded(conn *nftables.Conn) (names []string, err error) {
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamily(t))
	if err != nil {
		return nil, fmt.Errorf("list the chains of nftables table %v: %w", t, err)
	}
	for _, c := range chains {
		if c.Table.Name == tableName && isDevice(c.Name) {
			names = append(names, c.Name)
		}
	}
	return names, nil
}

// ingress is the chain of a device. What its rules do not accept, the policy decides.
func (t table) ingress(device string, policy nftables.ChainPolicy) *nftables.Chain {
	return t.base(device, nftables.ChainHookIngress, device, policy)
}

func (t table) base(name string, hook *nftables.ChainHook, device string, policy nftables.ChainPolicy) *nftables.Chain {
	priority := nftables.ChainPriority(priorityGuard)
	return &nftables.Chain{Table: t.table(), Name: name, Type: nftables.ChainTypeFilter, Hooknum: hook, Device: device, Priority: &priority, Policy: &policy}
}

// portsMap has an ID for the transaction that makes it; later ones go by the name.
func portsMap() *nftables.Set {
	return &nftables.Set{Table: bridges.table(), ID: 1, Name: mapPorts, IsMap: true, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian, DataType: nftables.TypeVerdict}
}

func portsElement(device string) []nftables.SetElement {
	key := make([]byte, unix.IFNAMSIZ)
	copy(key, device)
	return []nftables.SetElement{{Key: key, VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: device}}}
}

// shared are the chains that all pods have a part in.
func (t table) shared() []guardPart {
	parts := []guardPart{{t, &nftables.Chain{Table: t.table(), Name: chainShared}, sharedRules()}}
	if t == bridges {
		ports := t.base(chainPorts, nftables.ChainHookPrerouting, "", nftables.ChainPolicyAccept)
		parts = append(parts, guardPart{t, ports, []rule{{"to the rules of the port", toPort()}}})
	}
	return parts
}

// makeTables makes those of p's guard, or what they lack of what pods share.
func (w *Wiring) makeTables(p Port) error {
	conn, err := w.nftables()
	if err != nil {
		return err
	}
	for _, t := range tablesOf(p) {
		conn.AddTable(t.table())
		if t == bridges {
			if err := conn.AddSet(portsMap(), nil); err != nil {
				return err
			}
		}
		for _, part := range t.shared() {
			conn.FlushChain(conn.AddChain(part.chain))
			addRules(conn, part.chain, part.rules)
		}
	}
	return conn.Flush()
}

// removeTables removes those in which no pod has a chain.
func (w *Wiring) removeTables() error {
	var errs []error
	for _, t := range tables() {
		guarded, err := w.guards(t)
		if isNone(err) || err == nil && len(guarded) > 0 {
			continue
		}
		if err == nil {
			err = w.removeTable(t)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (w *Wiring) removeTable(t table) error {
	conn, err := w.nftables()
	if err != nil {
		return err
	}
	conn.DelTable(t.table())
	if err := conn.Flush(); err != nil && !isNone(err) {
		return fmt.Errorf("remove nftables table %v: %w", t, err)
	}
	return nil
}
