package host

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A record is of one run of the kernel, also for who is shown another boot ID, and after the clock was set; and of one
// network namespace.
func TestRecordOfALife(t *testing.T) {
	now, err := currentLife()
	if err != nil {
		t.Fatal(err)
	}
	hour, elsewhere := now.Booted.Add(-time.Hour), "net:[1]"
	for _, c := range []struct {
		what  string
		other life
		want  bool
	}{
		{"the same", now, true},
		{"a container's boot ID", life{now.Namespace, "other", now.Booted.Add(time.Millisecond)}, true},
		{"the clock set", life{now.Namespace, now.Boot, hour}, true},
		{"another boot", life{now.Namespace, "other", hour}, false},
		{"another namespace", life{elsewhere, now.Boot, now.Booted}, false},
		{"none", life{}, false},
	} {
		file := filepath.Join(t.TempDir(), "sysctls.json")
		r := &record{file: file, recorded: recorded{Life: c.other, Sysctls: map[string]setting{forwarding4: {Before: "0", Set: "1"}}}}
		if err := r.save(); err != nil {
			t.Fatal(err)
		}
		if r, err = openRecord(file); err != nil || r.has(forwarding4) != c.want {
			t.Errorf("%s: %v, holds %v", c.what, err, r.Sysctls)
		}
	}
}

// FuzzRecord has the file hold anything, which was damaged, or made by somebody who could.
func FuzzRecord(f *testing.F) {
	now, err := currentLife()
	if err != nil {
		f.Fatal(err)
	}
	file := filepath.Join(f.TempDir(), "sysctls.json")
	r := &record{file: file, recorded: recorded{Life: now, Sysctls: map[string]setting{forwarding4: {Before: "0", Set: "1", Beside: map[string]string{"a": "b"}}}}}
	if err := r.save(); err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	for _, seed := range []string{"", "{}", "null", "[", `{"life":{"booted":1}}`, `{"sysctls":{"../../etc/passwd":{"before":"x","set":""}}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		file := filepath.Join(t.TempDir(), "sysctls.json")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := openRecord(file)
		if err != nil {
			return
		}
		if err := r.save(); err != nil {
			t.Fatal(err)
		}
		again, err := openRecord(file)
		if err != nil {
			t.Fatalf("what was written of %q: %v", text, err)
		}
		if d := cmp.Diff(r.Sysctls, again.Sysctls); d != "" {
			t.Errorf("%q: (-read +read again):\n%s", text, d)
		}
	})
}
