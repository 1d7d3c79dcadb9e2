//go:build scale

package gossip

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// quiet is for how long each cluster's silence is listened to.
const quiet = 3 * time.Minute

// out is beside the other benchmarks' results.
const out = "../../bench/out"

// TestScale measures clusters of several sizes, real memberlist over a network in memory, in
// virtual time. What is asserted is that all is right; the figures are printed, and written
// to bench/out. It takes three minutes; a thousand nodes, of which each relays what it hears
// from a thousand, would take half an hour. With -v it says how far it is.
func TestScale(t *testing.T) {
	var all []figures
	for _, n := range []int{3, 30, 100, 300} {
		began := time.Now()
		ok := t.Run(strconv.Itoa(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &herd{t: t, say: func(format string, args ...any) { fmt.Printf(format+"\n", args...) }}
				all = append(all, h.run(n, quiet))
			})
		})
		if !ok {
			break
		}
		fmt.Printf("%d nodes: done in %s\n%s", n, time.Since(began).Round(time.Second), table(all))
		if err := write(all); err != nil {
			t.Fatal(err)
		}
	}
}

// column is one figure of each size.
type column struct {
	name, unit string
	aim        float64 // up to 1,000 nodes; 0 for none
	of         func(figures) float64
}

var columns = []column{
	{"all know all, after the last start", "s", 0, func(f figures) float64 { return f.Converge }},
	{"a newcomer is known to all", "s", 0, func(f figures) float64 { return f.Newcomer }},
	{"a death is known to all", "s", 0, func(f figures) float64 { return f.Death }},
	{"sent by a node in silence", "B/s", 5000, func(f figures) float64 { return f.BytesPerS }},
	{"packets of a node in silence", "1/s", 0, func(f figures) float64 { return f.Packets }},
	{"memory for each peer known", "B", 4000, func(f figures) float64 { return f.PeerMemory }},
	{"the last broadcast is sent, after that", "s", 0, func(f figures) float64 { return f.Drain }},
}

func table(all []figures) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-40s", "nodes")
	for _, f := range all {
		fmt.Fprintf(&b, "%10d", f.Nodes)
	}
	for _, c := range columns {
		fmt.Fprintf(&b, "\n%-40s", c.name+", "+c.unit)
		for _, f := range all {
			fmt.Fprintf(&b, "%10.1f", c.of(f))
		}
	}
	return b.String() + "\n"
}

func write(all []figures) error {
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, "gossip.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "gossip.html"), page(all), 0o644)
}
