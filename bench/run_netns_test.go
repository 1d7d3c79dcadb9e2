//go:build netns && linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/bench/report"
)

// newTestRunner runs one round of the named scenario over raw and kernel-vxlan for a second.
func newTestRunner(t *testing.T, ctx context.Context, name string) (*runner, *bytes.Buffer) {
	t.Helper()
	l := lengths{tcp: time.Second, udp: time.Second, latency: time.Second, crr: time.Second}
	chosen, err := choose("scenario", name, scenarios(l), func(s scenario) string { return s.name })
	if err != nil {
		t.Fatal(err)
	}
	p := plan{rounds: 1, scenarios: chosen, subjects: []subject{rawSubject("raw", "", ethernetMTU), vxlanSubject()}}
	if err := p.check(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	r := newRunner(ctx, p, t.TempDir(), t.TempDir())
	var out bytes.Buffer
	r.shown = &progress{out: &out, now: time.Now}
	return r, &out
}

func TestRun(t *testing.T) {
	for _, scenario := range []string{"tcp-1", "tcp-1-v6"} {
		t.Run(scenario, func(t *testing.T) { testRun(t, scenario) })
	}
}

func testRun(t *testing.T, scenario string) {
	r, out := newTestRunner(t, t.Context(), scenario)
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(r.out, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got report.Report
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Failures) != 0 || got.Interrupted {
		t.Fatalf("failures: %+v", got.Failures)
	}
	rows := make(map[string]report.Row)
	for _, row := range got.Rows {
		rows[row.Subject+" "+row.Metric] = row
	}
	for _, subject := range []string{"raw", "kernel-vxlan"} {
		row := rows[subject+" gbps"]
		if row.Scenario != scenario || row.Unit != "Gb/s" || !(row.Median > 0) || row.Runs != 1 || row.MTU != 1500 || len(row.Values) != 1 {
			t.Errorf("%s gbps: %+v", subject, row)
		}
		if cost := rows[subject+" cpu-machine"]; !(cost.Median > 0) {
			t.Errorf("%s cpu-machine: %+v", subject, cost)
		}
	}
	if e := got.Env; e.Kernel == "" || e.CPUs < 1 || e.Tools["iperf3"] == "" || e.Congestion == "" {
		t.Errorf("env = %+v", e)
	}
	if page, err := os.ReadFile(filepath.Join(r.out, "report.html")); err != nil || !bytes.Contains(page, []byte("<svg")) {
		t.Errorf("report.html: %v", err)
	}
	if n := strings.Count(out.String(), scenario+"  "); n != 2 {
		t.Errorf("progress:\n%s", out)
	}
}

// Where IPv6 is asked for, all of the traffic is.
func TestIPv6IsMeasured(t *testing.T) {
	n := newTestNetwork(t, true)
	if err := rawSubject("raw", "", ethernetMTU).join(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if err := n.server.DropAddresses(podNetworks[0]); err != nil {
		t.Fatal(err)
	}
	if err := n.reach(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := n.iperf(t.Context(), time.Second, "--time", "1"); err != nil {
		t.Error(err)
	}
}

// A subject that cannot be brought up is tried twice, reported, and does not end the run.
func TestRunGoesOnAfterFailure(t *testing.T) {
	r, out := newTestRunner(t, t.Context(), "crr")
	tried := 0
	r.plan.subjects[0] = subject{name: "broken", join: func(_ context.Context, n *network) (err error) {
		tried++
		n.client.daemon, err = n.client.Start("sh", "-c", "echo its last words; exit 1")
		return err
	}}
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(r.report.Failures) != 1 || !strings.Contains(r.report.Failures[0].Error, "its last words") || tried != 2 {
		t.Errorf("tried %d times, failures: %+v", tried, r.report.Failures)
	}
	if len(r.report.Rows) != 1 || r.report.Rows[0].Subject != "kernel-vxlan" {
		t.Errorf("rows: %+v\n%s", r.report.Rows, out)
	}
}

// What a run has measured by the time it is interrupted is not lost.
func TestInterruptedRunIsWritten(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := newTestRunner(t, ctx, "crr")
	r.plan.subjects[1].join = func(ctx context.Context, _ *network) error {
		cancel()
		return ctx.Err()
	}
	if err := r.run(ctx); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(r.out, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got report.Report
	if err := json.Unmarshal(data, &got); err != nil || !got.Interrupted || len(got.Rows) != 1 || len(got.Failures) != 0 {
		t.Errorf("report: %+v, %v", got, err)
	}
	if err := outcome(r.report); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("outcome = %v", err)
	}
}
