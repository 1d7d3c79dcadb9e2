package report

import (
	"fmt"
	"math"
)

// Sizes of charts, in the units of their viewBox.
const (
	chartWidth = 460.0
	labelWidth = 110.0
	valueWidth = 104.0
	plotWidth  = chartWidth - labelWidth - valueWidth
	barHeight  = 16.0
	barPitch   = 24.0
)

// A chart has one horizontal bar for each subject, with the values of all rounds on it.
type chart struct {
	Metric, Unit  string
	LessIsBetter  bool
	Width, Height float64
	Left, Right   float64 // of the plot
	Bars          []bar
	BaselineX     float64 // of the line at the baseline's median; 0 for none
}

// A bar is one subject. Its texts stand on the line Text.
type bar struct {
	Subject, Class    string
	Y, Middle, Text   float64
	Width             float64
	Height            float64
	MinX, MaxX        float64
	Dots              []float64
	Value, Ratio, Tip string
	Failed, HasSpread bool
	LabelX            float64
}

func (r *Report) chart(s section, m metric) chart {
	c := chart{
		Metric: m.name, Unit: m.unit, LessIsBetter: lessIsBetter(m.unit),
		Width: chartWidth, Height: barPitch * float64(len(s.subjects)),
		Left: labelWidth, Right: labelWidth + plotWidth,
	}
	largest := 0.0
	for _, subject := range s.subjects {
		if row := r.find(s.Name, subject, m.name); row != nil {
			largest = max(largest, row.Max)
		}
	}
	x := scale(largest)
	for i, subject := range s.subjects {
		c.Bars = append(c.Bars, r.bar(s.Name, m.name, subject, barPitch*float64(i), x))
	}
	if row := r.find(s.Name, Baseline, m.name); row != nil && len(s.subjects) > 1 {
		c.BaselineX = x(row.Median)
	}
	return c
}

// scale maps a value to a place in the plot, which begins at 0: lengths can be compared.
func scale(largest float64) func(float64) float64 {
	if !(largest > 0) || math.IsInf(largest, 0) {
		return func(float64) float64 { return labelWidth }
	}
	return func(v float64) float64 { return labelWidth + plotWidth*v/largest }
}

func (r *Report) bar(scenario, metric, subject string, y float64, x func(float64) float64) bar {
	b := bar{
		Subject: subject, Class: r.class(subject),
		Y: y + (barPitch-barHeight)/2, Middle: y + barPitch/2, Text: y + barPitch/2 + 4, Height: barHeight,
		LabelX: labelWidth - 8,
	}
	row := r.find(scenario, subject, metric)
	if row == nil {
		b.Failed = r.failed(scenario, subject) > 0
		return b
	}
	b.Width = x(row.Median) - labelWidth
	b.MinX, b.MaxX, b.HasSpread = x(row.Min), x(row.Max), row.Runs > 1
	for _, v := range row.Values {
		b.Dots = append(b.Dots, x(v))
	}
	b.Value = figure(row.Median)
	if ratio, ok := r.ratio(scenario, metric, subject, Baseline); ok && subject != Baseline {
		b.Ratio = times(ratio)
	}
	b.Tip = fmt.Sprintf("%s: median %s %s of %d, %s to %s", subject, figure(row.Median), row.Unit, row.Runs, figure(row.Min), figure(row.Max))
	return b
}

func lessIsBetter(unit string) bool {
	switch unit {
	case "us", "ns", "s/GB", "MiB", "%":
		return true
	}
	return false
}

// A gauge shows where a goal's value lies between nothing and beyond the target.
type gauge struct {
	Goal
	Class, Shown, Wanted string
	Width, Height        float64
	ValueX, FloorX       float64
	TargetX              float64 // 0 for none
}

func newGauge(g Goal) gauge {
	const width, height, beyond = 240.0, 14.0, 1.15
	most := max(g.Value, g.Floor, g.Target) * beyond
	sign := "at least"
	if g.AtMost {
		sign = "at most"
	}
	shown := gauge{
		Goal: g, Width: width, Height: height,
		Class:  map[string]string{reached: "reached", aboveFloor: "above", missed: "missed"}[g.Verdict()],
		Shown:  fmt.Sprintf("%.2f", g.Value),
		Wanted: fmt.Sprintf("%s %.2f", sign, g.Floor),
		ValueX: width * g.Value / most, FloorX: width * g.Floor / most, TargetX: width * g.Target / most,
	}
	if g.Target != 0 {
		shown.Wanted += fmt.Sprintf(", hoped for %.2f", g.Target)
	}
	return shown
}
