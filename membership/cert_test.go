package membership

import (
	"net/netip"
	"slices"
	"testing"
)

func certify(t testing.TB, authority, n byte, cidrs ...string) *Cert {
	t.Helper()
	c, err := Certify(identity(authority), identity(n).ID, parse(cidrs))
	if err != nil {
		t.Fatal(err)
	}
	return &c
}

func TestCertVerify(t *testing.T) {
	ca, node := identity(100).ID, identity(1).ID
	plain, bound := certify(t, 100, 1), certify(t, 100, 1, "10.244.1.0/24", "fd00:10:244:1::/64")
	for _, c := range []*Cert{plain, bound} {
		if err := c.Verify(ca, node); err != nil {
			t.Error(err)
		}
	}
	change := func(do func(*Cert)) *Cert {
		c := bound.clone()
		do(&c)
		return &c
	}
	for name, c := range map[string]*Cert{
		"none":                       nil,
		"another node's":             certify(t, 100, 2),
		"another authority's":        certify(t, 101, 1),
		"with its CIDRs taken off":   change(func(c *Cert) { c.CIDRs = nil }),
		"with a CIDR less":           change(func(c *Cert) { c.CIDRs = c.CIDRs[:1] }),
		"with a wider CIDR":          change(func(c *Cert) { c.CIDRs[0] = netip.MustParsePrefix("10.244.0.0/16") }),
		"with its CIDRs in disorder": change(func(c *Cert) { slices.Reverse(c.CIDRs) }),
		"with a bit changed":         change(func(c *Cert) { c.Signature[3] ^= 1 }),
		"without a signature":        change(func(c *Cert) { c.Signature = nil }),
	} {
		if err := c.Verify(ca, node); err == nil {
			t.Errorf("a certificate is good: %s", name)
		}
	}
}

func TestCertifyRefuses(t *testing.T) {
	many := make([]netip.Prefix, maxClaims+1)
	for i := range many {
		many[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(i), 0}), 24)
	}
	for name, cidrs := range map[string][]netip.Prefix{
		"too many":       many,
		"host bits":      {netip.MustParsePrefix("10.244.1.7/24")},
		"IPv4 in IPv6":   {netip.MustParsePrefix("::ffff:10.244.1.0/120")},
		"without prefix": {{}},
	} {
		if _, err := Certify(identity(100), identity(1).ID, cidrs); err == nil {
			t.Errorf("certified: %s", name)
		}
	}
}

// Where there is an authority, whom it has not certified is not heard: neither of itself
// nor of others.
func TestAuthority(t *testing.T) {
	terms := testTerms
	terms.Authority = identity(100).ID
	s := NewStore(identity(1), terms, testGrace, func(Snapshot) error { return nil })
	stranger := record(2, 2, claim("10.244.2.0/24", 2))
	_, err := s.Merge(seal(t, 2, stranger))
	wantReject(t, err, RejectAuthority)
	borrowed := stranger
	borrowed.Cert = certify(t, 100, 3)
	_, err = s.Merge(seal(t, 2, borrowed))
	wantReject(t, err, RejectAuthority)

	member2 := record(2, 2, claim("10.244.2.0/24", 2))
	member2.Cert = certify(t, 100, 2, "10.244.2.0/24")
	merge(t, s, seal(t, 2, member2), true)
	s.SetAlive(identity(2).ID, true, start)
	if m := member(t, s, 2); len(m.Prefixes) != 1 {
		t.Fatalf("a certified node is not routed: %s", m.Reason)
	}
	word := goneRecord(3, 2, 9)
	_, err = s.Merge(seal(t, 3, word))
	wantReject(t, err, RejectAuthority)
	word.Cert = certify(t, 100, 3)
	merge(t, s, seal(t, 3, word), true)

	if err := s.Publish(record(1, 1).Description); err == nil {
		t.Error("published without a certificate")
	}
}

// A node that claims more than it was allowed owns nothing.
func TestCertCovers(t *testing.T) {
	terms := testTerms
	terms.Authority = identity(100).ID
	s := NewStore(identity(1), terms, testGrace, func(Snapshot) error { return nil })
	r := record(2, 2, claim("10.244.2.0/24", 2), claim("10.244.3.0/24", 2))
	r.Cert = certify(t, 100, 2, "10.244.2.0/24")
	merge(t, s, seal(t, 2, r), true)
	s.SetAlive(identity(2).ID, true, start)
	if m := member(t, s, 2); m.State != StateRefused || len(m.Prefixes) != 0 {
		t.Errorf("it is %s and routed %v", m.State, m.Prefixes)
	}
}
