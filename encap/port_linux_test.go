package encap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
)

func TestListenRefuses(t *testing.T) {
	for _, addr := range loopbacks {
		for workers := 1; workers <= 2; workers++ { // of the port that is taken, and of the one that wants it
			taken := addrOf(listen(t, addr, workers, offload.All))
			missing := []string{"`underlay`", "address of this machine"}
			elsewhere := netip.MustParseAddrPort("192.0.2.1:8285") // TEST-NET-1
			if taken.Addr().Is6() {
				elsewhere = netip.MustParseAddrPort("[2001:db8::1]:8285")
				missing = append(missing, "tentative")
			}
			for _, c := range []struct {
				addr  netip.AddrPort
				errno error
				words []string
			}{
				{taken, unix.EADDRINUSE, []string{taken.String(), "in use", fmt.Sprintf("`ss -lunp sport = :%d`", taken.Port()), "`dataPort`"}},
				{elsewhere, unix.EADDRNOTAVAIL, append(missing, elsewhere.String())},
			} {
				p, err := Listen(config(c.addr, workers, offload.All))
				if p != nil || !errors.Is(err, c.errno) {
					t.Fatalf("Listen(%s) = %v %v, want %v", c.addr, p, err, c.errno)
				}
				for _, words := range c.words {
					if !strings.Contains(err.Error(), words) {
						t.Errorf("Listen(%s): %q does not say %q", c.addr, err, words)
					}
				}
			}
		}
	}
}

// A closed port is free again at once, and a port that could not be opened leaves
// no descriptor behind.
func TestDescriptors(t *testing.T) {
	lowest := func() int {
		fd, err := unix.Dup(0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		return fd
	}
	before := lowest()
	p := listen(t, "127.0.0.1", 3, offload.All)
	for range 3 {
		addr, used := addrOf(p), lowest()
		if _, err := Listen(config(addr, 3, offload.All)); err == nil {
			t.Error("a port that is taken was opened")
		}
		if after := lowest(); after != used {
			t.Errorf("after a refusal the lowest free descriptor is %d, and was %d", after, used)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if after := lowest(); after != before {
			t.Errorf("the lowest free descriptor is %d, and was %d", after, before)
		}
		var err error
		if p, err = Listen(config(addr, 3, offload.All)); err != nil {
			t.Fatal(err)
		}
	}
	p.Close()
}

func TestClosedPort(t *testing.T) {
	p := listen(t, "127.0.0.1", 2, offload.All)
	s := p.Sockets()[1]
	m := message(s, []byte("datagram"))
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if n, err := s.Recv(0, []Received{{Buf: make([]byte, 100)}}); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Recv = %d %v", n, err)
	}
	if n, err := s.Send([]Message{m}); n != 0 || !errors.Is(err, net.ErrClosed) || s.Full() != -1 {
		t.Errorf("Send = %d %v", n, err)
	}
	if n, err := p.Overflows(); n != 0 || err != nil {
		t.Errorf("Overflows = %d %v", n, err)
	}
	if err := p.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Close again: %v", err)
	}
}

func TestFeatures(t *testing.T) {
	both := offload.Of(offload.GSO, offload.GRO)
	for _, want := range offloads {
		p := listen(t, "127.0.0.1", 2, want)
		if on := p.Features(); on != want&both || len(p.Refused()) != 0 {
			t.Errorf("of %s is on: %s; refused: %v", want, on, p.Refused())
		}
	}
}

// A TCP socket knows as little of either as a UDP socket of an old kernel.
func TestProbeSaysWhichKernelHasIt(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	p := &Port{on: offload.Of(offload.GSO), refused: map[offload.Feature]error{}}
	p.enable(fd, offload.GSO)
	p.enable(fd, offload.GRO) // not wanted
	p.refuse(offload.GSO, unix.EIO)
	why := p.Refused()[offload.GSO]
	if p.Features() != 0 || len(p.Refused()) != 1 || !errors.Is(why, unix.ENOPROTOOPT) || !strings.Contains(why.Error(), "Linux 4.18") {
		t.Errorf("on: %s; refused: %v", p.Features(), p.Refused())
	}
}

// dropsOf is how many datagrams the kernel has dropped at a descriptor.
func dropsOf(t *testing.T, fd int) uint64 {
	t.Helper()
	n, err := (&Port{sockets: []*Socket{{receivers: []Receiver{{FD: fd}}}}}).Overflows()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sendTo sends a datagram to wherever fd is bound.
func sendTo(t *testing.T, s *Socket, fd int) {
	t.Helper()
	to, err := boundTo(fd)
	if err != nil {
		t.Fatal(err)
	}
	m := message(s, []byte("datagram"))
	m.Addr = to
	send(t, s, []Message{m})
}

// A socket takes nothing before all of the port are there, and what was lost until
// then is counted.
func TestNothingArrivesBeforeAccept(t *testing.T) {
	for _, addr := range loopbacks {
		s := listen(t, addr, 1, 0).Sockets()[0]
		ip := netip.MustParseAddr(addr)
		fd, err := newSocket(ip)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := bind(fd, netip.AddrPortFrom(ip, 0)); err != nil {
			t.Fatal(err)
		}
		sendTo(t, s, fd)
		for end := time.Now().Add(fuse); dropsOf(t, fd) != 1 && time.Now().Before(end); {
		}
		if _, _, err := unix.Recvfrom(fd, make([]byte, 100), 0); err != unix.EAGAIN || dropsOf(t, fd) != 1 {
			t.Errorf("before accept: %v, %d dropped", err, dropsOf(t, fd))
		}
		if err := accept(fd); err != nil {
			t.Fatal(err)
		}
		sendTo(t, s, fd)
		poll(t, unix.POLLIN, fd)
	}
}

// Nobody reads what is sent to a source port, therefore it must not pile up.
func TestSourcePortsReceiveNothing(t *testing.T) {
	for _, addr := range loopbacks {
		p := listen(t, addr, 2, offload.All)
		for _, fd := range p.out {
			if fd == noFamily {
				continue
			}
			sendTo(t, p.Sockets()[0], fd)
			for end := time.Now().Add(fuse); dropsOf(t, fd) != 1 && time.Now().Before(end); {
			}
			if _, _, err := unix.Recvfrom(fd, make([]byte, 100), 0); err != unix.EAGAIN || dropsOf(t, fd) != 1 {
				t.Errorf("%s: %v, %d dropped", addr, err, dropsOf(t, fd))
			}
		}
		if n, err := p.Overflows(); n != 0 || err != nil {
			t.Errorf("Overflows = %d %v where the data port dropped nothing", n, err)
		}
	}
}

// What sockets that are not read lose is counted to the last datagram.
func TestOverflows(t *testing.T) {
	for _, addr := range loopbacks {
		t.Run(addr, func(t *testing.T) {
			from, to := listen(t, addr, 1, 0).Sockets()[0], listen(t, addr, 2, 0)
			if lost, err := to.Overflows(); lost != 0 || err != nil {
				t.Fatalf("Overflows = %d %v before the first datagram", lost, err)
			}
			for _, s := range to.Sockets() {
				if err := unix.SetsockoptInt(s.Receivers()[0].FD, unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<10); err != nil {
					t.Fatal(err)
				}
			}
			const sent = 2000
			msgs := make([]Message, sent)
			for i := range msgs {
				msgs[i] = message(to.Sockets()[0], make([]byte, 1000))
				msgs[i].Flow = uint32(i)
			}
			send(t, from, msgs)

			received, lost := 0, uint64(0)
			in := []Received{{Buf: make([]byte, 2000)}}
			for end := time.Now().Add(fuse); received+int(lost) < sent && time.Now().Before(end); {
				for _, s := range to.Sockets() {
					n, err := s.Recv(0, in)
					if err != nil {
						t.Fatal(err)
					}
					received += n
				}
				var err error
				if lost, err = to.Overflows(); err != nil {
					t.Fatal(err)
				}
			}
			if received+int(lost) != sent || lost == 0 || received == 0 {
				t.Errorf("sent %d, received %d, lost %d", sent, received, lost)
			}
			if err := to.Close(); err != nil {
				t.Error(err)
			}
			if after, err := to.Overflows(); after != lost || err != nil {
				t.Errorf("Overflows = %d %v of the closed port, %d before", after, err, lost)
			}
		})
	}
}
