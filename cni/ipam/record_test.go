package ipam

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const goodRecord = `{"network":"pods","container":"c1","interface":"eth0","netns":"/run/netns/x","device":"weft0","blocks":["10.244.1.0/24"],"addresses":["10.244.1.2"],"mtu":1400,"since":"2026-01-02T03:04:05Z"}`

func write(t testing.TB, s *Store, k Key, text string) {
	t.Helper()
	if err := os.WriteFile(s.path(k), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDamaged cuts a record at every length: what is left is reported, keeps what it names, and hinders nobody else.
func TestDamaged(t *testing.T) {
	s := newStore(t)
	r := blocks("10.244.1.0/24", "fd00:1::/64")
	add(t, s, "whole", r)
	add(t, s, "broken", r)
	k := Key{"broken", "eth0"}
	text, err := os.ReadFile(s.path(k))
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(text) - 2 { // all but "}\n"
		write(t, s, k, string(text[:n]))
		all, damaged, err := s.List()
		if err != nil || len(all) != 1 || len(damaged) != 1 || damaged[0].Key != k || !errors.Is(damaged[0].Err, ErrDamaged) || !strings.Contains(damaged[0].Err.Error(), s.path(k)) {
			t.Fatalf("cut at %d: %v, damaged %v, error %v", n, all, damaged, err)
		}
		if a, found, err := s.Get(k); !found || !errors.Is(err, ErrDamaged) || a.Key() != k {
			t.Fatalf("cut at %d: got %v, found %v, error %v", n, a, found, err)
		}
		for _, a := range []string{"10.244.1.3", "fd00:1::3"} {
			named := bytes.Contains(text[:n], []byte(`"`+a+`"`))
			if kept := slices.Contains(damaged[0].Addresses, netip.MustParseAddr(a)); kept != named {
				t.Fatalf("cut at %d: %s named %v, kept %v", n, a, named, kept)
			}
		}
	}

	write(t, s, k, string(text[:len(text)-3]))
	refuse(t, s, "broken", r, ErrExists, "weft ipam release broken:eth0")
	refuse(t, s, "x", r.want("10.244.1.3"), ErrTaken, "broken:eth0, whose record is damaged")
	add(t, s, "another", r)
	remove(t, s, "broken")
	add(t, s, "broken", r.want("10.244.1.3"))
}

func TestUnusable(t *testing.T) {
	s := newStore(t)
	add(t, s, "c0", blocks("10.244.1.0/24"))
	k := Key{"c1", "eth0"}
	write(t, s, k, goodRecord)
	if got := list(t, s); len(got) != 2 {
		t.Fatalf("list %v", got)
	}
	for _, change := range [][2]string{
		{`"c1"`, `"c2"`}, {`"eth0"`, `"eth1"`}, {`1400`, `"1400"`}, {`10.244.1.0/24`, `10.244.2.0/24`}, {`10.244.1.0/24`, `10.244.1.5/24`}, {`["10.244.1.0/24"]`, `[]`},
		{`["10.244.1.2"]`, `[]`}, {`["10.244.1.2"]`, `null`}, {`["10.244.1.2"]`, `["10.244.1.2","10.244.1.3"]`}, {`["10.244.1.0/24"],"addresses":["10.244.1.2"]`, `["10.244.1.0/24","10.244.1.0/24"],"addresses":["10.244.1.2","10.244.1.3"]`},
		{`["10.244.1.0/24"],"addresses":["10.244.1.2"]`, `["::/0"],"addresses":["::ffff:10.244.1.2"]`}, {goodRecord, ""}, {goodRecord, "null"}, {goodRecord, "[]"}, {goodRecord, strings.Repeat("\x00", 500)}, {"}", "}}"}, {"{", strings.Repeat(" ", maxRecord) + "{"},
	} {
		text := strings.Replace(goodRecord, change[0], change[1], 1)
		if text == goodRecord {
			t.Fatalf("%q is not in the record", change[0])
		}
		write(t, s, k, text)
		if all, damaged, err := s.List(); len(all) != 1 || len(damaged) != 1 || err != nil {
			t.Errorf("%.300q: %v, damaged %v, error %v", text, all, damaged, err)
		}
	}
	// Fields of another version are no damage, nor are files that are not the store's.
	write(t, s, k, strings.Replace(goodRecord, "{", `{"colour":["blue"],`, 1))
	if err := os.WriteFile(s.dir+"/README", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := list(t, s); len(got) != 2 {
		t.Fatalf("list %v", got)
	}
}

// TestUnreadable: a file that may hold anything stops an Add, and Remove is the way on.
func TestUnreadable(t *testing.T) {
	s := newStore(t)
	add(t, s, "c0", blocks("10.244.1.0/24"))
	if err := os.Mkdir(s.path(Key{"c1", "eth0"}), 0o700); err != nil {
		t.Fatal(err)
	}
	if all, damaged, err := s.List(); len(all) != 1 || len(damaged) != 1 || errors.Is(damaged[0].Err, ErrDamaged) || err != nil {
		t.Fatalf("%v, damaged %v, error %v", all, damaged, err)
	}
	if _, err := s.Add(t.Context(), attachment("c2"), blocks("10.244.1.0/24")); err == nil || !strings.Contains(err.Error(), "c1:eth0") {
		t.Fatalf("error %v", err)
	}
	remove(t, s, "c1")
	add(t, s, "c2", blocks("10.244.1.0/24"))
}

func TestTooLargeToRecord(t *testing.T) {
	s := newStore(t)
	a := attachment("c1")
	a.Network = strings.Repeat("n", maxRecord)
	if _, err := s.Add(t.Context(), a, blocks("10.244.1.0/24")); err == nil {
		t.Fatal("a record was written that is not read again")
	}
	if got := files(t, s); !slices.Equal(got, []string{"last", "lock"}) {
		t.Fatalf("files %v", got)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(goodRecord))
	f.Add([]byte(goodRecord[:len(goodRecord)-40]))
	f.Add([]byte(`{"container":"c1","interface":"eth0","blocks":["fd00::/64","0.0.0.0/0"],"addresses":["fd00::","1.2.3.4"]}`))
	f.Add([]byte(`{"container":"c1","interface":"eth0","blocks":[""],"addresses":[""]}`))
	f.Add([]byte(`"::ffff:10.0.0.1" "fe80::1%x" "1.2.3.4`))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, a := range readable(text) {
			if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
				t.Fatalf("readable address %s", a)
			}
		}
		k := Key{"c1", "eth0"}
		a, err := parse(k, text)
		if err != nil {
			return
		}
		if a.Key() != k || len(a.Addresses) == 0 || len(a.Addresses) > 2 {
			t.Fatalf("parsed %+v", a)
		}
		a.Since = a.Since.UTC().Truncate(time.Second)
		if y := a.Since.Year(); y < 1 || y > 9999 {
			return // an offset can lead out of what JSON takes
		}
		again, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := parse(k, again)
		if len(again) <= maxRecord && (err != nil || !reflect.DeepEqual(a, b)) {
			t.Fatalf("%+v is read as %+v, error %v", a, b, err)
		}
		for _, address := range a.Addresses {
			if !slices.Contains(readable(again), address) {
				t.Fatalf("%s is not readable in %s", address, again)
			}
		}
	})
}

func FuzzHints(f *testing.F) {
	f.Add("10.244.1.0/24 10.244.1.7\nfd00::/64 fd00::9\n")
	f.Add("10.244.1.0/24 10.244.1.7\nfd00::/64 fd0")
	f.Add("10.244.1.7/24 10.244.1.7\r\n\n 1.1.1.1/32 1.1.1.1 1\n::ffff:1.2.3.4/128 1.2.3.4")
	f.Fuzz(func(t *testing.T, text string) {
		for b, a := range parseHints(text) {
			if !b.Contains(a) {
				t.Fatalf("hint %s of %s", a, b)
			}
			if got, ok := (&picker{}).after(b.Masked(), a); ok && (!b.Contains(got) || role(b.Masked(), got) != "") {
				t.Fatalf("after %s of %s comes %s", a, b, got)
			}
		}
	})
}

func FuzzKey(f *testing.F) {
	f.Add("c1:eth0")
	f.Add("../x:eth0")
	f.Add("c1:..")
	f.Add("a:b:c")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseKey(text)
		if err == nil && (k.String() != text || len(text) > 255 || strings.ContainsAny(text, "/\x00 \n") || strings.Count(text, ":") != 1) {
			t.Fatalf("%q is read as %+v", text, k)
		}
	})
}
