//go:build sim

package sim

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mutant is one rule of membership, broken.
type mutant struct {
	rule, file, text, broken string
}

// few is where most broken rules show, crowd where those do that are about many nodes at once.
var (
	few   = []string{"-histories", "400", "-seed", "3"}
	crowd = []string{"-histories", "1", "-joins"}
)

var mutants = []mutant{
	{"held before tentative", "rules.go", "below(s.Tentative, o.Tentative), ", "below(o.Tentative, s.Tentative), "},
	{"tentative and held alike", "rules.go", "below(s.Tentative, o.Tentative), ", ""},
	{"settled nodes' claims first", "rules.go", "below(!s.by.Settled, !o.by.Settled),", "below(s.by.Settled, o.by.Settled),"},
	{"lower Since first", "rules.go", "cmp.Compare(s.Since, o.Since)", "cmp.Compare(o.Since, s.Since)"},
	{"ties by lower ID", "rules.go", "s.by.ID.Compare(o.by.ID))", "o.by.ID.Compare(s.by.ID))"},
	{"tentative is not routed", "rules.go", "case rival < 0 && s.Tentative:", "case false:"},
	{"what lost is not routed", "rules.go", "case rival < 0:\n", "case true:\n"},
	{"a newer record replaces an address's older", "rules.go", "return r.Version > other.Version", "return r.Version < other.Version"},
	{"a replaced record owns nothing", "rules.go", "v.replacedBy != nil || r.Left {", "r.Left {"},
	{"the hold-down", "allot.go", "if !now.Before(due) {", "if true {"},
	{"the hold-down waits for further nodes", "allot.go", "now.Sub(said.first) < growth", "false"},
	{"the hold-down begins with an audience", "allot.go", "case !s.Ready:", "case false:"},
	{"nothing is claimed unheard", "allot.go", "	if s.Ready {\n", "	if true {\n"},
	{"taken blocks are passed over", "allot.go", "taken = append(taken, c.Prefix)", "_ = c"},
	{"a lost claim is given up", "allot.go", "case lost:\n			a.tries++", "case lost:\n			held = append(held, c.Prefix)"},
	{"a block that is used stays claimed only where it was lost", "allot.go", "case !c.Tentative:\n			held = append(held, c.Prefix)", "case !c.Tentative:"},
	{"a claim keeps its Since", "own.go", "since, ok := held.since(p)", "since, ok := uint64(0), false"},
	{"an echo's claims decide", "draft.go", "d.restamp(&s.echo.rec, s.allotted)", "_ = s.echo"},
	{"publishing above an echo", "draft.go", "d.stale, d.settled = true, s.settled ||", "d.stale, d.settled = false, s.settled ||"},
	{"on disk before it is visible", "draft.go", "if err := s.persist(snap); err != nil {\n		return fmt.Errorf(\"keep", "if err := s.persist(snap); err != nil && false {\n		return fmt.Errorf(\"keep"},
	{"versions rise above all seen", "draft.go", "d.Version = s.clock + 1", "d.Version = d.Version + 1"},
	{"the disk has the own record", "draft.go", "snap.Own, snap.Clock,", "_, snap.Clock,"},
	{"the higher version wins", "store.go", "return e.rec.Version > old.rec.Version", "return e.rec.Version < old.rec.Version"},
	{"an echo counts", "store.go", "	s.echo = e\n", ""},
	{"a forgotten node's record is replaced", "forget.go", "Version: max(s.clock, m.rec.Version) + 1,", "Version: 1,"},
	{"the larger part forgets", "forget.go", "if 2*present <= all {", "if false {"},
	{"the lowest that lives forgets", "forget.go", "if first && l.gone > after {", "if l.gone > after {"},
}

// Whoever breaks a rule of membership is caught by a few hundred histories, or by a crowd of
// nodes that start at once.
func TestMutants(t *testing.T) {
	root := copyModule(t)
	if out, err := histories(t, root, few); err != nil {
		t.Fatalf("without any rule broken: %v\n%s", err, out)
	}
	for _, m := range mutants {
		t.Run(m.rule, func(t *testing.T) {
			path := filepath.Join(root, "membership", m.file)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(text), m.text); n != 1 {
				t.Fatalf("%s has %q %d times: want one place to break", m.file, m.text, n)
			}
			write(t, path, strings.Replace(string(text), m.text, m.broken, 1))
			defer write(t, path, string(text))
			out, err := histories(t, root, few)
			if err == nil {
				out, err = histories(t, root, crowd)
			}
			switch {
			case err == nil:
				t.Error("no history shows that this rule is broken")
			case !strings.Contains(lastLine(out, "sim: "), "seed "):
				t.Errorf("the simulation did not end as it does when a rule is broken: %v\n%s", err, out)
			default:
				t.Log(lastLine(out, "sim: "))
			}
		})
	}
}

// histories runs histories of the module at root.
func histories(t *testing.T, root string, which []string) (string, error) {
	t.Helper()
	bin := filepath.Join(root, "sim")
	build := exec.Command("go", "build", "-o", bin, "./membership/sim/cmd")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the broken rule does not compile: %v\n%s", err, out)
	}
	out, err := exec.Command(bin, which...).CombinedOutput()
	return string(out), err
}

// copyModule copies what the simulation is made of, without tests.
func copyModule(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{".", "membership", "membership/sim", "membership/sim/cmd"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(filepath.Join("../..", dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			source := strings.HasSuffix(e.Name(), ".go") && !strings.HasSuffix(e.Name(), "_test.go")
			if !source && !strings.HasPrefix(e.Name(), "go.") {
				continue
			}
			text, err := os.ReadFile(filepath.Join("../..", dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(root, dir, e.Name()), string(text))
		}
	}
	return root
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func lastLine(out, prefix string) string {
	last := ""
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, prefix) {
			last = strings.TrimSpace(line)
		}
	}
	return last
}
