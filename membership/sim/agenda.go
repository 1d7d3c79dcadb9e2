package sim

import (
	"container/heap"
	"time"
)

// agenda is virtual time: what is to be done when. Of two things at one time the one that
// was entered first is done first.
type agenda struct {
	now     time.Duration
	events  events
	entered uint64
}

type event struct {
	at    time.Duration
	order uint64
	do    func()
}

func (a *agenda) after(d time.Duration, do func()) {
	heap.Push(&a.events, &event{a.now + d, a.entered, do})
	a.entered++
}

// runUntil does what is due until a time, or until stop says so.
func (a *agenda) runUntil(end time.Duration, stop func() bool) {
	for len(a.events) > 0 && a.events[0].at <= end && !stop() {
		e := heap.Pop(&a.events).(*event)
		a.now = e.at
		e.do()
	}
	if !stop() {
		a.now = end
	}
}

// events is a heap by time, then order.
type events []*event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].order < e[j].order
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(*event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*e = old[:len(old)-1]
	return last
}
