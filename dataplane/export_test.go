package dataplane

// Open makes the engine ready for Turn, for tests that drive it by hand instead of
// calling Run.
func (e *Engine) Open() error {
	for _, w := range e.workers {
		if err := w.open(); err != nil {
			return err
		}
	}
	return nil
}

// Turn has each worker take one batch in each direction, and look at its descriptors
// where that is none. busy says whether there was any.
func (e *Engine) Turn() (busy bool, err error) {
	for _, w := range e.workers {
		sent, err := w.egress.turn()
		if err != nil {
			return false, err
		}
		received, err := w.ingress.turn()
		if err != nil {
			return false, err
		}
		if !sent && !received {
			if sent, received, err = w.look(); err != nil {
				return false, err
			}
		}
		busy = busy || sent || received
	}
	return busy, nil
}

// look is a sleep that ends at once, and a turn.
func (w *worker) look() (sent, received bool, err error) {
	w.poller.Wake()
	if err := w.sleep(); err != nil {
		return false, false, err
	}
	if sent, err = w.egress.turn(); err != nil {
		return false, false, err
	}
	received, err = w.ingress.turn()
	return sent, received, err
}

// Release ends what Open began.
func (e *Engine) Release() error { return e.release() }
