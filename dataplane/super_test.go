package dataplane_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/dataplanetest"
	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
	"github.com/weft-net/weft/encap"
)

// duplex is nodes 1 and 2, each the other's only peer, and all that shall have
// happened to them so far. Their workers are driven by hand, so that what is in one
// batch does not depend on time.
type duplex struct {
	network *dataplanetest.Network
	nodes   [2]*node
	want    [2]expectation
}

// expectation is about one node.
type expectation struct {
	out, in dataplane.Account
	sent    dataplane.PeerStats // the Tx part only
}

func newDuplex(t testing.TB, a, b features) *duplex {
	network := dataplanetest.NewNetwork()
	x := &duplex{network: network, nodes: [2]*node{a.makeNode(t, network, 1, 2), b.makeNode(t, network, 2, 1)}}
	x.open(t)
	return x
}

func (x *duplex) open(t testing.TB) {
	t.Helper()
	for _, n := range x.nodes {
		if err := n.Open(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := n.Release(); err != nil {
				t.Error(err)
			}
		})
	}
}

// run lets both workers take turns until there is nothing left to do.
func (x *duplex) run(t testing.TB) {
	t.Helper()
	for busy := true; busy; {
		busy = false
		for _, n := range x.nodes {
			some, err := n.Turn()
			if err != nil {
				t.Fatal(err)
			}
			busy = busy || some
		}
	}
}

// exchange has node 1 read the first packets and node 2 the second, and checks that
// each gets what the other has sent, byte for byte and in order, and that all of it
// is in the accounts.
func (x *duplex) exchange(t testing.TB, packets ...[]packet.Packet) {
	t.Helper()
	var arrive [2][][]byte // at the node of that index
	for i, ps := range packets {
		for _, p := range ps {
			x.nodes[i].device.SendSuper(p)
			wire, dropped, why := x.nodes[i].judge(p, byte(2-i))
			arrive[1-i] = append(arrive[1-i], wire...)
			x.want[i].expect(&x.want[1-i], wire, dropped, why)
		}
	}
	x.run(t)
	for i, n := range x.nodes {
		want, got := &x.want[i], n.Stats()
		if diff := cmp.Diff([2]dataplane.Account{want.out, want.in}, [2]dataplane.Account{got.Egress, got.Ingress}); diff != "" {
			t.Errorf("node %d: accounts out and in (-want +got):\n%s", i+1, diff)
		}
		traffic := want.sent
		traffic.RxPackets, traffic.RxBytes = x.want[1-i].sent.TxPackets, x.want[1-i].sent.TxBytes
		if diff := cmp.Diff(traffic, got.Peers[x.nodes[1-i].endpoint.String()]); diff != "" {
			t.Errorf("node %d: traffic with its peer (-want +got):\n%s", i+1, diff)
		}
		x.compare(t, n, arrive[i])
	}
}

func (e *expectation) expect(far *expectation, arrive [][]byte, dropped int, why dataplane.Reason) {
	n := uint64(len(arrive))
	e.out.Received += n + uint64(dropped)
	e.out.Forwarded += n
	e.out.Drops[why] += uint64(dropped)
	far.in.Received += n
	far.in.Forwarded += n
	e.sent.TxPackets += n
	for _, p := range arrive {
		e.sent.TxBytes += uint64(len(p))
	}
}

// compare takes out of n's device all that is there, which but for n's own ICMP
// errors shall be want.
func (x *duplex) compare(t testing.TB, n *node, want [][]byte) {
	t.Helper()
	var got [][]byte
	for range n.device.Waiting() {
		p := n.device.Receive(t)
		var h packet.Header
		if !packet.ParseInto(p, &h) {
			t.Fatalf("%s got %x", n.endpoint, p)
		}
		if !slices.Contains(n.config.Addresses, h.Src) {
			got = append(got, p)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s got %d packets, want %d", n.endpoint, len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(atomic(got[i]), atomic(want[i])) {
			t.Fatalf("%s got as packet %d of %d\n%x, want\n%x", n.endpoint, i, len(got), got[i], want[i])
		}
	}
}

// atomic is p without the identification where that means nothing, RFC 6864
// section 4.1: merged packets may get another.
func atomic(p []byte) []byte {
	if p[0]>>4 == 6 || p[6]&0x40 == 0 {
		return p
	}
	p = bytes.Clone(p)
	p[4], p[5] = 0, 0
	reference.HeaderChecksum(p)
	return p
}

// Superpackets and small packets arrive as the wire packets that they stand for,
// whatever the two nodes leave to the kernel and to each other, by whatever codec each
// of them sends, and however narrow the way.
func TestSuperpacketsArrive(t *testing.T) {
	seen := dataplane.Account{}
	groups, packets := map[offload.Set]uint64{}, map[offload.Set]uint64{}
	round, count := 0, 150
	if testing.Short() { // under the race detector, which makes it ten times as long
		count = 40
	}
	for _, can := range []offload.Set{offload.All, 0, offload.Of(offload.TSO), offload.Of(offload.USO)} {
		for _, rco := range [][2]bool{{true, true}, {true, false}, {false, false}} {
			for _, codec := range [][2]encap.Codec{{encap.UDP, encap.UDP}, {encap.VXLAN, encap.VXLAN}, {encap.VXLAN, encap.UDP}} {
				a := features{can: can, rco: rco[0], codec: codec[0], six: round%2 == 1, mtu: []int{0, 1400, 1240, 576, 1000}[round%5]}
				b := features{can: can, rco: rco[1], codec: codec[1], six: round%4 > 1}
				round++
				t.Run(fmt.Sprint(a, "+", b), func(t *testing.T) {
					x := newDuplex(t, a, b)
					d := randomDice(uint64(round), 20_000)
					x.exchange(t, d.packets(count, 1, 2), d.packets(count, 2, 1))
					for i, n := range x.nodes {
						delivered, written := x.want[i].in.Forwarded, uint64(n.device.Groups())-n.Stats().ICMPSent
						groups[can] += written
						packets[can] += delivered
						if can == 0 && written != delivered {
							t.Errorf("node %d: %d packets were written in %d groups", i+1, delivered, written)
						}
						seen.Forwarded += x.want[i].out.Forwarded
						for r, n := range x.want[i].out.Drops {
							seen.Drops[r] += n
						}
					}
				})
			}
		}
	}
	t.Logf("forwarded %d, dropped %v, in groups %v", seen.Forwarded, drops(seen), groups)
	for _, r := range []dataplane.Reason{dataplane.Malformed, dataplane.Spoofed, dataplane.NotOurs, dataplane.NoRoute, dataplane.TooBig} {
		if seen.Drops[r] == 0 {
			t.Errorf("none of the packets was %s", r)
		}
	}
	if groups[offload.All] > packets[offload.All]/2 {
		t.Errorf("%d packets were written in %d groups", packets[offload.All], groups[offload.All])
	}
}

// FuzzEngine: whatever the kernel hands over, each packet that is right comes out on
// the other side as the reference cuts it, and all the others are accounted for.
func FuzzEngine(f *testing.F) {
	// Short ones: to make one of n bytes smaller takes a fuzzer n squared attempts.
	for seed := range uint64(80) {
		f.Add([]byte(randomDice(seed, 40)))
	}
	var worlds []*duplex
	for _, c := range [][2]features{
		{{rco: true}, {}},
		{{codec: encap.VXLAN, rco: true, mtu: 1240, six: true}, {mtu: 1300}},
		{{mtu: 576}, {codec: encap.VXLAN, mtu: 1280}},
		{{codec: encap.VXLAN}, {codec: encap.VXLAN, rco: true, mtu: 100}},
		{{rco: true, mtu: 1400, six: true}, {rco: true, six: true}},
	} {
		c[0].can, c[1].can = offload.All, offload.All
		x := newDuplex(f, c[0], c[1])
		x.nodes[0].lies = true
		worlds = append(worlds, x)
	}
	f.Fuzz(func(t *testing.T, decisions []byte) {
		d := dice(decisions)
		x := worlds[d.roll(len(worlds))]
		there, back := d.packets(4, 1, 2), d.packets(1, 2, 1)
		for i := range there {
			d.corrupt(&there[i])
		}
		x.exchange(t, there, back)
	})
}

// corrupt makes something of p that no kernel should hand over.
func (d *dice) corrupt(p *packet.Packet) {
	switch d.roll(8) {
	case 7:
		p.GSO = packet.GSO(d.roll(6))
	case 6:
		p.SegmentSize = d.roll(1 << 16)
	case 5:
		p.CsumStart = d.roll(1 << 16)
	case 4:
		p.CsumOffset = d.roll(1 << 8)
	case 3:
		p.Buf = p.Buf[:1+d.roll(len(p.Buf))]
	case 2:
		for range 1 + d.roll(4) {
			p.Buf[d.roll(min(len(p.Buf), 64))] = byte(d.roll(256))
		}
	default:
		return
	}
	// Else hardly anything would get past the header's checksum.
	if len(p.Buf) >= 40 && p.Buf[0]>>4 == 6 && d.oneIn(2) {
		resize(p.Buf)
	}
	if len(p.Buf) >= 20 && p.Buf[0]>>4 == 4 && p.Buf[0]&15 >= 5 && len(p.Buf) >= int(p.Buf[0]&15)*4 && d.oneIn(2) {
		resize(p.Buf)
	}
}
