package report

import (
	"bytes"
	_ "embed" // the template
	"fmt"
	"html/template"
)

// Immutable.
//
//go:embed report.html.tmpl
var pageTemplate string

// A page is what the template shows.
type page struct {
	*Report
	Goals  []gauge
	Cards  []card
	Legend []legendEntry
}

// A card is one scenario: charts of what it is about, and all figures below.
type card struct {
	Heading
	Charts []chart
	Table  [][]htmlCell
	Head   []string
}

type htmlCell struct {
	Main, Below string
	Class       string
}

type legendEntry struct {
	Name, About string
	Class       string
}

// WriteHTML writes a page that needs no other file and no network, whole or not at all.
func (r *Report) WriteHTML(path string) error {
	t, err := template.New("report").Parse(pageTemplate)
	if err != nil {
		return fmt.Errorf("read the template of the report: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, r.page()); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return writeFile(path, out.Bytes())
}

func (r *Report) page() page {
	p := page{Report: r}
	for _, g := range r.Goals() {
		p.Goals = append(p.Goals, newGauge(g))
	}
	for _, s := range r.sections() {
		p.Cards = append(p.Cards, r.card(s))
	}
	for _, s := range r.Subjects {
		p.Legend = append(p.Legend, legendEntry{Name: s.Name, About: s.About, Class: r.class(s.Name)})
	}
	return p
}

func (r *Report) card(s section) card {
	c := card{Heading: s.Heading, Head: s.subjects}
	for _, m := range s.metrics {
		if (Row{Metric: m.name, Unit: m.unit}).isCompared() {
			c.Charts = append(c.Charts, r.chart(s, m))
		}
		line := []htmlCell{{Main: m.name, Below: m.unit}}
		for _, subject := range s.subjects {
			line = append(line, r.htmlCell(s.Name, m.name, subject))
		}
		c.Table = append(c.Table, line)
	}
	return c
}

func (r *Report) htmlCell(scenario, metric, subject string) htmlCell {
	shown := r.cell(scenario, metric, subject)
	return htmlCell{Main: shown.main, Below: shown.below, Class: map[string]string{
		red: "failed", yellow: "partly", dim: "absent",
	}[shown.style]}
}

// class gives every subject its colour, the same in all charts. The subjects that weft is
// compared with are named, so that they look the same in every report.
func (r *Report) class(subject string) string {
	switch subject {
	case Own:
		return "own"
	case Baseline:
		return "baseline"
	case Rival:
		return "rival"
	}
	const others = 4 // colours that the template has for them
	n := 0
	for _, s := range r.Subjects {
		if s.Name == subject {
			break
		}
		if s.Name != Own && s.Name != Baseline && s.Name != Rival {
			n++
		}
	}
	return fmt.Sprintf("other%d", n%others)
}
