package gossip

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/weft-net/weft/membership"
)

func TestRedialDelays(t *testing.T) {
	g := &Gossip{timing: defaultTiming()}
	for name, c := range map[string]struct {
		outcome     outcome
		first, last time.Duration // of ten rounds that come to it
	}{
		"alone, nobody known":   {outcome{lost: true}, 2 * time.Second, 5 * time.Second},
		"one of three missing":  {outcome{lost: true, known: 2}, 2 * time.Second, 5 * time.Second},
		"one of 100 missing":    {outcome{lost: true, known: 99}, 2 * time.Second, 9900 * time.Millisecond},
		"one of 10,000 missing": {outcome{lost: true, known: 9999}, 2 * time.Second, time.Minute},
		"only a name fails":     {outcome{asked: true, known: 2}, 2 * time.Second, 30 * time.Second},
		"nobody missing":        {outcome{known: 2}, 30 * time.Second, 30 * time.Second},
		"somebody came back":    {outcome{lost: true, gained: true, known: 2}, time.Second, time.Second},
	} {
		delay := g.next(time.Second, c.outcome)
		if delay != c.first {
			t.Errorf("%s: first %s; want %s", name, delay, c.first)
		}
		for range 9 {
			delay = g.next(delay, c.outcome)
		}
		if delay != c.last {
			t.Errorf("%s: last %s; want %s", name, delay, c.last)
		}
	}
	for range 1000 {
		if d := jitter(time.Second); d < time.Second/2 || d > time.Second {
			t.Fatalf("jitter %s", d)
		}
	}
}

// A clone that outbids us each time gets ever slower answers.
func TestRefreshSlowsDown(t *testing.T) {
	id := newIdentity(t)
	store := memoryStore(id)
	g := &Gossip{store: store, timing: defaultTiming(), log: slog.New(slog.DiscardHandler), warnings: newThrottle(time.Hour)}
	nd := &node{t: t, n: 1, id: id, store: store, gossip: &Gossip{}}
	nd.publish(1400)
	r := &refresher{g: g}
	now := time.Unix(1, 0)
	if r.run(now) || r.wait(now) != 0 {
		t.Fatal("waits although it published nothing")
	}
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 64} {
		outbid(t, store, id)
		now = now.Add(r.wait(now))
		if r.run(now) {
			t.Fatal("asks to be called again")
		}
		if got := r.wait(now); got != want*time.Second {
			t.Fatalf("waits %s; want %d s", got, want)
		}
	}
	now = now.Add(time.Hour)
	outbid(t, store, id)
	if r.run(now); r.wait(now) != time.Second {
		t.Fatalf("waits %s after a quiet hour", r.wait(now))
	}
}

func TestRefreshIsRetried(t *testing.T) {
	id := newIdentity(t)
	full := false
	store := membership.NewStore(id, membership.Terms{Networks: podNetworks}, testGrace, func(membership.Snapshot) error {
		if full {
			return errors.New("disk full")
		}
		return nil
	})
	g := &Gossip{store: store, timing: defaultTiming(), log: slog.New(slog.DiscardHandler), warnings: newThrottle(time.Hour)}
	(&node{t: t, n: 1, id: id, store: store, gossip: &Gossip{}}).publish(1400)
	outbid(t, store, id)
	full = true
	r := &refresher{g: g}
	now := time.Unix(1, 0)
	if !r.run(now) {
		t.Fatal("a failure is not retried")
	}
	if r.wait(now) == 0 {
		t.Fatal("a failure is retried at once")
	}
	full = false
	if r.run(now.Add(time.Second)) {
		t.Fatal("asks to be called again")
	}
}

// outbid merges a newer record of the store's own ID.
func outbid(t *testing.T, store *membership.Store, id membership.Identity) {
	t.Helper()
	own, _ := store.Own()
	rec, err := membership.Open(own)
	if err != nil {
		t.Fatal(err)
	}
	rec.Version += 10
	e, err := membership.Seal(id, rec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Merge(e); err != nil {
		t.Fatal(err)
	}
}
