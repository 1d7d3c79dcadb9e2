//go:build netns

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/bench/topo"
)

const pumpPort = 5002

// load is how many packets of what UDP payload, in bytes, a pump sends how often.
type load struct {
	size, burst int
	every       time.Duration
	super       bool // a burst is one superpacket
	ahead       int  // the sender waits where the receiver is so many packets behind; 0 for never
}

// light is 20,000 packets a second. The sender is not so far ahead that a queue could be full, however
// long a busy machine takes for a hand-over: what is lost then a hand-over has lost.
func light() load { return load{size: 200, burst: 20, every: time.Millisecond, ahead: 2000} }

// pump is numbered UDP packets from one pod to another, and what became of them.
type pump struct {
	load
	sent    atomic.Uint64
	arrived atomic.Uint64
	next    atomic.Uint64 // the number behind the highest that arrived
	over    chan struct{}
	ended   chan struct{} // closed when no more is sent
	group   errgroup.Group
	out, in *net.UDPConn

	paused time.Duration // the longest between two bursts
	held   int           // bursts that were not sent, the receiver being behind
	marks  []mark        // of the test's goroutine

	// The receiver's.
	seen    []bool // by number
	doubles int
	late    int           // that came after one of a higher number
	longest time.Duration // between two arrivals
}

// newPump starts one. It ends with stop.
func newPump(t *testing.T, from, to *topo.Pod, l load) *pump {
	t.Helper()
	p := &pump{load: l, over: make(chan struct{}), ended: make(chan struct{})}
	err := to.Do(func() (err error) {
		p.in, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(to.Addr, pumpPort)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.in.Close() })
	raw, err := p.in.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var optionErr error
	err = raw.Control(func(fd uintptr) { // what waits is delivered at once, faster than it is read
		optionErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 256<<20)
	})
	if err := errors.Join(err, optionErr); err != nil {
		t.Fatal(err)
	}
	out, err := dial(from.Namespace, "udp4", to.Addr, pumpPort)
	if err != nil {
		t.Fatal(err)
	}
	p.out = out.(*net.UDPConn)
	if l.super {
		setSegment(t, p.out, l.size)
	}
	t.Cleanup(func() { p.out.Close() })
	p.group.Go(p.receive)
	p.group.Go(p.send)
	return p
}

func (p *pump) send() error {
	defer close(p.ended)
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	at := 1 // packets in a write
	if p.super {
		at = p.burst
	}
	packets := make([]byte, at*p.size)
	for last := time.Now(); ; {
		select {
		case <-p.over:
			return nil
		case <-tick.C:
		}
		now := time.Now()
		p.paused = max(p.paused, now.Sub(last))
		// What this thread has not sent while it had no CPU is not made up for: nobody
		// holds as much at once.
		due := min(int(now.Sub(last)/p.every), 5) * p.burst / at
		last = now
		for range due {
			if p.ahead > 0 && p.sent.Load()-p.next.Load() > uint64(p.ahead) {
				p.held++
				continue
			}
			for i := range at {
				binary.BigEndian.PutUint64(packets[i*p.size:], p.sent.Load()+uint64(i))
			}
			if _, err := p.out.Write(packets); err != nil {
				return err
			}
			p.sent.Add(uint64(at))
		}
	}
}

func (p *pump) receive() error {
	packet := make([]byte, 2*p.size)
	var highest uint64
	last := time.Now()
	for {
		n, err := p.in.Read(packet)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil || n != p.size {
			return fmt.Errorf("%d bytes: %w", n, err)
		}
		at := time.Now()
		p.longest, last = max(p.longest, at.Sub(last)), at
		number := binary.BigEndian.Uint64(packet)
		if int(number) >= len(p.seen) {
			p.seen = append(p.seen, make([]bool, int(number)+1-len(p.seen))...)
		}
		if p.seen[number] {
			p.doubles++
		}
		if number < highest {
			p.late++
		}
		highest = max(highest, number)
		p.next.Store(highest + 1)
		p.seen[number] = true
		p.arrived.Add(1)
	}
}

// stop ends the stream, and says how many packets were sent and got lost.
func (p *pump) stop(t *testing.T) (sent, lost int) {
	t.Helper()
	close(p.over)
	<-p.ended
	never := func() error { return nil }
	_ = topo.WaitUntil(t.Context(), patience, func(context.Context) error { return p.behind(p.sent.Load()) }, never) // else the last ones are lost
	deadline := time.Now().Add(500 * time.Millisecond)
	if err := errors.Join(p.in.SetReadDeadline(deadline), p.group.Wait(), p.in.Close(), p.out.Close()); err != nil {
		t.Fatal(err)
	}
	sent = int(p.sent.Load())
	got := 0
	for _, seen := range p.seen {
		if seen {
			got++
		}
	}
	if p.doubles > 0 || p.late > 0 {
		t.Errorf("%d packets came twice, %d out of order", p.doubles, p.late)
	}
	return sent, sent - got
}

// check ends the stream, of which nothing may be lost.
func (p *pump) check(t *testing.T, what string) {
	t.Helper()
	sent, lost := p.stop(t)
	t.Logf("%s: %d packets, %d lost; none came for %s at the most, and none was sent for %s; %d bursts were held back", what, sent, lost, p.longest, p.paused, p.held)
	if lost != 0 {
		t.Errorf("%s: %d of %d packets were lost", what, lost, sent)
	}
}

// mark is a moment of a stream, from which on it is called what.
type mark struct {
	what string
	from uint64 // number
}

// mark has what is sent from here on be counted by what.
func (p *pump) mark(what string) { p.marks = append(p.marks, mark{what, p.sent.Load()}) }

// caughtUp waits until what has been sent so far has arrived, or is lost.
func (p *pump) caughtUp(c *cluster) {
	c.t.Helper()
	upTo := p.sent.Load()
	c.eventually("the receiver to catch up", func(context.Context) error { return p.behind(upTo) })
}

// behind is nil where all numbers below upTo have arrived or are lost.
func (p *pump) behind(upTo uint64) error {
	if n := p.next.Load(); n < upTo {
		return fmt.Errorf("the receiver has come to %d of %d", n, upTo)
	}
	return nil
}

// lost is how many packets got lost by what they were marked with. The stream must have ended.
func (p *pump) lost() map[string]int {
	lost := make(map[string]int)
	for i, m := range p.marks {
		until := p.sent.Load()
		if i+1 < len(p.marks) {
			until = p.marks[i+1].from
		}
		lost[m.what] += 0
		for n := m.from; n < until; n++ {
			if n >= uint64(len(p.seen)) || !p.seen[n] {
				lost[m.what]++
			}
		}
	}
	return lost
}

// setSegment has the socket send superpackets of datagrams of that many bytes.
func setSegment(t *testing.T, c *net.UDPConn, size int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var optionErr error
	err = raw.Control(func(fd uintptr) { optionErr = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size) })
	if err := errors.Join(err, optionErr); err != nil {
		t.Fatal(err)
	}
}
