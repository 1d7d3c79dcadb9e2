package gossip

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
)

var errTooManyStreams = errors.New("too many inbound gossip streams")

// track registers conn until it is closed. from is its host if it is inbound.
func (t *transport) track(conn net.Conn, from netip.Addr) (*stream, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil {
		return nil, net.ErrClosed
	}
	if from.IsValid() {
		if t.total >= maxInbound || t.inbound[from] >= maxPerHost {
			return nil, errTooManyStreams
		}
		t.inbound[from]++
		t.total++
	}
	s := &stream{Conn: conn, owner: t, from: from, left: maxStreamBytes}
	t.conns[s] = struct{}{}
	return s, nil
}

func (t *transport) untrack(s *stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, open := t.conns[s]; !open {
		return
	}
	delete(t.conns, s)
	if s.from.IsValid() {
		t.total--
		if t.inbound[s.from]--; t.inbound[s.from] == 0 {
			delete(t.inbound, s.from)
		}
	}
}

// stream is a connection that its transport can close, and that ends after
// maxStreamBytes. It is read by one goroutine.
type stream struct {
	net.Conn
	owner *transport
	from  netip.Addr // its host if it is inbound
	left  int
}

// Read implements net.Conn.
func (s *stream) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, fmt.Errorf("a gossip stream of over %d bytes: %w", maxStreamBytes, io.ErrUnexpectedEOF)
	}
	n, err := s.Conn.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}

// Close implements net.Conn. It may be called twice.
func (s *stream) Close() error {
	s.owner.untrack(s)
	return s.Conn.Close()
}
