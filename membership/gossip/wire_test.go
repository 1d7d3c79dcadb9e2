package gossip

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// wire is a network in memory, for many nodes under virtual time. It loses nothing, takes no
// time, and counts what real sockets would send.
type wire struct {
	packets, streams, bytes, lost atomic.Uint64

	mu    sync.Mutex
	plugs map[string]*plug // by address
}

// What IP adds, without options but TCP's timestamps: to each datagram, to each segment with
// half an acknowledgement, and to each connection for its beginning and end.
const (
	udpOverhead    = 20 + 8
	tcpOverhead    = 52 + 52/2
	streamOverhead = 7 * 52
)

func (w *wire) network(addr netip.AddrPort) (memberlist.NodeAwareTransport, netip.AddrPort, error) {
	p := &plug{
		wire: w, addr: addr,
		packets: make(chan *memberlist.Packet, 256),
		streams: make(chan net.Conn),
		closed:  make(chan struct{}),
		conns:   make(map[net.Conn]struct{}),
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.plugs == nil {
		w.plugs = make(map[string]*plug)
	}
	w.plugs[addr.String()] = p
	return p, addr, nil
}

func (w *wire) plug(addr string) *plug {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.plugs[addr]
}

// plug is one node's end of a wire.
type plug struct {
	wire    *wire
	addr    netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
	closed  chan struct{}

	mu    sync.Mutex
	conns map[net.Conn]struct{} // nil once closed
}

func (p *plug) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return p.addr.Addr().AsSlice(), int(p.addr.Port()), nil
}

func (p *plug) PacketCh() <-chan *memberlist.Packet { return p.packets }
func (p *plug) StreamCh() <-chan net.Conn           { return p.streams }

func (p *plug) WriteTo(b []byte, addr string) (time.Time, error) {
	now := time.Now()
	p.wire.packets.Add(1)
	p.wire.bytes.Add(uint64(len(b) + udpOverhead))
	if to := p.wire.plug(addr); to != nil {
		packet := &memberlist.Packet{Buf: append([]byte(nil), b...), From: net.UDPAddrFromAddrPort(p.addr), Timestamp: now}
		select {
		case to.packets <- packet:
		default: // as where a socket is full
			p.wire.lost.Add(1)
		}
	}
	return now, nil
}

func (p *plug) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return p.WriteTo(b, a.Addr)
}

var errRefused = errors.New("connection refused")

func (p *plug) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	p.wire.streams.Add(1)
	p.wire.bytes.Add(streamOverhead)
	to := p.wire.plug(addr)
	if to == nil {
		return nil, errRefused
	}
	here, there := net.Pipe()
	if !p.track(here) || !to.track(there) {
		return nil, errRefused
	}
	if err := here.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	select {
	case to.streams <- &counted{Conn: there, plug: to, remote: p.addr}:
	case <-to.closed:
		return nil, errRefused
	}
	return &counted{Conn: here, plug: p, remote: to.addr}, nil
}

func (p *plug) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return p.DialTimeout(a.Addr, timeout)
}

func (p *plug) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *plug) Shutdown() error {
	p.wire.mu.Lock()
	if p.wire.plugs[p.addr.String()] == p {
		delete(p.wire.plugs, p.addr.String())
	}
	p.wire.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		return nil
	}
	for c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
	close(p.closed)
	return nil
}

// counted is one end of a stream.
type counted struct {
	net.Conn
	plug   *plug
	remote netip.AddrPort
}

func (c *counted) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	segments := (n + maxSegment - 1) / maxSegment
	c.plug.wire.bytes.Add(uint64(n + segments*tcpOverhead))
	return n, err
}

func (c *counted) Close() error {
	c.plug.mu.Lock()
	delete(c.plug.conns, c.Conn)
	c.plug.mu.Unlock()
	return c.Conn.Close()
}
