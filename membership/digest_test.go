package membership

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
)

// exchange gives each store what the other's digest says it lacks, as full exchanges do,
// and returns how many records were sent.
func exchange(t testing.TB, a, b *Store, salt [8]byte) (sent int) {
	t.Helper()
	digests := [2][]byte{a.AppendDigest(nil, salt), b.AppendDigest(nil, salt)}
	for i, from := range []*Store{a, b} {
		d, err := ParseDigest(digests[1-i])
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range from.Newer(d) {
			sent++
			if _, err := []*Store{b, a}[i].Merge(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	return sent
}

// payloads maps each node to the record that s holds of it.
func payloads(s *Store) map[ID]string {
	all := make(map[ID]string)
	for _, e := range s.Envelopes() {
		all[e.Subject()] = string(e.Payload)
	}
	return all
}

// Two stores of any content hold the same after one exchange of digests as after one of
// everything; a second finds nothing to send.
func TestDigestsDoWhatFullStatesDo(t *testing.T) {
	rounds := 200
	if testing.Short() { // under the race detector, which makes it ten times as long
		rounds = 40
	}
	for round := range rounds {
		random := rand.New(rand.NewPCG(1, uint64(round)))
		var stores [4]*Store // two that exchange digests, two with the same content that exchange all
		for i := range stores {
			stores[i] = memoryStore(byte(1 + i%2))
		}
		for n := range byte(random.IntN(12)) {
			for i := range 2 {
				if random.IntN(3) == 0 {
					continue
				}
				r := record(10+n, 1+random.Uint64N(3))
				r.MTU = 1400 + random.IntN(2) // of one version there may be two
				e := seal(t, 10+n, r)
				merge(t, stores[i], e, true)
				merge(t, stores[i+2], e, true)
			}
		}
		var salt [8]byte
		binary.BigEndian.PutUint64(salt[:], random.Uint64())
		exchange(t, stores[0], stores[1], salt)
		for _, pair := range [][2]*Store{{stores[2], stores[3]}, {stores[3], stores[2]}} {
			for _, e := range pair[0].Envelopes() {
				if _, err := pair[1].Merge(e); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i := range 2 {
			if got, want := payloads(stores[i]), payloads(stores[i+2]); !reflect.DeepEqual(got, want) {
				t.Fatalf("round %d: after digests a store holds %v, after full states %v", round, got, want)
			}
		}
		if sent := exchange(t, stores[0], stores[1], salt); sent != 0 {
			t.Fatalf("round %d: %d records are sent again", round, sent)
		}
	}
}

// A digest says what is held and what is this node's own.
func TestDigestHasTheOwnRecord(t *testing.T) {
	a, b := memoryStore(1), memoryStore(2)
	publish(t, a, 1, "10.244.1.0/24")
	publish(t, b, 2, "10.244.2.0/24")
	merge(t, a, seal(t, 3, record(3, 7)), true)
	if sent := exchange(t, a, b, [8]byte{1}); sent != 3 {
		t.Fatalf("%d records sent; want 3", sent)
	}
	if len(a.Envelopes()) != 3 || len(b.Envelopes()) != 3 {
		t.Fatalf("%d and %d records held", len(a.Envelopes()), len(b.Envelopes()))
	}
	d, err := ParseDigest(a.AppendDigest(nil, [8]byte{2}))
	if err != nil || d.Sender != identity(1).ID {
		t.Fatalf("sender %s, %v", d.Sender.Short(), err)
	}
}

// What collides under one salt does not under another.
func TestDigestSalt(t *testing.T) {
	id := identity(1).ID
	if digestKey([8]byte{1}, id) == digestKey([8]byte{2}, id) || payloadSum([8]byte{1}, id[:]) == payloadSum([8]byte{2}, id[:]) {
		t.Fatal("the salt has no effect")
	}
}

// Of two nodes with one hash neither is taken to be held in the other's version.
func TestDigestCollision(t *testing.T) {
	s := memoryStore(1)
	merge(t, s, seal(t, 2, record(2, 5)), true)
	b := s.AppendDigest(nil, [8]byte{})
	twin := bytes.Clone(b[digestHead:])
	twin[8]-- // the version, of another node of the same hash
	for _, msg := range [][]byte{append(bytes.Clone(b), twin...), append(append(bytes.Clone(b[:digestHead]), twin...), b[digestHead:]...)} {
		d, err := ParseDigest(msg)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Newer(d); len(got) != 1 {
			t.Fatalf("%d records are sent; want the one that may be lacking", len(got))
		}
	}
}

func TestDigestIsBounded(t *testing.T) {
	s := memoryStore(1)
	entry := func(n int) []byte {
		b := binary.BigEndian.AppendUint64(nil, uint64(n))
		return append(append(b, 1), 0, 0, 0, 0)
	}
	b := s.AppendDigest(nil, [8]byte{})
	for n := range MaxMembers + 1 {
		b = append(b, entry(n)...)
	}
	if _, err := ParseDigest(b); err != nil {
		t.Fatalf("as many as a store holds: %v", err)
	}
	_, err := ParseDigest(append(b, entry(0)...))
	wantReject(t, err, RejectFull)
}

func TestBadDigests(t *testing.T) {
	s := memoryStore(1)
	merge(t, s, seal(t, 2, record(2, 5)), true)
	good := s.AppendDigest(nil, [8]byte{})
	version := func(v ...byte) []byte {
		return append(append(bytes.Clone(good[:digestHead+8]), v...), 0, 0, 0, 0)
	}
	for name, b := range map[string][]byte{
		"empty":                        {},
		"another kind":                 append([]byte{messageEnvelopes}, good[1:]...),
		"half a head":                  good[:digestHead-1],
		"half a hash":                  good[:digestHead+4],
		"no version":                   good[:digestHead+8],
		"half a sum":                   good[:len(good)-1],
		"version 0":                    version(0),
		"version 1 in two bytes":       version(0x81, 0),
		"a version that never ends":    version(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"a version above all versions": version(binary.AppendUvarint(nil, maxVersion+1)...),
	} {
		if _, err := ParseDigest(b); err == nil {
			t.Errorf("%s: accepted", name)
		} else {
			wantReject(t, err, RejectFraming)
		}
	}
}

func FuzzParseDigest(f *testing.F) {
	s := memoryStore(1)
	f.Add([]byte{})
	f.Add(s.AppendDigest(nil, [8]byte{}))
	merge(f, s, seal(f, 2, record(2, 5)), true)
	merge(f, s, seal(f, 3, record(3, 1<<40)), true)
	f.Add(s.AppendDigest(nil, [8]byte{1, 2, 3}))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDigest(b)
		if err != nil {
			return
		}
		if got := len(s.Newer(d)); got > 2 {
			t.Fatalf("%d records are sent of 2", got)
		}
		again := append([]byte{messageDigest}, d.Sender[:]...)
		again = append(again, d.salt[:]...)
		for key, e := range d.held {
			again = binary.BigEndian.AppendUint64(again, key)
			again = binary.AppendUvarint(again, e.version)
			again = append(again, e.sum[:]...)
		}
		// Strict: but for the order, and what collides, one digest has one spelling.
		if e, err := ParseDigest(again); err != nil || !reflect.DeepEqual(e, d) || len(again) > len(b) {
			t.Fatalf("%x parses and encodes as %x (%v)", b, again, err)
		}
	})
}

// What gossip's cost is reckoned with: a record of about 1 kB, 15 bytes of it in a digest.
func TestSizeOnTheWire(t *testing.T) {
	const version = 1 << 20
	r := record(1, version, claim("10.244.1.0/24", version), claim("fd00:10:244:1::/64", version))
	cert, err := Certify(identity(9), r.ID, parse([]string{"10.244.1.0/24", "fd00:10:244:1::/64"}))
	if err != nil {
		t.Fatal(err)
	}
	r.Description = Description{
		Name:         "worker-17.eu-west-1",
		Endpoints:    []netip.AddrPort{netip.MustParseAddrPort("192.168.117.142:8285"), netip.MustParseAddrPort("[2001:db8:1234:5678::17]:8285")},
		Gossip:       netip.MustParseAddrPort("192.168.117.142:7946"),
		Modes:        []string{"direct", "udp", "vxlan"},
		Capabilities: []string{"rco"},
		VTEPMAC:      "02:42:c0:a8:75:8e", VXLANPort: 4789, VNI: 7700, MTU: 1432, LinkMTU: 1500,
		Keys: []string{"0123abcd", "4567ef01"}, Cert: &cert,
	}
	if got := len(AppendMessage(nil, seal(t, 1, r))); got >= 1000 {
		t.Errorf("a record takes %d bytes; want less than 1,000", got)
	}
	s := memoryStore(1)
	empty := len(s.AppendDigest(nil, [8]byte{}))
	const members = 50
	for n := range byte(members) {
		merge(t, s, seal(t, 10+n, record(10+n, version)), true)
	}
	if got := len(s.AppendDigest(nil, [8]byte{})) - empty; got != members*15 {
		t.Errorf("%d records take %d bytes of a digest; want 15 each", members, got)
	}
}
