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
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
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
	next    atomic.Uint64 // the number behind the highest that arrived
	over    chan struct{}
	ended   chan struct{} // closed when no more is sent
	group   errgroup.Group
	out, in *net.UDPConn

	paused time.Duration // the longest between two bursts
	held   int           // bursts that were not sent, the receiver being behind

	// The receiver's.
	seen    []bool // by number
	doubles int
	late    int           // that came after one of a higher number
	longest time.Duration // between two arrivals
}

// newPump starts one. It ends with stop. Both ends take many packets a system call, so that it is not they who set the rate.
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
		optionErr = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 256<<20),
			unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_GRO, 1))
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
	conn, messages := ipv4.NewPacketConn(p.out), p.messages()
	for last := time.Now(); ; { // when what has been sent was due
		select {
		case <-p.over:
			return nil
		case <-tick.C:
		}
		late := time.Since(last)
		p.paused = max(p.paused, late)
		due := int(late / p.every)
		last = last.Add(time.Duration(due) * p.every)
		// What this thread has not sent while it had no CPU is not made up for: nobody
		// holds as much at once.
		for range min(due, 20) {
			if p.ahead > 0 && p.sent.Load()-p.next.Load() > uint64(p.ahead) {
				p.held++
				continue
			}
			if err := p.sendBurst(conn, messages); err != nil {
				return err
			}
		}
	}
}

// messages are a burst: one for each packet, or one for all.
func (p *pump) messages() []ipv4.Message {
	all := make([]byte, p.burst*p.size)
	if p.super {
		return []ipv4.Message{{Buffers: [][]byte{all}}}
	}
	var messages []ipv4.Message
	for packet := range slices.Chunk(all, p.size) {
		messages = append(messages, ipv4.Message{Buffers: [][]byte{packet}})
	}
	return messages
}

// sendBurst numbers the packets of a burst, and sends them.
func (p *pump) sendBurst(conn *ipv4.PacketConn, messages []ipv4.Message) error {
	number := p.sent.Load()
	for _, m := range messages {
		for packet := range slices.Chunk(m.Buffers[0], p.size) {
			binary.BigEndian.PutUint64(packet, number)
			number++
		}
	}
	for len(messages) > 0 {
		n, err := conn.WriteBatch(messages, 0)
		if err != nil {
			return err
		}
		for _, m := range messages[:n] {
			p.sent.Add(uint64(m.N / p.size))
		}
		messages = messages[n:]
	}
	return nil
}

func (p *pump) receive() error {
	conn := ipv4.NewPacketConn(p.in)
	messages := make([]ipv4.Message, 64)
	for i := range messages {
		messages[i] = ipv4.Message{Buffers: [][]byte{make([]byte, 1<<16)}, OOB: make([]byte, unix.CmsgSpace(4))}
	}
	last := time.Now()
	for {
		n, err := conn.ReadBatch(messages, 0)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		at := time.Now()
		p.longest, last = max(p.longest, at.Sub(last)), at
		for _, m := range messages[:n] {
			if err := p.take(m.Buffers[0][:m.N], m.OOB[:m.NN]); err != nil {
				return err
			}
		}
	}
}

// take enters the packets of a message, which are several where the kernel has kept them together: udp(7), UDP_GRO.
func (p *pump) take(data, control []byte) error {
	size := len(data)
	if cmsgs, err := unix.ParseSocketControlMessage(control); err != nil {
		return err
	} else if len(cmsgs) == 1 && cmsgs[0].Header.Type == unix.UDP_GRO {
		size = int(binary.NativeEndian.Uint32(cmsgs[0].Data))
	}
	if size != p.size || len(data)%size != 0 {
		return fmt.Errorf("%d bytes came, in packets of %d; they were sent with %d", len(data), size, p.size)
	}
	for packet := range slices.Chunk(data, size) {
		p.enter(binary.BigEndian.Uint64(packet))
	}
	return nil
}

// enter notes that the packet of that number has come.
func (p *pump) enter(number uint64) {
	if int(number) >= len(p.seen) {
		p.seen = append(p.seen, make([]bool, int(number)+1-len(p.seen))...)
	}
	if p.seen[number] {
		p.doubles++
	}
	next := p.next.Load()
	if number+1 < next {
		p.late++
	}
	p.next.Store(max(next, number+1))
	p.seen[number] = true
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
