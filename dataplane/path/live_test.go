package path_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weft-net/weft/dataplane/path"
)

func TestWayThatWorks(t *testing.T) {
	w := pair(t, 1, link{mtu: 1500, delay: 20 * time.Millisecond}, 1500)
	a := w.nodes["a"]
	w.run(time.Second)
	s := a.State(to("b"))
	if !s.Known || !s.Works || s.RTT != 40*time.Millisecond || s.Loss != 0 || w.now.Sub(s.Since) > time.Second {
		t.Errorf("%+v", s)
	}
	a.changes = 0
	w.run(time.Minute)
	if again := a.State(to("b")); again.Since != s.Since || a.changes != 0 {
		t.Errorf("%d changes: %+v", a.changes, again)
	}
}

func TestWayThatNeverWorks(t *testing.T) {
	w := pair(t, 1, link{mtu: 0}, 1500)
	a := w.nodes["a"]
	took := w.runUntil(3*time.Second, func() bool { return a.State(to("b")).Known })
	if s := a.State(to("b")); s.Works || !s.Known || s.Loss != 1 || s.MTU != 1500 || took < 500*time.Millisecond || a.changes < 2 {
		t.Errorf("after %v: %+v", took, s)
	}
	now := w.now
	w.run(time.Minute)
	if n := len(a.sent); n > 45 || a.large(now) > 0 {
		t.Errorf("%d probes in a minute", n)
	}
}

func TestDeadWayIsNoticedAndRevived(t *testing.T) {
	long(t)
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 5))
		busy := seed%2 == 0
		delay := time.Duration(rng.IntN(350)) * time.Millisecond
		w := pair(t, seed, link{mtu: 1450, delay: delay}, 1500)
		a := w.nodes["a"]
		a.busy["b"] = busy
		w.run(20*time.Second + time.Duration(rng.IntN(5000))*time.Millisecond)
		w.links["udp"].mtu = 0
		limit := 3 * time.Second
		if !busy {
			limit = 7 * time.Second
		}
		// What is on its way still arrives.
		took := w.runUntil(limit+2*delay, func() bool { return !a.State(to("b")).Works })
		if s := a.State(to("b")); s.Works || s.Since != w.now || s.RTT != 0 {
			t.Errorf("seed %d, busy %v, %v: after %v %+v", seed, busy, w, took, s)
		}
		w.run(time.Duration(rng.IntN(60_000)) * time.Millisecond)
		w.links["udp"].mtu = 1450
		took = w.runUntil(2250*time.Millisecond+2*delay, func() bool { return a.State(to("b")).Works })
		if s := a.State(to("b")); !s.Works {
			t.Errorf("seed %d, busy %v, %v: not revived after %v %+v", seed, busy, w, took, s)
		}
	}
}

// A way that dies while its peer is idle is noticed as soon when it becomes busy.
func TestIdleWayBecomesBusy(t *testing.T) {
	for seed := range uint64(100) {
		w := pair(t, seed, link{mtu: 1500, delay: 5 * time.Millisecond}, 1500)
		a := w.nodes["a"]
		w.run(10*time.Second + time.Duration(seed)*50*time.Millisecond)
		w.links["udp"].mtu = 0
		a.busy["b"] = true
		took := w.runUntil(3*time.Second, func() bool { return !a.State(to("b")).Works })
		if a.State(to("b")).Works {
			t.Errorf("seed %d: still after %v", seed, took)
		}
	}
}

// With one probe in ten lost four in a row are once in 10,000 s, and the fifth,
// after 250 ms, mostly comes through.
func TestLossDoesNotKillAWay(t *testing.T) {
	long(t)
	var dead time.Duration
	deaths := 0
	for seed := range uint64(10) {
		w := pair(t, seed, link{mtu: 1500, loss: 0.05, delay: 5 * time.Millisecond}, 1500)
		a := w.nodes["a"]
		a.busy["b"] = true
		works := func() bool { return a.State(to("b")).Works }
		w.run(2 * time.Second)
		var losses float64
		end := w.now.Add(1000 * time.Second)
		for n := 0; w.now.Before(end); n++ {
			w.runUntil(time.Second, func() bool { return !works() })
			losses += (a.State(to("b")).Loss - losses) / float64(n+1)
			if works() {
				continue
			}
			deaths++
			took := w.runUntil(10*time.Second, works)
			dead += took
			if took > 5*time.Second {
				t.Errorf("seed %d: dead for %v", seed, took)
			}
		}
		if losses < 0.05 || losses > 0.15 {
			t.Errorf("seed %d: loss of %.2f reported, it is 0.0975", seed, losses)
		}
	}
	if deaths > 6 || dead > 6*time.Second {
		t.Errorf("in 10,000 s: dead %d times, for %v", deaths, dead)
	}
	t.Logf("in 10,000 s: dead %d times, for %v", deaths, dead)
}

// Since is when Works changed, to the call, and nothing else moves it: not a verdict
// that changes nothing, not a miss, not another answer.
func TestSince(t *testing.T) {
	long(t)
	changes := 0
	for seed := range uint64(20) {
		w := pair(t, seed, link{mtu: 0, delay: time.Duration(seed) * time.Millisecond}, 1500)
		a := w.nodes["a"]
		a.busy["b"] = seed%2 == 0
		works, since := false, w.now
		check := func() bool {
			s := a.State(to("b"))
			if s.Works != works {
				works, since = s.Works, w.now
				changes++
			}
			if s.Since != since {
				t.Fatalf("seed %d: Works is %t since %v: %+v", seed, works, since, s)
			}
			return false
		}
		w.runUntil(5*time.Second, check)
		if s := a.State(to("b")); !s.Known || s.Works {
			t.Fatalf("seed %d: %+v", seed, s)
		}
		w.links["udp"].mtu, w.links["udp"].loss = 1500, 0.5
		w.runUntil(5*time.Minute, check)
		a.Set([]path.Candidate{{Way: to("b"), Ceiling: 1400}}, w.now)
		w.runUntil(time.Minute, check)
	}
	if changes < 200 {
		t.Errorf("%d changes", changes)
	}
}

func TestMuteWay(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.nodes["a"]
	a.Set([]path.Candidate{{Way: to("b"), Ceiling: 1450, Mute: true}}, w.now)
	a.busy["b"] = true
	w.run(time.Minute)
	if s := a.State(to("b")); !s.Known || !s.Works || s.MTU != 1450 || s.Proven || len(a.sent) > 0 {
		t.Errorf("%d probes: %+v", len(a.sent), s)
	}
	if _, _, ok := a.Ping(to("b"), w.now); ok {
		t.Error("pinged")
	}
}

// Set keeps what is known of ways that stay, and stops at once with those that go.
func TestSet(t *testing.T) {
	w := newWorld(t, 1, "a", "b", "c")
	w.links["udp"] = &link{mtu: 1500}
	a, b, c := path.Candidate{Way: to("a"), Ceiling: 1500}, path.Candidate{Way: to("b"), Ceiling: 1500}, path.Candidate{Way: to("c"), Ceiling: 1500}
	w.nodes["a"].Set([]path.Candidate{b, c, b}, w.now)
	w.nodes["b"].Set([]path.Candidate{a}, w.now)
	w.nodes["c"].Set([]path.Candidate{a}, w.now)
	w.run(2 * time.Second)
	before := w.nodes["a"].State(c.Way)
	if !before.Proven {
		t.Fatalf("%+v", before)
	}
	w.nodes["a"].Set([]path.Candidate{c}, w.now)
	if got := w.nodes["a"].State(c.Way); got != before {
		t.Errorf("of the way that stays: %+v, was %+v", got, before)
	}
	if got := w.nodes["a"].State(b.Way); got != (path.State{}) {
		t.Errorf("of the way that went: %+v", got)
	}
	began := w.now
	w.run(time.Minute)
	for _, s := range w.nodes["a"].sent {
		if s.way == b.Way && !s.at.Before(began) {
			t.Errorf("probe for the way that went")
		}
	}
	w.nodes["a"].Set([]path.Candidate{b, c}, w.now)
	if got := w.nodes["a"].State(b.Way); got.Known || got.Since != w.now {
		t.Errorf("of the way that came back: %+v", got)
	}
	w.run(2 * time.Second)
	if got := w.nodes["a"].State(b.Way); !got.Proven {
		t.Errorf("of the way that came back: %+v", got)
	}
}

func TestSeveralWaysToAPeer(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	var ab, ba []path.Candidate
	for i := range 6 {
		mode := fmt.Sprint(i)
		w.links[mode] = &link{mtu: 1500 - 10*i}
		ab = append(ab, path.Candidate{Way: path.Way{Peer: "b", Mode: mode}, Ceiling: 1500})
		ba = append(ba, path.Candidate{Way: path.Way{Peer: "a", Mode: mode}, Ceiling: 1500})
	}
	w.links["5"].mtu = 0
	w.nodes["a"].Set(ab, w.now)
	w.nodes["b"].Set(ba, w.now)
	w.run(5 * time.Second)
	for i, c := range ab {
		s := w.nodes["a"].State(c.Way)
		if i == 5 && (s.Works || !s.Known) || i < 5 && (!s.Works || !s.Proven || s.MTU != 1500-10*i) {
			t.Errorf("way %d: %+v", i, s)
		}
	}
	if n := w.nodes["b"].refused; len(n) > 0 {
		t.Errorf("refused: %v", n)
	}
}

// When a way is found not to work, it is known whether the others to its peer, which
// are seldom asked, still did a moment ago.
func TestOtherWaysAreAsked(t *testing.T) {
	long(t)
	direct := path.Way{Peer: "b", Mode: "direct", To: to("b").To}
	for seed := range uint64(100) {
		w := newWorld(t, seed, "a", "b")
		tunnel := &link{mtu: 1500, delay: time.Duration(seed) * time.Millisecond}
		w.links["udp"], w.links["direct"] = tunnel, &link{mtu: 1500, delay: tunnel.delay}
		a, b := w.nodes["a"], w.nodes["b"]
		a.Set([]path.Candidate{{Way: to("b"), Ceiling: 1500}, {Way: direct, Ceiling: 1500}}, w.now)
		b.Set([]path.Candidate{{Way: to("a"), Ceiling: 1500}}, w.now)
		a.only = direct
		w.run(20*time.Second + time.Duration(seed)*50*time.Millisecond)
		w.links["direct"].mtu = 0
		dead := seed%2 == 0
		if dead {
			tunnel.mtu = 0
		}
		w.runUntil(4*time.Second, func() bool { return !a.State(direct).Works })
		if s := a.State(to("b")); a.State(direct).Works || s.Missed != dead || !s.Works && !dead {
			t.Errorf("seed %d: the tunnel is dead: %t; direct %+v, tunnel %+v", seed, dead, a.State(direct), s)
		}
	}
}
