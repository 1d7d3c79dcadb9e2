package membership

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// open returns node 1's store in dir and fails on warnings unless want says so.
func open(t *testing.T, dir string, warnings ...string) *Store {
	t.Helper()
	s, got, err := OpenStore(dir, identity(1), testTerms, testGrace, start)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(warnings) {
		t.Fatalf("warnings %q; want %d", got, len(warnings))
	}
	for i, w := range warnings {
		if !strings.Contains(got[i], w) {
			t.Fatalf("warning %q; want %q", got[i], w)
		}
	}
	return s
}

// filled returns a directory with the state of node 1, which knows node 2.
func filled(t *testing.T) (dir string, s *Store) {
	t.Helper()
	dir = t.TempDir()
	s = open(t, dir)
	merge(t, s, seal(t, 2, record(2, 70, claim("10.244.2.0/24", 60))), true)
	publish(t, s, 1, "10.244.1.0/24")
	return dir, s
}

func TestReload(t *testing.T) {
	dir, s := filled(t)
	merge(t, s, seal(t, 2, record(2, 90, claim("10.244.2.0/24", 60))), true)
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	want, _ := s.Own()

	again := open(t, dir)
	if got, ok := again.Own(); !ok || !reflect.DeepEqual(got, want) {
		t.Fatalf("own record %+v; want %+v", got, want)
	}
	v := again.View(start)
	if v.Self.State != StateUp || len(v.Members) != 1 {
		t.Fatalf("view %+v", v)
	}
	if m := v.Members[0]; m.Version != 90 || m.State != StateGrace || m.Alive || len(m.Prefixes) != 1 {
		t.Fatalf("member %+v", m)
	}
	if m := memberAt(t, again, 2, start.Add(testGrace)); m.State != StateDown {
		t.Fatalf("an unconfirmed member is %s after the grace period", m.State)
	}
	// The same description and claims: nothing to publish, the Since is kept.
	publish(t, again, 1, "10.244.1.0/24")
	if got, _ := again.Own(); !reflect.DeepEqual(got, want) {
		t.Fatal("a restart published a new record")
	}
	if err := again.Claim(parse([]string{"10.244.1.0/24", "10.244.3.0/24"})...); err != nil {
		t.Fatal(err)
	}
	if r := ownRecord(t, again); r.Version != 91 {
		t.Fatalf("version %d after 90 was seen before the restart", r.Version)
	}
}

// What was published is on disk without any Save: a crash forgets nothing.
func TestCrashAfterClaim(t *testing.T) {
	dir, s := filled(t)
	want := ownRecord(t, s)
	if got := ownRecord(t, open(t, dir)); !reflect.DeepEqual(got, want) {
		t.Fatalf("reloaded %+v; want %+v", got, want)
	}
}

func TestSaveOnlyOnChange(t *testing.T) {
	dir, s := filled(t)
	path := filepath.Join(dir, stateFile)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s.SetAlive(identity(2).ID, true, start) // liveness is not in the file
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Fatal("written without a change")
	}
	merge(t, s, seal(t, 2, record(2, 71)), true)
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("not written: %v", err)
	}
}

func TestDamagedState(t *testing.T) {
	dir, _ := filled(t)
	path := filepath.Join(dir, stateFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for name, text := range map[string]string{
		"empty":       "",
		"garbage":     "\x00\x01\x02",
		"truncated":   string(whole[:len(whole)-10]),
		"next format": strings.Replace(string(whole), `"format":1`, `"format":2`, 1),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, "damaged")
		if _, ok := s.Own(); ok || len(s.View(start).Members) != 0 {
			t.Fatalf("%s: something was read", name)
		}
		n++
		kept, err := os.ReadFile(path + ".corrupt-" + string(rune('0'+n)))
		if err != nil || string(kept) != text {
			t.Fatalf("%s: kept aside %q, %v", name, kept, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Fatalf("%s: still in place", name)
		}
		publish(t, s, 1, "10.244.1.0/24") // the node goes on
		if got, want := ownRecord(t, open(t, dir)), ownRecord(t, s); !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: reloaded %+v", name, got)
		}
	}
	// However often it happens, the number of files is bounded.
	for range 2 * maxCorrupt {
		if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		open(t, dir, "damaged")
	}
	if kept, err := filepath.Glob(path + ".corrupt-*"); err != nil || len(kept) != maxCorrupt {
		t.Fatalf("kept %v, %v", kept, err)
	}
}

// Damage inside one record costs that record only.
func TestDamagedRecordInState(t *testing.T) {
	dir, s := filled(t)
	merge(t, s, seal(t, 3, record(3, 1)), true)
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, stateFile)
	edit := func(change func(*stateJSON)) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var st stateJSON
		if err := json.Unmarshal(text, &st); err != nil {
			t.Fatal(err)
		}
		change(&st)
		if text, err = json.Marshal(st); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	edit(func(st *stateJSON) { st.Members[0].Envelope[70] ^= 1 })
	if s := open(t, dir, "member 1"); len(s.View(start).Members) != 1 {
		t.Fatal("the other member is gone too")
	}
	edit(func(st *stateJSON) { st.Members = st.Members[1:]; st.Own = st.Own[:50] })
	s = open(t, dir, "own record")
	if _, ok := s.Own(); ok || len(s.View(start).Members) != 1 {
		t.Fatal("a damaged own record was used, or cost another")
	}
	publish(t, s, 1, "10.244.1.0/24")
	if r := ownRecord(t, s); r.Version <= 70 {
		t.Fatalf("version %d although the file had seen 70", r.Version)
	}
	// Claims made again without meeting anyone are provisional again.
	edit(func(st *stateJSON) { st.Members, st.Own = nil, st.Own[:50] })
	s = open(t, dir, "own record")
	publish(t, s, 1, "10.244.1.0/24")
	merge(t, s, seal(t, 2, record(2, 80)), true)
	if published, err := s.Refresh(); !published || err != nil {
		t.Fatalf("refresh: %v, %v", published, err)
	}
}

// A new key beside an old state file: the old record is another node's, now dead,
// with our endpoint; so its block comes back to us.
func TestStateOfAnotherKey(t *testing.T) {
	dir, s := filled(t)
	old := ownRecord(t, s)
	s, warnings, err := OpenStore(dir, identity(4), testTerms, testGrace, start)
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "another node key") {
		t.Fatalf("%q, %v", warnings, err)
	}
	if err := s.Publish(old.Description); err != nil {
		t.Fatal(err)
	}
	if err := s.Claim(old.Claims[0].Prefix); err != nil {
		t.Fatal(err)
	}
	if m := member(t, s, 1); m.State != StateReplaced {
		t.Fatalf("the old record is %s", m.State)
	}
}

func TestUnwritableState(t *testing.T) {
	t.Run("no directory", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "gone")
		s := open(t, dir)
		if err := s.Publish(record(1, 1).Description); err == nil {
			t.Fatal("published without a disk")
		}
		if _, ok := s.Own(); ok {
			t.Fatal("visible without a disk")
		}
	})
	t.Run("disk full", func(t *testing.T) {
		dir, s := filled(t)
		before, _ := s.Own()
		tmp := filepath.Join(dir, stateFile+".tmp")
		if err := os.Symlink("/dev/full", tmp); err != nil {
			t.Fatal(err)
		}
		if err := s.Leave(); err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Fatalf("left with a full disk: %v", err)
		}
		if after, _ := s.Own(); after.Signature != before.Signature {
			t.Fatal("the own record changed")
		}
		if got := ownRecord(t, open(t, dir)); got.Left || !slices.Equal(got.Claims, ownRecord(t, s).Claims) {
			t.Fatalf("on disk is %+v", got)
		}
		if _, err := os.Lstat(tmp); err == nil {
			t.Fatal("the temporary file is left")
		}
	})
	t.Run("unreadable", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, stateFile), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, _, err := OpenStore(dir, identity(1), testTerms, testGrace, time.Time{}); err == nil {
			t.Fatal("opened a directory as a file")
		}
	})
}

// FuzzState has a file hold anything: the node goes on, with what it knows again after the next start.
func FuzzState(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, stateFile)
	s, _, err := OpenStore(dir, identity(1), testTerms, testGrace, start)
	if err != nil {
		f.Fatal(err)
	}
	merge(f, s, seal(f, 2, record(2, 70, claim("10.244.2.0/24", 60))), true)
	if err := s.Save(); err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	for _, seed := range []string{"", "null", "[]", `{"format":1}`, `{"format":1,"clock":18446744073709551615,"own":"AAAA","members":[{"envelope":"","gone":-1}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), stateFile)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		s, warnings, err := OpenStore(filepath.Dir(path), identity(1), testTerms, testGrace, start)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		for _, w := range warnings {
			if strings.Contains(w, "\n") {
				t.Errorf("%q: a warning of several lines: %q", text, w)
			}
		}
		if err := s.Save(); err != nil {
			t.Fatal(err)
		}
		again, _, err := OpenStore(filepath.Dir(path), identity(1), testTerms, testGrace, start)
		if err != nil {
			t.Fatal(err)
		}
		if want, got := s.View(start), again.View(start); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: after another start %+v, before %+v", text, got, want)
		}
	})
}
