package encap

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
)

// steeredVNI is the VXLAN network of the ports that everything opens.
const steeredVNI = 7

// desk takes what arrives at the control sockets of a port.
type desk struct {
	mu    sync.Mutex
	taken map[string]int // by codec and datagram
	more  chan struct{}
}

func newDesk(t *testing.T, p *Port) *desk {
	t.Helper()
	d := &desk{taken: make(map[string]int), more: make(chan struct{}, 1)}
	serveControl(t, p, func(c *ControlSocket, datagram []byte) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.taken[c.Codec().String()+string(datagram)]++
		select {
		case d.more <- struct{}{}:
		default:
		}
	})
	return d
}

// serveControl serves the control sockets of p for the length of the test.
func serveControl(t *testing.T, p *Port, take func(*ControlSocket, []byte)) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, c := range p.ControlSockets() {
		running.Go(func() {
			if err := c.Serve(ctx, func(_ netip.AddrPort, datagram []byte) { take(c, datagram) }); err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
}

func (d *desk) count(c Codec, datagram []byte) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.taken[c.String()+string(datagram)]
}

// await waits until a datagram was taken.
func (d *desk) await(t *testing.T, c Codec, datagram []byte) {
	t.Helper()
	for end := time.After(fuse); d.count(c, datagram) == 0; {
		select {
		case <-d.more:
		case <-end:
			t.Fatalf("%x does not arrive at the control socket of %s", datagram, c)
		}
	}
}

// What is no packet, as Decap tells, arrives at the control sockets, and all else at the worker
// that the source port selects, whatever the kernel puts together on the way.
func TestSteering(t *testing.T) {
	for _, workers := range []int{1, 2, 3} {
		steering(t, everything(t, workers, offload.All), workers)
	}
}

// Whoever adopts a port has the sockets in the order of their group: a worker's datagrams still come to that
// one, and control messages to none of them.
func TestSteeringOfWhatWasAdopted(t *testing.T) {
	for _, workers := range []int{1, 3} {
		before := everything(t, workers, offload.All)
		c := ListenConfig{Addrs: before.Addrs(), Ports: make(map[Codec]uint16), Need: UDP, VNI: steeredVNI, Workers: workers, Want: offload.All}
		for _, codec := range Codecs() {
			c.Ports[codec], _ = before.Number(codec)
		}
		given := copies(t, before)
		if err := before.Close(); err != nil {
			t.Fatal(err)
		}
		p, err := Adopt(c, given)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		steering(t, p, workers)
	}
}

func steering(t *testing.T, p *Port, workers int) {
	t.Helper()
	station := Station{VNI: steeredVNI, MAC: MAC{2, 0, 0, 0, 0, 1}}
	d := newDesk(t, p)
	for i, end := range ends(p) {
		codec := p.Sockets()[0].Receivers()[i].Codec
		from := listen(t, end.Addr().String(), 1, offload.All)
		r := rand.New(rand.NewPCG(1, uint64(10*workers+i)))
		for round := range 60 {
			batch, kinds := someDatagrams(r, &station, codec, round)
			flow := r.Uint32()
			want := [][]byte{}
			for j, b := range batch {
				m := Message{Pieces: [][]byte{b}, PerSegment: 1, Segments: 1, SegmentSize: len(b), Addr: end, Flow: flow}
				send(t, from.Sockets()[0], []Message{m})
				if kinds[j] != Control && kinds[j] != Neighbour {
					want = append(want, b)
				}
			}
			source, err := boundTo(from.out[sourceIndex(end.Addr(), int(flow%sourcePorts))])
			if err != nil {
				t.Fatal(err)
			}
			got := receiveAt(t, p.Sockets()[int(source.Port())%workers], i, len(want))
			for j := range got {
				if j < len(want) && !bytes.Equal(got[j].bytes, want[j]) {
					t.Fatalf("%d workers, %s: datagram %d is %x, want %x", workers, end, j, got[j].bytes, want[j])
				}
			}
			for j, b := range batch {
				if kinds[j] == Control || kinds[j] == Neighbour {
					d.await(t, codec, b)
				} else if d.count(codec, b) > 0 {
					t.Errorf("%d workers, %s: %x is %d, and no control message", workers, end, b, kinds[j])
				}
			}
		}
	}
}

// someDatagrams are all kinds, each numbered, so that none is like another, and of a length of
// its own, so that the kernel puts none together: it goes by the first then.
func someDatagrams(r *rand.Rand, s *Station, c Codec, round int) (batch [][]byte, kinds []Kind) {
	way := Tunnel{Codec: c, VNI: s.VNI, Local: MAC{2, 0, 0, 0, 0, 2}, Remote: s.MAC}
	for i := range 12 {
		b := binary.BigEndian.AppendUint64(nil, uint64(round)<<32|uint64(i))
		switch r.IntN(4) {
		case 0:
			b = way.AppendControl(nil, b, 0)
		case 1:
			if c == VXLAN {
				way := Tunnel{Codec: c, VNI: way.VNI + uint32(r.IntN(2))<<r.IntN(20), Local: way.Local} // of a segment, half of them
				b = append(way.appendFrame(nil, broadcast, way.Local, etherTypeARP), b...)
			}
		case 2:
			packet := append(make([]byte, ipv6Len+ndLen), b...)
			packet[0] = 0x60
			copy(packet[6:], []byte{[]byte{nextICMP, 6}[r.IntN(2)], []byte{hopLimit, 64}[r.IntN(2)]})
			packet[ipv6Len] = []byte{typeNS, typeNA}[r.IntN(2)]
			b = packet
			if c == VXLAN {
				b = append(way.appendFrame(nil, s.MAC, way.Local, etherTypeIPv6), packet...)
			}
		case 3:
			head := make([]byte, r.IntN(40))
			for j := range head {
				head[j] = byte(r.Uint32())
			}
			b = append(head, b...)
			if c == VXLAN && len(b) > 22 && r.IntN(2) == 0 {
				copy(b, way.appendFrame(nil, s.MAC, way.Local, etherTypeIPv4))
			}
		}
		b = append(b, make([]byte, 64+60*i)...) // to a program that reads behind the end all are the first worker's
		batch, kinds = append(batch, b), append(kinds, steered(s, c, b))
	}
	return batch, kinds
}

// steered is what Decap says of b; but the kernel does not look at the VTEP, nor
// at what follows GUE's first bits, so that what is nobody's may be at a control socket too.
func steered(s *Station, c Codec, b []byte) Kind {
	_, _, kind := s.Decap(c, b)
	stray := kind == WrongVNI || kind == WrongVTEP || kind == Malformed
	switch {
	case c == UDP && stray && b[0]&0xe0 == 0x20:
		return Control
	case c == UDP:
		return kind
	}
	switch etherType := binary.BigEndian.Uint16(b[20:]); {
	case !stray, binary.BigEndian.Uint32(b[4:])>>8 != s.VNI:
	case etherType == etherTypeControl, etherType == etherTypeARP:
		return Control
	case etherType == etherTypeIPv6 && b[28] == nextICMP && b[29] == hopLimit && b[62] == typeNS:
		return Control
	}
	return kind
}

// A control message does not wait behind packets that nobody takes.
func TestControlPassesPackets(t *testing.T) {
	for _, addr := range loopbacks {
		from, to := listen(t, addr, 1, offload.All), listen(t, addr, 1, offload.All)
		d := newDesk(t, to)
		m := message(to.Sockets()[0], bytes.Repeat([]byte{0x45}, 1400))
		for range 20_000 { // more than the socket holds
			send(t, from.Sockets()[0], []Message{m})
		}
		probe := new(Tunnel).AppendControl(nil, []byte("is anybody there?"), 1400)
		if err := from.SendOne(probe, addrOf(to)); err != nil {
			t.Fatal(err)
		}
		d.await(t, UDP, probe)
	}
}

func TestServeEndsWithThePort(t *testing.T) {
	p, err := Listen(config(netip.MustParseAddrPort("127.0.0.1:0"), 2, offload.All))
	if err != nil {
		t.Fatal(err)
	}
	ended, socket := make(chan error, 1), p.ControlSockets()[0] // which the port has no more once it is closed
	go func() { ended <- socket.Serve(context.Background(), func(netip.AddrPort, []byte) {}) }()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("Serve = nil, and nobody told it to end")
		}
	case <-time.After(fuse):
		t.Fatal("Serve does not end")
	}
}

// Every result of a program is the index of a socket, also for what is cut off anywhere.
func TestSelectorIsWithinItsGroup(t *testing.T) {
	for _, c := range Codecs() {
		for _, v4 := range []bool{true, false} {
			for _, f := range selector(c, steeredVNI, v4, 3) {
				if f.Code == unix.BPF_RET|unix.BPF_K && f.K != 3 {
					t.Errorf("%s: returns %d", c, f.K)
				}
			}
			program := selector(c, steeredVNI, v4, 3)
			for i, f := range program {
				if f.Code == unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K && i+1+int(f.Jf) >= len(program) {
					t.Errorf("%s: instruction %d jumps out of the program", c, i)
				}
			}
			if last := program[len(program)-1]; last.Code != unix.BPF_RET|unix.BPF_A || !slices.ContainsFunc(program, func(f unix.SockFilter) bool {
				return f.Code == unix.BPF_ALU|unix.BPF_MOD|unix.BPF_K && f.K == 3
			}) {
				t.Error(fmt.Sprint(c, " does not end with a worker: ", program))
			}
		}
	}
}
