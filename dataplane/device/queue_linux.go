package device

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
)

// maxPieces is how many pieces one writev takes (UIO_MAXIOV, include/uapi/linux/uio.h).
const maxPieces = 1024

// superqueue is the queue that superpackets go through whole.
type superqueue struct {
	dev     *tuntap
	fd      pair
	kernel  kernel
	maxRead int

	// head and pieces are what a writev takes; pieces[0] is as much of head as a group
	// needs: the virtio-net header, and behind it the group's Link.
	head   [virtioLen + maxLink]byte
	pieces []unix.Iovec
}

// maxLink is the longest Ethernet header: with two VLAN tags.
const maxLink = 14 + 2*4

func newSuperqueue(t *tuntap, fd pair, k kernel) *superqueue {
	q := &superqueue{dev: t, fd: fd, kernel: k, maxRead: t.layer.maxRead(), pieces: make([]unix.Iovec, maxPieces)}
	q.pieces[0] = piece(q.head[:])
	return q
}

func (q *superqueue) FD() int { return q.fd.in }

func (q *superqueue) Read(arena []byte, pkts []packet.Packet) (n int, err error) {
	const before = Headroom - virtioLen
	for n < len(pkts) && len(arena) >= q.maxRead {
		got, errno := read(q.fd.in, arena[before:q.maxRead])
		switch errno {
		case 0:
		case unix.EAGAIN, unix.EINTR:
			return n, nil
		case unix.EINVAL: // the packet is of a kind that the header has no value for (tun_put_user)
			return n, q.malformed()
		default:
			return n, q.dev.failed("read", errno)
		}
		used := before + got
		p := &pkts[n]
		if used <= Headroom || used >= q.maxRead || !decodeVirtio((*[virtioLen]byte)(arena[before:]), p) {
			return n, q.malformed()
		}
		p.Buf, p.Start = arena[:used:used], Headroom
		arena = arena[min(aligned(used), len(arena)):]
		n++
	}
	return n, nil
}

// Pending is 0: a packet is read when it is handed over.
func (q *superqueue) Pending() int { return 0 }

func (q *superqueue) malformed() error { return fmt.Errorf("%w %s", ErrMalformed, q.dev.name) }

// aligned is n rounded up to a multiple of Headroom.
func aligned(n int) int { return (n + Headroom - 1) / Headroom * Headroom }

func (q *superqueue) Write(groups []packet.Group) (refused int, err error) {
	for i := range groups {
		n, errno := q.writeGroup(&groups[i])
		refused += n
		if errno != 0 && err == nil {
			err = q.dev.failed("write", errno)
		}
	}
	return refused, err
}

// writeGroup writes a superpacket, or else the wire packets that it stands for.
func (q *superqueue) writeGroup(g *packet.Group) (refused int, errno unix.Errno) {
	if len(g.Members) == 1 {
		return q.writeMembers(g, g.CsumStart != 0)
	}
	f, ok := feature(g.GSO)
	if !ok || !q.dev.Features().Has(f) || 2+len(g.Members) > maxPieces {
		return q.writeMembers(g, g.Partial)
	}
	switch errno := q.writeSuper(g); errno {
	case 0:
		return 0, 0
	case unix.EINVAL:
		refused, errno := q.writeMembers(g, g.Partial)
		if refused == 0 {
			// It has nothing against the packets, so it is superpackets that it refuses.
			q.dev.lose(f, errSuperpackets(q.dev.layer))
		}
		return refused, errno
	default:
		return len(g.Members), errno
	}
}

// feature is what a superpacket takes.
func feature(gso packet.GSO) (f offload.Feature, ok bool) {
	switch gso {
	case packet.TCP4, packet.TCP6:
		return offload.TSO, true
	case packet.UDP:
		return offload.USO, true
	}
	return 0, false
}

func (q *superqueue) writeSuper(g *packet.Group) unix.Errno {
	q.begin(g, virtio{
		gso:         g.GSO,
		headerLen:   len(g.Link) + len(g.Header),
		segmentSize: g.SegmentSize,
		csumStart:   g.CsumStart,
		csumOffset:  g.CsumOffset,
	})
	pieces := q.pieces[:2+len(g.Members)]
	pieces[1] = piece(g.Header)
	for i, m := range g.Members {
		pieces[2+i] = piece(m[len(g.Header):])
	}
	return q.kernel.writev(q.fd.out, pieces)
}

// writeMembers writes wire packets. partial says whether their checksums are.
func (q *superqueue) writeMembers(g *packet.Group, partial bool) (refused int, errno unix.Errno) {
	var v virtio
	if partial {
		v.csumStart, v.csumOffset = g.CsumStart, g.CsumOffset
	}
	q.begin(g, v)
	for _, m := range g.Members {
		q.pieces[1] = piece(m)
		if e := q.kernel.writev(q.fd.out, q.pieces[:2]); e != 0 {
			refused++
			if errno == 0 {
				errno = e
			}
		}
	}
	return refused, errno
}

// begin makes the first piece. v counts from the IP header, and becomes what counts from the Link.
func (q *superqueue) begin(g *packet.Group, v virtio) {
	if v.csumStart != 0 {
		v.csumStart += len(g.Link)
	}
	v.encode((*[virtioLen]byte)(q.head[:]))
	q.pieces[0].SetLen(virtioLen + copy(q.head[virtioLen:], g.Link))
}
