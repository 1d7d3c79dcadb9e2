package path

import "time"

// A way is asked by a small probe, at intervals that are drawn from the last fifth
// below these, and the first from all of it, so that ways do not keep step.
//
// A dead way that is busy is known within 3 s: 1 s to the next probe, 750 ms at
// the most until that is missed, two retries 250 ms apart, and 750 ms for the last.
// Where round trips are short, patience is 250 ms and the whole takes 2 s. The
// retries of a busy way wait for no other's routine probe (lane.go); the first second
// is longer where n ways are busy, so that the whole is max(1 s, n/300 s) + 2 s: 8.7 s
// for 2000. Where m of them die at once, their 4m probes take m/125 s besides. A peer
// that has just become busy is noticed within a second, and asked within another
// 200 ms. Four probes in a row are lost at random once in 10,000 where one in ten
// is; the next one, 250 ms later, puts that right.
const (
	busyInterval = time.Second
	idleInterval = 5 * time.Second
	deadInterval = 2 * time.Second

	minPatience = 250 * time.Millisecond
	maxPatience = 750 * time.Millisecond
	retries     = 3
	retryWait   = 250 * time.Millisecond

	// hurry is within when something is done at once.
	hurry = 200 * time.Millisecond
	// lossWindow is the number of small probes that State.Loss speaks of.
	lossWindow = 32
	// routineShare is how many small probes a second are routine: intervals are
	// stretched to keep it. The rest is for retries, and for jitter, which makes
	// intervals a tenth shorter. busyShare is how many of them busy ways have at the
	// most; the others have what is left.
	routineShare = smallRate * 3 / 4
	busyShare    = routineShare * 4 / 5
)

// smallSize is the size in bytes of the outer packet of a small probe: enough for
// the message behind any headers (IPv6 40, UDP 8, VXLAN 8, Ethernet 14).
const smallSize = 128

const _ = uint(smallSize - 40 - 8 - 8 - 14 - MessageLen)

// stepLive judges the last small probe of w, which costs none, or sends the next. It
// says false where that has to wait.
func (t *Tracker) stepLive(w *way, now time.Time, probes []Probe) ([]Probe, bool) {
	if w.pending {
		t.miss(w, now)
		return probes, true
	}
	if !t.small.take(now, 1) {
		return probes, false
	}
	w.pending = true
	w.asked = now
	w.asks++
	w.lost &^= 1 << (w.asks % lossWindow)
	p, _ := t.launch(flight{way: w, size: smallSize, sent: now, ask: w.asks})
	wait := w.patience()
	if w.misses > 0 && w.misses < retries {
		wait = retryWait
	}
	t.enqueue(w, now.Add(wait))
	return append(probes, p), true
}

// miss enters that the last small probe of w had no answer in time.
func (t *Tracker) miss(w *way, now time.Time) {
	w.pending = false
	w.misses++
	w.lost |= 1 << (w.asks % lossWindow)
	if w.misses > retries {
		t.setWorks(w, false, now)
		t.enqueue(w, now.Add(t.rest(w)))
		return
	}
	if w.misses == 1 {
		t.askOthers(w, now)
	}
	t.enqueue(w, now)
}

// askOthers has the other ways to the peer of w asked at once: before w is found not to
// work, it is known of each whether it missed a probe as well.
func (t *Tracker) askOthers(w *way, now time.Time) {
	for _, other := range w.peer.ways {
		switch {
		case other == w || !other.works || other.pending || other.live.in == nil:
		case w.busy:
			t.small.hasten(&other.live, now)
		case other.live.at.After(now):
			t.small.set(&other.live, now)
		}
	}
}

// enqueue gives w its turn in the small lane. A verdict is hastened, and the retries of
// a busy way; those of the others are many where a network fails, and are not missed.
func (t *Tracker) enqueue(w *way, at time.Time) {
	if w.pending || w.busy && 0 < w.misses && w.misses <= retries {
		t.small.hasten(&w.live, at)
	} else {
		t.small.set(&w.live, at)
	}
}

// patience is how long an answer is waited for. One that comes later still counts.
func (w *way) patience() time.Duration {
	return min(max(4*w.srtt, minPatience), maxPatience)
}

// rest is the pause before a way that does not work is asked again: short at
// first, since four probes may have been lost at random.
func (t *Tracker) rest(w *way) time.Duration {
	const doublings = 3 // from 250 ms to deadInterval
	over := min(w.misses-retries-1, doublings)
	return t.stretch(w, min(retryWait<<over, deadInterval-w.patience()))
}

// stretch lengthens an interval of w where there are more ways than can be asked at it.
func (t *Tracker) stretch(w *way, d time.Duration) time.Duration {
	n, share := t.busy, busyShare
	if !w.busy {
		n, share = t.idle, routineShare-min(t.busy, busyShare)
	}
	return max(d, time.Duration(n)*time.Second/time.Duration(share))
}

// interval draws the time from one probe of a way that works to the next.
func (t *Tracker) interval(w *way) time.Duration {
	d := busyInterval
	if !w.busy {
		d = idleInterval
	}
	d = t.stretch(w, d)
	if w.asks == 1 {
		return t.upTo(d)
	}
	return d - t.upTo(d/5)
}

// alive takes the answer to a probe of w.
func (t *Tracker) alive(w *way, f flight, now time.Time) {
	sample := max(now.Sub(f.sent), 1) // 0 says that none is known
	if w.srtt == 0 {
		w.srtt = sample
	} else {
		w.srtt += (sample - w.srtt) / 8
	}
	w.misses = 0
	t.setWorks(w, true, now)
	if f.ask == 0 {
		return
	}
	if w.asks-f.ask < lossWindow {
		w.lost &^= 1 << (f.ask % lossWindow)
	}
	if f.ask == w.asks {
		w.pending = false
		t.enqueue(w, w.asked.Add(t.interval(w)))
	}
}

// setWorks enters whether answers come, with what follows for sizes.
func (t *Tracker) setWorks(w *way, works bool, now time.Time) {
	if w.known && w.works == works {
		return
	}
	if w.works != works {
		w.works, w.since = works, now
	}
	w.known = true
	t.changed = true
	if !works {
		w.srtt = 0
		w.search = nil
	}
	t.paceSizes(w, now)
}

// paceLive gives w its turn after it has become busy or idle.
func (t *Tracker) paceLive(w *way, now time.Time) {
	if w.live.in == nil {
		return
	}
	at := w.live.at
	if soon := now.Add(t.upTo(hurry)); w.busy && !w.pending && at.After(soon) {
		at = soon
	}
	t.enqueue(w, at)
}
