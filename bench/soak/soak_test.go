//go:build linux

package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func series(node string, n int, resident func(i int) float64) (all []sample) {
	for i := range n {
		all = append(all, sample{At: seconds(10 * i), Node: node, Goroutines: 40, Descriptors: 30, Resident: resident(i)})
	}
	return all
}

func TestTrends(t *testing.T) {
	samples := series("node1", 360, func(int) float64 { return 30e6 })
	samples = append(samples, series("node2", 360, func(i int) float64 { return 30e6 + 50e3*float64(i) })...)
	samples = append(samples, series("node3", fewest-1, func(int) float64 { return 0 })...)
	var grown []string
	for _, trend := range trends(samples) {
		if trend.grows() {
			grown = append(grown, fmt.Sprintf("%s %s %.0f an hour", trend.Node, trend.What, trend.Slope))
		}
	}
	if diff := cmp.Diff([]string{"node2 memory, MB 18 an hour"}, grown); diff != "" {
		t.Errorf("what grows (-want +got):\n%s", diff)
	}
}

func TestSlope(t *testing.T) {
	if got := slope([]float64{0, 1, 2}, []float64{1, 3, 5}); got != 2 {
		t.Errorf("slope = %v", got)
	}
	if got := slope([]float64{1, 1}, []float64{1, 3}); got != 0 {
		t.Errorf("slope of a vertical line = %v", got)
	}
}

func TestMedian(t *testing.T) {
	for want, values := range map[float64][]float64{2: {3, 1, 2}, 2.5: {4, 1, 2, 3}, 7: {7}} {
		if got := median(values); got != want {
			t.Errorf("median of %v = %v", values, got)
		}
	}
}

func TestExchange(t *testing.T) {
	good := exchange{From: "a", To: "b", Sent: 10, TUN: 1, Egress: 9, Forwarded: 9, Overflow: 2, Ingress: 7}
	if err := good.wrong(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*exchange){
		"lost before weftd":       func(e *exchange) { e.Egress, e.Forwarded, e.Ingress = 8, 8, 6 },
		"lost between the nodes":  func(e *exchange) { e.Ingress-- },
		"more than there was":     func(e *exchange) { e.Ingress++ },
		"more than the links say": func(e *exchange) { e.Underlay = 3 },
	} {
		bad := good
		spoil(&bad)
		if bad.wrong() == nil {
			t.Errorf("%s: nothing is wrong with %+v", name, bad)
		}
	}
}

func TestClosed(t *testing.T) {
	good := accounts{Egress: direction{Received: 3, Forwarded: 1, Drops: map[string]int64{"no-route": 2}}}
	if err := closed(map[string]accounts{"a": good}); err != nil {
		t.Error(err)
	}
	bad := good
	bad.Ingress.Received = 1
	if err := closed(map[string]accounts{"a": good, "b": bad}); err == nil || !strings.Contains(err.Error(), "b ingress: 1 packets") {
		t.Errorf("closed = %v", err)
	}
}

func TestParseMetrics(t *testing.T) {
	const text = "# TYPE go_goroutines gauge\ngo_goroutines 41\nprocess_open_fds 3.9e+01\nweft_peers{state=\"up\"} 2\n"
	got, err := parseMetrics(text, goroutines, descriptors)
	if diff := cmp.Diff(map[string]float64{goroutines: 41, descriptors: 39}, got); err != nil || diff != "" {
		t.Errorf("parseMetrics: %v (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{"", "go_goroutines 41\n", "go_goroutines x\nprocess_open_fds 1\n"} {
		if _, err := parseMetrics(bad, goroutines, descriptors); err == nil {
			t.Errorf("parseMetrics(%q) gave no error", bad)
		}
	}
}

// A report that has nothing to say fails nothing, and one that has says all of it.
func TestReport(t *testing.T) {
	r := newReport(plan{seed: 7})
	if failed := r.failed(); len(failed) > 0 {
		t.Errorf("an empty report fails: %q", failed)
	}
	r.fail("no way back")
	r.Lost = []string{"pod1a to pod2a: ended"}
	r.Trends = []trend{{Node: "node2", What: "goroutines", First: 40, Last: 90, Bound: 54}}
	r.Exchanges = []exchange{{From: "node1", To: "node2", Sent: 1}}
	r.note(happened{Kind: "restart", Node: "node1", Whole: 1, Gap: 2})
	r.note(happened{Kind: "restart", Node: "node3", Whole: 3, Gap: 1})
	var shown bytes.Buffer
	r.print(&shown)
	for _, want := range []string{
		"no way back", "connection lost: pod1a to pod2a: ended", "goroutines of node2 grow", "a pod sent 1 packets, 0 reached weftd",
		"2 times, whole again within  3.0 s, longest time without an echo  2.00 s",
	} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("%q is not in the report:\n%s", want, &shown)
		}
	}
}
