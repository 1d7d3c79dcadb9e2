package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// Inbound streams are buffered by memberlist before they are authenticated, so one
// host can make it hold maxPerHost x maxStreamBytes. A member takes about 1 kB of
// a full exchange: the largest carries membership.MaxMembers.
const (
	maxInbound     = 128 // as many as memberlist serves at once
	maxPerHost     = 8   // a node has a join, a ping and an answer to a digest under way at most
	maxStreamBytes = 16 << 20
	recvBuffer     = 2 << 20 // bursts of packets while memberlist holds its lock
	maxPacket      = 1 << 16
	listenTries    = 10 // port 0: TCP picks a port, which UDP may find taken
)

// transport is memberlist's network: one TCP and one UDP socket on one port.
//
// It exists beside memberlist's own because that keeps the text of a bind error
// only, cannot interrupt a dial, leaves connections open after Shutdown, and
// allocates 64 KiB for every packet received.
type transport struct {
	addr    netip.AddrPort
	tcp     *net.TCPListener
	udp     *net.UDPConn
	packets chan *memberlist.Packet
	streams chan net.Conn
	members func() map[netip.Addr]bool // hosts whose streams go before others'; not changed
	crowded func(from netip.Addr)      // a stream of that host was closed for another's

	ctx    context.Context // ends with Shutdown
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	conns   map[*stream]struct{}
	inbound map[netip.Addr]int // open inbound streams by host
	total   int                // sum of inbound
}

// listen opens both sockets on addr. Port 0 takes a free port, the same for both. members
// and crowded are called with a lock held, and must not call the transport.
func listen(addr netip.AddrPort, members func() map[netip.Addr]bool, crowded func(netip.Addr)) (*transport, error) {
	tries := 1
	if addr.Port() == 0 {
		tries = listenTries
	}
	var err error
	for range tries {
		var t *transport
		if t, err = open(addr); err == nil {
			t.members, t.crowded = members, crowded
			t.start()
			return t, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, bindError(addr, err)
}

func open(addr netip.AddrPort) (*transport, error) {
	config := net.ListenConfig{Control: narrow}
	l, err := config.Listen(context.Background(), "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	tcp := l.(*net.TCPListener)
	bound := tcp.Addr().(*net.TCPAddr).AddrPort()
	bound = netip.AddrPortFrom(bound.Addr().Unmap(), bound.Port())
	p, err := config.ListenPacket(context.Background(), "udp", bound.String())
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	udp := p.(*net.UDPConn)
	// Best effort: the kernel caps it at net.core.rmem_max without an error.
	_ = udp.SetReadBuffer(recvBuffer)
	ctx, cancel := context.WithCancel(context.Background())
	return &transport{
		addr:    bound,
		tcp:     tcp,
		udp:     udp,
		packets: make(chan *memberlist.Packet),
		streams: make(chan net.Conn),
		ctx:     ctx,
		cancel:  cancel,
		conns:   make(map[*stream]struct{}),
		inbound: make(map[netip.Addr]int),
	}, nil
}

func bindError(addr netip.AddrPort, err error) error {
	fix := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		fix = ": stop what uses it (ss -tulpn shows it), or set another gossipPort"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		fix = ": set gossipAddr to an address of this machine"
	case errors.Is(err, syscall.EACCES):
		fix = ": set a gossipPort of 1024 or above"
	}
	return fmt.Errorf("open the gossip port on %s (TCP and UDP): %w%s", addr, err, fix)
}

func (t *transport) start() {
	t.wg.Go(t.acceptLoop)
	t.wg.Go(t.receiveLoop)
}

func (t *transport) acceptLoop() {
	for {
		conn, err := t.tcp.Accept()
		if err != nil {
			if !t.survives(err) {
				return
			}
			continue
		}
		s, err := t.track(conn, conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
		if err != nil {
			_ = conn.Close() // over the limit, or shutting down
			continue
		}
		select {
		case t.streams <- s:
		case <-t.ctx.Done():
			_ = s.Close()
		}
	}
}

func (t *transport) receiveLoop() {
	buf := make([]byte, maxPacket)
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			if !t.survives(err) {
				return
			}
			continue
		}
		if n == 0 {
			continue // memberlist takes a packet to have a first byte
		}
		p := &memberlist.Packet{
			Buf:       append([]byte(nil), buf[:n]...),
			From:      net.UDPAddrFromAddrPort(netip.AddrPortFrom(from.Addr().Unmap(), from.Port())),
			Timestamp: time.Now(),
		}
		select {
		case t.packets <- p:
		case <-t.ctx.Done():
		}
	}
}

// survives says whether a socket loop goes on after err, and waits a little where
// err may repeat at once, as when descriptors run out.
func (t *transport) survives(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	pause := time.NewTimer(100 * time.Millisecond)
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-t.ctx.Done():
		return false
	}
}

// FinalAdvertiseAddr returns the bound address: what is bound is advertised.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.addr.Addr().AsSlice(), int(t.addr.Port()), nil
}

// WriteTo sends one packet.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("send a gossip packet: %w", err)
	}
	_, err = t.udp.WriteToUDPAddrPort(b, to)
	return time.Now(), err
}

// WriteToAddress sends one packet; the node's name is not needed.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

// DialTimeout opens a stream from the advertised address, which is the one that
// firewalls know. Shutdown interrupts it. What is to be said has as much time as the
// dial: memberlist sets no deadline where it sends a message (v0.7.0, sendUserMsg).
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout, LocalAddr: &net.TCPAddr{IP: t.addr.Addr().AsSlice()}, Control: narrow}
	conn, err := d.DialContext(t.ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	s, err := t.track(conn, netip.Addr{})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := s.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// DialAddressTimeout opens a stream; the node's name is not needed.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// PacketCh is where memberlist receives packets.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh is where memberlist receives streams.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown closes the sockets and every stream, and waits for the loops.
func (t *transport) Shutdown() error {
	t.cancel()
	err := errors.Join(ignoreClosed(t.tcp.Close()), ignoreClosed(t.udp.Close()))
	t.mu.Lock()
	for s := range t.conns {
		_ = s.Conn.Close()
	}
	t.mu.Unlock()
	t.wg.Wait()
	return err
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
