//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/weft-net/weft/bench/report"
	"github.com/weft-net/weft/dataplane/route"
)

// routeSizes returns the numbers of prefixes that tables are measured with.
func routeSizes() []int { return []int{10, 1_000, 10_000, 100_000} }

func routeLookupScenario() scenario {
	return scenario{
		name: "route-lookup", about: "longest-prefix lookup in tables of growing size, in process",
		takes: time.Second,
		compute: func(ctx context.Context) ([]report.Sample, error) {
			return eachSize(ctx, "lookup", "ns", func(entries []route.Entry[int]) (float64, error) {
				table, err := route.Build(entries)
				if err != nil {
					return 0, err
				}
				took, err := timeLookups(table, entries)
				return float64(took.Nanoseconds()) / batch, err
			})
		},
	}
}

// routeUpdateScenario builds a table anew, since that is what an update is: a whole table
// behind an atomic pointer.
func routeUpdateScenario() scenario {
	return scenario{
		name: "route-update", about: "time of a whole update of tables of growing size, in process",
		takes: time.Second,
		compute: func(ctx context.Context) ([]report.Sample, error) {
			return eachSize(ctx, "update", "us", func(entries []route.Entry[int]) (float64, error) {
				took, err := repeat(func() error {
					_, err := route.Build(entries)
					return err
				})
				return float64(took.Nanoseconds()) / 1e3, err
			})
		},
	}
}

// eachSize measures one metric for every size.
func eachSize(ctx context.Context, metric, unit string, measure func([]route.Entry[int]) (float64, error)) ([]report.Sample, error) {
	var samples []report.Sample
	for _, size := range routeSizes() {
		if err := ctx.Err(); err != nil {
			return samples, err
		}
		value, err := measure(podBlocks(size))
		if err != nil {
			return samples, fmt.Errorf("with %d prefixes: %w", size, err)
		}
		samples = append(samples, report.Sample{Metric: metric + "@" + sizeName(size), Unit: unit, Value: value})
	}
	return samples, nil
}

func sizeName(size int) string {
	if size < 1000 {
		return itoa(size)
	}
	return itoa(size/1000) + "k"
}

// podBlocks returns size blocks of one pod network, a /24 each from 10.0.0.0 on, past
// 10.255.255.0 too.
func podBlocks(size int) []route.Entry[int] {
	entries := make([]route.Entry[int], size)
	for i := range entries {
		block := netip.AddrFrom4([4]byte{byte(10 + i>>16), byte(i >> 8), byte(i), 0})
		entries[i] = route.Entry[int]{Prefix: netip.PrefixFrom(block, 24), Value: i}
	}
	return entries
}

// batch is how many lookups are timed together.
const batch = 1 << 16

// timeLookups returns the time of a batch of lookups. They are in random order, so that a
// large table does not stay in the cache by the order of the questions.
func timeLookups(table *route.Table[int], entries []route.Entry[int]) (time.Duration, error) {
	random := rand.New(rand.NewPCG(1, 2))
	questions := make([]netip.Addr, batch)
	for i := range questions {
		a := entries[random.IntN(len(entries))].Prefix.Addr().As4()
		a[3] = byte(random.Uint32())
		questions[i] = netip.AddrFrom4(a)
	}
	return repeat(func() error {
		for _, addr := range questions {
			if _, found := table.Lookup(addr); !found {
				return fmt.Errorf("%s is not found", addr)
			}
		}
		return nil
	})
}

// repeat returns the mean time of fn over at least three runs and 100 ms.
func repeat(fn func() error) (time.Duration, error) {
	const runs, length = 3, 100 * time.Millisecond
	started := time.Now()
	for n := 1; ; n++ {
		if err := fn(); err != nil {
			return 0, err
		}
		if took := time.Since(started); n >= runs && took >= length {
			return took / time.Duration(n), nil
		}
	}
}
