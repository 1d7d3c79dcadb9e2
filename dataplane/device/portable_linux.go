package device

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/weft-net/weft/dataplane/packet"
)

// maxMerge is how many packets may become one superpacket: the kernel
// refuses one of more UDP segments than UDP_MAX_SEGMENTS, 64 before Linux
// 6.9 (include/linux/virtio_net.h). At an MTU of 1500 a full
// TCP superpacket has fewer.
const maxMerge = 64

// portable is the queue that goes through wireguard/tun, which splits the kernel's
// superpackets into wire packets and completes their checksums, and merges
// runs of one flow again. It shares no code with the other: who doubts that one
// compares the two. It copies every packet once more in each direction.
type portable struct {
	dev     *tuntap
	in, out tun.Device
	fd      int // of in

	// The packets that the last read was split into and that are still to be
	// handed over: pending[i][:sizes[i]], from next to count.
	pending     [][]byte
	sizes       []int
	next, count int

	// scratch takes copies of the packets to be written, since wireguard/tun
	// overwrites them; batch is scratch as it is handed over.
	scratch, batch [][]byte

	// unmerged is set for good once the kernel refused a superpacket.
	unmerged bool
}

// openPortable makes the queues. The descriptors are wireguard/tun's from now on.
func (t *tuntap) openPortable(pairs []pair) error {
	var devices []tun.Device
	t.close = func() error {
		var errs []error
		for _, d := range devices {
			errs = append(errs, d.Close())
		}
		return errors.Join(errs...)
	}
	for i, p := range pairs {
		fds := p.each()
		for j, fd := range fds {
			dev, _, err := tun.CreateUnmonitoredTUNFromFD(fd)
			if err != nil {
				// wireguard/tun made an os.File of fd, whose finalizer closes it. Closed
				// here too, the number could be another descriptor's by then.
				return errors.Join(fmt.Errorf("set up TUN device %s: %w", t.name, err),
					closeFDs(fds[j+1:]), closeAll(pairs[i+1:]), t.close())
			}
			devices = append(devices, dev)
		}
		own := devices[len(devices)-len(fds):]
		t.queues = append(t.queues, newPortable(t, p.in, own[0], own[len(own)-1]))
	}
	return nil
}

func newPortable(t *tuntap, fd int, in, out tun.Device) *portable {
	q := &portable{dev: t, in: in, out: out, fd: fd}
	q.sizes = make([]int, in.BatchSize())
	for range q.sizes {
		q.pending = append(q.pending, make([]byte, MaxPacket))
	}
	q.batch = make([][]byte, maxMerge)
	for range q.batch {
		q.scratch = append(q.scratch, make([]byte, virtioLen+MaxPacket))
	}
	return q
}

func (q *portable) FD() int { return q.fd }

func (q *portable) Read(arena []byte, pkts []packet.Packet) (n int, err error) {
	for n < len(pkts) && len(arena) >= MaxRead {
		if q.next == q.count {
			if err := q.fill(); err != nil {
				return n, err
			}
			if q.next == q.count {
				return n, nil
			}
		}
		used := Headroom + copy(arena[Headroom:], q.pending[q.next][:q.sizes[q.next]])
		q.next++
		correct(arena[Headroom:used])
		pkts[n] = packet.Packet{Buf: arena[:used:used], Start: Headroom}
		arena = arena[min(aligned(used), len(arena)):]
		n++
	}
	return n, nil
}

// correct gives a UDP packet over IPv6 whose checksum is zero the other form of that.
// Zero is none, which IPv6 has not (RFC 8200 section 8.1), so that the receiver would
// drop the packet; wireguard/tun writes it where the sum comes out so, once in 65,536 times.
func correct(p []byte) {
	var h packet.Header
	if !packet.ParseInto(p, &h) || h.Protocol != packet.ProtocolUDP || h.Src.Is4() {
		return
	}
	if at := h.ChecksumField(); at > 0 && at+2 <= len(p) && p[at] == 0 && p[at+1] == 0 {
		p[at], p[at+1] = 0xff, 0xff
	}
}

// fill reads once where there is something to read, since wireguard/tun would wait.
// What is good beside an error stays pending.
func (q *portable) fill() error {
	if ready, err := readable(q.fd); err != nil {
		return q.dev.failed("poll", err)
	} else if !ready {
		return nil
	}
	n, err := q.in.Read(q.pending, q.sizes, 0)
	q.next, q.count = 0, max(n, 0)
	if err == nil {
		return nil
	}
	// What wireguard/tun finds wrong itself is about this packet only; what
	// the system call says is about the device.
	if syscallFailed := new(os.PathError); !errors.Is(err, os.ErrClosed) && !errors.As(err, &syscallFailed) {
		return fmt.Errorf("%w %s: %w", ErrMalformed, q.dev.name, err)
	}
	q.count = 0
	return q.dev.failed("read", asClosed(q.fd, err))
}

func (q *portable) Pending() int { return q.count - q.next }

func (q *portable) Write(groups []packet.Group) (refused int, err error) {
	n := 0
	flush := func() {
		lost, e := q.write(q.batch[:n])
		if refused += lost; err == nil {
			err = e
		}
		n = 0
	}
	for i := range groups {
		g := &groups[i]
		for _, m := range g.Members {
			b := append(q.scratch[n][:virtioLen], m...)
			if g.Partial { // a peer may leave that to this node; wireguard/tun does not hand it on
				packet.Complete(&packet.Packet{Buf: b, Start: virtioLen, CsumStart: g.CsumStart, CsumOffset: g.CsumOffset})
			}
			q.batch[n] = b
			// What comes alone is merged with nothing.
			if n++; n == len(q.batch) || q.unmerged {
				flush()
			}
		}
	}
	if n > 0 {
		flush()
	}
	return refused, err
}

// write hands over one batch. A superpacket that was refused among others that
// were taken counts as one packet.
func (q *portable) write(batch [][]byte) (refused int, err error) {
	written, err := q.out.Write(batch, virtioLen)
	if err == nil {
		return 0, nil
	}
	if errors.Is(err, unix.EINVAL) {
		// Linux 6.1.x and 6.6.44 refuse superpackets on a TUN write.
		q.unmerged = true
	}
	if written == 0 {
		refused = len(batch)
	} else {
		refused = leaves(err)
	}
	return refused, q.dev.failed("write", asClosed(q.fd, err))
}

// leaves counts the errors that were joined into err, one for each refused write.
func leaves(err error) (n int) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return 1
	}
	for _, e := range joined.Unwrap() {
		n += leaves(e)
	}
	return n
}
