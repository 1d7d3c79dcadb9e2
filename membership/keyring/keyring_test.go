package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/membership"
)

// ring returns a ring of these keys, by and signed by identity.
func ring(t testing.TB, identity membership.Identity, version uint64, keys [][]byte, removed ...string) Ring {
	t.Helper()
	r, err := seal(identity, Ring{Version: version, Keys: keys, Removed: removed})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// key is a key of 16 bytes.
func key(n int) []byte { return fmt.Appendf(nil, "key %12d", n) }

func open16(t *testing.T, dir string, id membership.Identity, file []byte) (*Keyring, []string) {
	t.Helper()
	k, warnings, err := Open(dir, id, file)
	if err != nil {
		t.Fatal(err)
	}
	return k, warnings
}

func TestFingerprint(t *testing.T) {
	// printf 'weft gossip key0123456789abcdef' | sha256sum
	if got := Fingerprint(fileKey); got != "259e7392" {
		t.Error(got)
	}
}

// A rotation of one node: each step is on disk before it is seen.
func TestRotateAndRemove(t *testing.T) {
	dir, id := t.TempDir(), identities(1)[0]
	k, warnings := open16(t, dir, id, fileKey)
	old := Fingerprint(fileKey)
	if len(warnings) > 0 || k.Message() != nil || k.Ring().Version != 0 || !slices.Equal(Fingerprints(k.Keys()), []string{old}) {
		t.Fatalf("at first %v, %+v", warnings, k.Ring())
	}
	if _, err := os.Stat(filepath.Join(dir, fileName)); err == nil {
		t.Error("the file's key was written")
	}
	newest, err := k.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	<-k.Changed()
	check := func(what string, want ...string) {
		t.Helper()
		again, warnings := open16(t, dir, id, fileKey)
		for _, k := range []*Keyring{k, again} {
			if got := Fingerprints(k.Keys()); !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v; %v", what, got, want, warnings)
			}
		}
		if !bytes.Equal(k.Message(), again.Message()) || again.Ring().By != id.ID {
			t.Errorf("%s: the ring is another after a start", what)
		}
	}
	check("another lacks it", old, newest)
	choose := func(want bool, listed ...[]string) {
		t.Helper()
		if changed, err := k.Choose(listed); err != nil || changed != want {
			t.Errorf("%v: %v, %v", listed, changed, err)
		}
	}
	choose(false, []string{old}, []string{old, newest})
	choose(false, nil, []string{old, newest}) // a node that lists none
	choose(true, []string{old, newest}, []string{old, newest})
	check("all have confirmed it", newest, old)
	if err := k.Remove(newest); !errors.Is(err, ErrNewest) {
		t.Errorf("the newest is removed: %v", err)
	}
	if err := k.Remove("00000000"); !errors.Is(err, ErrUnknown) {
		t.Errorf("what is not there is removed: %v", err)
	}
	if err := k.Remove(old); err != nil {
		t.Error(err)
	}
	check("the old one is removed", newest)
	if info, err := os.Stat(filepath.Join(dir, fileName)); err != nil {
		t.Error(err)
	} else if info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	for range MaxKeys - 1 {
		if _, err := k.Rotate(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.Rotate(); !errors.Is(err, ErrFull) {
		t.Errorf("a ring without end: %v", err)
	}
	if n := len(k.Message()); n > 1200 {
		t.Errorf("%d bytes do not fit a gossip packet", n)
	}
}

// What cannot be kept is not used.
func TestDiskFails(t *testing.T) {
	ids := identities(2)
	full := errors.New("the disk is full")
	k := newKeyring(ids[0], alone(fileKey), func(state) error { return full })
	if _, err := k.Rotate(); !errors.Is(err, full) {
		t.Errorf("rotate: %v", err)
	}
	if err := k.Merge(ring(t, ids[1], 1, [][]byte{key(1), fileKey}).message); !errors.Is(err, full) {
		t.Errorf("merge: %v", err)
	}
	if k.Ring().Version != 0 || len(k.Keys()) != 1 || len(k.Changed()) != 0 {
		t.Errorf("used: %+v", k.Ring())
	}
}

// A ring that was overtaken by one that does not know of it comes back with both.
func TestOvertaken(t *testing.T) {
	ids := identities(2)
	slices.SortFunc(ids, func(a, b membership.Identity) int { return a.ID.Compare(b.ID) })
	k := newKeyring(ids[0], alone(fileKey), func(state) error { return nil })
	if _, err := k.Rotate(); err != nil {
		t.Fatal(err)
	}
	mine := k.Ring().Keys[0]
	if err := k.Merge(ring(t, ids[1], 1, [][]byte{key(1), fileKey}).message); err != nil {
		t.Fatal(err)
	}
	if r := k.Ring(); r.Version != 2 || r.By != ids[0].ID || !slices.EqualFunc(r.Keys, [][]byte{mine, key(1), fileKey}, bytes.Equal) {
		t.Errorf("overtaken: %+v", r)
	}
	// Who has no part in it reads both, and sends by neither until all do.
	other := newKeyring(identities(1)[0], alone(fileKey), func(state) error { return nil })
	for i, want := range []int{2, 3} {
		if err := other.Merge(ring(t, ids[i], 1, [][]byte{key(i), fileKey}).message); err != nil || len(other.Keys()) != want {
			t.Errorf("%v: reads %d, want %d", err, len(other.Keys()), want)
		}
	}
	// The removal that was overtaken as well.
	removing := newKeyring(ids[0], state{ring: ring(t, ids[0], 5, [][]byte{key(1)}, Fingerprint(fileKey)), sends: Fingerprint(key(1))}, func(state) error { return nil })
	if err := removing.Merge(ring(t, ids[1], 5, [][]byte{key(2), key(1), fileKey}).message); err != nil {
		t.Fatal(err)
	}
	if r := removing.Ring(); r.Version != 6 || len(r.Keys) != 2 || !slices.Equal(r.Removed, []string{Fingerprint(fileKey)}) {
		t.Errorf("the removal was forgotten: %+v", r)
	}
}

// A key that was removed by force is neither read nor sent by.
func TestRemovedInUse(t *testing.T) {
	ids := identities(2)
	k := newKeyring(ids[0], alone(fileKey), func(state) error { return nil })
	if err := k.Merge(ring(t, ids[1], 1, [][]byte{key(1)}, Fingerprint(fileKey)).message); err != nil {
		t.Fatal(err)
	}
	if got := Fingerprints(k.Keys()); !slices.Equal(got, []string{Fingerprint(key(1))}) {
		t.Errorf("%v", got)
	}
	// Whom it cut off holds up no rotation.
	if err := k.Merge(ring(t, ids[1], 2, [][]byte{key(2), key(1)}, Fingerprint(fileKey)).message); err != nil {
		t.Fatal(err)
	}
	both := []string{Fingerprint(key(1)), Fingerprint(key(2))}
	if changed, err := k.Choose([][]string{{Fingerprint(fileKey)}, both}); !changed || err != nil {
		t.Errorf("%v, %v", changed, err)
	}
}

func TestOpenFiles(t *testing.T) {
	ids := identities(2)
	dir := t.TempDir()
	made, _ := open16(t, dir, ids[0], fileKey)
	newest, err := made.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	both, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Remove(Fingerprint(fileKey)); err != nil {
		t.Fatal(err)
	}
	removed, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file  []byte
		key   []byte
		keys  []string
		says  string
		aside string
	}{
		"in the ring":    {both, fileKey, []string{Fingerprint(fileKey), newest}, "", ""},
		"the newest":     {both, made.Keys()[0], []string{Fingerprint(fileKey), newest}, "", ""},
		"removed":        {removed, fileKey, []string{newest}, "`weft key export`", ""},
		"unknown":        {both, key(7), []string{Fingerprint(key(7))}, "does not know", "former-1"},
		"damaged":        {both[:len(both)-9], fileKey, []string{Fingerprint(fileKey)}, "damaged", "corrupt-1"},
		"no file":        {nil, fileKey, []string{Fingerprint(fileKey)}, "", ""},
		"empty":          {[]byte{}, fileKey, []string{Fingerprint(fileKey)}, "damaged", "corrupt-1"},
		"another format": {bytes.Replace(both, []byte(`"format":1`), []byte(`"format":2`), 1), fileKey, []string{Fingerprint(fileKey)}, "format 2", "corrupt-1"},
		"forged":         {bytes.Replace(both, []byte(`"sends":"`), []byte(`"sends":"0`), 1), fileKey, []string{Fingerprint(fileKey)}, "damaged", "corrupt-1"},
		"too large":      {make([]byte, maxFile+1), fileKey, []string{Fingerprint(fileKey)}, "damaged", "corrupt-1"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, fileName)
			if c.file != nil {
				if err := os.WriteFile(path, c.file, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			k, warnings := open16(t, dir, ids[1], c.key)
			said := strings.Join(warnings, "\n")
			if got := Fingerprints(k.Keys()); !slices.Equal(got, c.keys) || !strings.Contains(said, c.says) || (said != "") != (c.says != "") || len(warnings) > 1 {
				t.Errorf("keys %v, want %v; says %s", got, c.keys, said)
			}
			if c.aside != "" {
				if kept, err := os.ReadFile(path + "." + c.aside); err != nil || !bytes.Equal(kept, c.file) {
					t.Errorf("it is not kept aside: %v", err)
				}
			}
		})
	}
	if _, _, err := Open(t.TempDir(), ids[0], []byte("short")); err == nil {
		t.Error("a key of 5 bytes is taken")
	}
}

// Whatever comes, there is no panic, and what is taken is a ring that its author signed.
func FuzzMerge(f *testing.F) {
	ids := identities(1)
	good := ring(f, ids[0], 1, [][]byte{key(1), fileKey}, Fingerprint(key(2)))
	f.Add(good.message)
	f.Add(good.message[:messageHead])
	f.Add([]byte{})
	for _, payload := range []string{`{"version":0,"keys":[]}`, `{"version":1,"keys":["AAAA"]}`, `{"version":1,"removed":["x"]}`, `[]`, `{"version":9007199254740993}`} {
		signature := ids[0].Sign(signContext, []byte(payload))
		f.Add(slices.Concat(ids[0].ID[:], signature[:], []byte(payload)))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		k := newKeyring(ids[0], alone(fileKey), func(state) error { return nil })
		err := k.Merge(message)
		if err != nil && !errors.Is(err, ErrBad) {
			t.Fatal(err)
		}
		if err == nil {
			if _, err := open(k.Message()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// What a signed ring may hold, without the signature that fuzzing never finds.
func FuzzRing(f *testing.F) {
	id := identities(1)[0]
	f.Add([]byte(`{"version":1,"keys":["a2V5ICAgICAgICAgICAgMQ=="],"removed":["00000000"]}`))
	f.Add([]byte(`{"version":1,"keys":["a2V5ICAgICAgICAgICAgMQ==","a2V5ICAgICAgICAgICAgMQ=="]}`))
	f.Add([]byte(`{"version":1e9,"keys":null}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		signature := id.Sign(signContext, payload)
		r, err := open(slices.Concat(id.ID[:], signature[:], payload))
		if err != nil {
			return
		}
		k := newKeyring(identities(1)[0], alone(fileKey), func(state) error { return nil })
		if err := k.Merge(r.message); err != nil || len(k.Keys()) < len(r.Keys) || len(k.Keys()) > MaxKeys {
			t.Fatalf("%v: reads %d keys of %d", err, len(k.Keys()), len(r.Keys))
		}
	})
}

func FuzzFile(f *testing.F) {
	dir := f.TempDir()
	k, _, err := Open(dir, identities(1)[0], fileKey)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := k.Rotate(); err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := parseState(text); err == nil && (len(s.keys()) == 0 || Fingerprint(s.keys()[0]) != s.sends) {
			t.Fatalf("sends by %s of %d keys", s.sends, len(s.keys()))
		}
	})
}
