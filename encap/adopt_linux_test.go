package encap

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
)

// copies are p's descriptors as another process would get them.
func copies(t *testing.T, p *Port) map[string]int {
	t.Helper()
	all := make(map[string]int)
	for name, fd := range p.Descriptors() {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = dup
	}
	return all
}

// bothOf is a port of both codecs and families, on ports that are free.
func bothOf(t *testing.T, workers int, want offload.Set) (ListenConfig, *Port) {
	t.Helper()
	c := ListenConfig{
		Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()},
		Ports: map[Codec]uint16{UDP: 0, VXLAN: 0}, Need: UDP, Workers: workers, Want: want,
	}
	p := listenAs(t, c)
	for codec := range c.Ports {
		c.Ports[codec], _ = p.Number(codec)
	}
	return c, p
}

// What arrives while nobody has the port is received by the next owner's worker, by the socket
// that it would have come to before, and what is sent comes from the same ports.
func TestAdopt(t *testing.T) {
	for _, want := range offloads {
		c, before := bothOf(t, 3, want)
		names := before.Descriptors()
		sources := sourcesOf(t, before)
		given := copies(t, before)
		if len(given) != 2*2*(3+1)+2*perFamily {
			t.Fatalf("%d descriptors: %v", len(given), given)
		}
		if err := before.Close(); err != nil {
			t.Fatal(err)
		}
		peer, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(c.Addrs[0], c.Ports[UDP])))
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		const datagrams = 100
		for i := range datagrams {
			if _, err := peer.Write([]byte{1, byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
		next, err := Adopt(c, given)
		if err != nil {
			t.Fatal(err)
		}
		defer next.Close()
		for i, at := 0, 0; i < datagrams; at++ {
			if at > 10*len(next.Sockets()) {
				t.Fatalf("%d of %d datagrams came", i, datagrams)
			}
			msgs := []Received{{Buf: make([]byte, MaxDatagram)}}
			n, err := next.Sockets()[at%len(next.Sockets())].Recv(0, msgs)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				continue
			}
			at-- // there may be more
			for rest := msgs[0].Buf[:msgs[0].N]; len(rest) > 0; rest = rest[2:] {
				if rest[1] != byte(i) {
					t.Fatalf("datagram %d comes in the place of %d", rest[1], i)
				}
				i++
			}
		}
		after := next.Descriptors()
		for name := range names {
			if _, ok := after[name]; !ok {
				t.Errorf("%s is not there any more", name)
			}
		}
		if got := sourcesOf(t, next); got != sources {
			t.Errorf("it sends from %v, and sent from %v", got, sources)
		}
		if next.Features() != want&offload.Of(offload.GSO, offload.GRO) {
			t.Errorf("it does %s, want %s", next.Features(), want)
		}
		if err := next.Close(); err != nil {
			t.Error(err)
		}
		if free, err := Listen(c); err != nil {
			t.Errorf("after Close the ports are taken: %v", err)
		} else {
			free.Close()
		}
	}
}

// sourcesOf are the ports that p sends from over IPv4.
func sourcesOf(t *testing.T, p *Port) (ports [perFamily]uint16) {
	t.Helper()
	for i := range ports {
		at, err := boundTo(p.out[sourceIndex(p.addrs[0], i)])
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = at.Port()
	}
	return ports
}

// Descriptors of other addresses, ports or workers are refused and closed. The ports are as
// before.
func TestAdoptUnfit(t *testing.T) {
	c, before := bothOf(t, 2, offload.All)
	for what, change := range map[string]func(*ListenConfig, map[string]int){
		"more workers":  func(c *ListenConfig, _ map[string]int) { c.Workers++ },
		"fewer workers": func(c *ListenConfig, _ map[string]int) { c.Workers-- },
		"another port":  func(c *ListenConfig, _ map[string]int) { c.Ports = map[Codec]uint16{UDP: 9, VXLAN: c.Ports[VXLAN]} },
		"another address": func(c *ListenConfig, _ map[string]int) {
			c.Addrs = []netip.Addr{netip.MustParseAddr("127.0.0.2"), c.Addrs[1]}
		},
		"a family less": func(c *ListenConfig, _ map[string]int) { c.Addrs = c.Addrs[:1] },
		"one missing": func(_ *ListenConfig, given map[string]int) {
			unix.Close(given["send.v4.3"])
			delete(given, "send.v4.3")
		},
		"no socket": func(_ *ListenConfig, given map[string]int) {
			unix.Close(given["control.udp.v4"])
			fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
			if err != nil {
				t.Fatal(err)
			}
			given["control.udp.v4"] = fd
		},
	} {
		with, given := c, copies(t, before)
		change(&with, given)
		if p, err := Adopt(with, given); p != nil || !errors.Is(err, ErrUnfit) {
			t.Errorf("%s: %v %v", what, p, err)
		}
		for name, fd := range given {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
				t.Errorf("%s: %s is still open (%v)", what, name, err)
			}
		}
	}
}

// A codec that had no port, since another program had that, gets one when it is free.
func TestAdoptOpensWhatWasShut(t *testing.T) {
	taken, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	at := taken.LocalAddr().(*net.UDPAddr).AddrPort()
	c := ListenConfig{Addrs: []netip.Addr{at.Addr()}, Ports: map[Codec]uint16{UDP: 0, VXLAN: at.Port()}, Need: UDP, Workers: 1}
	before := listenAs(t, c)
	if before.Closed()[VXLAN] == nil {
		t.Fatal("a port that is taken was opened")
	}
	c.Ports[UDP], _ = before.Number(UDP)
	given := copies(t, before)
	if err := errors.Join(taken.Close(), before.Close()); err != nil {
		t.Fatal(err)
	}
	next, err := Adopt(c, given)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if number, open := next.Number(VXLAN); !open || number != at.Port() {
		t.Errorf("VXLAN is at %d (%v): %v", number, open, next.Closed())
	}
}

// A braced port drops nothing that an ordinary one would, and stays braced for as long as much waits there.
func TestRelaxWaitsForTheQueue(t *testing.T) {
	const size, datagrams = 60_000, 500 // 30 MB, where an ordinary buffer holds 16
	p := listenAs(t, ListenConfig{Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Ports: map[Codec]uint16{UDP: 0}, Need: UDP, Workers: 1})
	number, _ := p.Number(UDP)
	if !p.Relax() {
		t.Error("nothing waits, and it is not relaxed")
	}
	p.Brace()
	c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(number)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	data := make([]byte, size)
	for range datagrams {
		if _, err := c.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := p.Overflows(); n != 0 || err != nil {
		t.Fatalf("%d datagrams were dropped (%v)", n, err)
	}
	if p.Relax() {
		t.Error("it is relaxed though 30 MB wait")
	}
	for range datagrams {
		if _, err := unix.Read(p.receiving()[0], data); err != nil {
			t.Fatal(err)
		}
	}
	if !p.Relax() {
		t.Error("nothing waits any more, and it is not relaxed")
	}
	if got, err := unix.GetsockoptInt(p.receiving()[0], unix.SOL_SOCKET, unix.SO_RCVBUF); got != 2*socketBuffer || err != nil {
		t.Errorf("its buffer has %d bytes (%v)", got, err)
	}
}
