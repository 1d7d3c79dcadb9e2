package device

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/packet"
)

// links are Ethernet headers with none, one and two VLAN tags.
func links() [][]byte {
	return [][]byte{
		[]byte("destin" + "source" + "\x08\x00"),
		[]byte("destin" + "source" + "\x81\x00\x00\x07" + "\x86\xdd"),
		[]byte("destin" + "source" + "\x88\xa8\x20\x01" + "\x81\x00\x00\x07" + "\x08\x00"),
	}
}

// The largest superpacket stands behind an Ethernet header with two tags, and what is larger is told.
func TestTAPReadOfTheLargest(t *testing.T) {
	q, far := newQueue(t, nil)
	q.dev.layer, q.maxRead = layer2, layer2.maxRead()
	for _, size := range []int{14, MaxPacket, maxLink + MaxPacket, MaxReadTAP} {
		frame := slices.Repeat([]byte{byte(size)}, size)
		if _, err := unix.Write(far, append(header(1, 1, 0, 1448, 34, 16)[:], frame...)); err != nil {
			t.Fatal(err)
		}
		pkts := make([]packet.Packet, 2)
		if n, err := q.Read(make([]byte, MaxReadTAP-1), pkts); n != 0 || err != nil {
			t.Fatalf("Read without room = %d %v", n, err)
		}
		n, err := q.Read(make([]byte, 2*MaxReadTAP), pkts)
		if size == MaxReadTAP {
			if n != 0 || !errors.Is(err, ErrMalformed) {
				t.Errorf("a frame of %d bytes: Read = %d %v", size, n, err)
			}
			continue
		}
		if n != 1 || err != nil || !bytes.Equal(pkts[0].Data(), frame) || pkts[0].CsumStart != 34 || pkts[0].GSO != packet.TCP4 {
			t.Errorf("a frame of %d bytes: Read = %d %v", size, n, err)
		}
	}
}

// A frame begins with its Link, from which the virtio-net header counts. The group keeps counting from
// behind that.
func TestTAPWriteOfAGroup(t *testing.T) {
	var got []written
	q, _ := newQueue(t, func(pieces []unix.Iovec) unix.Errno {
		got = append(got, take(pieces))
		return 0
	})
	q.dev.status.Store(&status{on: both})
	for _, link := range links() {
		l := uint16(len(link))
		g := groupOf(packet.TCP4, 3)
		g.Link = link
		whole := twin(g)
		whole.header = *header(1, 1, 6+l, 4, 3+l, 2)
		whole.packet = string(link) + whole.packet
		one := packet.Group{Link: link, Members: [][]byte{[]byte("member")}, CsumStart: 3, CsumOffset: 2, Partial: true}
		other := packet.Group{Link: link, Members: [][]byte{[]byte("no IP")}}
		empty := packet.Group{Link: link, Members: [][]byte{{}}}

		got = nil
		if refused, err := q.Write([]packet.Group{g, one, other, empty}); refused != 0 || err != nil {
			t.Fatalf("Write = %d %v", refused, err)
		}
		want := []written{
			whole,
			{2, *header(1, 0, 0, 0, 3+l, 2), string(link) + "member"},
			{2, *header(0, 0, 0, 0, 0, 0), string(link) + "no IP"},
			{2, *header(0, 0, 0, 0, 0, 0), string(link)},
		}
		if !slices.Equal(got, want) {
			t.Errorf("with a link of %d bytes: %v, want %v", l, got, want)
		}
		if g.CsumStart != 3 {
			t.Error("Write has changed the group")
		}
	}
}

// What is written to find out about superpackets is a frame that no bridge forwards.
func TestTAPTrial(t *testing.T) {
	for gso, headers := range map[packet.GSO]uint16{packet.TCP4: 54, packet.UDP: 42} {
		var got written
		k := kernel{writev: func(_ int, pieces []unix.Iovec) unix.Errno {
			got = take(pieces)
			return unix.EIO
		}}
		if k.refuses(layer2, 0, gso) {
			t.Error("EIO is taken for a refusal")
		}
		v, p := trial(gso)
		want := written{
			pieces: 2,
			header: *header(1, map[packet.GSO]uint8{packet.TCP4: 1, packet.UDP: 5}[gso], headers, uint16(v.segmentSize), 34, uint16(v.csumOffset)),
			packet: "\x01\x80\xc2\x00\x00\x01" + "\x02\x00\x00\x00\x00\x01" + "\x08\x00" + string(p),
		}
		if got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
}
