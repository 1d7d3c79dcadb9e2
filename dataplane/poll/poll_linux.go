// Package poll is where a worker's thread waits for its descriptors: nowhere
// else on the packet path may a thread sleep, and the Go runtime's poller is not used.
// Linux only.
package poll

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// The places of a Poller's descriptors.
const (
	wake = iota
	readA
	readB
	writeC
	places
)

// Poller waits for descriptors and for other goroutines. One goroutine calls
// Wait, any number call Wake, and Close comes after the last of both.
type Poller struct {
	eventfd int
	fds     [places]unix.PollFd
	count   [8]byte // what the eventfd says, which is of no interest
}

// New makes a Poller.
func New() (*Poller, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	p := &Poller{eventfd: fd}
	p.fds[wake] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	p.fds[readA].Events = unix.POLLIN
	p.fds[readB].Events = unix.POLLIN
	p.fds[writeC].Events = unix.POLLOUT
	return p, nil
}

// Wait blocks the thread until a or b can be read or c can be written, each of
// which may be -1 for none; or until one of them has an error or was hung up,
// which reading or writing it then tells; or until Wake was called, now or
// since the last Wait returned. It may also return for no reason.
func (p *Poller) Wait(a, b, c int) error {
	p.fds[readA].Fd, p.fds[readB].Fd, p.fds[writeC].Fd = int32(a), int32(b), int32(c)
	if _, err := unix.Ppoll(p.fds[:], nil, nil); err != nil {
		if errors.Is(err, unix.EINTR) {
			return nil
		}
		return fmt.Errorf("poll the descriptors of a worker: %w", err)
	}
	if p.fds[wake].Revents != 0 {
		// Set to 0 again, or empty already, which is as good.
		_, _ = unix.Read(p.eventfd, p.count[:])
	}
	return nil
}

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
