package device

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/songgao/water"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/packet"
)

// waterqueue is the queue of a TAP that goes through songgao/water. It shares no code with
// the other: who doubts that one compares the two.
type waterqueue struct {
	dev     *tuntap
	in, out *water.Interface
	fd      int    // of in
	frame   []byte // that is written: water takes it in one piece
}

// attachByWater is the attacher of devices that songgao/water opens. It asks for no
// IFF_TUN_EXCL, so that a queue in its place does, which goes when its own is there. It
// sets no close-on-exec either, so that what is kept is a duplicate, and no process may start
// meanwhile. It sets anew whether the device stays: flags has IFF_PERSIST where it is to.
func attachByWater(name string, flags uint16) (attached int, given string, err error) {
	if flags&unix.IFF_TUN_EXCL != 0 {
		guard, given, err := layer2.attach(name, flags)
		if err != nil {
			return -1, "", err
		}
		defer unix.Close(guard)
		if err := detach(guard, given); err != nil { // else it would take the index of one that stays
			return -1, "", err
		}
		name = given
	}
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	tap, err := water.New(water.Config{
		DeviceType: water.TAP,
		PlatformSpecificParams: water.PlatformSpecificParams{
			Name:       name,
			MultiQueue: true,
			Persist:    flags&unix.IFF_PERSIST != 0,
		},
	})
	if err != nil {
		return -1, "", layer2.refusal(name, err)
	}
	defer tap.Close()
	if attached, err = duplicate(tap); err != nil {
		return -1, "", fmt.Errorf("take the descriptor of TAP device %s: %w", name, err)
	}
	return attached, tap.Name(), nil
}

func duplicate(tap *water.Interface) (fd int, err error) {
	file, ok := tap.ReadWriteCloser.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("a %T has none", tap.ReadWriteCloser)
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return -1, err
	}
	var refused error
	err = raw.Control(func(own uintptr) { fd, refused = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(err, refused)
}

// openWater makes the queues. The descriptors are those of water.Interfaces from now on.
func (t *tuntap) openWater(pairs []pair) error {
	var taps []*water.Interface
	t.close = func() error {
		var errs []error
		for _, tap := range taps {
			errs = append(errs, tap.Close())
		}
		return errors.Join(errs...)
	}
	for _, p := range pairs {
		own := len(taps)
		for _, fd := range p.each() {
			taps = append(taps, &water.Interface{ReadWriteCloser: os.NewFile(uintptr(fd), t.name)})
		}
		t.queues = append(t.queues, &waterqueue{dev: t, in: taps[own], out: taps[len(taps)-1], fd: p.in, frame: make([]byte, 0, maxLink+MaxPacket)})
	}
	// It may be the device of an earlier process, which had superpackets.
	if err := theKernel.setOffload(pairs[0].in, 0); err != nil {
		return errors.Join(t.failed("take superpackets from", err), t.close())
	}
	return nil
}

func (q *waterqueue) FD() int { return q.fd }

// Read asks first whether there is something to read, since water would wait.
func (q *waterqueue) Read(arena []byte, pkts []packet.Packet) (n int, err error) {
	for n < len(pkts) && len(arena) >= MaxReadTAP {
		if ready, err := readable(q.fd); err != nil {
			return n, q.dev.failed("poll", err)
		} else if !ready {
			return n, nil
		}
		got, err := q.in.Read(arena[Headroom:MaxReadTAP])
		if err != nil {
			return n, q.dev.failed("read", asClosed(q.fd, err))
		}
		used := Headroom + got
		if used >= MaxReadTAP {
			return n, fmt.Errorf("%w %s", ErrMalformed, q.dev.name)
		}
		pkts[n] = packet.Packet{Buf: arena[:used:used], Start: Headroom}
		arena = arena[min(aligned(used), len(arena)):]
		n++
	}
	return n, nil
}

// Pending is 0: a frame is read when it is handed over.
func (q *waterqueue) Pending() int { return 0 }

func (q *waterqueue) Write(groups []packet.Group) (refused int, err error) {
	for i := range groups {
		g := &groups[i]
		for _, m := range g.Members {
			frame := append(append(q.frame[:0], g.Link...), m...)
			if g.Partial { // without a virtio-net header there is no word for it
				packet.Complete(&packet.Packet{Buf: frame, Start: len(g.Link), CsumStart: g.CsumStart, CsumOffset: g.CsumOffset})
			}
			if _, e := q.out.Write(frame); e != nil {
				refused++
				if err == nil {
					err = q.dev.failed("write", asClosed(q.fd, e))
				}
			}
		}
	}
	return refused, err
}
