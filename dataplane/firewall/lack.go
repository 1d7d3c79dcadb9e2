package firewall

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// ErrNoMasquerade says that the kernel lacks what State.Masquerade needs, and nothing else: Apply may be called again
// without it.
var ErrNoMasquerade = errors.New("the kernel cannot masquerade")

// isLack says whether a refusal may be that of a type of chain or an expression whose module the kernel does not have
// (nft_expr_type_get and nft_chain_parse_hook, net/netfilter/nf_tables_api.c).
func isLack(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP)
}

// lacking names the modules whose absence made the kernel refuse the table. It finds them by trying, since the refusal
// names none; where all are there, the refusal stays what it is.
func (f *Firewall) lacking(want *table, refusal error) error {
	var modules []string
	only := true
	for _, c := range want.chains {
		missing := f.missing(c)
		modules = appendNew(modules, missing...)
		only = only && (c.name == chainMasquerade || len(missing) == 0)
	}
	if len(modules) == 0 {
		return refusal
	}
	list := strings.Join(modules, " ")
	if only {
		return fmt.Errorf("make nftables table inet weft: %w: it lacks %s: try `modprobe -a %s`, or set `masquerade: false`",
			ErrNoMasquerade, list, list)
	}
	return fmt.Errorf("make nftables table inet weft: the kernel lacks %s: try `modprobe -a %s`", list, list)
}

// missing are the modules that the chain needs and the kernel does not have.
func (f *Firewall) missing(c chain) []string {
	bare := c
	bare.rules = nil
	if f.lacks(bare) {
		return []string{"nft_chain_" + string(c.kind)}
	}
	var modules []string
	for _, r := range c.rules {
		for _, e := range r.exprs {
			switch e.(type) {
			case *expr.Lookup, *expr.Verdict:
				continue // need a set or another chain, and are part of nf_tables
			}
			bare.rules = []rule{{exprs: []expr.Any{e}}}
			if !slices.Contains(modules, moduleOf(e)) && f.lacks(bare) {
				modules = append(modules, moduleOf(e))
			}
		}
	}
	return modules
}

func moduleOf(e expr.Any) string {
	switch e.(type) {
	case *expr.Notrack:
		return "nft_ct"
	case *expr.Fib:
		return "nft_fib_inet"
	case *expr.Masq:
		return "nft_masq"
	default:
		return "nf_tables"
	}
}

// lacks tries the chain in a table of its own. The transaction fails in any case, and changes nothing: it ends with a
// table that there is already.
func (f *Firewall) lacks(c chain) bool {
	_, err := f.transact("try what the kernel has", func() (bool, error) {
		t := &nftables.Table{Name: tableName + "-try", Family: tableFamily}
		err := f.addTable(t, &table{chains: []chain{c}})
		f.conn.CreateTable(t)
		return true, err
	})
	return isLack(err)
}
