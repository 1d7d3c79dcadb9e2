package poll

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cpus is how many CPUs the calling thread may run on.
func cpus(t *testing.T) int {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	return set.Count()
}

// onAThread runs do on a thread that ends with it.
func onAThread(t *testing.T, do func()) {
	t.Helper()
	if runtime.NumCPU() < 2 {
		t.Skip("there is one CPU, and no choice")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		do()
	}()
	<-done
}

func TestHome(t *testing.T) {
	onAThread(t, func() {
		var h home
		all, now := cpus(t), time.Now()
		is := func(want int, when string) {
			t.Helper()
			if got := cpus(t); got != want {
				t.Errorf("%s the thread may run on %d CPUs, want %d", when, got, want)
			}
		}
		h.roam()
		is(all, "without a home")
		h.keep(now)
		is(1, "at home")
		h.keep(now.Add(stay))
		is(1, "at the end of its stay")
		h.keep(now.Add(stay + 1))
		is(all, "after its stay")
		h.keep(now.Add(stay + 2))
		is(1, "in its next home")
		h.roam()
		is(all, "set free")
	})
}

// What an operator says meanwhile holds.
func TestHomeThatSomebodyElseChanged(t *testing.T) {
	onAThread(t, func() {
		var h home
		h.keep(time.Now())
		var all, other unix.CPUSet
		all = h.all
		for cpu := range len(all) * 64 {
			if all.IsSet(cpu) && !h.here.IsSet(cpu) && other.Count() == 0 {
				other.Set(cpu)
			}
		}
		if err := unix.SchedSetaffinity(0, &other); err != nil {
			t.Fatal(err)
		}
		h.roam()
		var is unix.CPUSet
		if err := unix.SchedGetaffinity(0, &is); err != nil || is != other {
			t.Errorf("the thread may run on %v (%v), want %v", is, err, other)
		}
	})
}

// A thread that has one CPU keeps it, and is left alone.
func TestHomeOfWhoHasOneCPU(t *testing.T) {
	onAThread(t, func() {
		var given unix.CPUSet
		given.Set(0)
		if err := unix.SchedSetaffinity(0, &given); err != nil {
			t.Fatal(err)
		}
		var h home
		h.keep(time.Now())
		if h.roam(); !h.never || cpus(t) != 1 {
			t.Errorf("%+v, and %d CPUs", h, cpus(t))
		}
	})
}

// Bulk traffic keeps a thread at home, and a conversation does not.
func TestWaitKeepsTheThreadAtHome(t *testing.T) {
	onAThread(t, func() {
		r, w := pipe(t)
		p := newPoller(t, r)
		put(t, w)
		all := cpus(t)
		for _, eager := range []bool{false, true, false} {
			if err := p.Wait(-1, eager); err != nil {
				t.Error(err)
			}
			if at := cpus(t); (at == 1) == eager || eager && at != all {
				t.Errorf("eager %t: the thread may run on %d CPUs", eager, at)
			}
		}
	})
}
