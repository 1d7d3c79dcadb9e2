package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// benchServer takes the measurements of other nodes, on the TUN's addresses. It answers nodes alone: who comes from
// another address than a TUN's is hung up on, and no pod can come from one, which the guards see to. There is one
// session at a time, those that this node makes included, so that none measures the other.
type benchServer struct {
	log    *slog.Logger
	number uint16                // of the port
	member func(netip.Addr) bool // says whether another node has that address on its TUN
	wake   chan struct{}         // holds a token after at
	seats  chan struct{}         // one for each connection that is served

	pingFor, loadFor time.Duration // of this node's own measurements

	mu        sync.Mutex // over all that follows
	own       []netip.Addr
	listeners map[netip.Addr]net.Listener
	session   *session // nil while there is none
}

// benchSeats are those of a session and its streams, and as many for who is turned away and for streams that are about to be
// closed here when those of the next step come.
const benchSeats = 2 * (1 + benchStreams)

// session is a measurement under way.
type session struct {
	id   sessionID
	peer netip.Addr // its TUN address
	ctx  context.Context
}

func newBenchServer(log *slog.Logger, number uint16, member func(netip.Addr) bool) *benchServer {
	return &benchServer{
		log: log, number: number, member: member, pingFor: benchPingFor, loadFor: benchLoadFor,
		wake: make(chan struct{}, 1), seats: make(chan struct{}, benchSeats),
		listeners: make(map[netip.Addr]net.Listener),
	}
}

// at tells the server which addresses the TUN has. Any goroutine may call it.
func (s *benchServer) at(own []netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.own, own) {
		s.own = own
		token(s.wake)
	}
}

// run serves until ctx is done.
func (s *benchServer) run(ctx context.Context) error {
	var serving sync.WaitGroup
	defer serving.Wait()
	defer s.close()
	again := time.NewTicker(rebindInterval)
	defer again.Stop()
	for {
		s.bind(ctx, &serving)
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-again.C:
		}
	}
}

// bind listens on each of the TUN's addresses, and on no other.
func (s *benchServer) bind(ctx context.Context, serving *sync.WaitGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a, l := range s.listeners {
		if !slices.Contains(s.own, a) {
			_ = l.Close()
			delete(s.listeners, a)
		}
	}
	for _, a := range s.own {
		if s.listeners[a] != nil {
			continue
		}
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, s.number)))
		if err != nil {
			s.log.Debug("measurements by other nodes are not taken yet", "reason", err)
			continue
		}
		s.listeners[a] = l
		serving.Go(func() { s.accept(ctx, l, serving) })
	}
}

func (s *benchServer) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		_ = l.Close()
	}
	clear(s.listeners)
}

func (s *benchServer) accept(ctx context.Context, l net.Listener, serving *sync.WaitGroup) {
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // there is no descriptor left, or the other end has gone already
			s.log.Debug("accept a measurement", "reason", err)
			if !sleep(ctx, pause) {
				return
			}
			continue
		}
		from, err := netip.ParseAddrPort(c.RemoteAddr().String())
		if err != nil || !s.member(from.Addr()) {
			_ = c.Close()
			continue
		}
		select {
		case s.seats <- struct{}{}:
			serving.Go(func() {
				s.serve(ctx, c, from.Addr())
				<-s.seats
			})
		default:
			_ = c.Close()
		}
	}
}

// sleep says whether ctx is not done after d.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// serve carries one connection through, and closes it.
func (s *benchServer) serve(ctx context.Context, c net.Conn, from netip.Addr) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	_ = c.SetDeadline(time.Now().Add(benchPatience))
	g, err := readGreeting(c)
	if err != nil {
		s.log.Debug("measurement refused", "from", from, "reason", err)
		return
	}
	_ = c.SetDeadline(time.Now().Add(benchLimit))
	if g.kind == benchSession {
		s.host(ctx, c, &g, from)
		return
	}
	held := s.held(g.session, from)
	if held == nil {
		return
	}
	defer context.AfterFunc(held.ctx, func() { _ = c.Close() })()
	if err := serveStream(c, &g); err != nil {
		s.log.Debug("measurement broke off", "from", from, "reason", err)
	}
}

// host holds a session for as long as its connection is there.
func (s *benchServer) host(ctx context.Context, c net.Conn, g *benchGreeting, from netip.Addr) {
	ctx, end := context.WithTimeout(ctx, benchLimit)
	defer end()
	done, ok := s.take(&session{g.session, from, ctx})
	if !ok {
		_, _ = c.Write([]byte{benchBusy})
		return
	}
	defer done()
	s.log.Info("another node measures", "from", from)
	if _, err := c.Write([]byte{benchAgreed}); err != nil {
		return
	}
	buf := make([]byte, benchPing)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

// take begins a session, unless there is one; done ends it.
func (s *benchServer) take(want *session) (done func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session != nil {
		return nil, false
	}
	s.session = want
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.session = nil
	}, true
}

// held is the session of that ID, where it is from's; else nil.
func (s *benchServer) held(id sessionID, from netip.Addr) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session == nil || s.session.id != id || s.session.peer != from {
		return nil
	}
	return s.session
}

// serveStream is one stream, seen from the end that was asked for it.
func serveStream(c net.Conn, g *benchGreeting) error {
	uncounted := func(int) {}
	if g.kind == benchSource {
		return sendFor(c, g.length, uncounted)
	}
	t, err := receiveAll(c, uncounted)
	if err != nil {
		return err
	}
	_, err = c.Write(t.append(nil))
	return err
}
