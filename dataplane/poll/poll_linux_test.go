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

func newPoller(t *testing.T, queue int, sockets ...int) *Poller {
	t.Helper()
	p, err := New([]int{queue}, sockets)
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

// put makes the pipe readable.
func put(t *testing.T, w int) {
	t.Helper()
	if _, err := unix.Write(w, []byte{1}); err != nil {
		t.Fatal(err)
	}
}

// drain makes it empty again.
func drain(t *testing.T, r int) {
	t.Helper()
	for {
		if _, err := unix.Read(r, make([]byte, 1<<16)); errors.Is(err, unix.EAGAIN) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
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

func start(p *Poller, full int) wait {
	tid := make(chan int)
	w := wait{returned: make(chan error, 1)}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread has a home
		tid <- unix.Gettid()
		w.returned <- p.Wait(full, false)
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
	type ends struct{ r, w int }
	var queue, first, second ends
	for _, e := range []*ends{&queue, &first, &second} {
		e.r, e.w = pipe(t)
	}
	_, full := pipe(t)
	fill(t, full)
	p := newPoller(t, queue.r, first.r, second.r)
	for _, c := range []struct {
		name  string
		full  int
		write ends
		ready [2]bool
	}{
		{"the queue", -1, queue, [2]bool{}},
		{"the first socket", -1, first, [2]bool{true, false}},
		{"the second socket", -1, second, [2]bool{false, true}},
		{"the first socket, while another is full", full, first, [2]bool{true, false}},
		{"the second socket, while another is full", full, second, [2]bool{false, true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			waiting := start(p, c.full)
			waiting.asleep(t)
			put(t, c.write.w)
			waiting.end(t)
			// Until it is read it stays ready.
			start(p, c.full).end(t)
			if got := [2]bool{p.Ready(0), p.Ready(1)}; got != c.ready {
				t.Errorf("the sockets are ready: %v, want %v", got, c.ready)
			}
			drain(t, c.write.r)
		})
	}
}

// A socket that has no room is waited for until it has some, and meanwhile the queue
// is left alone.
func TestWaitForRoom(t *testing.T) {
	queue, fromPods := pipe(t)
	socket, _ := pipe(t)
	far, full := pipe(t)
	p := newPoller(t, queue, socket)
	put(t, fromPods)
	for range 2 {
		fill(t, full)
		waiting := start(p, full)
		waiting.asleep(t)
		drain(t, far)
		waiting.end(t)
		if p.Ready(0) {
			t.Error("a socket is ready that has nothing")
		}
		start(p, -1).end(t) // the queue's turn again
	}
}

func TestWaitForWhatIsGone(t *testing.T) {
	for name, sockets := range map[string]bool{"a socket": true, "the queue": false} {
		t.Run(name, func(t *testing.T) {
			var fds [2]int
			if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fds[0])
			other, _ := pipe(t)
			p := newPoller(t, other, fds[0])
			if !sockets {
				p = newPoller(t, fds[0], other)
			}
			waiting := start(p, -1)
			waiting.asleep(t)
			unix.Close(fds[1])
			waiting.end(t)
			if p.Ready(0) != sockets {
				t.Errorf("the socket is ready: %v, want %v", p.Ready(0), sockets)
			}
		})
	}
}

func TestWake(t *testing.T) {
	empty, _ := pipe(t)
	p := newPoller(t, empty, empty)
	for range 3 {
		waiting := start(p, -1)
		waiting.asleep(t)
		p.Wake()
		waiting.end(t)
		if p.Ready(0) {
			t.Error("a socket is ready that has nothing")
		}
	}

	// What came before is not forgotten, and not remembered twice.
	p.Wake()
	p.Wake()
	start(p, -1).end(t)
	waiting := start(p, -1)
	waiting.asleep(t)
	p.Wake()
	waiting.end(t)
}

// A signal to the thread, as the Go runtime sends them, is no error.
func TestWaitIsInterrupted(t *testing.T) {
	p := newPoller(t, -1)
	waiting := start(p, -1)
	waiting.asleep(t)
	if err := unix.Tgkill(unix.Getpid(), waiting.tid, unix.SIGURG); err != nil {
		t.Fatal(err)
	}
	waiting.end(t)
}

func TestWaitAllocatesNothing(t *testing.T) {
	empty, room := pipe(t)
	p := newPoller(t, empty, empty)
	if n := testing.AllocsPerRun(100, func() {
		p.Wake()
		if err := p.Wait(-1, true); err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(room, true); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A poller that was busy looks for work before it sleeps, and sees what comes
// then: a packet in the queue or at a socket, and Wake.
func TestWaitOfABusyPoller(t *testing.T) {
	queue, toQueue := pipe(t)
	socket, toSocket := pipe(t)
	p := newPoller(t, queue, socket)
	for range 100 {
		for _, rouse := range []func(){p.Wake, func() { put(t, toQueue) }, func() { put(t, toSocket) }} {
			drain(t, queue)
			drain(t, socket)
			p.busy = true
			ended := make(chan error, 1)
			go func() { ended <- p.Wait(-1, true) }()
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
		if !p.Ready(0) {
			t.Fatal("the socket that ended the wait is not ready")
		}
	}
}

// A wait that was long makes the next one sleep at once, a short one does not.
func TestPollerIsBusyAfterShortWaits(t *testing.T) {
	p := newPoller(t, -1)
	for range 1000 { // a busy machine may take long for a Wait that has nothing to wait for, but not always
		p.Wake()
		if err := p.Wait(-1, true); err != nil {
			t.Fatal(err)
		}
		if p.busy {
			break
		}
	}
	if !p.busy {
		t.Error("not busy after a short wait")
	}
	for range 100 { // a busy machine may begin to wait when the time is nearly over
		alarm := time.AfterFunc(20*patience, p.Wake)
		err := p.Wait(-1, true)
		alarm.Stop()
		if err != nil {
			t.Fatal(err)
		}
		if !p.busy {
			return
		}
	}
	t.Error("busy after a wait of 20 times its patience")
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
