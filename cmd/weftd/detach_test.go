package main

import "testing"

// TestDetachIsBounded: who comes when the threads are taken is sent away, and takes none.
func TestDetachIsBounded(t *testing.T) {
	d := &daemon{machine: &machine{}}
	d.releases.n.Store(maxReleases)
	if err := d.Detach(0, "weft0123456789a", func() {}); err == nil || d.releases.n.Load() != maxReleases {
		t.Errorf("%v, and %d are being removed", err, d.releases.n.Load())
	}
}
