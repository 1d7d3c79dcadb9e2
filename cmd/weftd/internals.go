package main

import (
	"github.com/weft-net/weft/cmd/internal/metrics"
	"github.com/weft-net/weft/dataplane"
)

// The daemon is what metrics are made of.
var _ metrics.Source = (*daemon)(nil)

// Internals are what the control API does not show.
func (d *daemon) Internals() metrics.Internals {
	counted := d.tally()
	in := metrics.Internals{
		Batches: metrics.Batches{
			Reads: histogram(counted.Batches.Reads), Writes: histogram(counted.Batches.Writes),
			Sends: histogram(counted.Batches.Sends), Receives: histogram(counted.Batches.Receives),
			SuperRead: counted.Batches.SuperRead, SuperWritten: counted.Batches.SuperWritten,
		},
		Repairs: d.repairs.counts(),
		Stuck:   len(d.engine.Stuck(workerPatience)),
	}
	in.Takeovers, in.TakeoverGap = d.succession.handed()
	for _, p := range counted.Peers {
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
