package path

import "time"

const (
	confirmInterval = time.Second
	raiseInterval   = 30 * time.Second
)

// paceSizes gives w its turn in the large lane, or takes it out, after w has
// changed: a way that works is searched once, and then looked after while it is busy.
func (t *Tracker) paceSizes(w *way, now time.Time) {
	if w.Mute {
		return
	}
	if w.works && !w.searched && w.search == nil {
		w.search = newSearch(minMTU, w.Ceiling, now)
	}
	switch {
	case w.search != nil && w.sizes.in != nil:
		t.large.set(&w.sizes, w.sizes.at)
	case w.works && (w.search != nil || w.busy):
		t.large.set(&w.sizes, now.Add(t.upTo(hurry)))
	default:
		t.large.stop(&w.sizes)
	}
}

// lift gives w another ceiling.
func (t *Tracker) lift(w *way, ceiling int, now time.Time) {
	t.changed = true
	if !w.judged || ceiling < w.mtu {
		w.mtu = ceiling
	}
	w.Ceiling = ceiling
	w.searched, w.search = false, nil
	t.large.stop(&w.sizes)
	t.paceSizes(w, now)
}

// stepSizes judges the last try of the search of w, and sends the next. It says
// false where that has to wait.
func (t *Tracker) stepSizes(w *way, now time.Time, probes []Probe) ([]Probe, bool) {
	if w.search == nil {
		probes = t.look(w, now, probes)
	}
	if s := w.search; s.decided() && t.lose(w, s.sizes[0], now) {
		return probes, true
	}
	s := w.search
	sizes := s.next()
	if !t.large.take(now, len(sizes)) {
		return probes, false
	}
	for _, size := range sizes {
		p, _ := t.launch(flight{way: w, size: size, sent: now})
		probes = append(probes, p)
	}
	t.large.set(&w.sizes, now.Add(s.sent(now, w.srtt)))
	return probes, true
}

// look begins the search that confirms the MTU of w, or one up to the ceiling where
// no size is known to pass. Where more may pass by now, it asks for one byte more:
// a way that takes more than it did takes that, and the answer begins a search.
func (t *Tracker) look(w *way, now time.Time, probes []Probe) []Probe {
	high := w.mtu
	if !w.proven {
		high = w.Ceiling
	}
	w.search = newSearch(minMTU, high, now)
	if high < w.Ceiling && !now.Before(w.raiseAt) && t.large.take(now, 1) {
		w.raiseAt = now.Add(raiseInterval)
		p, _ := t.launch(flight{way: w, size: high + 1, sent: now})
		probes = append(probes, p)
	}
	return probes
}

// passed takes the answer to a probe for what it says of sizes.
func (t *Tracker) passed(w *way, f flight, now time.Time) {
	if w.search == nil && f.size > w.mtu {
		w.search = newSearch(f.size, w.Ceiling, f.sent)
		t.large.set(&w.sizes, now)
	}
	s := w.search
	if s == nil {
		return
	}
	switch next := s.pass(f.size, f.sent, w.Ceiling); {
	case s.over():
		t.settle(w)
	case next:
		t.large.set(&w.sizes, now)
	}
}

// Unsent tells that p did not leave since it is too large for this node's own link,
// or for the path as the kernel knows it: that size need not be tried again.
func (t *Tracker) Unsent(p Probe, now time.Time) {
	m, ok := parse(p.Message)
	f, flies := t.flights[m.nonce]
	if !ok || !flies || t.ways[f.way.Way] != f.way {
		return
	}
	delete(t.flights, m.nonce)
	w := f.way
	if w.search == nil && w.works && minMTU <= f.size && f.size <= w.mtu {
		w.search = newSearch(minMTU, f.size, now)
	}
	s := w.search
	if s == nil || f.size < minMTU || f.size >= s.top {
		return
	}
	if f.size <= s.floor {
		s.floor = minMTU - 1
	}
	if !t.lose(w, f.size, now) {
		t.large.set(&w.sizes, now)
	}
}

// lose makes size the least that does not pass. It says whether that ended the
// search; where not, the next round begins.
func (t *Tracker) lose(w *way, size int, now time.Time) (ended bool) {
	s := w.search
	s.top = size
	if w.mtu >= s.top {
		w.searched, w.judged = false, true
		t.setMTU(w, max(s.floor, minMTU), false)
		w.raiseAt = now.Add(raiseInterval)
	}
	if s.over() {
		t.settle(w)
		return true
	}
	s.round()
	return false
}

// settle ends the search of w.
func (t *Tracker) settle(w *way) {
	s := w.search
	w.search, w.searched, w.judged = nil, true, true
	t.setMTU(w, max(s.floor, minMTU), s.floor >= minMTU)
	if !w.busy {
		t.large.stop(&w.sizes)
		return
	}
	next := confirmInterval
	if !w.proven {
		next = raiseInterval
	}
	t.large.set(&w.sizes, s.began.Add(next-t.upTo(next/5)))
}

func (t *Tracker) setMTU(w *way, mtu int, proven bool) {
	if w.mtu != mtu || w.proven != proven {
		w.mtu, w.proven = mtu, proven
		t.changed = true
	}
}
