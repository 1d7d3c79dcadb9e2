//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/bench/report"
)

func names(p plan) (scenarios, subjects []string) {
	for _, s := range p.scenarios {
		scenarios = append(scenarios, s.name)
	}
	for _, s := range p.subjects {
		subjects = append(subjects, s.name)
	}
	return scenarios, subjects
}

func TestNewPlan(t *testing.T) {
	p, err := newPlan(options{})
	scenarios, subjects := names(p)
	if err != nil || p.rounds != 5 || !slices.Equal(scenarios, defaultScenarios) ||
		!slices.Equal(subjects, []string{"raw", "raw-1444", "kernel-vxlan", "kernel-vxlan-bridge", "weft-udp", "weft-vxlan", "weft-direct", "weft-portable", "weft-segment",
			"wireguard-go"}) {
		t.Errorf("default plan: %v, %v, %v, %v", p.rounds, scenarios, subjects, err)
	}
	p, err = newPlan(options{scenarios: "tcp-4-9000, rr", subjects: "weft-udp,kernel-vxlan", rounds: 7, quick: true})
	scenarios, subjects = names(p)
	if err != nil || p.rounds != 7 || !slices.Equal(scenarios, []string{"rr", "tcp-4-9000"}) || !slices.Equal(subjects, []string{"kernel-vxlan", "weft-udp"}) {
		t.Errorf("narrowed plan: %v, %v, %v, %v", p.rounds, scenarios, subjects, err)
	}
	if jumbo := p.scenarios[1]; jumbo.mtu != 9000 || p.scenarios[0].mtu != 1500 {
		t.Errorf("MTUs: %d, %d", p.scenarios[0].mtu, jumbo.mtu)
	}
	// What is compared with IPv4 comes right after it, and has no variant of jumbo frames.
	p, err = newPlan(options{scenarios: "all", subjects: "all"})
	scenarios, _ = names(p)
	if err != nil || !slices.Equal(scenarios[:4], []string{"tcp-1", "tcp-1-v6", "tcp-4", "tcp-4-v6"}) || slices.Contains(scenarios, "tcp-1-v6-9000") {
		t.Errorf("all scenarios: %v, %v", scenarios, err)
	}
	for _, s := range p.scenarios {
		if s.ipv6 != strings.HasSuffix(s.name, ipv6Suffix) {
			t.Errorf("%s: IPv6 %v", s.name, s.ipv6)
		}
	}
	p, err = newPlan(options{quick: true})
	var takes time.Duration
	for _, s := range p.steps() {
		takes += s.takes()
	}
	if err != nil || takes > 2*time.Minute {
		t.Errorf("the quick plan takes %s, %v", takes, err)
	}
	for _, bad := range []struct {
		options
		want string
	}{
		{options{scenarios: "tcp1", subjects: "all"}, `no scenario "tcp1"; did you mean "tcp-1"? Known are: tcp-1, tcp-1-v6, `},
		{options{subjects: "kernel_vxlan"}, `no subject "kernel_vxlan"; did you mean "kernel-vxlan"?`},
		{options{subjects: ","}, "no subject is named"},
		{options{subjects: "all", rounds: -1}, "negative"},
	} {
		if _, err := newPlan(bad.options); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("newPlan(%+v) = %v, want %s", bad.options, err, bad.want)
		}
	}
}

func TestStepsTakeTurns(t *testing.T) {
	p, err := newPlan(options{scenarios: "tcp-1,rr,route-lookup", subjects: "kernel-vxlan,weft-udp", rounds: 2})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range p.steps() {
		got = append(got, fmt.Sprint(s.round, s.scenario.name, " ", s.subject.name))
	}
	var want []string
	for round := 1; round <= 2; round++ {
		for _, rest := range []string{"tcp-1 kernel-vxlan", "tcp-1 weft-udp", "rr kernel-vxlan", "rr weft-udp", "route-lookup in-process"} {
			want = append(want, fmt.Sprint(round, rest))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("steps = %q, want %q", got, want)
	}
	scenarios, subjects := p.headings()
	if len(scenarios) != 3 || len(subjects) != 3 || scenarios[0].MTU != 1500 {
		t.Errorf("headings: %v, %v", scenarios, subjects)
	}
}

func TestCheckNamesWhatIsMissing(t *testing.T) {
	empty := t.TempDir()
	p := plan{scenarios: []scenario{{tools: []tool{{"no-such-program", "its-package"}}}}}
	if err := p.check(empty); err == nil || !strings.Contains(err.Error(), "apt-get install its-package") {
		t.Errorf("check = %v", err)
	}
	p = plan{scenarios: []scenario{{}}, subjects: []subject{{binaries: []string{"weftd"}}}}
	if err := p.check(empty); err == nil || !strings.Contains(err.Error(), filepath.Join(empty, "weftd")+" is missing") {
		t.Errorf("check = %v", err)
	}
}

func TestProgress(t *testing.T) {
	now := time.Unix(0, 0)
	steps := []step{
		{1, scenario{name: "tcp-1", takes: 8500 * time.Millisecond}, subject{name: "raw"}},
		{1, scenario{name: "rr", takes: 8500 * time.Millisecond}, subject{name: "raw"}},
	}
	show := func(terminal bool) string {
		var out bytes.Buffer
		p := &progress{out: &out, terminal: terminal, now: func() time.Time { return now }}
		p.start(steps)
		p.begin(steps[0])
		now = now.Add(20 * time.Second) // twice as long as planned
		p.finish(steps[0], []report.Sample{{Metric: "gbps", Unit: "Gb/s", Value: 8.5}}, nil)
		p.begin(steps[1])
		p.retry(steps[1], errors.New("stuck"))
		p.finish(steps[1], nil, errors.New("stuck\nagain"))
		p.end()
		return out.String()
	}
	const lines = "2 measurements, about 20s\n" +
		"[1/2] round 1  tcp-1  raw  gbps 8.5 Gb/s, about 20s left\n" +
		"[2/2] round 1  rr  raw  once more, after: stuck\n" +
		"[2/2] round 1  rr  raw  failed: stuck again\n"
	if got := show(false); got != lines {
		t.Errorf("not on a terminal:\n%s", got)
	}
	// On a terminal the line of a step is gone when the next one comes, except for what went wrong.
	var left []string
	for line := range strings.Lines(show(true)) {
		parts := strings.Split(line, "\r\x1b[K")
		left = append(left, parts[len(parts)-1])
	}
	want := []string{
		"2 measurements, about 20s\n",
		"[2/2] round 1  rr  raw  once more, after: stuck\n",
		"[2/2] round 1  rr  raw  failed: stuck again\n",
		"",
	}
	if !slices.Equal(left, want) {
		t.Errorf("on a terminal stays %q, want %q", left, want)
	}
}

func TestOutcome(t *testing.T) {
	r := &report.Report{}
	if err := outcome(r); err != nil {
		t.Error(err)
	}
	r.Fail("tcp-1", "raw", 1, errors.New("stuck"))
	if err := outcome(r); err == nil || err.Error() != "1 measurement failed" {
		t.Errorf("outcome = %v", err)
	}
	if err := outcome(&report.Report{Interrupted: true}); err == nil {
		t.Error("an interrupted run is no success")
	}
}
