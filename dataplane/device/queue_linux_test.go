package device

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
)

// both is what the superpacket queues are opened with.
const both = offload.Set(1<<offload.TSO | 1<<offload.USO)

// newQueue is a queue with USO on whose reads come from the descriptor far and
// whose writes go to record.
func newQueue(t *testing.T, record func(pieces []unix.Iovec) unix.Errno) (q *superqueue, far int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	dev := &tuntap{layer: layer3, name: "weft0"}
	dev.status.Store(&status{on: offload.Of(offload.USO)})
	return newSuperqueue(dev, pair{fds[0], fds[0]}, kernel{writev: func(_ int, pieces []unix.Iovec) unix.Errno { return record(pieces) }}), fds[1]
}

func TestReadOfWhatIsNoPacket(t *testing.T) {
	q, far := newQueue(t, nil)
	good := func(n int) []byte { return slices.Concat(header(0, 0, 0, 0, 0, 0)[:], bytes.Repeat([]byte{0x45}, n)) }
	for _, c := range []struct {
		name string
		read []byte
		ok   bool
	}{
		{"the smallest packet", good(1), true},
		{"half a header", good(1)[:5], false},
		{"a header only", good(0), false},
		{"the largest packet", good(MaxPacket), true},
		{"a larger one", good(MaxPacket + 1), false},
		{"a much larger one", good(MaxPacket + 1000), false},
		{"an unknown superpacket", slices.Concat(header(1, 3, 28, 100, 20, 6)[:], make([]byte, 100)), false},
	} {
		for _, b := range [][]byte{good(100), c.read, good(200)} {
			if _, err := unix.Write(far, b); err != nil {
				t.Fatal(err)
			}
		}
		arena, pkts := make([]byte, 5*MaxRead), make([]packet.Packet, 4)
		n, err := q.Read(arena, pkts)
		if c.ok {
			if n != 3 || err != nil || !bytes.Equal(pkts[1].Data(), c.read[virtioLen:]) {
				t.Errorf("%s: Read = %d %v", c.name, n, err)
			}
			continue
		}
		if n != 1 || !errors.Is(err, ErrMalformed) || len(pkts[0].Data()) != 100 {
			t.Errorf("%s: Read = %d %v", c.name, n, err)
		}
		if n, err := q.Read(arena, pkts); n != 1 || err != nil || len(pkts[0].Data()) != 200 {
			t.Errorf("after %s: Read = %d %v", c.name, n, err)
		}
	}
}

// written is what a writev was given: its header, and the rest in one.
type written struct {
	pieces int
	header [virtioLen]byte
	packet string
}

func take(pieces []unix.Iovec) (w written) {
	w.pieces = len(pieces)
	for i, p := range pieces {
		b := unsafe.Slice(p.Base, p.Len)
		if i == 0 {
			w.header, b = [virtioLen]byte(b), b[virtioLen:]
		}
		w.packet += string(b)
	}
	return w
}

// twin is the group as Write is to write it, done slowly.
func twin(g packet.Group) (w written) {
	w.pieces = 2 + len(g.Members)
	w.header = *header(1, map[packet.GSO]uint8{packet.TCP4: 1, packet.TCP6: 4, packet.UDP: 5}[g.GSO],
		uint16(len(g.Header)), uint16(g.SegmentSize), uint16(g.CsumStart), uint16(g.CsumOffset))
	w.packet = string(g.Header)
	for _, m := range g.Members {
		w.packet += string(m[len(g.Header):])
	}
	return w
}

func groupOf(gso packet.GSO, members int) packet.Group {
	g := packet.Group{Header: []byte("header"), GSO: gso, SegmentSize: 4, CsumStart: 3, CsumOffset: 2, Partial: true}
	for i := range members {
		g.Members = append(g.Members, append([]byte("member"), byte(i), byte(i>>8), 'x', 'y'))
	}
	g.Members[members-1] = g.Members[members-1][:7]
	return g
}

func TestWriteOfAGroup(t *testing.T) {
	var got []written
	q, _ := newQueue(t, func(pieces []unix.Iovec) unix.Errno {
		got = append(got, take(pieces))
		return 0
	})
	for _, c := range []struct {
		on    offload.Set
		group packet.Group
		whole bool
	}{
		{both, groupOf(packet.UDP, 2), true},
		{both, groupOf(packet.TCP4, 3), true},
		{both, groupOf(packet.TCP6, 64), true},
		{both, groupOf(packet.TCP4, maxPieces-2), true},
		{both, groupOf(packet.TCP4, maxPieces-1), false}, // one writev does not take as many
		{offload.Of(offload.USO), groupOf(packet.TCP4, 3), false},
		{offload.Of(offload.TSO), groupOf(packet.UDP, 3), false},
		{offload.Of(offload.USO), groupOf(packet.UDP, 3), true},
		{both, groupOf(packet.NoGSO, 3), false},
		{both, groupOf(packet.NoGSO, 1), false},
		{both, groupOf(packet.UDP, 1), false},
	} {
		for _, partial := range []bool{true, false} {
			c.group.Partial = partial
			q.dev.status.Store(&status{on: c.on})
			got = nil
			if refused, err := q.Write([]packet.Group{c.group}); refused != 0 || err != nil {
				t.Fatalf("Write = %d %v", refused, err)
			}
			var want []written
			if c.whole {
				want = append(want, twin(c.group))
			} else {
				h := header(0, 0, 0, 0, 0, 0)
				if partial || len(c.group.Members) == 1 {
					h = header(1, 0, 0, 0, 3, 2)
				}
				for _, m := range c.group.Members {
					want = append(want, written{2, *h, string(m)})
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%d members of kind %d with %v on, partial %t: %v", len(c.group.Members), c.group.GSO, c.on, partial, got)
			}
		}
	}
}

// What the kernel has no room for is counted in wire packets, and the rest goes on.
func TestWriteGoesOnAfterARefusal(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM, unix.EIO} {
		calls := 0
		q, _ := newQueue(t, func([]unix.Iovec) unix.Errno {
			switch calls++; calls {
			case 2:
				return errno
			case 4:
				return unix.EPERM // not the first
			}
			return 0
		})
		one := packet.Group{Members: [][]byte{[]byte("whole")}}
		refused, err := q.Write([]packet.Group{one, groupOf(packet.UDP, 5), groupOf(packet.UDP, 3), one, one})
		if refused != 6 || !errors.Is(err, errno) || calls != 5 || !q.dev.Features().Has(offload.USO) {
			t.Errorf("%v: Write = %d %v in %d calls, %v is on", errno, refused, err, calls, q.dev.Features())
		}
	}
}

// Where the kernel takes some members of a superpacket that it refused, the count is of the others.
func TestWriteOneByOneCountsRefusals(t *testing.T) {
	calls := 0
	q, _ := newQueue(t, func(pieces []unix.Iovec) unix.Errno {
		switch calls++; calls {
		case 1:
			return unix.EINVAL
		case 3:
			return unix.ENOMEM
		}
		return 0
	})
	if refused, err := q.Write([]packet.Group{groupOf(packet.UDP, 5)}); refused != 1 || !errors.Is(err, unix.ENOMEM) || calls != 6 {
		t.Errorf("Write = %d %v in %d calls", refused, err, calls)
	}
}

// Two workers may find out at once.
func TestLose(t *testing.T) {
	dev := &tuntap{layer: layer3, name: "weft0"}
	dev.status.Store(&status{on: both})
	why := errors.New("the first reason")
	dev.lose(offload.TSO, why)
	dev.lose(offload.TSO, errors.New("the second"))
	if refused := dev.Refused(); dev.Features() != offload.Of(offload.USO) || len(refused) != 1 || !errors.Is(refused[offload.TSO], why) {
		t.Errorf("on %v, refused %v", dev.Features(), refused)
	}
	dev.Refused()[offload.USO] = errors.New("the caller's own")
	dev.lose(offload.USO, why)
	if refused := dev.Refused(); dev.Features() != 0 || len(refused) != 2 || !errors.Is(refused[offload.USO], why) {
		t.Errorf("on %v, refused %v", dev.Features(), refused)
	}
}
