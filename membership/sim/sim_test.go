package sim

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func keys(t testing.TB, n int) Keys {
	t.Helper()
	k, err := MakeKeys(n)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A few histories; `make sim` runs many.
func TestHistories(t *testing.T) {
	k := keys(t, 256)
	count := uint64(50)
	if testing.Short() {
		count = 10
	}
	for _, seed := range []uint64{1, 2} {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			for i := range count {
				h := History{Seed: seed, Number: i, Nodes: 3 + int(i%10)}
				if r := Run(h, k); r.Failure != "" {
					h.Verbose = true
					t.Fatalf("history %d: %s\n%s", i, r.Failure, strings.Join(Run(h, k).Events, "\n"))
				}
			}
		})
	}
}

func TestLargeHistory(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("50 nodes take some seconds")
	}
	if r := Run(History{Seed: 1, Nodes: 50}, keys(t, 256)); r.Failure != "" {
		t.Fatal(r.Failure)
	}
}

// A seed that does not replay is worth nothing.
func TestReplay(t *testing.T) {
	t.Parallel()
	k := keys(t, 256)
	for i := range uint64(10) {
		h := History{Seed: 5, Number: i, Nodes: 8, Verbose: true}
		if a, b := Run(h, k), Run(h, k); !slices.Equal(a.Events, b.Events) {
			t.Fatalf("history %d, once:\n%s\nand again:\n%s", i, strings.Join(a.Events, "\n"), strings.Join(b.Events, "\n"))
		}
	}
}

func TestJoin(t *testing.T) {
	t.Parallel()
	times, err := Join(3, 3, 1, keys(t, 256))
	if err != nil {
		t.Fatal(err)
	}
	if slices.Max(times).Seconds() > 3 {
		t.Errorf("newcomers among 3 took %v: want 3 s at the most", times)
	}
}
