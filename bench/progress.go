//go:build linux

package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/weft-net/weft/bench/report"
)

// A progress tells on a terminal, in one line that is written over, where a run is, and
// elsewhere in a line for each step.
type progress struct {
	out      io.Writer
	terminal bool
	now      func() time.Time

	steps   []step
	done    int
	started time.Time
	planned time.Duration // of the steps that are done
}

// printf ignores write errors: a closed pipe arrives as SIGPIPE, which ends the run.
func (p *progress) printf(format string, args ...any) { _, _ = fmt.Fprintf(p.out, format, args...) }

func (p *progress) start(steps []step) {
	p.steps, p.started = steps, p.now()
	p.printf("%d measurements, about %s\n", len(steps), duration(p.left()))
}

func (p *progress) begin(s step) {
	if p.terminal {
		p.printf("\r\x1b[K%s %s  about %s left", p.count(), s, duration(p.left()))
	}
}

func (p *progress) retry(s step, err error) {
	p.line(fmt.Sprintf("%s %s  once more, after: %s", p.count(), s, oneLine(err)))
	p.begin(s)
}

func (p *progress) finish(s step, samples []report.Sample, err error) {
	count := p.count()
	p.done++
	p.planned += s.takes()
	switch {
	case err != nil:
		p.line(fmt.Sprintf("%s %s  failed: %s", count, s, oneLine(err)))
	case !p.terminal:
		p.line(fmt.Sprintf("%s %s  %s, about %s left", count, s, brief(samples), duration(p.left())))
	}
}

func (p *progress) end() {
	if p.terminal {
		p.printf("\r\x1b[K")
	}
}

// line writes a line that stays.
func (p *progress) line(text string) {
	p.end()
	p.printf("%s\n", text)
}

func (p *progress) count() string {
	return fmt.Sprintf("[%*d/%d]", digits(len(p.steps)), p.done+1, len(p.steps))
}

// left estimates by the plan, corrected by how well the plan has held so far.
func (p *progress) left() time.Duration {
	var left time.Duration
	for _, s := range p.steps[p.done:] {
		left += s.takes()
	}
	if p.planned > 0 {
		left = time.Duration(float64(left) * float64(p.now().Sub(p.started)) / float64(p.planned))
	}
	return left
}

func digits(n int) int { return len(itoa(n)) }

func duration(d time.Duration) string {
	d = d.Round(time.Second)
	if d < time.Minute {
		return d.String()
	}
	return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
}

// brief shows the first sample, the one a scenario is about.
func brief(samples []report.Sample) string {
	if len(samples) == 0 {
		return "nothing"
	}
	return fmt.Sprintf("%s %.4g %s", samples[0].Metric, samples[0].Value, samples[0].Unit)
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
