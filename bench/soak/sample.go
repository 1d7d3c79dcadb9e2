//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/bench/meter"
)

// The series of a daemon that must not grow, by their names in its metrics.
const (
	goroutines  = "go_goroutines"
	descriptors = "process_open_fds"
	resident    = "process_resident_memory_bytes"
	born        = "process_start_time_seconds"
)

// A sample is what one daemon says of itself.
type sample struct {
	At          seconds `json:"at"` // since the abuse began
	Node        string  `json:"node"`
	Born        float64 `json:"born"` // Unix time of the process's start
	Goroutines  float64 `json:"goroutines"`
	Descriptors float64 `json:"descriptors"`
	Resident    float64 `json:"resident"` // bytes
}

// sampleNodes samples all daemons every now and then until ctx ends. One that is being restarted has no sample.
func sampleNodes(ctx context.Context, c *cluster, p plan, rep *report) error {
	tick := time.NewTicker(p.sample)
	defer tick.Stop()
	for {
		for _, m := range c.members {
			if s, err := m.sample(ctx, rep.begun); err == nil {
				rep.addSample(s)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (m *member) sample(ctx context.Context, begun time.Time) (sample, error) {
	text, err := m.weft(ctx, "metrics")
	if err != nil {
		return sample{}, err
	}
	v, err := parseMetrics(text, goroutines, descriptors, resident, born)
	if err != nil {
		return sample{}, err
	}
	return sample{seconds(time.Since(begun).Seconds()), m.String(), v[born], v[goroutines], v[descriptors], v[resident]}, nil
}

// idle is what a node costs that carries nothing.
type idle struct {
	Node      string  `json:"node"`
	Processor float64 `json:"processor"` // share of one core
	Resident  float64 `json:"resident"`  // bytes
}

// What is wanted of three idle nodes.
const (
	idleProcessor = 0.01
	idleResident  = 40e6
)

// measureIdle leaves the cluster alone for a while.
func measureIdle(ctx context.Context, c *cluster, p plan) ([]idle, error) {
	before := make([]meter.Processor, nodeCount)
	began := time.Now()
	for i, m := range c.members {
		var err error
		if before[i], err = meter.OfProcess(m.pid()); err != nil {
			return nil, err
		}
	}
	pause(ctx, p.idle)
	took := time.Since(began).Seconds()
	var all []idle
	for i, m := range c.members {
		after, err := meter.OfProcess(m.pid())
		if err != nil {
			return nil, err
		}
		memory, err := meter.Resident(m.pid())
		if err != nil {
			return nil, err
		}
		used := after.Sub(before[i])
		all = append(all, idle{m.String(), (used.User + used.System) / took, float64(memory)})
	}
	return all, context.Cause(ctx)
}

// kernelState counts what a node's kernel has, by kind.
func (m *member) kernelState() (map[string]int, error) {
	counts := make(map[string]int)
	for kind, line := range map[string]string{
		"links": "ip -o link", "addresses": "ip -o -4 addr", "routes": "ip -4 route show table all", "rules": "ip rule",
		"nftables": "nft list tables",
	} {
		out, err := m.Run(context.Background(), strings.Fields(line)...)
		if err != nil {
			return nil, err
		}
		counts[kind] = strings.Count(out, "\n")
	}
	pods, err := m.weft(context.Background(), "pod", "list")
	if err != nil {
		return nil, err
	}
	counts["pods' records"] = strings.Count(pods, "\n")
	return counts, nil
}

// difference describes what a node's kernel has more or less than before, or is nil.
func (m *member) difference(before map[string]int) error {
	after, err := m.kernelState()
	if err != nil {
		return err
	}
	var errs []error
	for kind, n := range before {
		if after[kind] != n {
			errs = append(errs, fmt.Errorf("%s has %d %s, and had %d before the abuse", m, after[kind], kind, n))
		}
	}
	return errors.Join(errs...)
}

// A trend is how a series went.
type trend struct {
	Node  string  `json:"node"`
	What  string  `json:"what"`
	Start float64 `json:"start"`
	First float64 `json:"first"` // median of the first quarter
	Last  float64 `json:"last"`  // median of the last
	Slope float64 `json:"slope"` // an hour, by least squares
	Bound float64 `json:"bound"` // that Last must not exceed
}

// fewest samples make a trend.
const fewest = 8

// trends judges each node's series. A tenth more than in the first quarter, and a little that a moment may need
// (a request that is being answered, a collection that is due), are no leak.
func trends(samples []sample) (all []trend) {
	kinds := []struct {
		what  string
		value func(sample) float64
		slack float64
	}{
		{"goroutines", func(s sample) float64 { return s.Goroutines }, 10},
		{"descriptors", func(s sample) float64 { return s.Descriptors }, 10},
		{"memory, MB", func(s sample) float64 { return s.Resident / 1e6 }, 6},
	}
	nodes := make(map[string][]sample)
	for _, s := range samples {
		nodes[s.Node] = append(nodes[s.Node], s)
	}
	for name, series := range nodes {
		if len(series) < fewest {
			continue
		}
		for _, k := range kinds {
			at, values := make([]float64, len(series)), make([]float64, len(series))
			for i, s := range series {
				at[i], values[i] = float64(s.At)/3600, k.value(s)
			}
			quarter := len(values) / 4
			first, last := median(values[:quarter]), median(values[len(values)-quarter:])
			all = append(all, trend{name, k.what, values[0], first, last, slope(at, values), first*1.1 + k.slack})
		}
	}
	slices.SortFunc(all, func(a, b trend) int { return strings.Compare(a.What+a.Node, b.What+b.Node) })
	return all
}

func (t trend) grows() bool { return t.Last > t.Bound }

// median is that of at least one value.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// slope is that of the line with the least squares, or 0 where all x are one.
func slope(x, y []float64) float64 {
	var meanX, meanY, above, below float64
	for i := range x {
		meanX, meanY = meanX+x[i]/float64(len(x)), meanY+y[i]/float64(len(y))
	}
	for i := range x {
		above += (x[i] - meanX) * (y[i] - meanY)
		below += math.Pow(x[i]-meanX, 2)
	}
	if below == 0 {
		return 0
	}
	return above / below
}
