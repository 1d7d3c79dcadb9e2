package poll

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fuse ends a test that would wait for ever.
const fuse = 30 * time.Second

func newPoller(t *testing.T) *Poller {
	t.Helper()
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// pipe makes a pipe for the length of the test. An empty one can be written and
// not be read.
func pipe(t *testing.T) (r, w int) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	return fds[0], fds[1]
}

// fill makes the pipe full, so that it can be read and not be written.
func fill(t *testing.T, w int) {
	t.Helper()
	for {
		if _, err := unix.Write(w, make([]byte, 1<<16)); errors.Is(err, unix.EAGAIN) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// wait is a Wait under way, in a thread of its own.
type wait struct {
	tid      int
	returned chan error
}

func start(p *Poller, a, b, c int) wait {
	tid := make(chan int)
	w := wait{returned: make(chan error, 1)}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tid <- unix.Gettid()
		w.returned <- p.Wait(a, b, c, false)
	}()
	w.tid = <-tid
	return w
}

// asleep returns once the thread sleeps in a system call, where it would
// otherwise have returned.
func (w wait) asleep(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(fuse); time.Now().Before(end); runtime.Gosched() {
		if sleeping(t, w.tid) {
			return
		}
		if len(w.returned) > 0 {
			t.Fatal("Wait returned")
		}
	}
	t.Fatal("Wait does not sleep")
}

// sleeping says whether a thread of this process is inside ppoll(2), asleep.
func sleeping(t *testing.T, tid int) bool {
	t.Helper()
	call, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/syscall", tid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.HasPrefix(string(call), fmt.Sprintf("%d ", unix.SYS_PPOLL))
}

func (w wait) end(t *testing.T) {
	t.Helper()
	select {
	case err := <-w.returned:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(fuse):
		t.Fatal("Wait does not return")
	}
}

func TestWaitForADescriptor(t *testing.T) {
	p := newPoller(t)
	empty, _ := pipe(t)
	_, full := pipe(t)
	fill(t, full)
	for name, ready := range map[string]func(r, w int) (a, b, c int){
		"the first can be read":    func(r, _ int) (a, b, c int) { return r, empty, full },
		"the second can be read":   func(r, _ int) (a, b, c int) { return empty, r, full },
		"only the second is there": func(r, _ int) (a, b, c int) { return -1, r, -1 },
	} {
		t.Run(name, func(t *testing.T) {
			r, w := pipe(t)
			a, b, c := ready(r, w)
			waiting := start(p, a, b, c)
			waiting.asleep(t)
			if _, err := unix.Write(w, []byte{1}); err != nil {
				t.Fatal(err)
			}
			waiting.end(t)
			// Until it is read it stays ready.
			if err := p.Wait(a, b, c, false); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("the third can be written", func(t *testing.T) {
		r, w := pipe(t)
		fill(t, w)
		waiting := start(p, empty, -1, w)
		waiting.asleep(t)
		for {
			if _, err := unix.Read(r, make([]byte, 1<<16)); errors.Is(err, unix.EAGAIN) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		waiting.end(t)
	})
	t.Run("the far end is gone", func(t *testing.T) {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[0])
		waiting := start(p, fds[0], -1, -1)
		waiting.asleep(t)
		unix.Close(fds[1])
		waiting.end(t)
	})
}

func TestWake(t *testing.T) {
	p := newPoller(t)
	empty, _ := pipe(t)
	for range 3 {
		waiting := start(p, empty, -1, -1)
		waiting.asleep(t)
		p.Wake()
		waiting.end(t)
	}

	// What came before is not forgotten, and not remembered twice.
	p.Wake()
	p.Wake()
	start(p, empty, -1, -1).end(t)
	waiting := start(p, empty, -1, -1)
	waiting.asleep(t)
	p.Wake()
	waiting.end(t)
}

// A signal to the thread, as the Go runtime sends them, is no error.
func TestWaitIsInterrupted(t *testing.T) {
	p := newPoller(t)
	waiting := start(p, -1, -1, -1)
	waiting.asleep(t)
	if err := unix.Tgkill(unix.Getpid(), waiting.tid, unix.SIGURG); err != nil {
		t.Fatal(err)
	}
	waiting.end(t)
}

func TestWaitAllocatesNothing(t *testing.T) {
	p := newPoller(t)
	empty, full := pipe(t)
	if n := testing.AllocsPerRun(100, func() {
		p.Wake()
		if err := p.Wait(empty, -1, -1, true); err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(empty, -1, full, true); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A poller that was busy looks for work before it sleeps, and sees what comes
// then: a descriptor, and Wake.
func TestWaitOfABusyPoller(t *testing.T) {
	p := newPoller(t)
	r, w := pipe(t)
	for range 100 {
		for _, rouse := range []func(){p.Wake, func() { write(t, w) }} {
			p.busy = true
			ended := make(chan error, 1)
			go func() { ended <- p.Wait(r, -1, -1, true) }()
			rouse()
			select {
			case err := <-ended:
				if err != nil {
					t.Fatal(err)
				}
			case <-time.After(fuse):
				t.Fatal("Wait did not return")
			}
		}
		if _, err := unix.Read(r, make([]byte, 8)); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t *testing.T, fd int) {
	if _, err := unix.Write(fd, []byte{1}); err != nil {
		t.Error(err)
	}
}

// A wait that was long makes the next one sleep at once, a short one does not.
func TestPollerIsBusyAfterShortWaits(t *testing.T) {
	p := newPoller(t)
	for range 1000 { // a busy machine may take long for a Wait that has nothing to wait for, but not always
		p.Wake()
		if err := p.Wait(-1, -1, -1, true); err != nil {
			t.Fatal(err)
		}
		if p.busy {
			break
		}
	}
	if !p.busy {
		t.Error("not busy after a short wait")
	}
	alarm := time.AfterFunc(20*patience, p.Wake)
	defer alarm.Stop()
	if err := p.Wait(-1, -1, -1, true); err != nil {
		t.Fatal(err)
	}
	if p.busy {
		t.Error("busy after a wait of 20 times its patience")
	}
}

func TestBatch(t *testing.T) {
	policy := func() uint32 {
		attr, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			t.Error(err)
			return ^uint32(0)
		}
		return attr.Policy
	}
	done := make(chan [3]uint32)
	go func() {
		runtime.LockOSThread()
		before := policy()
		Batch()
		attr := &unix.SchedAttr{Policy: unix.SCHED_IDLE}
		after := policy()
		if err := unix.SchedSetAttr(0, attr, 0); err != nil {
			t.Error(err)
		}
		Batch()
		done <- [3]uint32{before, after, policy()}
	}()
	got := <-done
	if want := [3]uint32{unix.SCHED_NORMAL, unix.SCHED_BATCH, unix.SCHED_IDLE}; got != want {
		t.Errorf("policies before, after, and where the operator chose one: %v, want %v", got, want)
	}
}
