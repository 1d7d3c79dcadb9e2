package membership

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"
)

var (
	podNetworks = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")}
	start       = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

var testTerms = Terms{Networks: podNetworks}

const testGrace = 5 * time.Second

// identity returns the same key for the same n.
func identity(n byte) Identity {
	var seed [ed25519.SeedSize]byte
	seed[0] = n
	return newIdentity(ed25519.NewKeyFromSeed(seed[:]))
}

func describe(name, endpoint string) Description {
	return Description{
		Name:      name,
		Endpoints: []netip.AddrPort{netip.MustParseAddrPort(endpoint)},
		Gossip:    netip.AddrPortFrom(netip.MustParseAddrPort(endpoint).Addr(), 7946),
		Modes:     []string{"udp"},
		MTU:       1472,
	}
}

// record returns a valid record of node n at 192.0.2.n, which is settled.
func record(n byte, version uint64, claims ...Claim) Record {
	return Record{
		Format:      Format,
		ID:          identity(n).ID,
		Version:     version,
		Settled:     true,
		Claims:      claims,
		Description: describe(fmt.Sprintf("n%d", n), fmt.Sprintf("192.0.2.%d:8285", n)),
	}
}

func claim(prefix string, since uint64) Claim {
	return Claim{Prefix: netip.MustParsePrefix(prefix), Since: since}
}

func seal(t testing.TB, n byte, r Record) Envelope {
	t.Helper()
	e, err := Seal(identity(n), r)
	if err != nil {
		t.Fatalf("seal: %v", err)
	}
	return e
}

// memoryStore returns node n's store, which persists nowhere.
func memoryStore(n byte) *Store {
	return NewStore(identity(n), testTerms, testGrace, func(Snapshot) error { return nil })
}

func merge(t testing.TB, s *Store, e Envelope, want bool) {
	t.Helper()
	changed, err := s.Merge(e)
	if err != nil || changed != want {
		t.Fatalf("merge: changed %v, %v; want %v, nil", changed, err, want)
	}
}

func publish(t testing.TB, s *Store, n byte, prefixes ...string) {
	t.Helper()
	if err := s.Publish(record(n, 1).Description); err != nil {
		t.Fatal(err)
	}
	if err := s.Claim(parse(prefixes)...); err != nil {
		t.Fatal(err)
	}
}

func parse(prefixes []string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range prefixes {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func ownRecord(t testing.TB, s *Store) Record {
	t.Helper()
	e, ok := s.Own()
	if !ok {
		t.Fatal("nothing published")
	}
	r, err := Open(e)
	if err != nil {
		t.Fatalf("the own record does not open: %v", err)
	}
	return r
}

// member returns node n in s's view at start.
func member(t testing.TB, s *Store, n byte) Member {
	t.Helper()
	return memberAt(t, s, n, start)
}

func memberAt(t testing.TB, s *Store, n byte, now time.Time) Member {
	t.Helper()
	for _, m := range s.View(now).Members {
		if m.ID == identity(n).ID {
			return m
		}
	}
	t.Fatalf("no member n%d", n)
	return Member{}
}

func wantReject(t testing.TB, err error, want Reject) {
	t.Helper()
	if got, ok := errors.AsType[Reject](err); !ok || got != want {
		t.Fatalf("error %v: want %q", err, want)
	}
}

// owners maps each prefix that the view routes to its owner, and fails when two
// overlap.
func owners(t interface{ Fatalf(string, ...any) }, v View) map[netip.Prefix]ID {
	out := make(map[netip.Prefix]ID)
	for _, m := range append([]Member{v.Self}, v.Members...) {
		for _, p := range m.Prefixes {
			for q, id := range out {
				if p.Overlaps(q) {
					t.Fatalf("%s of %s and %s of %s are both routed", p, m.ID.Short(), q, id.Short())
				}
			}
			out[p] = m.ID
		}
	}
	return out
}
