package encap

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
)

// everything is a port for every codec over both families.
func everything(t *testing.T, workers int, want offload.Set) *Port {
	t.Helper()
	return listenAs(t, ListenConfig{Addrs: bothLoopbacks(), Ports: map[Codec]uint16{UDP: 0, VXLAN: 0}, Need: UDP, VNI: steeredVNI, Workers: workers, Want: want})
}

func bothLoopbacks() (addrs []netip.Addr) {
	for _, addr := range loopbacks {
		addrs = append(addrs, netip.MustParseAddr(addr))
	}
	return addrs
}

// ends is where p receives, one for each codec and family.
func ends(p *Port) (all []netip.AddrPort) {
	for _, c := range Codecs() {
		if number, open := p.Number(c); open {
			for _, addr := range p.Addrs() {
				all = append(all, netip.AddrPortFrom(addr, number))
			}
		}
	}
	return all
}

// What is sent in turn to every family and codec arrives at the receiver that says
// so, in order, and from the source ports that all codecs share.
func TestFamiliesAndCodecs(t *testing.T) {
	for _, want := range offloads {
		from, to := everything(t, 1, want), everything(t, 1, want)
		s := to.Sockets()[0]
		r := seeded(12)
		var msgs []Message
		for i := range 200 {
			for j, end := range ends(to) {
				m := messages(r, s, 1+(i+j)%3, 300, 1+i, 1+i%2)
				m.Addr = end
				msgs = append(msgs, m)
			}
		}
		send(t, from.Sockets()[0], msgs)
		if len(s.Receivers()) != len(ends(to)) {
			t.Fatalf("receivers %v", s.Receivers())
		}
		sources := map[netip.AddrPort]int{}
		for i, receiver := range s.Receivers() {
			var mine []Message
			for _, m := range msgs {
				number, _ := to.Number(receiver.Codec)
				at, err := boundTo(receiver.FD)
				if err != nil || number != at.Port() {
					t.Fatalf("%v is at %s %v, the number is %d", receiver, at, err, number)
				}
				if m.Addr == at {
					mine = append(mine, m)
				}
			}
			got := receiveAt(t, s, i, len(datagramsOf(mine)))
			compare(t, got, mine)
			for _, d := range got {
				sources[d.from]++
			}
		}
		if len(sources) != len(loopbacks) {
			t.Errorf("one flow leaves from %v", sources)
		}
	}
}

// A node without an IPv6 address has no way to an IPv6 peer, and can go on.
func TestNoAddressOfTheFamily(t *testing.T) {
	for i, addr := range loopbacks {
		p := listen(t, addr, 1, offload.All)
		s := p.Sockets()[0]
		other := messages(seeded(13), s, 3, 100, 50, 1)
		other.Addr = netip.AddrPortFrom(netip.MustParseAddr(loopbacks[1-i]), 9)
		msgs := []Message{message(s, []byte("before")), other, message(s, []byte("after"))}
		send(t, s, msgs)
		if msgs[0].Err != nil || msgs[1].Lost != 3 || !errors.Is(msgs[1].Err, ErrRefused) || msgs[2].Err != nil {
			t.Errorf("%v, %v, %v", msgs[0].Err, msgs[1].Err, msgs[2].Err)
		}
		compare(t, receive(t, s, 2), []Message{msgs[0], msgs[2]})
		if err := p.SendOne([]byte("one"), other.Addr); !errors.Is(err, ErrRefused) {
			t.Errorf("SendOne: %v", err)
		}
	}
}

func TestSendOne(t *testing.T) {
	from, to := everything(t, 1, offload.All), everything(t, 1, offload.All)
	for i, end := range ends(to) {
		if err := from.SendOne([]byte("one"), end); err != nil {
			t.Fatal(err)
		}
		source, err := boundTo(from.out[sourceIndex(end.Addr(), controls)])
		if err != nil {
			t.Fatal(err)
		}
		if got := receiveAt(t, to.Sockets()[0], i, 1); len(got) != 1 || string(got[0].bytes) != "one" || got[0].from != source {
			t.Errorf("%s receives %v, want one from %s", end, got, source)
		}
		if err := from.SendOne(make([]byte, MaxDatagram), end); !errors.Is(err, ErrTooBig) || !strings.Contains(err.Error(), end.String()) {
			t.Errorf("a datagram that is none: %v", err)
		}
		if err := from.SendOne(nil, netip.AddrPortFrom(end.Addr(), 0)); !errors.Is(err, ErrRefused) {
			t.Errorf("to no port: %v", err)
		}
	}
	from.Close()
	if err := from.SendOne([]byte("one"), ends(to)[0]); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A port that another holds is left out, at all addresses, unless it is needed.
func TestTakenPortIsLeftOut(t *testing.T) {
	for _, held := range loopbacks {
		holder := addrOf(listen(t, held, 1, 0))
		c := ListenConfig{Addrs: bothLoopbacks(), Ports: map[Codec]uint16{UDP: 0, VXLAN: holder.Port()}, Need: UDP, Workers: 2}
		p := listenAs(t, c)
		if number, open := p.Number(VXLAN); open || number != 0 {
			t.Errorf("%s is taken, and the port is open at %d", holder, number)
		}
		why := p.Closed()[VXLAN]
		if len(p.Closed()) != 1 || !errors.Is(why, unix.EADDRINUSE) {
			t.Fatalf("Closed = %v", p.Closed())
		}
		for _, words := range []string{holder.String(), "in use", fmt.Sprintf("`ss -lunp sport = :%d`", holder.Port()), "`vxlanPort`", "`ip -d link show type vxlan`", "flannel"} {
			if !strings.Contains(why.Error(), words) {
				t.Errorf("%q does not say %q", why, words)
			}
		}
		if _, open := p.Number(UDP); !open {
			t.Error("the needed port is not open")
		}
		for _, s := range p.Sockets() {
			if len(s.Receivers()) != 2 || slices.ContainsFunc(s.Receivers(), func(r Receiver) bool { return r.Codec != UDP }) {
				t.Errorf("receivers %v", s.Receivers())
			}
		}
		c.Need = VXLAN
		if p, err := Listen(c); p != nil || !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), "`vxlanPort`") {
			t.Errorf("a needed port that is taken: %v", err)
		}
	}
}

// Over both families and codecs, a batch to all of them costs no memory.
func TestMixedBatchAllocatesNothing(t *testing.T) {
	from, to := everything(t, 1, offload.All), everything(t, 1, offload.All)
	var out []Message
	for range 5 {
		for _, end := range ends(to) {
			m := message(to.Sockets()[0], bytes.Repeat([]byte{1}, 100))
			m.Addr = end
			out = append(out, m)
			m.Fragment = true
			out = append(out, m)
		}
	}
	in := []Received{{Buf: make([]byte, 2000)}}
	s := to.Sockets()[0]
	if allocs := testing.AllocsPerRun(50, func() {
		if sent, err := from.Sockets()[0].Send(out); sent != len(out) || err != nil {
			t.Fatal(sent, err)
		}
		for got := 0; got < len(out); {
			for i := range s.Receivers() {
				n, err := s.Recv(i, in)
				if err != nil {
					t.Fatal(err)
				}
				got += n
			}
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
