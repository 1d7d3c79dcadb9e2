// Command cmd runs histories of simulated clusters until one breaks a rule, and prints
// what they came to. `make sim` runs it.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/weft-net/weft/membership/sim"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	histories, seed uint64
	low, high       int // nodes
	only            int64
	large           bool
	joins           bool
}

// keysBeside is how many nodes there may be beside those that a history begins with.
const keysBeside = 200

func run(args []string, out, progress io.Writer) error {
	o, err := parse(args, progress)
	if err != nil {
		return err
	}
	most := o.high
	if o.large || o.joins {
		most = max(most, 1000)
	}
	keys, err := sim.MakeKeys(most + keysBeside)
	if err != nil {
		return err
	}
	if o.only >= 0 {
		return replay(o, keys, out)
	}
	sums := &sums{progress: newProgress(progress)}
	if err := batch(o, o.histories, o.low, o.high, keys, sums); err != nil {
		return err
	}
	if o.large {
		if err := batch(o, 20, 300, 300, keys, sums); err != nil {
			return err
		}
		if err := batch(o, 3, 1000, 1000, keys, sums); err != nil {
			return err
		}
	}
	line := sums.String()
	if o.joins {
		joins, err := measureJoins(o, keys, sums.progress)
		if err != nil {
			return err
		}
		line += joins
	}
	sums.progress.end()
	fmt.Fprintln(out, line)
	return nil
}

func parse(args []string, usage io.Writer) (options, error) {
	o := options{}
	f := flag.NewFlagSet("sim", flag.ContinueOnError)
	f.SetOutput(usage)
	f.Uint64Var(&o.histories, "histories", 10_000, "how many")
	f.Uint64Var(&o.seed, "seed", 1, "of all of them")
	f.Int64Var(&o.only, "history", -1, "replay the one of this number, and print its events")
	f.BoolVar(&o.large, "large", false, "also 20 histories of 300 nodes, and 3 of 1,000")
	f.BoolVar(&o.joins, "joins", false, "also how long newcomers take in clusters of 3, 300 and 1,000 nodes")
	nodes := f.String("nodes", "3-12", "how many nodes a history begins with: NUMBER or LOW-HIGH")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.histories == 0 {
		return o, fmt.Errorf("-histories 0: want at least one")
	}
	low, high, ranged := strings.Cut(*nodes, "-")
	if !ranged {
		high = low
	}
	var errLow, errHigh error
	o.low, errLow = strconv.Atoi(low)
	o.high, errHigh = strconv.Atoi(high)
	if errLow != nil || errHigh != nil || o.low < 1 || o.high < o.low {
		return o, fmt.Errorf("nodes %q: want NUMBER or LOW-HIGH", *nodes)
	}
	return o, nil
}

// history is the one of a number, with low to high nodes.
func history(seed, number uint64, low, high int) sim.History {
	return sim.History{Seed: seed, Number: number, Nodes: low + int(number%uint64(high-low+1))}
}

// replay runs one history and prints it.
func replay(o options, keys sim.Keys, out io.Writer) error {
	h := history(o.seed, uint64(o.only), o.low, o.high)
	h.Verbose = true
	r := sim.Run(h, keys)
	for _, e := range r.Events {
		fmt.Fprintln(out, e)
	}
	if r.Failure != "" {
		return fmt.Errorf("history %d of seed %d: %s", o.only, o.seed, r.Failure)
	}
	return nil
}

// batch runs histories on all processors, up to the first that fails.
func batch(o options, count uint64, low, high int, keys sim.Keys, s *sums) error {
	var mu sync.Mutex
	var next uint64
	failed := int64(-1)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) { // of 1,000 nodes each takes some 3 GB
		wg.Go(func() {
			for {
				mu.Lock()
				number := next
				next++
				mu.Unlock()
				if number >= count {
					return
				}
				r := sim.Run(history(o.seed, number, low, high), keys)
				mu.Lock()
				if r.Failure != "" && (failed < 0 || int64(number) < failed) {
					failed, count = int64(number), 0
				}
				s.add(r)
				s.progress.show("%d of %d histories of %d to %d nodes", s.count, count, low, high)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if failed < 0 {
		return nil
	}
	s.progress.end()
	o.only, o.low, o.high = failed, low, high
	err := replay(o, keys, os.Stdout)
	return fmt.Errorf("%w\nreplay it with: make sim SEED=%d NODES=%d-%d HISTORY=%d", err, o.seed, low, high, failed)
}

// measureJoins returns the figures for newcomers.
func measureJoins(o options, keys sim.Keys, p *progress) (string, error) {
	line := ""
	for _, c := range []struct{ nodes, newcomers, clusters int }{{3, 1, 100}, {300, 20, 1}, {1000, 10, 1}} {
		var all []time.Duration
		for i := range c.clusters {
			p.show("newcomers in a cluster of %d", c.nodes)
			times, err := sim.Join(c.nodes, c.newcomers, o.seed+uint64(i), keys)
			if err != nil {
				return "", fmt.Errorf("newcomers in a cluster of %d: %w", c.nodes, err)
			}
			all = append(all, times...)
		}
		line += fmt.Sprintf("; a newcomer among %d is routed by all after %s (p50), %s (max)", c.nodes, middle(all), slices.Max(all).Round(time.Millisecond))
	}
	return line, nil
}

// sums are what many histories came to.
type sums struct {
	progress  *progress
	count     int
	virtual   time.Duration
	records   int
	moved     int
	converged []time.Duration
}

func (s *sums) add(r sim.Result) {
	s.count++
	s.virtual += r.Virtual
	s.records += r.Records
	s.moved += r.Moved
	s.converged = append(s.converged, r.Converged)
}

func (s *sums) String() string {
	return fmt.Sprintf("%d histories, %.0f hours of virtual time, %d records published, %d blocks lost in disputes, no rule broken; all agreed %s (p50), %s (max) after the end of trouble",
		s.count, s.virtual.Hours(), s.records, s.moved, middle(s.converged), slices.Max(s.converged).Round(time.Second))
}

func middle(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2].Round(time.Millisecond)
}

// progress is a line on a terminal, or a line now and then elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
	last     time.Time
}

func newProgress(w io.Writer) *progress {
	f, ok := w.(*os.File)
	return &progress{w: w, terminal: ok && term.IsTerminal(int(f.Fd()))}
}

func (p *progress) show(format string, args ...any) {
	every := 30 * time.Second
	if p.terminal {
		every = 200 * time.Millisecond
	}
	if time.Since(p.last) < every {
		return
	}
	p.last = time.Now()
	text := fmt.Sprintf(format, args...)
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K\x1b[36m%s\x1b[0m", text)
		return
	}
	fmt.Fprintln(p.w, text)
}

func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
