package gossip

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
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
		if err := t.admit(from); err != nil {
			return nil, err
		}
	}
	s := &stream{Conn: conn, owner: t, from: from, opened: time.Now(), left: maxStreamBytes}
	t.conns[s] = struct{}{}
	return s, nil
}

// admit counts one more inbound stream of host from, and closes another where there is
// one too many. Called with mu held.
func (t *transport) admit(from netip.Addr) error {
	t.inbound[from]++
	t.total++
	var out *stream
	switch {
	case t.inbound[from] > maxPerHost:
		out = t.dispensable(from, nil, func(s *stream) bool { return s.from == from })
	case t.total > maxInbound:
		out = t.dispensable(from, t.members(), func(s *stream) bool { return s.from.IsValid() })
	default:
		return nil
	}
	if out == nil {
		t.uncount(from)
		return errTooManyStreams
	}
	delete(t.conns, out)
	t.uncount(out.from)
	_ = out.Conn.Close()
	t.crowded(out.from)
	return nil
}

// patience is how long an inbound stream may be silent, and how long it keeps its place
// among too many: an exchange between nodes has begun at once and is over sooner.
const patience = 2 * time.Second

// dispensable returns the stream among those eligible that gives way to one more of host
// from, which is counted already, or nil. Strangers come before members, then those
// of the host that has the most; a host can displace another's only if that has more of them,
// or if they are old. So many silent streams of few hosts keep nobody out, and
// a thousand nodes that join at once do not end each other's exchanges. Called with mu held.
func (t *transport) dispensable(from netip.Addr, members map[netip.Addr]bool, eligible func(*stream) bool) *stream {
	var out *stream
	for s := range t.conns {
		if eligible(s) && (out == nil || t.compare(s, out, members) < 0) {
			out = s
		}
	}
	switch {
	case out == nil || members[out.from] && !members[from]:
		return nil
	case members[from] && !members[out.from],
		out.from == from && t.inbound[from] > maxPerHost,
		t.inbound[out.from] > t.inbound[from],
		time.Since(out.opened) >= patience:
		return out
	}
	return nil
}

// compare orders streams by how little is lost with them.
func (t *transport) compare(a, b *stream, members map[netip.Addr]bool) int {
	rank := func(yes bool) int {
		if yes {
			return 1
		}
		return 0
	}
	return cmp.Or(
		rank(members[a.from])-rank(members[b.from]),
		t.inbound[b.from]-t.inbound[a.from],
		rank(a.spoke.Load())-rank(b.spoke.Load()),
		a.opened.Compare(b.opened),
	)
}

// untrack forgets s, once.
func (t *transport) untrack(s *stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, open := t.conns[s]; !open {
		return
	}
	delete(t.conns, s)
	if s.from.IsValid() {
		t.uncount(s.from)
	}
}

// uncount is called with mu held.
func (t *transport) uncount(from netip.Addr) {
	t.total--
	if t.inbound[from]--; t.inbound[from] == 0 {
		delete(t.inbound, from)
	}
}

// stream is a connection that its transport can close, and that ends after
// maxStreamBytes. It is read by one goroutine, which also sets its deadlines.
type stream struct {
	net.Conn
	owner    *transport
	from     netip.Addr // its host if it is inbound
	opened   time.Time
	spoke    atomic.Bool // a byte was read
	deadline time.Time   // as was last set
	left     int
}

// SetDeadline implements net.Conn. The first byte of an inbound stream has patience at
// the most, so that its place is soon free again.
func (s *stream) SetDeadline(at time.Time) error {
	s.deadline = at
	if err := s.Conn.SetDeadline(at); err != nil {
		return err
	}
	first := s.opened.Add(patience)
	if !s.from.IsValid() || s.spoke.Load() || !at.IsZero() && at.Before(first) {
		return nil
	}
	return s.SetReadDeadline(first)
}

// Read implements net.Conn.
func (s *stream) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, fmt.Errorf("a gossip stream of over %d bytes: %w", maxStreamBytes, io.ErrUnexpectedEOF)
	}
	n, err := s.Conn.Read(p[:min(len(p), s.left)])
	s.left -= n
	if n > 0 && !s.spoke.Swap(true) && err == nil {
		err = s.SetReadDeadline(s.deadline)
	}
	return n, err
}

// Close implements net.Conn. It may be called twice.
func (s *stream) Close() error {
	s.owner.untrack(s)
	return s.Conn.Close()
}
