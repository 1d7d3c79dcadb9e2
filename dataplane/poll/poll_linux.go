// Package poll is where a worker's thread waits for its descriptors: nowhere
// else on the packet path may a thread sleep, and the Go runtime's poller is not used.
// Linux only.
package poll

import (
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// patience is how long Wait looks for work before it lets the thread sleep, where
// the wait before was a short one too: to sleep and be woken costs some 10
// microseconds of two CPUs, in a virtual machine more, and with that each hop of a
// slow conversation becomes slower. It is longer than the network between two
// machines takes for the next packet of a conversation, on slow machines too.
const patience = 150 * time.Microsecond

// The places of a Poller's descriptors. The sockets are from read on, and the queues behind them.
const (
	wake = iota
	write
	read
)

// Poller waits for descriptors and for other goroutines. One goroutine calls
// Wait, any number call Wake, and Close comes after the last of both.
type Poller struct {
	eventfd int
	fds     []unix.PollFd
	queues  []unix.PollFd // of fds
	from    []int         // descriptors of queues
	count   [8]byte       // what the eventfd says, which is of no interest
	nothing unix.Timespec
	busy    bool // the last Wait was short
	home    home
}

// New makes a Poller that reads from queues, which may be left alone at times, and
// from sockets.
func New(from, sockets []int) (*Poller, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	p := &Poller{eventfd: fd, from: from, fds: make([]unix.PollFd, read+len(sockets)+len(from))}
	p.queues = p.fds[read+len(sockets):]
	p.fds[wake] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	p.fds[write].Events = unix.POLLOUT
	for i, s := range sockets {
		p.fds[read+i] = unix.PollFd{Fd: int32(s), Events: unix.POLLIN}
	}
	for i := range p.queues {
		p.queues[i].Events = unix.POLLIN
	}
	return p, nil
}

// Wait blocks the thread until a socket can be read, or a queue, unless full says
// that there is no room for what comes from those: then it waits until full can be
// written, and -1 is none. It also returns where a descriptor has an error or was
// hung up, which reading or writing it then tells; and where Wake was called, now or
// since the last Wait returned. It may return for no reason.
//
// An eager Wait stays awake for a while where the one before was short, but gives
// the CPU to whoever else wants it. After a longer one it sleeps at once, so that
// an idle node costs nothing. One that is not eager keeps the thread, which must be
// the same for all calls, on its CPU.
func (p *Poller) Wait(full int, eager bool) error {
	p.fds[write].Fd = int32(full)
	for i, fd := range p.from {
		if p.queues[i].Fd = int32(fd); full >= 0 {
			p.queues[i].Fd = -1
		}
	}
	began := time.Now()
	if eager {
		p.home.roam()
	} else {
		p.home.keep(began)
	}
	ready := eager && p.busy && p.watch(began)
	if !ready {
		if _, err := unix.Ppoll(p.fds, nil, nil); err != nil {
			if errors.Is(err, unix.EINTR) {
				return nil
			}
			return fmt.Errorf("poll the descriptors of a worker: %w", err)
		}
	}
	p.busy = time.Since(began) < 2*patience
	if p.fds[wake].Revents != 0 {
		// Set to 0 again, or empty already, which is as good.
		_, _ = unix.Read(p.eventfd, p.count[:])
	}
	return nil
}

// Ready says whether socket i had something when the last Wait returned.
func (p *Poller) Ready(i int) bool { return p.fds[read+i].Revents != 0 }

// QueueReady says whether queue i had something when the last Wait returned.
func (p *Poller) QueueReady(i int) bool { return p.queues[i].Revents != 0 }

// watch looks at the descriptors until one is ready or patience is over.
func (p *Poller) watch(began time.Time) (ready bool) {
	for time.Since(began) < patience {
		n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(unsafe.SliceData(p.fds))), uintptr(len(p.fds)), uintptr(unsafe.Pointer(&p.nothing)), 0, 0, 0)
		if errno == 0 && n > 0 {
			return true
		}
		Yield()
	}
	return false
}

// Yield lets another thread that wants this CPU have it (sched_yield(2)).
func Yield() { unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// Wake makes the Wait that is under way, or else the next one, return.
func (p *Poller) Wake() {
	// It fails only where the counter is full, and then Wait returns too.
	_, _ = unix.Write(p.eventfd, one[:])
}

// Immutable. What is added to the counter of an eventfd, 64 bits that are not 0
// in either byte order.
var one = [8]byte{1}

// Close gives the eventfd back.
func (p *Poller) Close() error {
	if err := unix.Close(p.eventfd); err != nil {
		return fmt.Errorf("close an eventfd: %w", err)
	}
	return nil
}

// Batch makes the calling goroutine's thread, which becomes its own for good, one
// of throughput: when it is woken it preempts nobody, so that a sender goes on and
// fills the queue, and one turn of the worker carries more (SCHED_BATCH, sched(7)).
// A policy that the operator chose stays.
func Batch() {
	runtime.LockOSThread() // never unlocked, so that no other goroutine inherits it
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil || attr.Policy != unix.SCHED_NORMAL {
		return
	}
	attr.Policy = unix.SCHED_BATCH
	// Where a sandbox forbids it the worker is as good, but for the last percents.
	_ = unix.SchedSetAttr(0, attr, 0)
}
