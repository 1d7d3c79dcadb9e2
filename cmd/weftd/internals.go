package main

import (
	"github.com/weft-net/weft/cmd/internal/metrics"
	"github.com/weft-net/weft/dataplane"
)

// The daemon is what metrics are made of.
var _ metrics.Source = (*daemon)(nil)

// Internals are what the control API does not show.
func (d *daemon) Internals() metrics.Internals {
	stats := d.engine.Stats()
	in := metrics.Internals{
		Batches: metrics.Batches{
			Reads: histogram(stats.Batches.Reads), Writes: histogram(stats.Batches.Writes),
			Sends: histogram(stats.Batches.Sends), Receives: histogram(stats.Batches.Receives),
			SuperRead: stats.Batches.SuperRead, SuperWritten: stats.Batches.SuperWritten,
		},
		Repairs: d.repairs.counts(),
		Stuck:   len(d.engine.Stuck(workerPatience)),
	}
	in.Takeovers, in.TakeoverGap = d.succession.handed()
	for _, p := range stats.Peers {
		in.Bytes.Egress += p.TxBytes
		in.Bytes.Ingress += p.RxBytes
	}
	return in
}

// histogram names the bounds of h.
func histogram(h dataplane.Histogram) metrics.Histogram {
	out := metrics.Histogram{Counts: h.Counts[:], Sum: h.Sum}
	for i := range len(h.Counts) - 1 {
		out.Bounds = append(out.Bounds, float64(uint64(1)<<i))
	}
	return out
}
