// Package route holds the immutable longest-prefix-match table that the packet
// path looks owners up in, IPv4 and IPv6, over github.com/gaissmai/bart.
package route

import (
	"fmt"
	"net/netip"

	"github.com/gaissmai/bart"
)

// Table maps prefixes to values of type V by longest prefix match. It is made
// whole by [Build] and never changes: any number of goroutines may read it
// without synchronisation, and an update is a new Table behind an atomic pointer.
// The zero Table is empty and ready to use. It must not be copied.
type Table[V any] struct {
	// Fast rather than bart's smaller Table: 9 ns a lookup against 16 at 1,000
	// prefixes, and a node's few thousand prefixes cost memory once.
	lpm bart.Fast[V]
}

// Entry is one prefix and its value.
type Entry[V any] struct {
	Prefix netip.Prefix
	Value  V
}

// Build makes a table of entries. A prefix that has bits set beyond its length,
// or that stands there twice, is an error, since either shows that the caller
// lost track of who owns what.
func Build[V any](entries []Entry[V]) (*Table[V], error) {
	t := new(Table[V])
	for _, e := range entries {
		if !e.Prefix.IsValid() || e.Prefix != e.Prefix.Masked() {
			return nil, fmt.Errorf("build route table: %s is not a network prefix", e.Prefix)
		}
		if _, taken := t.lpm.Get(e.Prefix); taken {
			return nil, fmt.Errorf("build route table: %s is given twice", e.Prefix)
		}
		t.lpm.Insert(e.Prefix, e.Value)
	}
	return t, nil
}

// Lookup returns the value of the longest prefix that contains addr. An
// IPv4-mapped IPv6 address matches IPv6 prefixes only.
func (t *Table[V]) Lookup(addr netip.Addr) (v V, ok bool) {
	return t.lpm.Lookup(addr)
}
