package path

import (
	"container/heap"
	"time"

	"golang.org/x/time/rate"
)

// The limits of what a node sends. Below these, the pace of live.go and sizes.go
// holds; above, each way waits for its turn.
const (
	// Small probes a second: at 128 bytes half a megabit.
	smallRate, smallBurst = 500, 50
	// Probes of a size in question. 500 a second of 1500 bytes are 6 Mb/s, under
	// 1 % of a 1 Gb/s link; of 9000 bytes they are 36 Mb/s, and such links have
	// 10 Gb/s. A search that finds less than the ceiling takes about 50. A burst
	// holds two steps of it, at 9000 bytes no more than a socket's buffer.
	largeRate, largeBurst = 500, 24
)

// A burst must hold the largest step, which is a sweep and the small probe behind it.
const _ = uint(largeBurst - maxSweep - 1)

// sweepInterval is how often it is asked after ways, whether they are busy.
const sweepInterval = time.Second

// Next returns when Tick has something to do at the latest. It changes with every
// call of the other methods.
func (t *Tracker) Next() time.Time {
	next := t.sweepAt
	for _, l := range []*lane{&t.small, &t.large} {
		if at, ok := l.when(); ok && at.Before(next) {
			next = at
		}
	}
	return next
}

// Tick returns the probes that are to be sent at now, in this order. busy says
// whether packets go a way: then it is looked at more closely.
//
// The cost is O(log ways) for each probe, and a call of busy for each way once a
// second.
func (t *Tracker) Tick(now time.Time, busy func(Way) bool) []Probe {
	t.forget(now)
	if !now.Before(t.sweepAt) {
		t.sweep(now, busy)
	}
	var probes []Probe
	for ok := true; ok; {
		w := t.small.due(now)
		if w == nil {
			break
		}
		probes, ok = t.stepLive(w, now, probes)
	}
	for ok := true; ok; {
		w := t.large.due(now)
		if w == nil {
			break
		}
		probes, ok = t.stepSizes(w, now, probes)
	}
	return probes
}

// sweep learns which ways are busy, and how many.
func (t *Tracker) sweep(now time.Time, busy func(Way) bool) {
	t.sweepAt = now.Add(sweepInterval)
	t.busy, t.idle = 0, 0
	for _, p := range t.roster {
		for _, w := range p.ways {
			if b := busy(w.Way); b != w.busy {
				w.busy = b
				t.paceLive(w, now)
				t.paceSizes(w, now)
			}
			switch {
			case w.Mute:
			case w.busy:
				t.busy++
			default:
				t.idle++
			}
		}
	}
}

// lane serves ways in the order in which they are due, within a limit: those in haste
// first, then busy ones, then the rest.
//
// Haste starves nobody for long, since it begins with a routine probe that is missed,
// and ends after three retries and a probe of each other way to that peer: where all
// peers die at once, and there is one way to each, a quarter of what is sent is routine.
type lane struct {
	haste, busy, idle queue
	limit             *rate.Limiter
	ready             time.Time // when the limit allows what it refused last
	served            int
}

// idleTurn is how often the idle come first: where the others alone exceed the
// limit, they have a fifth of it.
const idleTurn = 5

// timer says when a way's turn in a lane is. It is in one queue or in none.
type timer struct {
	way *way
	at  time.Time
	in  *queue
	pos int // in the queue
}

// set gives the way of tm its turn at at, instead of the one it had.
func (l *lane) set(tm *timer, at time.Time) {
	if tm.way.busy {
		l.push(tm, at, &l.busy)
	} else {
		l.push(tm, at, &l.idle)
	}
}

// hasten is set, with precedence over those that were set.
func (l *lane) hasten(tm *timer, at time.Time) { l.push(tm, at, &l.haste) }

func (l *lane) push(tm *timer, at time.Time, in *queue) {
	l.stop(tm)
	tm.at, tm.in = at, in
	heap.Push(tm.in, tm)
}

// stop takes the way of tm out of the lane.
func (l *lane) stop(tm *timer) {
	if tm.in != nil {
		heap.Remove(tm.in, tm.pos)
		tm.in = nil
	}
}

// due returns the way whose turn it is, which keeps it until it is set anew, or nil.
func (l *lane) due(now time.Time) *way {
	if now.Before(l.ready) {
		return nil
	}
	order := [...]queue{l.haste, l.busy, l.idle}
	if l.served%idleTurn == 0 {
		order = [...]queue{l.idle, l.haste, l.busy}
	}
	for _, q := range order {
		if len(q) > 0 && !now.Before(q[0].at) {
			return q[0].way
		}
	}
	return nil
}

// take says whether n probes may leave at now. Where not, the lane rests until
// they may.
func (l *lane) take(now time.Time, n int) bool {
	if l.limit.AllowN(now, n) {
		l.served++
		return true
	}
	missing := float64(n) - l.limit.TokensAt(now)
	// A millisecond more, so that rounding does not refuse it again.
	l.ready = now.Add(time.Duration(missing/float64(l.limit.Limit())*float64(time.Second)) + time.Millisecond)
	return false
}

// when returns the time of the next turn, if there is one.
func (l *lane) when() (at time.Time, ok bool) {
	for _, q := range [...]queue{l.haste, l.busy, l.idle} {
		if len(q) > 0 && (!ok || q[0].at.Before(at)) {
			at, ok = q[0].at, true
		}
	}
	if at.Before(l.ready) {
		at = l.ready
	}
	return at, ok
}

// queue is a heap of timers, the earliest first.
type queue []*timer

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].pos, q[j].pos = i, j
}

func (q *queue) Push(x any) {
	tm := x.(*timer)
	tm.pos = len(*q)
	*q = append(*q, tm)
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	tm := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return tm
}
