package path

// Recall has ways that become candidates later begin with what an earlier Tracker knew of
// them, by its State, so that a daemon that is started anew goes on by the ways and sizes that
// work. All of it is probed as if it had been found just now. It is called before Set.
func (t *Tracker) Recall(states map[Way]State) { t.recalled = states }

// recall gives w, which is new, what is recalled of it.
func (t *Tracker) recall(w *way) {
	s, ok := t.recalled[w.Way]
	delete(t.recalled, w.Way)
	if !ok || !s.Known {
		return
	}
	w.known, w.works, w.since, w.srtt = true, s.Works, s.Since, s.RTT
	if s.Proven && s.MTU < w.Ceiling || s.MTU <= minMTU {
		w.mtu, w.proven, w.judged = max(s.MTU, minMTU), s.Proven, true
	}
}
