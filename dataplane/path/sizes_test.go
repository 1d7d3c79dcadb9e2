package path_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/weft-net/weft/dataplane/path"
)

// Immutable.
var ceilings = []int{1280, 1281, 1400, 1500, 1500, 9000, 9000, 65535}

// anyPath draws a ceiling, and an MTU of at least 1280 up to it.
func anyPath(rng *rand.Rand) (ceiling, mtu int) {
	ceiling = ceilings[rng.IntN(len(ceilings))]
	return ceiling, 1280 + rng.IntN(ceiling-1280+1)
}

func proven(n *node, peer string) func() bool {
	return func() bool { return n.State(to(peer)).Proven }
}

func TestSearchFindsTheMTU(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		ceiling, mtu := anyPath(rng)
		w := pair(t, seed, link{mtu: mtu, delay: time.Duration(rng.IntN(50)) * time.Millisecond, jitter: time.Millisecond}, ceiling)
		a := w.nodes["a"]
		if s := a.State(to("b")); s.MTU != ceiling || s.Proven || s.Known || s.Works {
			t.Fatalf("before the first answer: %+v", s)
		}
		took := w.runUntil(5*time.Second, proven(a, "b"))
		if s := a.State(to("b")); s.MTU != mtu || !s.Proven || !s.Works {
			t.Errorf("seed %d, ceiling %d, %v: after %v %+v", seed, ceiling, w, took, s)
		}
	}
}

func TestSearchOfEthernetTakesASecond(t *testing.T) {
	for mtu := 1280; mtu <= 1500; mtu++ {
		w := pair(t, uint64(mtu), link{mtu: mtu, delay: time.Millisecond}, 1500)
		took := w.runUntil(5*time.Second, proven(w.nodes["a"], "b"))
		if took > 1500*time.Millisecond {
			t.Errorf("MTU %d: %v", mtu, took)
		}
	}
}

// A size is lost by chance once in a thousand, or in 10,000 on a way that loses a
// twentieth both ways.
func TestSearchWithLoss(t *testing.T) {
	long(t)
	const worlds = 500
	low := 0
	for seed := range uint64(worlds) {
		rng := rand.New(rand.NewPCG(seed, 2))
		ceiling, mtu := anyPath(rng)
		w := pair(t, seed, link{mtu: mtu, loss: 0.05, delay: time.Millisecond}, ceiling)
		a := w.nodes["a"]
		took := w.runUntil(10*time.Second, proven(a, "b"))
		s := a.State(to("b"))
		if !s.Proven || s.MTU > mtu || took > 5*time.Second {
			t.Errorf("seed %d, ceiling %d, %v: after %v %+v", seed, ceiling, w, took, s)
		}
		if s.MTU < mtu {
			low++
		}
	}
	if low > worlds/100 {
		t.Errorf("%d of %d searches found too little", low, worlds)
	}
}

func TestShrunkPathUnderTraffic(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		ceiling, mtu := anyPath(rng)
		w := pair(t, seed, link{mtu: mtu, delay: time.Duration(rng.IntN(25)) * time.Millisecond}, ceiling)
		a := w.nodes["a"]
		a.busy["b"] = true
		w.run(5*time.Second + time.Duration(rng.IntN(2000))*time.Millisecond)
		now := 1280 + rng.IntN(mtu-1280+1)
		w.links["udp"].mtu = now
		fell := w.runUntil(3*time.Second, func() bool { return a.State(to("b")).MTU <= now })
		w.run(3*time.Second - fell)
		if s := a.State(to("b")); s.MTU != now || !s.Proven || !s.Works || fell > 2*time.Second {
			t.Errorf("seed %d, ceiling %d, from %d, %v: fell after %v, after 3s %+v", seed, ceiling, mtu, w, fell, s)
		}
	}
}

func TestPathBelowTheLeast(t *testing.T) {
	w := pair(t, 1, link{mtu: 1000}, 1500)
	a := w.nodes["a"]
	a.busy["b"] = true
	w.run(2 * time.Second)
	if s := a.State(to("b")); s.MTU != 1280 || s.Proven || !s.Works {
		t.Errorf("%+v", s)
	}
	w.links["udp"].mtu = 1400
	took := w.runUntil(time.Minute, proven(a, "b"))
	if s := a.State(to("b")); s.MTU != 1400 || took > 32*time.Second {
		t.Errorf("after %v %+v", took, s)
	}
}

func TestGrownPath(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 4))
		ceiling, mtu := anyPath(rng)
		small := 1280 + rng.IntN(mtu-1280+1)
		w := pair(t, seed, link{mtu: small}, ceiling)
		a := w.nodes["a"]
		a.busy["b"] = true
		w.run(5 * time.Second)
		w.links["udp"].mtu = mtu
		w.run(33 * time.Second)
		if s := a.State(to("b")); s.MTU != mtu || !s.Proven {
			t.Errorf("seed %d, ceiling %d, from %d, %v: %+v", seed, ceiling, small, w, s)
		}
	}
}

func TestIdlePeerIsSearchedOnce(t *testing.T) {
	w := pair(t, 1, link{mtu: 1450}, 1500)
	a := w.nodes["a"]
	w.run(5 * time.Second)
	idle := w.now
	if a.large(time.Time{}) == 0 {
		t.Fatal("no search at all")
	}
	w.links["udp"].mtu = 1350
	w.run(10 * time.Minute)
	if n := a.large(idle); n != 0 {
		t.Errorf("%d probes for sizes to an idle peer", n)
	}
	a.busy["b"] = true
	w.run(3 * time.Second)
	if s := a.State(to("b")); s.MTU != 1350 || !s.Proven {
		t.Errorf("3s after it became busy: %+v", s)
	}
	a.busy["b"] = false
	w.run(3 * time.Second)
	idle = w.now
	w.run(time.Minute)
	if n := a.large(idle); n != 0 {
		t.Errorf("%d probes for sizes after it became idle", n)
	}
}

// On a way that loses a twentieth both ways the MTU is too small once in 10,000 s by
// the odds of four probes in a row, and 30 s each time.
func TestLossDoesNotShrinkAPath(t *testing.T) {
	long(t)
	falls, seconds := 0, 0
	for seed := range uint64(10) {
		w := pair(t, seed, link{mtu: 1450, loss: 0.05, delay: 5 * time.Millisecond, jitter: 5 * time.Millisecond}, 1500)
		a := w.nodes["a"]
		a.busy["b"] = true
		w.run(60 * time.Second) // what the first search missed is found at the first look upwards
		was := 1450
		for range 1000 {
			w.run(time.Second)
			mtu := a.State(to("b")).MTU
			if mtu > 1450 {
				t.Fatalf("seed %d: MTU %d", seed, mtu)
			}
			if mtu < was {
				falls++
			}
			if mtu < 1450 {
				seconds++
			}
			was = mtu
		}
	}
	if falls > 6 || seconds > 240 {
		t.Errorf("in 10,000 s: %d falls, %d s below the truth", falls, seconds)
	}
	t.Logf("in 10,000 s: %d falls, %d s below the truth", falls, seconds)
}

// A way whose delay leaps keeps its MTU: what is slow is not lost.
func TestDelayDoesNotShrinkAPath(t *testing.T) {
	w := pair(t, 1, link{mtu: 1450}, 1500)
	a := w.nodes["a"]
	a.busy["b"] = true
	w.run(5 * time.Second)
	a.changes = 0
	for _, delay := range []time.Duration{100, 10, 300, 1, 500, 0} {
		w.links["udp"].delay = delay * time.Millisecond
		w.run(10 * time.Second)
	}
	if s := a.State(to("b")); s.MTU != 1450 || a.changes != 0 {
		t.Errorf("%d changes: %+v", a.changes, s)
	}
}

func TestOwnLinkRefuses(t *testing.T) {
	w := pair(t, 1, link{mtu: 1500, local: 1437}, 1500)
	a := w.nodes["a"]
	a.busy["b"] = true
	w.runUntil(5*time.Second, proven(a, "b"))
	if s := a.State(to("b")); s.MTU != 1437 || !s.Proven {
		t.Errorf("%+v", s)
	}
	w.links["udp"].local = 1380
	a.sent = nil
	fell := w.runUntil(5*time.Second, func() bool { return a.State(to("b")).MTU <= 1380 })
	w.runUntil(5*time.Second, proven(a, "b"))
	if s := a.State(to("b")); s.MTU != 1380 || !s.Proven || fell > 1100*time.Millisecond {
		t.Errorf("fell after %v: %+v", fell, s)
	}
	refused := 0
	for _, s := range a.sent {
		if s.size == 1437 {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("a size that the link refuses was tried %d times", refused)
	}
	w.links["udp"].local = 1000
	w.run(3 * time.Second)
	if s := a.State(to("b")); s.MTU != 1280 || s.Proven || !s.Works {
		t.Errorf("%+v", s)
	}
}

func TestCeilingChanges(t *testing.T) {
	w := pair(t, 1, link{mtu: 1450}, 1500)
	a := w.nodes["a"]
	w.run(3 * time.Second)
	since := a.State(to("b")).Since
	for _, c := range []struct{ ceiling, at, found int }{
		{1400, 1400, 1400},
		{9000, 1400, 1450},
		{1500, 1450, 1450},
		{100, 1280, 1280},
	} {
		a.Changed()
		a.Set([]path.Candidate{{Way: to("b"), Ceiling: c.ceiling}}, w.now)
		if s := a.State(to("b")); s.MTU != c.at || !a.Changed() {
			t.Errorf("ceiling %d: at once %+v", c.ceiling, s)
		}
		w.run(3 * time.Second)
		if s := a.State(to("b")); s.MTU != c.found || !s.Proven || s.Since != since {
			t.Errorf("ceiling %d: %+v", c.ceiling, s)
		}
	}
}

func TestCeilingChangesBeforeTheFirstAnswer(t *testing.T) {
	w := pair(t, 1, link{mtu: 1450}, 1500)
	a := w.nodes["a"]
	a.Set([]path.Candidate{{Way: to("b"), Ceiling: 9000}}, w.now)
	if s := a.State(to("b")); s.MTU != 9000 || s.Proven {
		t.Errorf("%+v", s)
	}
}

func TestSweep(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 10_000 {
		floor := 1279 + rng.IntN(9000)
		top := floor + 2 + rng.IntN(1<<rng.IntN(16))
		got := path.Sweep(floor, top)
		distinct := slices.Compact(slices.Sorted(slices.Values(got)))
		if !slices.Equal(got, distinct) || got[0] != floor+1 || got[len(got)-1] != top-1 ||
			len(got) > path.MaxSweep || len(got) < min(8, top-floor-1) {
			t.Fatalf("between %d and %d: %v", floor, top, got)
		}
	}
	if got, want := path.Sweep(1279, 1501), []int{1280, 1400, 1420, 1450, 1460, 1480, 1492, 1500}; !slices.Equal(got, want) {
		t.Errorf("of Ethernet: %v, want %v", got, want)
	}
}
