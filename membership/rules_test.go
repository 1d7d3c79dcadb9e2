package membership

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// at gives r another endpoint.
func at(r Record, endpoint string) Record {
	r.Endpoints = []netip.AddrPort{netip.MustParseAddrPort(endpoint)}
	return r
}

func left(r Record) Record {
	r.Left = true
	return r
}

func TestResolve(t *testing.T) {
	low, high := byte(1), byte(2)
	if identity(low).ID.Compare(identity(high).ID) > 0 {
		low, high = high, low
	}
	const a, b, six = "10.244.1.0/24", "10.244.2.0/24", "fd00:10:244:1::/64"
	for name, c := range map[string]struct {
		records []Record
		want    string // per record "owned|lost|replaced|refused", in order
	}{
		"no conflict":              {[]Record{record(1, 1, claim(a, 1)), record(2, 1, claim(b, 1))}, a + ", " + b},
		"the established wins":     {[]Record{record(1, 9, claim(a, 9)), record(2, 8, claim(a, 8))}, "lost, " + a},
		"ties by lower ID":         {[]Record{record(high, 5, claim(a, 5)), record(low, 5, claim(a, 5))}, "lost, " + a},
		"outer loses to inner":     {[]Record{record(1, 9, claim("10.244.0.0/22", 9)), record(2, 3, claim(a, 3))}, "lost, " + a},
		"inner loses to outer":     {[]Record{record(1, 3, claim("10.244.0.0/22", 3)), record(2, 9, claim(a, 9))}, "10.244.0.0/22, lost"},
		"one of two lost":          {[]Record{record(1, 9, claim(a, 9), claim(b, 2)), record(2, 3, claim(a, 3))}, b + "+lost, " + a},
		"who lost still blocks":    {[]Record{record(1, 1, claim(a, 1)), record(2, 2, claim("10.244.0.0/22", 2)), record(3, 3, claim(b, 3))}, a + ", lost, lost"},
		"both families":            {[]Record{record(1, 1, claim(a, 1), claim(six, 1)), record(2, 1, claim("fd00:10:244:2::/64", 1))}, a + "+" + six + ", fd00:10:244:2::/64"},
		"one family of two lost":   {[]Record{record(1, 9, claim(a, 2), claim(six, 9)), record(2, 3, claim("fd00:10:244::/56", 3))}, a + "+lost, fd00:10:244::/56"},
		"one family outside":       {[]Record{record(1, 1, claim(a, 1), claim("fd00:10:245::/64", 1)), record(2, 9, claim(a, 9))}, "refused, " + a},
		"endpoint in the other":    {[]Record{at(record(1, 1, claim(a, 1)), "[fd00:10:244::1]:8285"), record(2, 9, claim(a, 9))}, "refused, " + a},
		"left releases":            {[]Record{left(record(1, 3, claim(a, 1))), record(2, 9, claim(a, 9))}, "-, " + a},
		"outside is refused":       {[]Record{record(1, 1, claim("10.0.0.0/8", 1)), record(2, 9, claim(a, 9))}, "refused, " + a},
		"one outside refuses all":  {[]Record{record(1, 1, claim("10.245.0.0/24", 1), claim(a, 1)), record(2, 9, claim(a, 9))}, "refused, " + a},
		"endpoint in pod network":  {[]Record{at(record(1, 1, claim(a, 1)), "10.244.1.1:8285"), record(2, 9, claim(a, 9))}, "refused, " + a},
		"reinstalled":              {[]Record{record(1, 3, claim(a, 1)), at(record(2, 9, claim(a, 9)), "192.0.2.1:8285")}, "replaced, " + a},
		"reinstalled, tie":         {[]Record{record(high, 3, claim(a, 1)), at(record(low, 3, claim(b, 3)), fmt.Sprintf("192.0.2.%d:8285", high))}, "replaced, " + b},
		"reinstalled, then left":   {[]Record{record(1, 3, claim(a, 1)), left(at(record(2, 9), "192.0.2.1:8285")), record(3, 8, claim(a, 8))}, "replaced, -, " + a},
		"the port does not count":  {[]Record{record(1, 3, claim(a, 1)), at(record(2, 9, claim(a, 9)), "192.0.2.1:8286")}, "replaced, " + a},
		"the replaced do not lose": {[]Record{record(1, 3, claim(a, 3)), at(record(2, 9, claim(b, 9)), "192.0.2.1:8285"), record(3, 2, claim(a, 2))}, "replaced, " + b + ", " + a},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			verdicts := resolve(testTerms, pointers(c.records))
			for _, r := range c.records {
				got = append(got, summary(verdicts[r.ID]))
			}
			if s := strings.Join(got, ", "); s != c.want {
				t.Fatalf("got %s; want %s", s, c.want)
			}
		})
	}
}

func pointers(records []Record) []*Record {
	var out []*Record
	for i := range records {
		out = append(out, &records[i])
	}
	return out
}

func summary(v *verdict) string {
	var parts []string
	for _, p := range v.owned {
		parts = append(parts, p.String())
	}
	if len(v.lost) > 0 {
		parts = append(parts, "lost")
	}
	if v.replacedBy != nil {
		parts = append(parts, "replaced")
	}
	if v.refused != "" {
		parts = append(parts, "refused")
	}
	if parts == nil {
		return "-"
	}
	return strings.Join(parts, "+")
}

// The sweep over nested prefixes against the rule as it is written: the strongest
// of all overlapping claims, if it is stronger.
func TestRivalsOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var records []Record
		var stakes []stake
		for n := range rapid.IntRange(1, 12).Draw(t, "nodes") {
			records = append(records, record(byte(n), 9))
		}
		for i := range records {
			for _, p := range rapid.SliceOfN(prefixes(), 0, 3).Draw(t, "prefixes") {
				stakes = append(stakes, stake{Claim: Claim{Prefix: p, Since: rapid.Uint64Range(1, 4).Draw(t, "since")}, by: &records[i]})
			}
		}
		got := rivals(stakes)
		for i, s := range stakes {
			want := s
			for _, o := range stakes {
				if o.Prefix.Overlaps(s.Prefix) && o.compare(want) < 0 {
					want = o
				}
			}
			have := s
			if got[i] >= 0 {
				have = stakes[got[i]]
			}
			if have.compare(want) != 0 || got[i] >= 0 && !have.Prefix.Overlaps(s.Prefix) {
				t.Fatalf("rival of %v is %v: want %v", s.Claim, have.Claim, want.Claim)
			}
		}
	})
}

// prefixes draws from a small space, so that overlaps are common.
func prefixes() *rapid.Generator[netip.Prefix] {
	return rapid.Custom(func(t *rapid.T) netip.Prefix {
		bits := rapid.IntRange(4, 8).Draw(t, "bits")
		block := byte(rapid.IntRange(0, 15).Draw(t, "block"))
		switch rapid.IntRange(0, 9).Draw(t, "family") {
		case 0: // outside the pod network
			return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 15: 1}), 48+bits).Masked()
		case 1, 2, 3:
			return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x10, 2, 0x44, block}), 48+bits).Masked()
		}
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, block, 0}), 16+bits).Masked()
	})
}

func TestResolveIgnoresOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var records []Record
		for n := range rapid.IntRange(1, 8).Draw(t, "nodes") {
			records = append(records, drawRecord(t, byte(n)))
		}
		shuffled := rapid.Permutation(records).Draw(t, "order")
		a, b := resolve(testTerms, pointers(records)), resolve(testTerms, pointers(shuffled))
		for _, r := range records {
			if summary(a[r.ID]) != summary(b[r.ID]) {
				t.Fatalf("node %s: %s in one order, %s in another", r.Name, summary(a[r.ID]), summary(b[r.ID]))
			}
		}
	})
}

// drawRecord makes a valid record that often conflicts with another.
func drawRecord(t *rapid.T, n byte) Record {
	r := record(n, rapid.Uint64Range(1, 6).Draw(t, "version"))
	for _, p := range rapid.SliceOfN(prefixes(), 0, 2).Draw(t, "claims") {
		overlaps := func(c Claim) bool { return c.Prefix.Overlaps(p) }
		if !slices.ContainsFunc(r.Claims, overlaps) {
			r.Claims = append(r.Claims, Claim{
				Prefix: p, Since: rapid.Uint64Range(1, r.Version).Draw(t, "since"), Tentative: rapid.Bool().Draw(t, "tentative"),
			})
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "moved") == 0 {
		r = at(r, fmt.Sprintf("192.0.2.%d:8285", rapid.IntRange(1, 9).Draw(t, "to")))
	}
	r.Left = rapid.IntRange(0, 5).Draw(t, "left") == 0
	r.Settled = rapid.Bool().Draw(t, "settled")
	return r
}
