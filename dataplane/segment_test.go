package dataplane_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/dataplanetest"
	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
	"github.com/weft-net/weft/encap"
)

const (
	office, plant = 100, 200 // VNIs; all nodes are in the office, and the first two in the plant
	frameMTU      = 1450
	floodLimit    = 1_000_000
)

// bridged are nodes 1 to 3 with segments, driven by hand.
type bridged struct {
	network *dataplanetest.Network
	engines []*dataplane.Engine
	configs []dataplane.Config
	taps    []map[uint32]*dataplanetest.Device
	tuns    []*dataplanetest.Device
}

func newBridged(t testing.TB, can offload.Set, rco bool) *bridged {
	t.Helper()
	x := &bridged{network: dataplanetest.NewNetwork()}
	for i := byte(1); i <= 3; i++ {
		taps := map[uint32]*dataplanetest.Device{office: dataplanetest.NewDevice(t), plant: dataplanetest.NewDevice(t)}
		tun := dataplanetest.NewDevice(t)
		pair := dataplane.Pair{Queue: tun, Wire: x.network.Listen(t, endpoint(i)), Taps: []dataplane.Tapped{{VNI: office, Queue: taps[office]}, {VNI: plant, Queue: taps[plant]}}}
		c := dataplane.Config{
			PodCIDRs: []netip.Prefix{block(i)}, Addresses: []netip.Addr{block(i).Addr()}, Endpoints: []netip.Addr{endpoint(i).Addr()},
			Station: station(i), MTU: testMTU,
		}
		for _, vni := range []uint32{office, plant} {
			s := dataplane.Segment{VNI: vni, MTU: frameMTU, Flood: floodLimit}
			for j := byte(1); j <= 3; j++ {
				if i == j || vni == plant && (i == 3 || j == 3) {
					continue
				}
				s.Members = append(s.Members, dataplane.Peer{
					ID: endpoint(j).String(), Endpoints: []netip.Addr{endpoint(j).Addr()}, To: vxlan(endpoint(j)),
					Tunnel: encap.Tunnel{Codec: encap.VXLAN, VNI: vni}, MTU: frameMTU, RCO: rco,
				})
			}
			c.Segments = append(c.Segments, s)
		}
		for j := byte(1); j <= 3; j++ {
			if i != j {
				c.Peers = append(c.Peers, features{rco: rco}.peer(i, j))
			}
		}
		e := dataplane.New([]dataplane.Pair{pair}, can)
		if err := e.Open(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := e.Release(); err != nil {
				t.Error(err)
			}
		})
		x.engines, x.configs, x.taps, x.tuns = append(x.engines, e), append(x.configs, c), append(x.taps, taps), append(x.tuns, tun)
		x.apply(t, int(i-1))
	}
	return x
}

func (x *bridged) apply(t testing.TB, node int) {
	t.Helper()
	if err := x.engines[node].Apply(x.configs[node]); err != nil {
		t.Fatal(err)
	}
}

func (x *bridged) run(t testing.TB) {
	t.Helper()
	for busy := true; busy; {
		busy = false
		for _, e := range x.engines {
			some, err := e.Turn()
			if err != nil {
				t.Fatal(err)
			}
			busy = busy || some
		}
	}
	for i, e := range x.engines {
		s := e.Stats()
		adds(t, fmt.Sprint("out of node ", i+1), s.Egress)
		adds(t, fmt.Sprint("in of node ", i+1), s.Ingress)
	}
}

// take is all that was delivered to a TAP.
func take(t testing.TB, d *dataplanetest.Device) (all [][]byte) {
	for range d.Waiting() {
		all = append(all, d.Receive(t))
	}
	return all
}

// expect has vm of node 1 send frame into a segment, and says at whose TAP of which segment it comes out: 1 for each node.
func (x *bridged) expect(t testing.TB, what string, from int, vni uint32, frame []byte, arrives [3]int) {
	t.Helper()
	x.taps[from-1][vni].Send(frame)
	x.run(t)
	for i, taps := range x.taps {
		for tap, d := range taps {
			want := 0
			if tap == vni {
				want = arrives[i]
			}
			got := take(t, d)
			for _, f := range got {
				if !bytes.Equal(f, frame) {
					t.Errorf("%s: node %d gets\n%x, want\n%x", what, i+1, f, frame)
				}
			}
			if len(got) != want {
				t.Errorf("%s: node %d gets %d frames of segment %d, want %d", what, i+1, len(got), tap, want)
			}
		}
		if n := x.tuns[i].Waiting(); n > 0 {
			t.Errorf("%s: node %d gets %d packets by its TUN", what, i+1, n)
		}
	}
}

func vm(i byte) packet.MAC { return packet.MAC{2, 0xaa, 0, 0, 0, i} }

// Immutable.
var everyone = packet.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// frame is one of an EtherType that nobody knows.
func frame(dst, src packet.MAC, n int) []byte {
	f := append(append(append([]byte{}, dst[:]...), src[:]...), 0x88, 0xb6)
	for i := range n {
		f = append(f, byte(i*5))
	}
	return f
}

func TestFramesFindTheirHost(t *testing.T) {
	x := newBridged(t, offload.All, true)
	x.expect(t, "nobody is known", 1, office, frame(vm(2), vm(1), 100), [3]int{0, 1, 1})
	x.expect(t, "the answer", 2, office, frame(vm(1), vm(2), 100), [3]int{1, 0, 0})
	x.expect(t, "both are known", 1, office, frame(vm(2), vm(1), 1), [3]int{0, 1, 0})
	x.expect(t, "a broadcast", 1, office, frame(everyone, vm(1), 46), [3]int{0, 1, 1})
	x.expect(t, "a multicast", 1, office, frame(packet.MAC{1, 0, 0x5e, 1, 1, 1}, vm(1), 46), [3]int{0, 1, 1})
	x.expect(t, "another segment knows nobody", 1, plant, frame(vm(2), vm(1), 100), [3]int{0, 1, 0})
	x.expect(t, "alone in its segment", 3, plant, frame(vm(2), vm(3), 100), [3]int{})
	x.expect(t, "the host has moved", 3, office, frame(everyone, vm(2), 10), [3]int{1, 1, 0})
	x.expect(t, "to where it is", 1, office, frame(vm(2), vm(1), 11), [3]int{0, 0, 1})
	x.expect(t, "on the same side, as far as is known", 3, office, frame(vm(2), vm(3), 12), [3]int{1, 1, 0})
	x.expect(t, "with a VLAN tag", 1, office, append(append(append([]byte{}, everyone[:]...), 2, 0xaa, 0, 0, 0, 1, 0x81, 0, 0, 7, 8, 0), make([]byte, 50)...), [3]int{0, 1, 1})
	x.expect(t, "the largest", 1, office, frame(vm(2), vm(1), frameMTU), [3]int{0, 0, 1})
	x.expect(t, "too large", 1, office, frame(vm(2), vm(1), frameMTU+1), [3]int{})
	x.expect(t, "too large for anyone", 1, office, frame(everyone, vm(1), frameMTU+1), [3]int{})
	x.expect(t, "no frame", 1, office, []byte{1, 2, 3}, [3]int{})
	if got, want := drops(x.engines[0].Stats().Egress), map[dataplane.Reason]uint64{dataplane.TooBig: 3, dataplane.Malformed: 1}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("node 1 dropped %v, want %v", got, want)
	}
	if got, want := drops(x.engines[2].Stats().Egress), map[dataplane.Reason]uint64{dataplane.NoRoute: 1}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("node 3 dropped %v, want %v", got, want)
	}

	var known []string
	for _, h := range x.engines[0].Segments()[0].Hosts {
		known = append(known, h.MAC.String()+" "+h.Member)
	}
	want := []string{vm(1).String() + " ", vm(2).String() + " " + endpoint(3).String(), vm(3).String() + " " + endpoint(3).String()}
	if !slices.Equal(known, want) {
		t.Errorf("node 1 knows %q, want %q", known, want)
	}

	x.configs[0].Segments[0].Members = x.configs[0].Segments[0].Members[:1]
	x.apply(t, 0)
	x.expect(t, "node 3 has left", 1, office, frame(vm(2), vm(1), 20), [3]int{0, 1, 0})
	x.expect(t, "and is heard no more", 3, office, frame(vm(1), vm(3), 20), [3]int{})
	for _, h := range x.engines[0].Segments()[0].Hosts {
		if h.Member == endpoint(3).String() {
			t.Errorf("node 1 still knows %+v", h)
		}
	}
	if got := drops(x.engines[0].Stats().Ingress); got[dataplane.NotMember] != 1 {
		t.Errorf("node 1 dropped %v", got)
	}
}

// A frame that anybody else sends, or that says it is of no segment here, is not taken.
func TestFramesOfNoMember(t *testing.T) {
	x := newBridged(t, offload.All, true)
	datagram := func(vni uint32, f []byte) []byte {
		buf := append(make([]byte, encap.FrameOverhead), f...)
		encap.EncapFrame(buf, encap.FrameOverhead, 14, vni, encap.Checksum{})
		return buf
	}
	f := frame(everyone, vm(7), 50)
	partial := func(f []byte, start, field int) []byte {
		d := datagram(office, f)
		encap.EncapFrame(d, encap.FrameOverhead, 14, office, encap.Checksum{Start: start, Field: field})
		return d
	}
	ip := append(frame(everyone, vm(7), 0)[:12], append([]byte{8, 0}, udpPacket(t, pod(1, 1), pod(1, 2), 0, 100)...)...)
	short := append(frame(everyone, vm(7), 0)[:12], 8, 0, 0x45, 0, 0, 24, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 2, 3, 4)
	reference.HeaderChecksum(short[14:])
	for _, c := range []struct {
		from byte
		data []byte
		why  dataplane.Reason
	}{
		{9, datagram(office, f), dataplane.NotMember},
		{3, datagram(plant, f), dataplane.NotMember},
		{2, datagram(300, f), dataplane.WrongVNI},
		{2, datagram(office, f)[:12], dataplane.Malformed},
		{2, datagram(office, frame(everyone, everyone, 50)), dataplane.Malformed},
		{2, partial(f, 20, 26), dataplane.Malformed},  // no IP
		{2, partial(ip, 22, 28), dataplane.Malformed}, // not where UDP begins
		{2, partial(ip, 98, 114), dataplane.Malformed},
		{2, partial(short, 20, 26), dataplane.Malformed}, // behind the end
		{2, datagram(office, dataplane.LoopProbe{VNI: office}.AppendFrame(nil, vm(7))), dataplane.Malformed},
		{2, datagram(office, frame(everyone, vm(7), frameMTU+1)), dataplane.TooBig},
	} {
		before := x.engines[0].Stats().Ingress
		x.network.Inject(endpoint(c.from), vxlan(endpoint(1)), 0, c.data)
		x.run(t)
		after := x.engines[0].Stats().Ingress
		if after.Drops[c.why] != before.Drops[c.why]+1 || x.taps[0][office].Waiting()+x.taps[0][plant].Waiting() > 0 {
			t.Errorf("node 1 takes %x of node %d, or drops it otherwise than as %s: %v", c.data[:min(len(c.data), 24)], c.from, c.why, drops(after))
		}
	}
}

func TestSegmentIsBlocked(t *testing.T) {
	x := newBridged(t, offload.All, true)
	probe := dataplane.LoopProbe{Node: [32]byte{7}, VNI: office}
	x.expect(t, "a probe goes no further", 1, office, probe.AppendFrame(nil, vm(9)), [3]int{})
	if loops := x.engines[0].Segments()[0].Loops; len(loops) != 1 || loops[0].LoopProbe != probe {
		t.Errorf("node 1 has heard %v", loops)
	}
	x.configs[0].Segments[0].Blocked = true
	x.apply(t, 0)
	x.expect(t, "blocked, out", 1, office, frame(everyone, vm(1), 50), [3]int{})
	x.expect(t, "blocked, in", 2, office, frame(everyone, vm(2), 50), [3]int{0, 0, 1})
	x.expect(t, "the other segment is not", 1, plant, frame(everyone, vm(1), 50), [3]int{0, 1, 0})
	if out, in := x.engines[0].Stats().Egress, x.engines[0].Stats().Ingress; out.Drops[dataplane.Looped] != 1 || in.Drops[dataplane.Looped] != 1 {
		t.Errorf("node 1 dropped %v and %v", drops(out), drops(in))
	}
}

// What is in one batch goes where it belongs: frames of two segments that are the same, and pods' packets.
func TestSegmentsBesidePods(t *testing.T) {
	x := newBridged(t, offload.All, true)
	inner := udpPacket(t, pod(1, 1), pod(2, 1), 0, 300)
	for i := range 40 {
		f := append(frame(vm(2), vm(1), 0)[:12], append([]byte{8, 0}, udpPacket(t, pod(1, 1), pod(2, 1), 0, 200+i%2)...)...)
		x.taps[0][office].Send(f)
		x.taps[0][plant].Send(f)
		x.tuns[0].Send(inner)
	}
	x.run(t)
	for _, d := range []*dataplanetest.Device{x.taps[1][office], x.taps[1][plant]} {
		if got := take(t, d); len(got) != 40 || len(got[0]) != 214 || len(got[39]) != 215 {
			t.Errorf("%d frames", len(got))
		}
	}
	got := take(t, x.tuns[1])
	if len(got) != 40 {
		t.Errorf("%d packets", len(got))
	}
	for _, p := range got {
		if !bytes.Equal(atomic(p), atomic(inner)) {
			t.Errorf("a pod gets %x", p)
		}
	}
}

// Floods end at the limit; what is for one host does not.
func TestFloodLimit(t *testing.T) {
	x := newBridged(t, offload.All, true)
	x.configs[0].Segments[0].Flood = 100
	x.apply(t, 0)
	x.expect(t, "node 2 has a host", 2, office, frame(everyone, vm(2), 50), [3]int{1, 0, 1})
	for range 2000 {
		x.taps[0][office].Send(frame(everyone, vm(1), 50))
		x.taps[0][office].Send(frame(vm(2), vm(1), 51))
	}
	x.run(t)
	s := x.engines[0].Segments()[0]
	if s.Flooded == 0 || s.Flooded > 1000 || s.Flooded+s.Limited != 2000 {
		t.Errorf("%d went to all, %d did not", s.Flooded, s.Limited)
	}
	at2, at3 := len(take(t, x.taps[1][office])), len(take(t, x.taps[2][office]))
	if at2 != 2000+int(s.Flooded) || at3 != int(s.Flooded) {
		t.Errorf("node 2 has %d, node 3 %d, of %d that went to all", at2, at3, s.Flooded)
	}
	if d := x.engines[0].Stats().Egress.Drops[dataplane.FloodLimit]; d != s.Limited {
		t.Errorf("%d were dropped, of %d", d, s.Limited)
	}
}

// Who is known is answered for, and others are asked.
func TestQuestionsAreAnswered(t *testing.T) {
	x := newBridged(t, offload.All, true)
	arp := func(op byte, dst, src packet.MAC, from, to byte) []byte {
		f := append(append(append([]byte{}, dst[:]...), src[:]...), 8, 6, 0, 1, 8, 0, 6, 4, 0, op)
		f = append(append(f, src[:]...), 192, 168, 0, from)
		return append(append(f, make([]byte, 6)...), 192, 168, 0, to)
	}
	x.expect(t, "nobody is known", 1, office, arp(1, everyone, vm(1), 1, 2), [3]int{0, 1, 1})
	x.expect(t, "the host itself answers", 2, office, arp(2, vm(1), vm(2), 2, 1), [3]int{1, 0, 0})
	x.taps[2][office].Send(arp(1, everyone, vm(3), 3, 1)) // node 3 has heard the first question
	x.run(t)
	answer := take(t, x.taps[2][office])
	if n := len(take(t, x.taps[0][office])) + len(take(t, x.taps[1][office])); n > 0 || len(answer) != 1 {
		t.Fatalf("%d answers, and %d frames at the others", len(answer), n)
	}
	var e packet.Ethernet
	if !packet.ParseEthernet(answer[0], &e) || e.Dst != vm(3) || e.Src != vm(1) {
		t.Errorf("the answer is %x", answer[0])
	}
	if ip, mac, ok := packet.NeighbourClaim(answer[0], &e); !ok || mac != vm(1) || ip != netip.MustParseAddr("192.168.0.1") {
		t.Errorf("it says %v %v %v", ip, mac, ok)
	}
	if s := x.engines[2].Segments()[0]; s.Answered != 1 {
		t.Errorf("answered %d", s.Answered)
	}
	x.expect(t, "who is on the same side answers by itself", 1, office, arp(2, vm(2), vm(4), 4, 2), [3]int{0, 1, 0})
	x.expect(t, "and is asked, as it may be gone", 1, office, arp(1, everyone, vm(1), 1, 4), [3]int{0, 1, 1})
	x.engines[0].Announce(office, endpoint(3).String(), vm(9), []netip.Addr{netip.MustParseAddr("192.168.0.9")})
	x.taps[0][office].Send(arp(1, everyone, vm(1), 1, 9))
	x.run(t)
	if n := len(take(t, x.taps[0][office])); n != 1 {
		t.Errorf("%d answers for a host that was announced", n)
	}
	x.expect(t, "frames find it", 1, office, frame(vm(9), vm(1), 60), [3]int{0, 0, 1})
}
