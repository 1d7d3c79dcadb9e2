package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// maxScrapes is how many scrapes are answered at once: a second Prometheus, and a person.
const maxScrapes = 4

// collector makes all of weft's metrics of one read of its source.
type collector struct{ source Source }

// Describe says nothing, so that the registry takes what comes (an "unchecked" collector): of which families there
// are series depends on the node.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect asks the source once for everything.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	status, internals := c.source.Status(), c.source.Internals()
	out := sink(ch)
	out.node(status, internals)
	out.membership(status)
	out.upkeep(internals)
	out.traffic(c.source.Drops(), internals)
	out.peers(c.source.Peers().Peers)
	out.segments(c.source.Segments().Segments)
}

// sink takes the series of one scrape.
type sink chan<- prometheus.Metric

// desc describes a family: its name without the prefix, what it says, and its labels.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("weft_"+name, help, labels, nil)
}

func (s sink) gauge(d *prometheus.Desc, value float64, labels ...string) {
	s.put(d, prometheus.GaugeValue, value, labels)
}

func (s sink) counter(d *prometheus.Desc, value uint64, labels ...string) {
	s.put(d, prometheus.CounterValue, float64(value), labels)
}

func (s sink) put(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels []string) {
	for i := range labels {
		labels[i] = strings.ToValidUTF8(labels[i], "\uFFFD") // names come from other machines
	}
	s <- prometheus.MustNewConstMetric(d, kind, value, labels...)
}

func (s sink) histogram(d *prometheus.Desc, h Histogram) {
	buckets, count := make(map[float64]uint64, len(h.Bounds)), uint64(0)
	for i, n := range h.Counts {
		count += n
		if i < len(h.Bounds) {
			buckets[h.Bounds[i]] = count
		}
	}
	s <- prometheus.MustNewConstHistogram(d, count, float64(h.Sum), buckets)
}

// flag is 1 for true.
func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
