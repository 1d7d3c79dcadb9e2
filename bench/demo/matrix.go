//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/weft-net/weft/bench/topo"
)

// responderPort is where pods tell who asks which address they see it at.
const responderPort = 7070

// responders are one UDP socket in each pod. The sockets live in the pods' namespaces, the
// goroutines that serve them need not.
type responders struct {
	sockets []*net.UDPConn
	serving sync.WaitGroup
}

func (r *responders) add(p *pod) error {
	var socket *net.UDPConn
	err := p.Do(func() (err error) {
		socket, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.addr, responderPort)))
		return err
	})
	if err != nil {
		return fmt.Errorf("responder: %w", err)
	}
	r.sockets = append(r.sockets, socket)
	r.serving.Go(func() { respond(socket) })
	return nil
}

// respond answers every datagram with the source address it came from, until the socket closes.
func respond(socket *net.UDPConn) {
	var question [1]byte
	for {
		_, from, err := socket.ReadFromUDPAddrPort(question[:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			// An answer that cannot be sent is an answer lost, which who asked will report.
			_, _ = socket.WriteToUDPAddrPort([]byte(from.String()), from)
		}
	}
}

func (r *responders) close() error {
	var errs []error
	for _, socket := range r.sockets {
		errs = append(errs, socket.Close())
	}
	r.serving.Wait()
	return errors.Join(errs...)
}

// askSource asks the responder at addr from inside ns and returns the address the question was
// sent from, and the one that the responder saw.
func askSource(ctx context.Context, ns *topo.Namespace, addr netip.Addr) (sent, seen netip.AddrPort, err error) {
	var socket *net.UDPConn
	err = ns.Do(func() (err error) {
		socket, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, responderPort)))
		return err
	})
	if err != nil {
		return sent, seen, err
	}
	defer socket.Close()
	sent = socket.LocalAddr().(*net.UDPAddr).AddrPort()

	const attempts, patience = 3, 700 * time.Millisecond
	for range attempts {
		if seen, err = exchange(socket, patience); err == nil || ctx.Err() != nil {
			break
		}
	}
	return sent, seen, err
}

func exchange(socket *net.UDPConn, patience time.Duration) (seen netip.AddrPort, err error) {
	if err := socket.SetDeadline(time.Now().Add(patience)); err != nil {
		return seen, err
	}
	if _, err := socket.Write([]byte{'?'}); err != nil {
		return seen, err
	}
	var answer [64]byte
	n, err := socket.Read(answer[:])
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return seen, errors.New("no answer over UDP")
	}
	if err != nil {
		return seen, err
	}
	return netip.ParseAddrPort(string(answer[:n]))
}

// A matrix says from where which pod can be reached: from[i] to to[j] if errs[i][j] is nil.
type matrix struct {
	from []source
	to   []*pod
	errs [][]error
}

// A source is a pod or a node.
type source struct {
	ns   *topo.Namespace
	name string
	addr netip.Addr // what others must see; invalid for a node, which has several
}

// measure tries every pod from every other pod and from every node.
func (c *cluster) measure(ctx context.Context) matrix {
	m := matrix{to: c.pods}
	for _, p := range c.pods {
		m.from = append(m.from, source{ns: p.Namespace, name: p.name, addr: p.addr})
	}
	for _, node := range c.members {
		m.from = append(m.from, source{ns: node.Namespace, name: node.String()})
	}
	m.errs = make([][]error, len(m.from))
	concurrently(len(m.from), func(i int) {
		m.errs[i] = make([]error, len(m.to))
		for j, p := range m.to {
			if !m.isSelf(i, j) {
				m.errs[i][j] = m.from[i].reach(ctx, p.addr)
			}
		}
	})
	return m
}

// reach pings addr and checks that no one on the way changes the source address.
func (s source) reach(ctx context.Context, addr netip.Addr) error {
	out, err := s.ns.Run(ctx, "ping", "-n", "-c1", "-W2", addr.String())
	if line, found := unreachableLine(out); found {
		return fmt.Errorf("%s to %s: %s", s.name, addr, line)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 { // ping(8): no reply
		return fmt.Errorf("%s to %s: no reply to ping", s.name, addr)
	}
	if err != nil {
		return err
	}
	sent, seen, err := askSource(ctx, s.ns, addr)
	switch {
	case err != nil:
		return fmt.Errorf("%s to %s: %w", s.name, addr, err)
	case seen != sent:
		return fmt.Errorf("%s to %s: sent from %s, seen as %s: there is NAT on the way", s.name, addr, sent, seen)
	case s.addr.IsValid() && seen.Addr() != s.addr:
		return fmt.Errorf("%s to %s: seen as %s, not as %s", s.name, addr, seen.Addr(), s.addr)
	}
	return nil
}

func (m matrix) isSelf(i, j int) bool { return m.from[i].ns == m.to[j].Namespace }

// outcome shows the matrix; its error is the first of the cells'.
func (m matrix) outcome(s *screen) (outcome, error) {
	var first error
	good, all := 0, 0
	lines := []string{fmt.Sprintf("%-8s", "from \\ to")}
	for _, p := range m.to {
		lines[0] += fmt.Sprintf("%6s", p.name)
	}
	for i, from := range m.from {
		var line strings.Builder
		fmt.Fprintf(&line, "%-9s", from.name)
		for j := range m.to {
			cell := "-"
			if !m.isSelf(i, j) {
				all++
				err := m.errs[i][j]
				if err == nil {
					good++
				} else if first == nil {
					first = err
				}
				cell = s.mark(err == nil)
			}
			fmt.Fprintf(&line, "     %s", cell)
		}
		lines = append(lines, line.String())
	}
	if first != nil {
		first = fmt.Errorf("%d of %d pairs fail, the first: %w", all-good, all, first)
	}
	return outcome{
		detail: fmt.Sprintf("%d of %d pairs by ping and UDP, each seen under its own address", good, all),
		lines:  lines,
	}, first
}

// concurrently calls do for 0 to n-1 and waits. A panic goes on in the caller, where deferred
// functions clean up.
func concurrently(n int, do func(i int)) {
	var running sync.WaitGroup
	panics := make([]any, n)
	for i := range n {
		running.Go(func() {
			defer func() { panics[i] = recover() }()
			do(i)
		})
	}
	running.Wait()
	for _, p := range panics {
		if p != nil {
			panic(p)
		}
	}
}
