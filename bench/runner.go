//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/weft-net/weft/bench/report"
)

// A runner measures the steps of a plan one after the other.
type runner struct {
	plan   plan
	bin    string // folder with the release binaries, absolute
	out    string // folder of the reports
	report *report.Report
	shown  *progress
}

// run measures until the plan is done or ctx is. The report has what was measured in every
// case, and is on disk. The error says what kept the harness itself from its work; that a
// measurement failed is in the report.
func (r *runner) run(ctx context.Context) (err error) {
	steps := r.plan.steps()
	r.shown.start(steps)
	for i, s := range steps {
		samples, err := r.measureTwice(ctx, s)
		if ctx.Err() != nil {
			// What was running did not get its time.
			r.report.Interrupted = true
			break
		}
		if err != nil {
			r.report.Fail(s.scenario.name, s.subject.name, s.round, err)
		} else {
			r.report.Add(s.scenario.name, s.subject.name, samples)
		}
		r.shown.finish(s, samples, err)
		if last := i == len(steps)-1; last || steps[i+1].round != s.round {
			if err := r.save(); err != nil {
				return err
			}
		}
	}
	r.shown.end()
	return r.save()
}

func (r *runner) save() error {
	return errors.Join(
		r.report.WriteJSON(filepath.Join(r.out, "report.json")),
		r.report.WriteHTML(filepath.Join(r.out, "report.html")))
}

// measureTwice tries a step again, once, on a fresh network.
func (r *runner) measureTwice(ctx context.Context, s step) ([]report.Sample, error) {
	r.shown.begin(s)
	samples, first := r.measure(ctx, s)
	if first == nil || ctx.Err() != nil {
		return samples, first
	}
	r.shown.retry(s, first)
	samples, second := r.measure(ctx, s)
	switch {
	case second == nil:
		return samples, nil
	case second.Error() == first.Error():
		return nil, fmt.Errorf("twice: %w", second)
	}
	return nil, fmt.Errorf("%w (and the first time: %w)", second, first)
}

// measure gives the step a network of its own: no other subject is there meanwhile, and
// nothing is left of the measurement before.
func (r *runner) measure(ctx context.Context, s step) (samples []report.Sample, err error) {
	if s.scenario.compute != nil {
		return s.scenario.compute(ctx)
	}
	n, err := newNetwork(r.bin, s.scenario.mtu, s.scenario.ipv6)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	if err := s.subject.join(ctx, n); err != nil {
		return nil, fmt.Errorf("bring up %s: %w", s.subject.name, err)
	}
	if err := n.reach(ctx); err != nil {
		return nil, fmt.Errorf("bring up %s: %w", s.subject.name, err)
	}
	samples, err = s.scenario.measure(ctx, n)
	if ended := n.daemonEnded(); ended != nil {
		err = errors.Join(ended, err)
	}
	return samples, err
}
