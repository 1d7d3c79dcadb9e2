package dataplane

import (
	"sync"
	"time"
)

// pulse finds workers that do not go on. A worker counts its turns; one that sleeps takes a
// turn when it is woken, so that whoever does not is caught in a system call, or in a loop.
type pulse struct {
	mu      sync.Mutex // also keeps their pollers open
	workers []*worker  // those that run
	beats   []beat     // beside workers
}

// beat is what was last seen of a worker.
type beat struct {
	turns  uint64
	missed time.Time // since when there was none more; zero where there was
}

func (p *pulse) begin(workers []*worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.workers, p.beats = workers, make([]beat, len(workers))
}

func (p *pulse) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.workers, p.beats = nil, nil
}

// Stuck returns the indices of the workers that took no turn for at least as long as
// patience, though they were woken. It looks when it is called, and never waits: two calls that
// far apart, at least, find a worker that is stuck. Before and after Run there is none.
// It may be called from any goroutine.
func (e *Engine) Stuck(patience time.Duration) (stuck []int) {
	p := &e.pulse
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for i, w := range p.workers {
		b, turns := &p.beats[i], w.turns.Load()
		switch {
		case turns != b.turns:
			*b = beat{turns: turns}
		case b.missed.IsZero():
			// Not counted from the wake before: all threads may have been stopped since, the
			// caller's too.
			b.missed = now
		case now.Sub(b.missed) >= patience:
			stuck = append(stuck, i)
		}
		w.poller.Wake()
	}
	return stuck
}
