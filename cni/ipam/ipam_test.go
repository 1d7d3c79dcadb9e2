package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// blocks returns a request for one address of each family in the blocks.
func blocks(prefixes ...string) Request {
	var r Request
	for _, p := range prefixes {
		r.Blocks = append(r.Blocks, netip.MustParsePrefix(p))
	}
	return r
}

func (r Request) want(addresses ...string) Request {
	for _, a := range addresses {
		r.Wanted = append(r.Wanted, netip.MustParseAddr(a))
	}
	return r
}

func attachment(container string) Attachment {
	return Attachment{
		Network: "pods", Container: container, Interface: "eth0", Netns: "/run/netns/" + container,
		Pod: "default/" + container, Device: "weft0123456789a", MTU: 1400,
	}
}

func newStore(t testing.TB) *Store {
	t.Helper()
	return Open(filepath.Join(t.TempDir(), "attachments"))
}

func add(t testing.TB, s *Store, container string, r Request) Attachment {
	t.Helper()
	a, err := s.Add(t.Context(), attachment(container), r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// refuse sees that r is refused for the reason, in words that have all of parts.
func refuse(t testing.TB, s *Store, container string, r Request, reason error, parts ...string) {
	t.Helper()
	a, err := s.Add(t.Context(), attachment(container), r)
	if !errors.Is(err, reason) {
		t.Fatalf("%s: %v, error %v; want %v", container, a.Addresses, err, reason)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q is more than a line", err)
	}
}

func remove(t testing.TB, s *Store, containers ...string) {
	t.Helper()
	var keys []Key
	for _, c := range containers {
		keys = append(keys, Key{c, "eth0"})
	}
	if err := s.Remove(t.Context(), keys...); err != nil {
		t.Fatal(err)
	}
}

// list returns what is on record, none of it damaged.
func list(t testing.TB, s *Store) []Attachment {
	t.Helper()
	all, damaged, err := s.List()
	if err != nil || len(damaged) > 0 {
		t.Fatalf("damaged %v, error %v", damaged, err)
	}
	return all
}

// files returns the names in the store's directory.
func files(t testing.TB, s *Store) []string {
	t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestAddGetRemove(t *testing.T) {
	s := newStore(t)
	before := time.Now().Add(-time.Second)
	a := add(t, s, "c1", blocks("10.244.1.0/24", "fd00:1::/64"))
	want := attachment("c1")
	want.Blocks = []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:1::/64")}
	want.Addresses = []netip.Addr{netip.MustParseAddr("10.244.1.2"), netip.MustParseAddr("fd00:1::2")}
	want.Since = a.Since
	if !reflect.DeepEqual(a, want) || a.Since.Before(before) || a.Since.After(time.Now()) {
		t.Fatalf("got %+v; want %+v", a, want)
	}
	b := add(t, s, "c0", blocks("10.244.1.0/24"))

	s = Open(s.dir) // nothing is remembered beside the files
	if got, found, err := s.Get(a.Key()); err != nil || !found || !reflect.DeepEqual(got, a) {
		t.Fatalf("got %+v, %v, error %v; want %+v", got, found, err, a)
	}
	if got := list(t, s); !reflect.DeepEqual(got, []Attachment{a, b}) {
		t.Fatalf("list %+v", got)
	}
	if got, want := files(t, s), []string{"c0:eth0", "c1:eth0", "last", "lock"}; !slices.Equal(got, want) {
		t.Fatalf("files %v; want %v", got, want)
	}

	remove(t, s, "c1")
	remove(t, s, "c1", "never", "c0")
	if _, found, err := s.Get(a.Key()); found || err != nil {
		t.Fatalf("found %v, error %v after removal", found, err)
	}
	if got := list(t, s); len(got) > 0 {
		t.Fatalf("list %+v", got)
	}
}

func TestNothingIsTouched(t *testing.T) {
	s := newStore(t)
	remove(t, s)
	remove(t, s, "c1")
	if _, found, err := s.Get(Key{"c1", "eth0"}); found || err != nil {
		t.Fatalf("found %v, error %v", found, err)
	}
	if got := list(t, s); len(got) > 0 {
		t.Fatalf("list %+v", got)
	}
	if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the directory is there: %v", err)
	}
}

func TestDuplicate(t *testing.T) {
	s := newStore(t)
	a := add(t, s, "c1", blocks("10.244.1.0/24"))
	other := attachment("c1")
	other.Network = "other"
	if _, err := s.Add(t.Context(), other, blocks("10.244.2.0/24")); !errors.Is(err, ErrExists) {
		t.Fatalf("error %v", err)
	}
	refuse(t, s, "c1", blocks("10.244.1.0/24"), ErrExists, "c1:eth0", "network pods", "10.244.1.2")
	if got := list(t, s); !reflect.DeepEqual(got, []Attachment{a}) {
		t.Fatalf("list %+v", got)
	}
	other.Interface = "eth1"
	if _, err := s.Add(t.Context(), other, blocks("10.244.1.0/24")); err != nil {
		t.Fatalf("a second interface: %v", err)
	}
}

func TestWanted(t *testing.T) {
	s := newStore(t)
	r := blocks("10.244.1.0/24", "10.244.9.0/24", "fd00:1::/64")
	a := add(t, s, "c1", r.want("10.244.9.7"))
	if got := fmt.Sprint(a.Blocks, a.Addresses); got != "[10.244.9.0/24 fd00:1::/64] [10.244.9.7 fd00:1::2]" {
		t.Fatalf("got %s", got)
	}
	a = add(t, s, "c2", r.want("fd00:1::abcd", "::ffff:10.244.1.200"))
	if got := fmt.Sprint(a.Addresses); got != "[10.244.1.200 fd00:1::abcd]" {
		t.Fatalf("got %s", got)
	}
	add(t, s, "c3", r.want("10.244.1.5", "10.244.1.5"))

	refuse(t, s, "x", r.want("10.244.9.7"), ErrTaken, "10.244.9.7", "c1:eth0", "pod default/c1")
	refuse(t, s, "x", r.want("10.244.1.9", "fd00:1::abcd"), ErrTaken, "c2:eth0")
	refuse(t, s, "x", r.want("10.245.0.7"), ErrOutside, "10.245.0.7", "10.244.1.0/24, 10.244.9.0/24")
	refuse(t, s, "x", r.want("fd00:1::1%eth0"), ErrOutside)
	refuse(t, s, "x", blocks("10.244.1.0/24").want("fd00:1::7"), ErrOutside, "10.244.1.0/24")
	refuse(t, s, "x", r.want("10.244.1.0"), ErrReserved, "network address")
	refuse(t, s, "x", r.want("10.244.9.1"), ErrReserved, "gateway", "10.244.9.0/24")
	refuse(t, s, "x", r.want("10.244.1.255"), ErrReserved, "broadcast")
	refuse(t, s, "x", r.want("fd00:1::"), ErrReserved, "network address")
	refuse(t, s, "x", r.want("fd00:1::1"), ErrReserved, "gateway")
	refuse(t, s, "x", r.want("10.244.1.7", "10.244.1.8"), ErrTooMany, "10.244.1.7 and 10.244.1.8")
	if got := list(t, s); len(got) != 3 {
		t.Fatalf("list %+v", got)
	}
	add(t, s, "c4", r.want("fd00:1:0:0:ffff:ffff:ffff:ffff")) // no broadcast in IPv6
}

func TestExhausted(t *testing.T) {
	s := newStore(t)
	r := blocks("10.244.1.0/30", "10.244.1.8/29")
	for i, want := range []string{"10.244.1.2", "10.244.1.10", "10.244.1.11", "10.244.1.12", "10.244.1.13", "10.244.1.14"} {
		if a := add(t, s, fmt.Sprint("c", i), r); a.Addresses[0].String() != want || !a.Blocks[0].Contains(a.Addresses[0]) {
			t.Fatalf("address %d is %v of %v; want %s", i, a.Addresses, a.Blocks, want)
		}
	}
	refuse(t, s, "x", r, ErrExhausted, "1 of 1 in use in 10.244.1.0/30", "5 of 5 in use in 10.244.1.8/29", "weft ipam gc")
	refuse(t, s, "x", blocks("10.244.1.64/31"), ErrExhausted, "0 of 0 in use in 10.244.1.64/31")
	refuse(t, s, "x", blocks("fd00::/64", "10.244.1.8/29"), ErrExhausted) // one family is not enough
	refuse(t, s, "x", Request{}, ErrExhausted, "no block")
	remove(t, s, "c3")
	if a := add(t, s, "c6", r); a.Addresses[0].String() != "10.244.1.12" {
		t.Fatalf("got %v; want the one that was freed", a.Addresses)
	}
}

func TestRoundRobin(t *testing.T) {
	s := newStore(t)
	r := blocks("10.244.1.0/29", "fd00:1::/64")
	var got []string
	for range 7 {
		got = append(got, add(t, s, "c", r).Addresses[0].String())
		remove(t, s, "c")
	}
	if want := "10.244.1.2 10.244.1.3 10.244.1.4 10.244.1.5 10.244.1.6 10.244.1.2 10.244.1.3"; strings.Join(got, " ") != want {
		t.Fatalf("got %v; want %s", got, want)
	}
	if a := add(t, s, "kept", r); a.Addresses[0].String() != "10.244.1.4" || a.Addresses[1].String() != "fd00:1::9" {
		t.Fatalf("got %v", a.Addresses)
	}
	// Without the hint, or with a useless one, it goes on after the highest.
	for _, hint := range []string{"", "\x00\x00\x00", strings.Repeat("10.244.1.0/29 10.244.1.\n", 20), "10.244.1.0/29 10.244.1.", "10.244.1.0/29 10.99.0.1\n"} {
		if err := os.WriteFile(filepath.Join(s.dir, hintFile), []byte(hint), 0o600); err != nil {
			t.Fatal(err)
		}
		if a := add(t, s, "c", r); a.Addresses[0].String() != "10.244.1.5" {
			t.Fatalf("hint %q: got %v", hint, a.Addresses)
		}
		if got, err := os.ReadFile(filepath.Join(s.dir, hintFile)); string(got) != "10.244.1.0/29 10.244.1.5\nfd00:1::/64 fd00:1::a\n" || err != nil {
			t.Fatalf("hint %q becomes %q, error %v", hint, got, err)
		}
		remove(t, s, "c")
	}
}

func TestKey(t *testing.T) {
	long := strings.Repeat("a", maxContainer)
	for _, k := range []Key{{"c1", "eth0"}, {"0.b-c_D", "a"}, {long, "fifteen-letters"}, {"c1", "größe"}, {"c", `a"b\c<>&`}} {
		if err := k.Validate(); err != nil {
			t.Errorf("%q: %v", k, err)
		}
		if got, err := ParseKey(k.String()); got != k || err != nil {
			t.Errorf("%q is read as %q, error %v", k, got, err)
		}
	}
	for _, k := range []Key{
		{"", "eth0"}, {".", "eth0"}, {"..", "eth0"}, {"../x", "eth0"}, {"a/b", "eth0"}, {"a:b", "eth0"}, {"-a", "eth0"}, {"a b", "eth0"}, {"ä", "eth0"}, {"a\x00", "eth0"},
		{long + "a", "eth0"}, {"c1", ""}, {"c1", "."}, {"c1", ".."}, {"c1", "a/b"}, {"c1", "a:b"}, {"c1", "a b"}, {"c1", "a\u00a0b"}, {"c1", "a\x00"}, {"c1", "a\xff"},
		{"c1", "sixteen-letters!"},
	} {
		if err := k.Validate(); err == nil {
			t.Errorf("%q is valid", k)
		}
		s := newStore(t)
		_, addErr := s.Add(t.Context(), Attachment{Container: k.Container, Interface: k.Interface}, blocks("10.244.1.0/24"))
		_, found, getErr := s.Get(k)
		if addErr == nil || getErr == nil || found || s.Remove(t.Context(), k) == nil {
			t.Errorf("%q is taken for a key", k)
		}
	}
	if _, err := ParseKey("lock"); err == nil {
		t.Error("lock is taken for a key")
	}
}
