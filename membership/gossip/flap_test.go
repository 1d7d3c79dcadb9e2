package gossip

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weft-net/weft/membership"
)

// A member that dies and comes back every second is said once a minute, with a count, and
// costs no more dials than one that stays away.
func TestFlappingMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &herd{t: t, say: t.Logf, authority: newIdentity(t)}
		a, b := h.add(), h.add()
		x := stranger(t, 3)
		a.put(x)
		rec, err := membership.Open(x)
		if err != nil {
			t.Fatal(err)
		}
		flapper := &memberlist.Node{Name: x.Signer.String(), Addr: rec.Gossip.Addr().AsSlice(), Port: rec.Gossip.Port()}
		d := &delegate{a.gossip}
		const seconds = 300
		for range seconds {
			d.NotifyJoin(flapper)
			time.Sleep(time.Second / 10)
			d.NotifyLeave(flapper)
			time.Sleep(time.Second * 9 / 10)
		}
		var warnings []string
		for line := range strings.Lines(a.log.String()) {
			if strings.Contains(line, "level=WARN") {
				warnings = append(warnings, line)
			}
		}
		if n := len(warnings); n < seconds/60-1 || n > seconds/60 {
			t.Errorf("%d warnings in %d s:\n%s", n, seconds, strings.Join(warnings, ""))
		}
		for _, w := range warnings {
			if !strings.Contains(w, "keeps dying") || !strings.Contains(w, "deaths=6") || !strings.Contains(w, "node=n3") {
				t.Errorf("warned: %s", w)
			}
		}
		if dials := a.gossip.Stats().Redials; dials > seconds/2 || dials < seconds/20 {
			t.Errorf("%d dials in %d s; want one in some seconds", dials, seconds)
		}
		a.stop()
		b.stop()
		time.Sleep(10 * time.Second) // memberlist's own loops end by themselves
	})
}

// An ordinary death, or two, are not called flapping.
func TestFewDeathsAreNoFlapping(t *testing.T) {
	n := launch(t, 1, Config{}, newIdentity(t))
	id := newIdentity(t).ID
	now := time.Unix(1, 0)
	for _, at := range []time.Duration{0, time.Second, 2 * time.Minute, 3 * time.Minute, 5 * time.Minute} {
		n.gossip.flapped(id, now.Add(at))
	}
	if strings.Contains(n.log.String(), "keeps dying") {
		t.Fatalf("log: %s", n.log.String())
	}
}
