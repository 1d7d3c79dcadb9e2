//go:build linux

package topo

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestParseRun(t *testing.T) {
	run := runID{pid: 12, ticks: 345, prefix: "demo", n: 1}
	for name, want := range map[string]bool{
		run.String():                         true,
		run.String() + "-underlay":           true,
		run.String() + "-node1-a":            true,
		run.String() + "-":                   false,
		run.String() + "-node1/../..":        false,
		"weft-012-345-demo-1":                false,
		"weft-12-345-demo":                   false,
		"weft":                               false,
		"weft-net":                           false,
		"other-" + run.String():              false,
		"weft-99999999999999999999-1-demo-1": false,
	} {
		got, ok := parseRun(name)
		if ok != want || ok && got != run {
			t.Errorf("parseRun(%q) = %v, %v, want ok %v", name, got, ok, want)
		}
	}
}

// What parseRun accepts is removed, so it must accept only what a topology can have made.
func FuzzParseRun(f *testing.F) {
	f.Add("weft-12-345-demo-1-node1-a")
	f.Add("weft-0-0-0-00")
	f.Fuzz(func(t *testing.T, name string) {
		run, ok := parseRun(name)
		if !ok {
			return
		}
		rest, found := strings.CutPrefix(name, run.String())
		if !found || rest != "" && rest[0] != '-' || strings.ContainsAny(name, "/.") {
			t.Errorf("parseRun(%q) = %v", name, run)
		}
	})
}

func TestParseStat(t *testing.T) {
	const tail = " 1 7 7 0 -1 4194560 83 0 0 0 0 0 0 0 20 0 1 0 4711 5537792 205"
	ticks, err := parseStat("7 (a) b (c) S" + tail)
	if err != nil || ticks != 4711 {
		t.Errorf("parseStat = %d, %v, want 4711", ticks, err)
	}
	if _, err := parseStat("7 (sleep) Z" + tail); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("parseStat of a zombie = %v, want fs.ErrNotExist", err)
	}
	for _, short := range []string{"", "7 (sleep", "7 (sleep) S 1 2"} {
		if _, err := parseStat(short); err == nil {
			t.Errorf("parseStat(%q) gave no error", short)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("7 (a) b (c) S 1 7 7 0 -1 4194560 83 0 0 0 0 0 0 0 20 0 1 0 4711 5537792 205")
	f.Add(")")
	f.Fuzz(func(t *testing.T, stat string) {
		if ticks, err := parseStat(stat); err != nil && ticks != 0 {
			t.Errorf("parseStat(%q) = %d, %v", stat, ticks, err)
		}
	})
}

func TestCrashed(t *testing.T) {
	ticks, err := startTicks(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		run  runID
		want bool
	}{
		"this process":             {runID{pid: os.Getpid(), ticks: ticks}, false},
		"an earlier one, same pid": {runID{pid: os.Getpid(), ticks: ticks - 1}, true},
		"an ended one":             {runID{pid: ended.ProcessState.Pid(), ticks: ticks}, true},
	} {
		if got, err := test.run.crashed(); err != nil || got != test.want {
			t.Errorf("%s: crashed = %v, %v, want %v", name, got, err, test.want)
		}
	}
}
