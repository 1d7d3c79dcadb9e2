package firewall

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

func ownTable() *nftables.Table { return &nftables.Table{Name: tableName, Family: tableFamily} }

// applyTable makes want the content of weft's table, and says whether that took a transaction, and whether the content
// was another than was made.
func (f *Firewall) applyTable(want *table) (changed, repaired bool, err error) {
	have, err := f.listTable()
	if err != nil {
		return false, false, err
	}
	disturbed := f.made != nil && !f.made.equal(have)
	if changed, err = f.fill(have, want); err != nil {
		return changed, false, err
	}
	f.made = want
	return changed, disturbed && changed, nil
}

// fill makes want of what weft's table has, nil where there is none.
func (f *Firewall) fill(have, want *table) (changed bool, err error) {
	if have == nil || have.frame() != want.frame() {
		return true, f.makeTable(want)
	}
	return f.transact("change the sets of nftables table inet weft", func() (changed bool, err error) {
		for i, s := range want.sets {
			if sameElements(have.sets[i].elements, s.elements) {
				continue
			}
			changed = true
			handle := s.handle(i)
			f.conn.FlushSet(handle)
			if err := f.addElements(handle, s.elements); err != nil {
				return false, err
			}
		}
		return changed, nil
	})
}

// makeTable replaces the table, or makes the first.
func (f *Firewall) makeTable(want *table) error {
	_, err := f.transact("make nftables table inet weft", func() (bool, error) {
		t := ownTable()
		f.conn.AddTable(t) // so that there is one to delete
		f.conn.DelTable(t)
		return true, f.addTable(t, want)
	})
	if isLack(err) {
		return f.lacking(want, err)
	}
	return err
}

// addTable queues a table with all that is in it.
func (f *Firewall) addTable(t *nftables.Table, want *table) error {
	f.conn.AddTable(t)
	ids := make(map[string]uint32)
	for i, s := range want.sets {
		handle := s.handle(i)
		ids[s.name] = handle.ID
		if err := errors.Join(f.conn.AddSet(handle, nil), f.addElements(handle, s.elements)); err != nil {
			return err
		}
	}
	for _, c := range want.chains {
		f.conn.AddChain(c.handle(t))
	}
	for _, c := range want.chains {
		for _, r := range c.rules {
			for _, e := range r.exprs {
				if l, ok := e.(*expr.Lookup); ok {
					l.SetID = ids[l.SetName]
				}
			}
			f.conn.AddRule(&nftables.Rule{Table: t, Chain: c.handle(t), Exprs: r.exprs, UserData: comment(r.comment)})
		}
	}
	return nil
}

func (f *Firewall) removeTable() (had bool, err error) {
	have, err := f.listTable()
	if err != nil || have == nil {
		return false, err
	}
	return f.transact("remove nftables table inet weft", func() (bool, error) {
		f.conn.DelTable(ownTable())
		return true, nil
	})
}

// handle is the i-th set of the table as the library takes it. The ID, which tells the sets of one transaction apart,
// is given here because the library would take it from a counter that all connections share without a lock.
func (s set) handle(i int) *nftables.Set {
	return &nftables.Set{Table: ownTable(), ID: uint32(i + 1), Name: s.name, KeyType: s.keyType, Interval: s.interval}
}

// handle is the chain of table t as the library takes it.
func (c *chain) handle(t *nftables.Table) *nftables.Chain {
	if c.kind == "" {
		return &nftables.Chain{Name: c.name, Table: t}
	}
	accept := nftables.ChainPolicyAccept
	return &nftables.Chain{Name: c.name, Table: t, Type: c.kind, Hooknum: &c.hook, Priority: &c.priority, Policy: &accept}
}

// elementsPerMessage keeps the list of elements below the 65,535 octets of a netlink attribute: one is 36 at the most.
const elementsPerMessage = 1024

func (f *Firewall) addElements(s *nftables.Set, elements []nftables.SetElement) error {
	for some := range slices.Chunk(elements, elementsPerMessage) {
		if err := f.conn.SetAddElements(s, some); err != nil {
			return err
		}
	}
	return nil
}

// directOfBefore is what the kernel has in the sets of direct prefixes, without what lies in own.
func (f *Firewall) directOfBefore(own []netip.Prefix) ([]netip.Prefix, error) {
	have, err := f.listTable()
	if err != nil || have == nil {
		return nil, err
	}
	var direct []netip.Prefix
	for i := range families {
		for _, s := range have.sets {
			if s.name == setName(setDirect, &families[i]) && s.interval {
				direct = append(direct, prefixesIn(s.elements, &families[i], own)...)
			}
		}
	}
	return direct, nil
}

// listTable is weft's table as the kernel has it, nil where there is none.
func (f *Firewall) listTable() (*table, error) {
	fail := func(err error) (*table, error) {
		return nil, fmt.Errorf("list nftables table inet weft: %w", err)
	}
	handle, err := f.conn.ListTableOfFamily(tableName, tableFamily)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return fail(err)
	}
	if handle.Flags != 0 { // dormant: somebody switched it off
		return &table{}, nil
	}
	t := &table{}
	if t.sets, err = f.listSets(handle); err != nil {
		return fail(err)
	}
	if t.chains, err = f.listChains(handle); err != nil {
		return fail(err)
	}
	t.sort()
	return t, nil
}

func (f *Firewall) listSets(t *nftables.Table) ([]set, error) {
	handles, err := f.conn.GetSets(t)
	if err != nil {
		return nil, err
	}
	var sets []set
	for _, h := range handles {
		elements, err := f.conn.GetSetElements(h)
		if err != nil {
			return nil, err
		}
		sets = append(sets, set{h.Name, h.KeyType, h.Interval, elements})
	}
	return sets, nil
}

func (f *Firewall) listChains(t *nftables.Table) ([]chain, error) {
	handles, err := f.conn.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return nil, err
	}
	var chains []chain
	for _, h := range handles {
		if h.Table.Name != t.Name {
			continue
		}
		c := chain{name: h.Name, kind: h.Type}
		if h.Hooknum != nil && h.Policy != nil && *h.Policy == nftables.ChainPolicyAccept {
			c.hook, c.priority = *h.Hooknum, *h.Priority
		}
		rules, err := f.conn.GetRules(t, h)
		if err != nil {
			return nil, err
		}
		for _, r := range rules {
			c.rules = append(c.rules, rule{commentOf(r), r.Exprs})
		}
		chains = append(chains, c)
	}
	return chains, nil
}

func (t *table) sort() {
	slices.SortFunc(t.sets, func(a, b set) int { return cmp.Compare(a.name, b.name) })
	for _, s := range t.sets {
		slices.SortFunc(s.elements, compareElements)
	}
	slices.SortFunc(t.chains, func(a, b chain) int { return cmp.Compare(a.name, b.name) })
}

// equal says whether have, nil for no table, is t but for what counters have counted.
func (t *table) equal(have *table) bool {
	if have == nil || have.frame() != t.frame() {
		return false
	}
	for i := range t.sets {
		if !sameElements(t.sets[i].elements, have.sets[i].elements) {
			return false
		}
	}
	return true
}

func sameElements(a, b []nftables.SetElement) bool {
	return slices.EqualFunc(a, b, func(a, b nftables.SetElement) bool { return compareElements(a, b) == 0 })
}

// frame writes down all of the table but the elements of its sets and what counters have counted. Two tables with one
// frame have the same sets in the same order.
func (t *table) frame() string {
	var b strings.Builder
	for _, s := range t.sets {
		fmt.Fprintf(&b, "set %s %s %t\n", s.name, s.keyType.Name, s.interval)
	}
	for _, c := range t.chains {
		fmt.Fprintf(&b, "chain %s %s %d %d\n", c.name, c.kind, c.hook, c.priority)
		for _, r := range c.rules {
			fmt.Fprintf(&b, "rule %q %x\n", r.comment, encoded(r.exprs))
		}
	}
	return b.String()
}

// encoded is what tells the expressions of two rules apart. It is nil for what cannot be encoded.
func encoded(exprs []expr.Any) []byte {
	var parts [][]byte
	for _, e := range exprs {
		switch same := e.(type) {
		case *expr.Counter:
			e = &expr.Counter{}
		case *expr.Lookup: // without the ID, which means nothing behind its transaction
			e = &expr.Lookup{SourceRegister: same.SourceRegister, SetName: same.SetName, Invert: same.Invert}
		}
		part, err := expr.Marshal(byte(tableFamily), e)
		if err != nil {
			return nil
		}
		parts = append(parts, part)
	}
	return bytes.Join(parts, nil)
}

// comment is in the form in which nft reads it (libnftnl, include/libnftnl/udata.h).
func comment(text string) []byte {
	return userdata.AppendString(nil, userdata.TypeComment, text)
}

// commentOf is empty for a rule without one. The library's reader trusts the lengths in user data, which any program
// with the right to change rules may have written.
func commentOf(r *nftables.Rule) string {
	for data := r.UserData; len(data) >= 2 && len(data) >= 2+int(data[1]); data = data[2+int(data[1]):] {
		if userdata.Type(data[0]) == userdata.TypeComment {
			return strings.TrimRight(string(data[2:2+int(data[1])]), "\x00")
		}
	}
	return ""
}
