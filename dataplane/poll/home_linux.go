package poll

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stay is how long a thread keeps to one CPU before the scheduler may choose anew: long beside a turn, and short
// beside what it takes somebody to notice that another thread has the CPU too.
const stay = time.Second

// home is the CPU that a thread keeps to in bulk traffic. The scheduler moves a thread that it wakes to a CPU that is idle, and so a worker
// between two turns, thousands of times a second: away from its caches and from who woke it, with an interrupt from
// CPU to CPU, for which both CPUs of a virtual machine leave it. The zero value is that of a thread that has none.
type home struct {
	all    unix.CPUSet // where the thread may run
	here   unix.CPUSet // the home
	chosen time.Time   // zero without a home
	never  bool        // there is no choice, or a sandbox forbids it
}

// keep makes the CPU that the thread runs on its home, for a while: then the thread roams until the next call. All calls are of
// one thread.
func (h *home) keep(now time.Time) {
	switch {
	case h.never:
	case h.chosen.IsZero():
		h.choose(now)
	case now.Sub(h.chosen) > stay:
		h.roam()
	}
}

func (h *home) choose(now time.Time) {
	var cpu uint32
	_, _, errno := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0)
	h.here.Zero()
	h.here.Set(int(cpu))
	if errno != 0 || unix.SchedGetaffinity(0, &h.all) != nil || h.all.Count() < 2 || unix.SchedSetaffinity(0, &h.here) != nil {
		h.never = true
		return
	}
	h.chosen = now
}

// roam lets the thread run wherever it may. Where somebody else has said meanwhile where that is, it stays so (taskset(1), cpuset(7)).
func (h *home) roam() {
	if h.chosen.IsZero() {
		return
	}
	h.chosen = time.Time{}
	var is unix.CPUSet
	if unix.SchedGetaffinity(0, &is) == nil && is == h.here {
		_ = unix.SchedSetaffinity(0, &h.all) // of CPUs that it had
	}
}
