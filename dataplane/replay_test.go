package dataplane

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/weft-net/weft/dataplane/device"
	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
	"github.com/weft-net/weft/encap"
)

// replay is a queue and a wire that hand over the same packets again and again,
// and swallow what they are given.
type replay struct {
	packet    packet.Packet // Start is 0
	packets   int           // in one read
	datagram  []byte
	datagrams int // in one message
	from      netip.AddrPort
	receivers []encap.Receiver
	full      int // the descriptor of a socket without room

	// send and recv, where not nil, are what Send and Recv do.
	send func([]encap.Message) int
	recv func(i int, msgs []encap.Received) int

	readErr        error // beside the packets
	sends, sent    int   // messages, and datagrams in them
	groups, merged int   // groups, and wire packets in them
	most           int   // wire packets in one write
}

func (r *replay) FD() int      { return -1 }
func (r *replay) Pending() int { return 0 }
func (r *replay) Full() int    { return r.full }

func (r *replay) Receivers() []encap.Receiver { return r.receivers }

func (r *replay) Read(arena []byte, pkts []packet.Packet) (n int, err error) {
	for n < min(r.packets, len(pkts)) && len(arena) >= device.Headroom+len(r.packet.Buf) {
		p := &pkts[n]
		*p = r.packet
		end := device.Headroom + copy(arena[device.Headroom:], r.packet.Buf)
		p.Buf, p.Start = arena[:end], device.Headroom
		arena = arena[end:]
		n++
	}
	return n, r.readErr
}

func (r *replay) Write(groups []packet.Group) (int, error) {
	before := r.merged
	for i := range groups {
		r.groups++
		r.merged += len(groups[i].Members)
	}
	r.most = max(r.most, r.merged-before)
	return 0, nil
}

func (r *replay) Recv(i int, msgs []encap.Received) (int, error) {
	if r.recv != nil {
		return r.recv(i, msgs), nil
	}
	return r.fill(msgs), nil
}

// fill gives messages of some datagrams each.
func (r *replay) fill(msgs []encap.Received) int {
	for i := range msgs {
		m := &msgs[i]
		m.N, m.Addr, m.SegmentSize = 0, r.from, len(r.datagram)
		for range r.datagrams {
			m.N += copy(m.Buf[m.N:], r.datagram)
		}
	}
	return len(msgs)
}

func (r *replay) Send(msgs []encap.Message) (int, error) {
	if r.send != nil {
		return r.send(msgs), nil
	}
	for i := range msgs {
		r.sends++
		r.sent += msgs[i].Segments
	}
	return len(msgs), nil
}

// replayed is what a replay hands over: packets between the two blocks, of UDP; or of
// TCP where that is said, or where there are segments.
type replayed struct {
	in       bool // whether they come from the peer
	six      bool
	tcp      bool
	rco      bool // whether their checksums are left to this node, and there are as many as there can be
	size     int  // of the packet, or of its segments' payload, bytes; 0 is 1400
	segments int  // of superpackets; 0 is none

	codec encap.Codec
	way   int // the MTU of the way to the peer; 0 is 1472
}

func (r replayed) packet() packet.Packet {
	size, headers, protocol := r.size, 20, byte(packet.ProtocolUDP)
	if size == 0 {
		size = 1400
	}
	if r.tcp {
		protocol = packet.ProtocolTCP
	}
	src, dst := prefixes[0], prefixes[1]
	if r.six {
		src, dst, headers = prefixes[2], prefixes[3], 40
	}
	if r.in {
		src, dst = dst, src
	}
	p := packet.Packet{CsumStart: headers, CsumOffset: 6}
	transport := 8
	if r.tcp {
		transport, p.CsumOffset = 20, 16
	}
	if r.segments > 0 {
		p.SegmentSize = size
		if p.GSO = packet.UDP; r.tcp && r.six {
			p.GSO = packet.TCP6
		} else if r.tcp {
			p.GSO = packet.TCP4
		}
		size = headers + transport + r.segments*size
	}
	b := make([]byte, size)
	if r.six {
		b[0], b[6], b[7] = 0x60, protocol, 64
		binary.BigEndian.PutUint16(b[4:], uint16(size-40))
		copy(b[8:], src.Addr().Next().AsSlice())
		copy(b[24:], dst.Addr().Next().AsSlice())
	} else {
		b[0], b[8], b[9] = 0x45, 64, protocol
		if r.in {
			b[6] = 0x40 // Don't Fragment, without which no two are merged that have one identification
		}
		binary.BigEndian.PutUint16(b[2:], uint16(size))
		copy(b[12:], src.Addr().Next().AsSlice())
		copy(b[16:], dst.Addr().Next().AsSlice())
		reference.HeaderChecksum(b)
	}
	if r.tcp {
		b[headers+12], b[headers+13] = 0x50, 0x10
	} else {
		binary.BigEndian.PutUint16(b[headers+4:], uint16(size-headers))
	}
	reference.Checksum(b, true)
	p.Buf = b
	return p
}

// prefixes are this node's block and the peer's, of IPv4 and then of IPv6. Immutable.
var prefixes = [4]netip.Prefix{
	netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("10.244.2.0/24"),
	netip.MustParsePrefix("fd00:10:244:1::/64"), netip.MustParsePrefix("fd00:10:244:2::/64"),
}

// config is that of a node with one peer, b.
func (r replayed) config() Config {
	far := netip.MustParseAddrPort("198.51.100.2:8285")
	way := r.way
	if way == 0 {
		way = 1472
	}
	here, there := encap.MAC{2, 0, 0, 0, 0, 1}, encap.MAC{2, 0, 0, 0, 0, 2}
	return Config{
		PodCIDRs: []netip.Prefix{prefixes[0], prefixes[2]}, Addresses: []netip.Addr{prefixes[0].Addr(), prefixes[2].Addr()}, MTU: 1472,
		Station: encap.Station{VNI: 7, MAC: here},
		Peers: []Peer{{
			ID: "b", Endpoints: []netip.Addr{far.Addr()}, PodCIDRs: []netip.Prefix{prefixes[1], prefixes[3]},
			To: far, Tunnel: encap.Tunnel{Codec: r.codec, VNI: 7, Local: here, Remote: there}, MTU: way, RCO: true,
		}},
	}
}

// back is how the peer of c sends to this node.
func back(c Config) *encap.Tunnel {
	t := c.Peers[0].Tunnel
	t.Local, t.Remote = t.Remote, t.Local
	return &t
}

// newReplay is an engine of one worker with one peer, and what it works on.
func newReplay(tb testing.TB, what replayed) (*worker, *replay) {
	tb.Helper()
	c := what.config()
	r := &replay{
		packet: what.packet(), packets: 100, from: c.Peers[0].To, full: -1,
		receivers: []encap.Receiver{{FD: -1, Codec: what.codec}},
	}
	if what.segments > 0 {
		r.packets = 3
	}
	tunnel := back(c)
	inner, sum := reference.Complete(r.packet), encap.Checksum{}
	if what.rco {
		inner, sum = r.packet.Buf, encap.Checksum{Start: r.packet.CsumStart, Field: r.packet.CsumStart + r.packet.CsumOffset}
	}
	framed := slices.Concat(make([]byte, encap.Headroom), inner)
	r.datagram = framed[tunnel.Encap(framed, encap.Headroom, sum):]
	if r.datagrams = 20; what.rco {
		r.datagrams = min(receiveBuffer/len(r.datagram), encap.MaxSegments)
	}

	w := newReplayOf(tb, r)
	apply(tb, w, c)
	return w, r
}

// newReplayOf is an engine of one worker without a configuration that works on r.
func newReplayOf(tb testing.TB, r *replay) *worker {
	tb.Helper()
	w := New([]Pair{{Queue: r, Wire: r}}, offload.All).workers[0]
	if err := w.open(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := w.close(); err != nil {
			tb.Error(err)
		}
	})
	return w
}

// apply gives w's engine a configuration.
func apply(tb testing.TB, w *worker, c Config) {
	tb.Helper()
	t, err := (&Engine{workers: []*worker{w}, links: map[string]*link{}}).compile(c)
	if err != nil {
		tb.Fatal(err)
	}
	w.egress.tables.Store(t)
}
