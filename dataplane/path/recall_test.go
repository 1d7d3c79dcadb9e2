package path

import (
	"net/netip"
	"testing"
	"time"
)

// A Tracker begins by what another knew, as far as its candidates are the same and no more
// may pass than before.
func TestRecall(t *testing.T) {
	now := time.Unix(1000, 0)
	at := func(mode string) Way {
		return Way{Peer: "b", Mode: mode, To: netip.MustParseAddrPort("192.0.2.2:8285")}
	}
	known := func(works bool, mtu int, proven bool) State {
		return State{Known: true, Works: works, Since: now.Add(-time.Hour), RTT: time.Millisecond, MTU: mtu, Proven: proven}
	}
	next := New("a", [32]byte{1}, now)
	next.Recall(map[Way]State{
		at("narrow"): known(true, 1400, true),
		at("wide"):   known(true, 9000, true),
		at("dead"):   known(false, 1500, false),
		at("least"):  known(true, 1280, false),
		at("young"):  {MTU: 1400},
		at("gone"):   known(true, 1300, true),
	})
	var candidates []Candidate
	for _, mode := range []string{"narrow", "wide", "dead", "least", "young", "other"} {
		candidates = append(candidates, Candidate{Way: at(mode), Ceiling: 1500})
	}
	next.Set(candidates, now)
	for mode, want := range map[string]State{
		"narrow": known(true, 1400, true),
		"wide":   known(true, 1500, false), // the ceiling, until it is searched
		"dead":   known(false, 1500, false),
		"least":  known(true, 1280, false),
		"young":  {Since: now, MTU: 1500},
		"other":  {Since: now, MTU: 1500},
	} {
		if got := next.State(at(mode)); got != want {
			t.Errorf("%s: %+v, want %+v", mode, got, want)
		}
	}

	// What is recalled is recalled once: a way that comes back is a new one.
	next.Set(nil, now)
	next.Set(candidates, now)
	if got, want := next.State(at("narrow")), (State{Since: now, MTU: 1500}); got != want {
		t.Errorf("after it was away: %+v, want %+v", got, want)
	}
}
