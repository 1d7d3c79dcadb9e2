//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// seconds is a time in reports.
type seconds float64

// MarshalJSON keeps milliseconds.
func (s seconds) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%.3f", float64(s)), nil }

// A report is what soak.json has. Its exported fields are set by one goroutine at a time; what several add to goes
// by its methods.
type report struct {
	Seed        uint64            `json:"seed"`
	Began       time.Time         `json:"began"`
	Minutes     float64           `json:"minutes"` // of abuse, as planned
	Interrupted bool              `json:"interrupted"`
	Failures    []string          `json:"failures"`
	Idle        []idle            `json:"idle"`
	Connections int               `json:"connections"`
	Messages    uint64            `json:"messages"` // that came back, in order
	Lost        []string          `json:"lost"`     // connections
	Trends      []trend           `json:"trends"`
	Exchanges   []exchange        `json:"exchanges"`
	Loads       map[string]counts `json:"loads"`
	Abuses      []happened        `json:"abuses"`
	Samples     []sample          `json:"samples"`

	plan  plan
	begun time.Time // the abuse
	mu    sync.Mutex
}

// counts are how often something was done, and how often it failed.
type counts struct {
	Done   int    `json:"done"`
	Failed int    `json:"failed"`
	Last   string `json:"last,omitempty"` // failure
}

func newReport(p plan) *report {
	return &report{Seed: p.seed, Began: time.Now().UTC(), Minutes: p.abuse.Minutes(), Loads: make(map[string]counts), plan: p}
}

func (r *report) begin(f *flows) { r.begun, r.Connections = time.Now(), len(f.all) }

func (r *report) fail(format string, args ...any) {
	r.Failures = append(r.Failures, fmt.Sprintf(format, args...))
}

func (r *report) note(h happened) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Abuses = append(r.Abuses, h)
}

func (r *report) count(kind string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.Loads[kind]
	c.Done++
	if err != nil {
		c.Failed++
		c.Last = err.Error()
	}
	r.Loads[kind] = c
}

func (r *report) addSample(s sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Samples = append(r.Samples, s)
}

// failed lists everything that is not as it must be.
func (r *report) failed() []string {
	failed := slices.Clone(r.Failures)
	for _, i := range r.Idle {
		if r.plan.idle >= time.Minute && (i.Processor > idleProcessor || i.Resident > idleResident) {
			failed = append(failed, fmt.Sprintf("%s is idle at %.2f %% of a core and %.1f MB", i.Node, 100*i.Processor, i.Resident/1e6))
		}
	}
	for _, l := range r.Lost {
		failed = append(failed, "connection lost: "+l)
	}
	for _, t := range r.Trends {
		if t.grows() {
			failed = append(failed, fmt.Sprintf("%s of %s grow: %.1f in the first quarter, %.1f in the last, more than %.1f", t.What, t.Node, t.First, t.Last, t.Bound))
		}
	}
	for _, e := range r.Exchanges {
		if err := e.wrong(); err != nil {
			failed = append(failed, err.Error())
		}
	}
	return failed
}

// line is one of progress.
func (r *report) line(f *flows) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := make(map[string]sample)
	for _, s := range r.Samples {
		last[s.Node] = s
	}
	var g, d, m []string
	for _, name := range slices.Sorted(maps.Keys(last)) {
		s := last[name]
		g, d, m = append(g, fmt.Sprint(s.Goroutines)), append(d, fmt.Sprint(s.Descriptors)), append(m, fmt.Sprintf("%.1f", s.Resident/1e6))
	}
	present := "-"
	if n := len(r.Abuses); n > 0 {
		a := r.Abuses[n-1]
		present = fmt.Sprintf("%s on %s", a.Kind, a.Node)
	}
	return fmt.Sprintf("%6s  %d abuses, the last %s; %d messages on %d connections, %d lost; goroutines %s, descriptors %s, MB %s",
		time.Since(r.begun).Round(time.Second), len(r.Abuses), present, f.messages(), len(f.all), len(f.lost()),
		strings.Join(g, "/"), strings.Join(d, "/"), strings.Join(m, "/"))
}

func (r *report) write(path string) error {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// print shows the report. Who reads it may have gone: write errors change nothing.
func (r *report) print(w io.Writer) {
	show := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	show("\n")
	for _, i := range r.Idle {
		show("idle       %-6s  %5.2f %% of a core  %5.1f MB\n", i.Node, 100*i.Processor, i.Resident/1e6)
	}
	for _, kind := range r.kinds() {
		show("%s\n", kind)
	}
	for _, kind := range slices.Sorted(maps.Keys(r.Loads)) {
		c := r.Loads[kind]
		show("%-24s %5d times, %d failed\n", kind, c.Done, c.Failed)
	}
	if len(r.Trends) > 0 {
		show("\n%-12s %-6s %8s %14s %13s %9s %12s\n", "", "", "start", "first quarter", "last quarter", "bound", "slope/hour")
	}
	for _, t := range r.Trends {
		show("%-12s %-6s %8.1f %14.1f %13.1f %9.1f %+12.1f\n", t.What, t.Node, t.Start, t.First, t.Last, t.Bound, t.Slope)
	}
	show("\n%d connections, %d messages came back in order, %d lost\n", r.Connections, r.Messages, len(r.Lost))
	for _, e := range r.Exchanges {
		show("%s to %s: sent %d = TUN %d + egress %d; forwarded %d = ingress %d + overflow %d + underlay %d\n",
			e.From, e.To, e.Sent, e.TUN, e.Egress, e.Forwarded, e.Ingress, e.Overflow, e.Underlay)
	}
	for _, failure := range r.failed() {
		show("FAILED: %s\n", failure)
	}
	if len(r.failed()) == 0 && !r.Interrupted {
		show("nothing leaks, no connection was lost, and every packet is accounted for\n")
	}
}

// kinds has a line for each kind of abuse.
func (r *report) kinds() (lines []string) {
	type worst struct {
		n          int
		whole, gap seconds
	}
	all := make(map[string]worst)
	for _, a := range r.Abuses {
		k := all[a.Kind]
		all[a.Kind] = worst{k.n + 1, max(k.whole, a.Whole), max(k.gap, a.Gap)}
	}
	for _, kind := range slices.Sorted(maps.Keys(all)) {
		k := all[kind]
		lines = append(lines, fmt.Sprintf("%-24s %5d times, whole again within %4.1f s, longest time without an echo %5.2f s", kind, k.n, k.whole, k.gap))
	}
	return lines
}
