// Package metrics shows a running weftd to Prometheus. It knows neither the daemon nor the packet path: what is
// shown comes from a Source, which is read once for each scrape.
//
// Names follow https://prometheus.io/docs/practices/naming/. The number of series is bounded: labels have values of
// weft's own (a drop reason, a state), but for the peers', of which maxPeers at the most have series of their own.
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weft-net/weft/cmd/internal/control"
)

// Source is what the metrics are made of. Its methods are called by any number of goroutines at once. The values
// they return are not changed afterwards.
type Source interface {
	Status() control.Status
	Peers() control.PeerList
	Drops() control.Drops
	Segments() control.SegmentList
	Internals() Internals
}

// Internals are what the control API does not show. Counters start at zero with the daemon.
type Internals struct {
	Batches     Batches
	Bytes       Bytes
	Stuck       int                 // workers that do not go on
	Repairs     map[string]uint64   // what other programs changed and weft put back, by kind; every kind is present
	Takeovers   map[Takeover]uint64 // hand-overs of descriptors from a process before this one
	TakeoverGap time.Duration       // how long the last of them left packets waiting; 0 without one
}

// Bytes are the inner bytes that were carried, of all peers there ever were.
type Bytes struct{ Egress, Ingress uint64 }

// Takeover is a kind of hand-over: who kept the descriptors, such as systemd, and how it went. Both have few values.
type Takeover struct{ From, Result string }

// Batches are how packets were grouped.
type Batches struct {
	Reads, Writes   Histogram // packets that one read from the TUN, or write to it, had; a superpacket is one
	Sends, Receives Histogram // datagrams that one send to the underlay, or receive from it, had
	SuperRead       uint64    // superpackets among those of Reads
	SuperWritten    uint64    // the same of Writes
}

// Histogram counts batches by size.
type Histogram struct {
	Bounds []float64 // inclusive upper bounds, ascending; what is larger is in the last of Counts
	Counts []uint64  // one more than Bounds
	Sum    uint64    // of the sizes
}

// Handler serves s in Prometheus' text format, with the Go runtime's and the process' own metrics beside.
func Handler(s Source) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collector{s},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	// One series that cannot be made, which is a bug of weft's, must not take all others with it.
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes})
}
