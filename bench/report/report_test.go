package report

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
)

// sample is a report with a failure, a subject without a metric, a zero and hostile text.
func sample() *Report {
	r := &Report{
		Env:    Env{Kernel: "6.18", CPU: "<b>fast & cheap</b>", CPUs: 2, Tools: map[string]string{"iperf3": "3.12"}},
		Rounds: 3,
		Scenarios: []Heading{
			{Name: "tcp-1", About: "TCP, one stream", MTU: 1500}, {Name: "udp-64", About: "UDP", MTU: 1500},
			{Name: "rr", About: "ping-pong", MTU: 1500}, {Name: "crr", About: "connections", MTU: 1500}, {Name: "tcp-4", About: "never ran", MTU: 1500},
		},
		Subjects: []Heading{{Name: "raw", About: "the limit"}, {Name: Baseline}, {Name: Own}, {Name: Rival}},
	}
	for _, gbps := range []float64{3, 1, 2} {
		r.Add("tcp-1", Own, []Sample{{"gbps", "Gb/s", 4 * gbps}, {"cpu-user", "s/GB", 0.5}})
		r.Add("tcp-1", Baseline, []Sample{{"gbps", "Gb/s", 5 * gbps}})
		r.Add("tcp-1", Rival, []Sample{{"gbps", "Gb/s", gbps}})
	}
	r.Add("udp-64", Own, []Sample{{"pps@200k", "packets/s", 200e3}, {"loss@200k", "%", 0}, {"pps@max", "packets/s", 150e3}, {"offered@max", "packets/s", 400e3}})
	r.Add("udp-64", Baseline, []Sample{{"pps@200k", "packets/s", 200e3}, {"pps@max", "packets/s", 300e3}})
	r.Add("rr", Own, []Sample{{"p50", "us", 26}, {"p99", "us", 54}})
	r.Add("rr", Baseline, []Sample{{"p50", "us", 20}, {"p99", "us", 50}})
	r.Fail("tcp-1", "raw", 1, errors.New("no <route>"))
	r.Fail("tcp-1", Rival, 2, errors.New("stuck"))
	r.Fail("crr", Own, 1, errors.New("stuck"))
	return r
}

func TestMedianEqualsSlowTwin(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		values := make([]float64, 1+random.IntN(9))
		for i := range values {
			values[i] = float64(random.IntN(5))
		}
		given := slices.Clone(values)
		got := Median(values)
		if !slices.Equal(values, given) {
			t.Fatal("Median changed its argument")
		}
		sort.Float64s(given)
		want := (given[(len(given)-1)/2] + given[len(given)/2]) / 2
		if got != want {
			t.Fatalf("Median(%v) = %v, want %v", values, got, want)
		}
	}
}

func TestRow(t *testing.T) {
	r := sample()
	row := r.find("tcp-1", Own, "gbps")
	if row.Median != 8 || row.Min != 4 || row.Max != 12 || row.Runs != 3 || row.MTU != 1500 || !slices.Equal(row.Values, []float64{12, 4, 8}) {
		t.Errorf("row = %+v", row)
	}
	if ratio, ok := r.ratio("tcp-1", "gbps", Own, Baseline); !ok || ratio != 0.8 {
		t.Errorf("ratio = %v, %v", ratio, ok)
	}
	for _, subject := range []string{"raw", "nobody"} {
		if _, ok := r.ratio("tcp-1", "gbps", Own, subject); ok {
			t.Errorf("there is a ratio to %s", subject)
		}
	}
	if _, ok := r.ratio("udp-64", "loss@200k", Own, Own); ok {
		t.Error("there is a ratio to 0")
	}
}

func TestGoals(t *testing.T) {
	r := sample()
	var got []string
	for _, g := range r.Goals() {
		got = append(got, g.Name+" "+times(g.Value)+" "+g.Verdict())
	}
	want := []string{
		"TCP, 1 stream, to kernel-vxlan ×0.80 above the floor",
		"TCP, 1 stream, to wireguard-go ×4.00 above the floor",
		"UDP 64, 200k offered, to kernel-vxlan ×1.00 reached",
		"UDP 64, unlimited, to kernel-vxlan ×0.50 missed",
		"UDP 64, unlimited, to own best at any rate ×0.75 missed",
		"Ping-pong p50, to kernel-vxlan ×1.30 reached",
		"Ping-pong p99, to kernel-vxlan ×1.08 reached",
	}
	if !slices.Equal(got, want) {
		t.Errorf("goals:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if goals := new(Report).Goals(); len(goals) != 0 {
		t.Errorf("goals of an empty report: %v", goals)
	}
}

// Goals that are not weft-udp's, or not of one scenario.
func TestGoalsOfOthers(t *testing.T) {
	r := &Report{Scenarios: []Heading{{Name: "tcp-1"}, {Name: "tcp-1-v6"}, {Name: "tcp-4"}}}
	for scenario, gbps := range map[string]map[string]float64{
		"tcp-1":    {Limit: 20, Own: 10, OwnVXLAN: 9, OwnDirect: 19.6, OwnSegment: 6, BridgeBaseline: 15},
		"tcp-1-v6": {Limit: 15, Own: 9.6, OwnVXLAN: 2, OwnDirect: 3},
		"tcp-4":    {Own: 10, OwnVXLAN: 9.6, OwnDirect: 12},
	} {
		for subject, value := range gbps {
			r.Add(scenario, subject, []Sample{{"gbps", "Gb/s", value}})
		}
	}
	var got []string
	for _, g := range r.Goals() {
		got = append(got, g.Name+" "+times(g.Value)+" "+g.Verdict())
	}
	want := []string{
		"TCP, 1 stream, weft-vxlan to weft-udp ×0.90 missed",
		"TCP, 4 streams, weft-vxlan to weft-udp ×0.96 reached",
		"TCP, 1 stream, weft-direct to raw ×0.98 reached",
		"TCP, 1 stream, weft-segment to kernel-vxlan-bridge ×0.40 missed",
		"TCP, 1 stream, IPv6 to IPv4 ×0.96 reached",
	}
	if !slices.Equal(got, want) {
		t.Errorf("goals:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestFigure(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.00012: "0.0001", 0.034: "0.034", 8.519: "8.52", 13.24: "13.2", 350: "350", 4012: "4012", 194600: "194.6k", 1.25e6: "1.25M", -8.5: "-8.50",
	} {
		if got := figure(v); got != want {
			t.Errorf("figure(%v) = %q, want %q", v, got, want)
		}
	}
}

const wantTable = `
tcp-1  TCP, one stream, underlay MTU 1500
               raw  kernel-vxlan     weft-udp            wireguard-go
  gbps      failed          10.0  8.00  ×0.80  2.00  ×0.20 (1 failed)
  Gb/s                 5.00–15.0    4.00–12.0               1.00–3.00
  cpu-user  failed             -        0.500                  failed
  s/GB                            0.500–0.500

udp-64  UDP, underlay MTU 1500
               kernel-vxlan       weft-udp
  pps@200k           200.0k  200.0k  ×1.00
  packets/s
  loss@200k               -              0
  %
  pps@max            300.0k  150.0k  ×0.50
  packets/s
  offered@max             -         400.0k
  packets/s

rr  ping-pong, underlay MTU 1500
       kernel-vxlan     weft-udp
  p50          20.0  26.0  ×1.30
  us
  p99          50.0  54.0  ×1.08
  us

crr  connections, underlay MTU 1500
     weft-udp
  -    failed
`

func TestTable(t *testing.T) {
	r := sample()
	var out strings.Builder
	if err := r.WriteTable(&out, false); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), wantTable) {
		t.Errorf("table:\n%s", out.String())
	}
	for _, part := range []string{"UDP 64, unlimited, to kernel-vxlan          0.50  ≥ 0.85     ≥ 1.20           missed", "wireguard-go: tcp-1 (round 2)\n    stuck"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q is missing in:\n%s", part, out.String())
		}
	}
	var coloured strings.Builder
	if err := r.WriteTable(&coloured, true); err != nil {
		t.Fatal(err)
	}
	if stripped := regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAllString(coloured.String(), ""); stripped != out.String() {
		t.Errorf("without its colours the table is another:\n%s", stripped)
	}
	if coloured.String() == out.String() {
		t.Error("no colour")
	}
	if err := r.WriteTable(fullDisk{}, false); !errors.Is(err, errFull) {
		t.Errorf("WriteTable on a full disk = %v", err)
	}
}

var errFull = errors.New("disk full")

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

func TestJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.json")
	if err := sample().WriteJSON(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// What other programs read, by the names they know.
	var got struct {
		Env struct {
			Kernel, CPU, Commit, Date, Go string
			CPUs                          int
		}
		Rows []struct {
			Scenario, Subject, Metric, Unit string
			Median, Min, Max                float64
			Runs, MTU                       int
			Values                          []float64
		}
		Failures []struct{ Scenario, Subject, Error string }
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	// Ordered by metric, then subject, however they came.
	if row := got.Rows[1]; row.Scenario != "tcp-1" || row.Subject != Own || row.Metric != "gbps" || row.Unit != "Gb/s" ||
		row.Median != 8 || row.Min != 4 || row.Max != 12 || row.Runs != 3 || row.MTU != 1500 || len(row.Values) != 3 {
		t.Errorf("second row = %+v", row)
	}
	if len(got.Rows) != len(sample().Rows) || got.Env.CPUs != 2 || len(got.Failures) != 3 || got.Failures[0].Error != "no <route>" {
		t.Errorf("report = %+v", got)
	}
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) != 1 {
		t.Errorf("files: %v, %v", left, err)
	}
	if err := sample().WriteJSON(filepath.Join(t.TempDir(), "missing", "report.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("WriteJSON into no folder = %v", err)
	}
}

func TestHTML(t *testing.T) {
	for name, r := range map[string]*Report{"sample": sample(), "empty": {}, "one round": oneRound()} {
		path := filepath.Join(t.TempDir(), "report.html")
		if err := r.WriteHTML(path); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		page := string(data)
		if found := regexp.MustCompile(`NaN|Inf|https?://|src=|@import|url\(|ZgotmplZ|<b>fast|no <route>`).FindString(page); found != "" {
			t.Errorf("%s: the page holds %q", name, found)
		}
		for _, element := range []string{"section", "svg", "g", "table", "div", "p", "tr", "td"} {
			opened := len(regexp.MustCompile(`<`+element+`[ >]`).FindAllString(page, -1))
			if closed := strings.Count(page, "</"+element+">"); opened != closed {
				t.Errorf("%s: %d <%s> and %d </%s>", name, opened, element, closed, element)
			}
		}
		if rounds := strings.Count(page, `class="dot"`); name == "sample" && rounds != 3*4 {
			t.Errorf("%d dots, want one for each round of each bar of tcp-1", rounds)
		}
	}
}

func oneRound() *Report {
	r := sample()
	r.Rows, r.Failures, r.Rounds, r.Interrupted = nil, nil, 1, true
	r.Add("tcp-1", "raw", []Sample{{"gbps", "Gb/s", 0}})
	return r
}

// A bar is as long as its value, in terms of the longest.
func TestBarLengths(t *testing.T) {
	c := sample().card(sample().sections()[0]).Charts[0]
	raw, baseline, own := c.Bars[0], c.Bars[1], c.Bars[2]
	if !raw.Failed || raw.Value != "" || own.Class != "own" || own.Ratio != "×0.80" {
		t.Errorf("bars: %+v, %+v", raw, own)
	}
	if got := own.Width / baseline.Width; got < 0.799 || got > 0.801 {
		t.Errorf("the bars of 8 and 10 Gb/s are as %v", got)
	}
	if baseline.MaxX != c.Right || c.BaselineX != c.Left+baseline.Width {
		t.Errorf("chart = %+v", c)
	}
}
