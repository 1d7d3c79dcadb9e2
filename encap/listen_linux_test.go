package encap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestListenRefuses(t *testing.T) {
	for _, addr := range loopbacks {
		taken := listen(t, addr).Addr()
		elsewhere := netip.MustParseAddrPort("192.0.2.1:8285") // TEST-NET-1
		if taken.Addr().Is6() {
			elsewhere = netip.MustParseAddrPort("[2001:db8::1]:8285")
		}
		for _, c := range []struct {
			addr  netip.AddrPort
			errno error
			words []string
		}{
			{taken, unix.EADDRINUSE, []string{taken.String(), "in use", fmt.Sprintf("`ss -lunp sport = :%d`", taken.Port()), "`dataPort`"}},
			{elsewhere, unix.EADDRNOTAVAIL, []string{elsewhere.String(), "`underlay`", "address of this machine"}},
		} {
			s, err := Listen(c.addr)
			if s != nil || !errors.Is(err, c.errno) {
				t.Fatalf("Listen(%s) = %v %v, want %v", c.addr, s, err, c.errno)
			}
			for _, words := range c.words {
				if !strings.Contains(err.Error(), words) {
					t.Errorf("Listen(%s): %q does not say %q", c.addr, err, words)
				}
			}
		}
	}
}

// A closed port is free again at once.
func TestListenAfterClose(t *testing.T) {
	s := listen(t, "127.0.0.1")
	for range 3 {
		addr := s.Addr()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		var err error
		if s, err = Listen(addr); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
}

func TestCloseEndsRecv(t *testing.T) {
	s := listen(t, "127.0.0.1")
	ended := make(chan error)
	go func() {
		_, err := s.Recv([]Message{{Buf: make([]byte, 100)}})
		ended <- err
	}()
	waitAsleep(t, "encap.(*Socket).Recv")
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the waiting Recv ends with %v", err)
	}
}

func TestClosedSocket(t *testing.T) {
	s := listen(t, "127.0.0.1")
	to := s.Addr()
	s.Close()
	if n, err := s.Recv([]Message{{Buf: make([]byte, 100)}}); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Recv = %d %v", n, err)
	}
	if n, err := s.Send([]Message{{Buf: make([]byte, 100), Addr: to}}); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Send = %d %v", n, err)
	}
	if _, err := s.Overflows(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Overflows: %v", err)
	}
	if err := s.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Close again: %v", err)
	}
}

// What a socket that is not read loses is counted to the last datagram.
func TestOverflows(t *testing.T) {
	for _, addr := range loopbacks {
		t.Run(addr, func(t *testing.T) {
			from, to := listen(t, addr), listen(t, addr)
			if lost, err := to.Overflows(); lost != 0 || err != nil {
				t.Fatalf("Overflows = %d %v before the first datagram", lost, err)
			}
			if err := to.conn.SetReadBuffer(64 << 10); err != nil {
				t.Fatal(err)
			}
			const sent = 600
			msgs := make([]Message, sent)
			for i := range msgs {
				msgs[i] = Message{Buf: make([]byte, 1000), Addr: to.Addr()}
			}
			send(t, from, msgs)

			received, lost := settle(t, to, sent)
			if received+lost != sent || lost == 0 || received == 0 {
				t.Errorf("sent %d, received %d, lost %d", sent, received, lost)
			}
			send(t, from, msgs[:1])
			if n := len(receive(t, to, 1, Batch, 2000)); n != 1 {
				t.Errorf("%d datagrams more than were counted", n-1)
			}
			if again, err := to.Overflows(); again != uint64(lost) || err != nil {
				t.Errorf("Overflows = %d %v where nothing more was lost than %d", again, err, lost)
			}
		})
	}
}

// settle receives until all datagrams are accounted for, or none comes any more.
func settle(t *testing.T, s *Socket, sent int) (received, lost int) {
	t.Helper()
	for end := time.Now().Add(fuse); received+lost < sent && time.Now().Before(end); {
		msgs := make([]Message, Batch)
		for i := range msgs {
			msgs[i].Buf = make([]byte, 2000)
		}
		s.conn.SetReadDeadline(time.Now().Add(time.Second))
		n, err := s.Recv(msgs)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		received += n
		dropped, err := s.Overflows()
		if err != nil {
			t.Fatal(err)
		}
		lost = int(dropped)
	}
	s.conn.SetReadDeadline(time.Now().Add(fuse))
	return received, lost
}
