package dataplane

import (
	"testing"

	"github.com/weft-net/weft/encap"
)

// On a path that is narrower than any that IPv6 may have, all outer packets may be
// fragmented.
func TestPathBelowTheLeast(t *testing.T) {
	for _, what := range []replayed{{}, {six: true}, {tcp: true, segments: 40}, {tcp: true, way: 1240}} {
		w, r := newReplay(t, what)
		c := what.config()
		c.Peers[0].Fragment = true
		apply(t, w, c)
		sent := 0
		r.send = func(msgs []encap.Message) int {
			for i := range msgs {
				sent += msgs[i].Segments
				if !msgs[i].Fragment {
					t.Errorf("%+v: a message of %d datagrams must arrive whole", what, msgs[i].Segments)
				}
			}
			return len(msgs)
		}
		if _, err := w.egress.turn(); err != nil || sent == 0 {
			t.Errorf("%+v: %d packets sent, %v", what, sent, err)
		}
	}
}
