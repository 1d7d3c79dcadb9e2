package wiring

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// What traffic control redirects at a device's ingress and back, as the bandwidth plugin does to limit what a pod
// sends, passes no ingress hook again (tc_skip_classify, net/core/dev.c). So the ports of bridges have their guard's rules
// in the bridges' hook as well: `nft list table bridge weft_pods`.
//
// All have one table, since a base chain for each port would cost every frame a comparison for each: a frame finds its
// port's chain by one lookup. Who attaches the first pod makes the table, nobody but RemoveBridges removes it, and a pod's
// own part of it comes and goes in one transaction.
const (
	bridgeTableName = "weft_pods"
	chainPorts      = "prerouting"
	mapPorts        = "ports"
	discoverySuffix = "_" + chainICMPv6
)

func bridgeTable() *nftables.Table {
	return &nftables.Table{Name: bridgeTableName, Family: nftables.TableFamilyBridge}
}

// portsMap leads from ports to their chains. Its ID is for the transaction only, in which there is no other.
func portsMap(t *nftables.Table) *nftables.Set {
	return &nftables.Set{Table: t, ID: 1, Name: mapPorts, IsMap: true, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian, DataType: nftables.TypeVerdict}
}

func portsElement(device string) []nftables.SetElement {
	key := make([]byte, unix.IFNAMSIZ)
	copy(key, device)
	return []nftables.SetElement{{Key: key, VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: device}}}
}

func portsChain(t *nftables.Table) *nftables.Chain {
	policy, priority := nftables.ChainPolicyAccept, nftables.ChainPriority(priorityGuard)
	return &nftables.Chain{Name: chainPorts, Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: &priority, Policy: &policy}
}

func portsRule() rule {
	return rule{"to the rules of the port", []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: unix.NFT_REG_1},
		&expr.Lookup{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: mapPorts, SetID: 1},
	}}
}

// makeBridgeTable makes the table, with nobody's part in it, unless it exists.
func (w *Wiring) makeBridgeTable() error {
	conn, err := w.nftables()
	if err != nil {
		return err
	}
	t := conn.CreateTable(bridgeTable())
	if err := conn.AddSet(portsMap(t), nil); err != nil {
		return err
	}
	addRules(conn, conn.AddChain(portsChain(t)), []rule{portsRule()})
	if err := conn.Flush(); !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// bridgeGuard takes the place of what a former port of the name left. It fails with ENOENT where there is no table.
func bridgeGuard(conn *nftables.Conn, p Port, ends Ends) error {
	t := bridgeTable()
	first, second := &nftables.Chain{Name: p.Device, Table: t}, &nftables.Chain{Name: p.Device + discoverySuffix, Table: t}
	for _, c := range []*nftables.Chain{first, second} {
		conn.FlushChain(conn.AddChain(c))
	}
	ingress, icmpv6 := newGuard(p, ends, second.Name).rules()
	addRules(conn, first, ingress)
	addRules(conn, second, icmpv6)
	return conn.SetAddElements(portsMap(t), portsElement(p.Device))
}

// inBridgeTable says whether one of the device's chains is there, without the first of which the device is not in the map. Where
// pods are routed there is no table.
func inBridgeTable(conn *nftables.Conn, device string) (bool, error) {
	table := bridgeTable()
	if _, err := conn.ListTableOfFamily(table.Name, table.Family); isNone(err) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	for _, chain := range []string{device, device + discoverySuffix} {
		_, err := conn.ListChain(table, chain)
		if err == nil {
			return true, nil
		}
		if !strings.HasSuffix(err.Error(), unix.ENOENT.Error()) { // the library does not wrap it
			return false, err
		}
	}
	return false, nil
}

// bridgeParts delete the device's part of the table.
func bridgeParts(conn *nftables.Conn, device string) []func() error {
	table := bridgeTable()
	return []func() error{
		func() error { return conn.SetDeleteElements(portsMap(table), portsElement(device)) },
		func() error { conn.DelChain(&nftables.Chain{Name: device, Table: table}); return nil },
		func() error { conn.DelChain(&nftables.Chain{Name: device + discoverySuffix, Table: table}); return nil },
	}
}

// bridgeGuards are the devices that have a chain, sorted.
func (w *Wiring) bridgeGuards() ([]string, error) {
	return steady(func() (devices []string, err error) {
		conn, err := w.nftables()
		if err != nil {
			return nil, err
		}
		chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyBridge)
		if err != nil {
			return nil, fmt.Errorf("list nftables chains of bridges: %w", err)
		}
		for _, c := range chains {
			if device := strings.TrimSuffix(c.Name, discoverySuffix); c.Table.Name == bridgeTableName && isDevice(device) {
				devices = append(devices, device)
			}
		}
		return devices, nil
	})
}

// removeBridgeTable removes the table where no pod has a chain in it.
func (w *Wiring) removeBridgeTable() error {
	devices, err := w.bridgeGuards()
	if err != nil || len(devices) > 0 {
		return err
	}
	conn, err := w.nftables()
	if err != nil {
		return err
	}
	conn.DelTable(bridgeTable())
	if err := conn.Flush(); err != nil && !isNone(err) {
		return fmt.Errorf("remove nftables table bridge %s: %w", bridgeTableName, err)
	}
	return nil
}
