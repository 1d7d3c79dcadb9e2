package report

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// A cell is text in two lines and how it is set.
type cell struct {
	main, below string
	style       string
}

const (
	plain  = ""
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
)

// WriteTable writes one block for each scenario, a row for each metric and a column for each
// subject: the median and its ratio to the baseline, and below them the least and greatest
// value. The goals come last. Colour is that of ANSI terminals.
func (r *Report) WriteTable(out io.Writer, colour bool) error {
	w := &tableWriter{out: out, colour: colour}
	for _, s := range r.sections() {
		w.section(r, s)
	}
	w.goals(r.Goals())
	w.failures(r.Failures)
	if r.Interrupted {
		w.printf("\nThe run was interrupted; these are the rounds it finished.\n")
	}
	return w.err
}

type tableWriter struct {
	out    io.Writer
	colour bool
	err    error // the first
}

func (w *tableWriter) printf(format string, args ...any) {
	if w.err == nil {
		_, w.err = fmt.Fprintf(w.out, format, args...)
	}
}

func (w *tableWriter) paint(style, text string) string {
	if !w.colour || style == plain || text == "" {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

func (w *tableWriter) section(r *Report, s section) {
	title := s.About
	if s.MTU != 0 {
		title += fmt.Sprintf(", underlay MTU %d", s.MTU)
	}
	w.printf("\n%s  %s\n", w.paint(bold, s.Name), title)
	grid := [][]cell{{{}}}
	for _, subject := range s.subjects {
		grid[0] = append(grid[0], cell{main: subject, style: dim})
	}
	metrics := s.metrics
	if len(metrics) == 0 { // every measurement failed
		metrics = []metric{{name: "-"}}
	}
	for _, m := range metrics {
		row := []cell{{main: m.name, below: m.unit}}
		for _, subject := range s.subjects {
			row = append(row, r.cell(s.Name, m.name, subject))
		}
		grid = append(grid, row)
	}
	w.grid(grid)
}

// cell shows a median. A ratio of the baseline to itself says nothing.
func (r *Report) cell(scenario, metric, subject string) cell {
	row := r.find(scenario, subject, metric)
	failed := r.failed(scenario, subject)
	if row == nil && failed > 0 {
		return cell{main: "failed", style: red}
	}
	if row == nil {
		return cell{main: "-", style: dim}
	}
	c := cell{main: figure(row.Median), below: row.spread()}
	if ratio, ok := r.ratio(scenario, metric, subject, Baseline); ok && subject != Baseline && row.isCompared() {
		c.main += "  " + times(ratio)
	}
	if subject == Own {
		c.style = bold
	}
	if failed > 0 {
		c.main += fmt.Sprintf(" (%d failed)", failed)
		c.style = yellow
	}
	return c
}

// grid sets cells in columns as wide as their widest: the first from the left, the others
// from the right.
func (w *tableWriter) grid(rows [][]cell) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.main), utf8.RuneCountInString(c.below))
		}
	}
	for _, row := range rows {
		var main, below strings.Builder
		for i, c := range row {
			main.WriteString(w.padded(c.main, c.style, widths[i], i == 0))
			below.WriteString(w.padded(c.below, dim, widths[i], i == 0))
		}
		w.printf("%s\n", strings.TrimRight(main.String(), " "))
		if text := strings.TrimRight(below.String(), " "); text != "" {
			w.printf("%s\n", text)
		}
	}
}

func (w *tableWriter) padded(text, style string, width int, left bool) string {
	const gap = "  "
	space := strings.Repeat(" ", width-utf8.RuneCountInString(text))
	if left {
		return gap + w.paint(style, text) + space
	}
	return gap + space + w.paint(style, text)
}

func (w *tableWriter) goals(goals []Goal) {
	if len(goals) == 0 {
		return
	}
	w.printf("\n%s  medians as ratios, of %s where no other is named\n", w.paint(bold, "goals"), Own)
	grid := [][]cell{{{}, {main: "is", style: dim}, {main: "wanted", style: dim}, {main: "hoped for", style: dim}, {}}}
	for _, g := range goals {
		sign := "≥"
		if g.AtMost {
			sign = "≤"
		}
		target := ""
		if g.Target != 0 {
			target = fmt.Sprintf("%s %.2f", sign, g.Target)
		}
		grid = append(grid, []cell{
			{main: g.Name},
			{main: fmt.Sprintf("%.2f", g.Value), style: bold},
			{main: fmt.Sprintf("%s %.2f", sign, g.Floor)},
			{main: target},
			{main: g.Verdict(), style: map[string]string{reached: green, aboveFloor: yellow, missed: red}[g.Verdict()]},
		})
	}
	w.grid(grid)
}

// failures shows every error once, with what it hit.
func (w *tableWriter) failures(failures []Failure) {
	type cause struct{ subject, err string }
	hit := make(map[cause][]string)
	var causes []cause
	for _, f := range failures {
		c := cause{f.Subject, f.Error}
		if hit[c] == nil {
			causes = append(causes, c)
		}
		hit[c] = append(hit[c], fmt.Sprintf("%s (round %d)", f.Scenario, f.Round))
	}
	if len(causes) > 0 {
		w.printf("\n%s\n", w.paint(bold, "failed measurements"))
	}
	for _, c := range causes {
		w.printf("  %s: %s\n    %s\n", w.paint(red, c.subject), strings.Join(hit[c], ", "), c.err)
	}
}
