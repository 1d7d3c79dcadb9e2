// Package report keeps what a run of the benchmarks has measured, and shows it: as a table
// for a terminal, as JSON for programs and as a page with charts.
package report

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
)

// Names that the comparisons of a report refer to.
const (
	Baseline       = "kernel-vxlan"
	BridgeBaseline = "kernel-vxlan-bridge"
	Rival          = "wireguard-go"
	Limit          = "raw"
	Own            = "weft-udp"
	OwnVXLAN       = "weft-vxlan"
	OwnDirect      = "weft-direct"
	OwnSegment     = "weft-segment"
)

// A Report is one run. It is not safe for concurrent use.
type Report struct {
	Env       Env       `json:"env"`
	Rounds    int       `json:"rounds"` // that were asked for
	Scenarios []Heading `json:"scenarios"`
	Subjects  []Heading `json:"subjects"`
	// Rows are in the order of scenarios, then metrics, then subjects, as they were first seen.
	Rows     []Row     `json:"rows"`
	Failures []Failure `json:"failures"`
	// Interrupted says that the run was ended before its last round.
	Interrupted bool `json:"interrupted"`
}

// Env is what the figures depend on.
type Env struct {
	Kernel     string            `json:"kernel"`
	CPU        string            `json:"cpu"`
	CPUs       int               `json:"cpus"`
	MemoryGB   float64           `json:"memory_gb"`
	Commit     string            `json:"commit"`
	Date       string            `json:"date"` // RFC 3339
	Go         string            `json:"go"`
	Congestion string            `json:"tcp_congestion_control"`
	Load       float64           `json:"load"` // average of the minute before the run
	Tools      map[string]string `json:"tools"`
}

// A Heading names a scenario or a subject and says what it is.
type Heading struct {
	Name  string `json:"name"`
	About string `json:"about"`
	MTU   int    `json:"mtu,omitempty"` // of the underlay, where there is one
}

// A Sample is what one measurement says about one metric.
type Sample struct {
	Metric string // "gbps", "pps@200k"
	Unit   string // "Gb/s"
	Value  float64
}

// A Row is one metric of one subject in one scenario, over all rounds.
type Row struct {
	Scenario string    `json:"scenario"`
	Subject  string    `json:"subject"`
	Metric   string    `json:"metric"`
	Unit     string    `json:"unit"`
	Median   float64   `json:"median"`
	Min      float64   `json:"min"`
	Max      float64   `json:"max"`
	Runs     int       `json:"runs"`
	MTU      int       `json:"mtu,omitempty"` // of the underlay
	Values   []float64 `json:"values"`        // one for each round that succeeded, in order
}

// A Failure is a measurement that gave no figures.
type Failure struct {
	Scenario string `json:"scenario"`
	Subject  string `json:"subject"`
	Round    int    `json:"round"` // from 1
	Error    string `json:"error"`
}

// Add enters the samples of one measurement. The scenario must be one of r.Scenarios.
func (r *Report) Add(scenario, subject string, samples []Sample) {
	for _, s := range samples {
		row := r.find(scenario, subject, s.Metric)
		if row == nil {
			r.Rows = append(r.Rows, Row{
				Scenario: scenario, Subject: subject, Metric: s.Metric, Unit: s.Unit, MTU: r.scenario(scenario).MTU,
			})
			row = &r.Rows[len(r.Rows)-1]
		}
		row.Values = append(row.Values, s.Value)
		row.Runs = len(row.Values)
		row.Median, row.Min, row.Max = Median(row.Values), slices.Min(row.Values), slices.Max(row.Values)
	}
}

// Fail enters a measurement that gave no figures.
func (r *Report) Fail(scenario, subject string, round int, err error) {
	r.Failures = append(r.Failures, Failure{Scenario: scenario, Subject: subject, Round: round, Error: err.Error()})
}

func (r *Report) find(scenario, subject, metric string) *Row {
	for i := range r.Rows {
		if row := &r.Rows[i]; row.Scenario == scenario && row.Subject == subject && row.Metric == metric {
			return row
		}
	}
	return nil
}

func (r *Report) scenario(name string) Heading {
	for _, h := range r.Scenarios {
		if h.Name == name {
			return h
		}
	}
	return Heading{Name: name}
}

// Median returns the middle of values, or the mean of the two in the middle. Values must not
// be empty, and stay as they are.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// ratio returns the median of a metric of one subject in terms of that of another. ok is false
// if one of them was not measured, or the other's is 0.
func (r *Report) ratio(scenario, metric, subject, other string) (ratio float64, ok bool) {
	return quotient(r.find(scenario, subject, metric), r.find(scenario, other, metric))
}

// quotient divides medians. Either row may be nil.
func quotient(a, b *Row) (value float64, ok bool) {
	if a == nil || b == nil || b.Median == 0 {
		return 0, false
	}
	return a.Median / b.Median, true
}

// WriteJSON writes the report to a file, whole or not at all.
func (r *Report) WriteJSON(path string) error {
	// A reader wants an empty list where there is none.
	whole := *r
	whole.Rows = slices.Concat([]Row{}, r.ordered())
	whole.Failures = slices.Concat([]Failure{}, r.Failures)
	data, err := json.MarshalIndent(&whole, "", "  ")
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return writeFile(path, append(data, '\n'))
}

// writeFile replaces a file in one step, so that a run that is killed leaves the last whole one.
func writeFile(path string, data []byte) error {
	draft := path + ".draft"
	if err := os.WriteFile(draft, data, 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := os.Rename(draft, path); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// ordered returns the rows in the order that Rows documents.
func (r *Report) ordered() []Row {
	var rows []Row
	for _, s := range r.sections() {
		for _, metric := range s.metrics {
			for _, subject := range s.subjects {
				if row := r.find(s.Name, subject, metric.name); row != nil {
					rows = append(rows, *row)
				}
			}
		}
	}
	return rows
}

// A section is one scenario of the report with what there is to show.
type section struct {
	Heading
	metrics  []metric
	subjects []string
}

type metric struct{ name, unit string }

// sections returns the scenarios for which there are figures or failures.
func (r *Report) sections() []section {
	var sections []section
	for _, h := range r.Scenarios {
		s := section{Heading: h}
		seen := make(map[string]bool)
		for _, row := range r.Rows {
			if m := (metric{row.Metric, row.Unit}); row.Scenario == h.Name && !slices.Contains(s.metrics, m) {
				s.metrics = append(s.metrics, m)
			}
			seen[row.Subject] = seen[row.Subject] || row.Scenario == h.Name
		}
		for _, f := range r.Failures {
			seen[f.Subject] = seen[f.Subject] || f.Scenario == h.Name
		}
		for _, subject := range r.Subjects {
			if seen[subject.Name] {
				s.subjects = append(s.subjects, subject.Name)
			}
		}
		if len(s.subjects) > 0 {
			sections = append(sections, s)
		}
	}
	return sections
}

// failed says how many measurements of a scenario gave no figures for a subject.
func (r *Report) failed(scenario, subject string) int {
	n := 0
	for _, f := range r.Failures {
		if f.Scenario == scenario && f.Subject == subject {
			n++
		}
	}
	return n
}
