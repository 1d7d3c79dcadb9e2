package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weft-net/weft/cmd/internal/control"
)

const (
	// benchShow is how often a step that is under way is told of.
	benchShow = 250 * time.Millisecond

	// benchPingMax bounds the round trips that are kept.
	benchPingMax = 50_000
)

// measure makes a session with the node called name.
func (s *benchServer) measure(ctx context.Context, name string, from netip.Addr, to netip.AddrPort, show func(control.BenchStep) error) error {
	ctx, cancel := context.WithTimeout(ctx, benchLimit)
	defer cancel()
	m := &measurement{name: name, to: to, show: show, pingFor: s.pingFor, loadFor: s.loadFor}
	m.dialer = net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Timeout: benchPatience}
	_, _ = rand.Read(m.session[:]) // never fails
	done, ok := s.take(&session{m.session, to.Addr(), ctx})
	if !ok {
		return errors.New("a measurement is under way on this node: ask again in a few seconds")
	}
	defer done()
	err := m.run(ctx)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("the measurement with %s was not done within %s: is the way to it congested? `weft ping %[1]s` shows it", name, benchLimit)
	}
	return err
}

// measurement is a session from the end that began it.
type measurement struct {
	name    string // of the other node
	to      netip.AddrPort
	dialer  net.Dialer
	session sessionID
	show    func(control.BenchStep) error
	pingFor time.Duration
	loadFor time.Duration // each direction
}

func (m *measurement) run(ctx context.Context) error {
	c, err := m.dial(ctx, benchGreeting{kind: benchSession})
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if err := m.agree(c); err != nil {
		return err
	}
	if err := m.latency(c); err != nil {
		return fmt.Errorf("measure round trips to %s: %w", m.name, err)
	}
	for _, direction := range []string{control.BenchOut, control.BenchIn} {
		for _, streams := range []int{1, benchStreams} {
			if err := m.throughput(ctx, direction, streams); err != nil {
				return fmt.Errorf("measure throughput with %s: %w", m.name, err)
			}
		}
	}
	return nil
}

// dial opens a connection and says what it is for.
func (m *measurement) dial(ctx context.Context, g benchGreeting) (*net.TCPConn, error) {
	conn, err := m.dialer.DialContext(ctx, "tcp", m.to.String())
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%s takes no measurements at %s: does a weftd of this version run there? (%w)", m.name, m.to, err)
	case err != nil:
		return nil, fmt.Errorf("connect to %s at %s, over the overlay: %w: see whether `weft ping %[1]s` gets through, and whether a firewall there drops TCP port %[4]d from pods' addresses",
			m.name, m.to, err, m.to.Port())
	}
	g.session = m.session
	if _, err := conn.Write(g.append(nil)); err != nil {
		return nil, errors.Join(fmt.Errorf("greet %s: %w", m.name, err), conn.Close())
	}
	return conn.(*net.TCPConn), nil
}

func (m *measurement) agree(c net.Conn) error {
	var answer [1]byte
	_ = c.SetReadDeadline(time.Now().Add(benchPatience))
	defer c.SetReadDeadline(time.Time{})
	_, err := io.ReadFull(c, answer[:])
	switch {
	case err != nil: // it knows no node of this address
		return fmt.Errorf("%s hung up on the measurement: does `weft peers` there show this node? (%w)", m.name, err)
	case answer[0] != benchAgreed:
		return fmt.Errorf("%s is busy with another measurement: ask again in a few seconds", m.name)
	}
	return nil
}

// latency sends a message, waits until it is back, and does so again.
func (m *measurement) latency(c net.Conn) error {
	var trips []time.Duration
	message := make([]byte, benchPing)
	began := time.Now()
	for last := began; last.Sub(began) < m.pingFor && len(trips) < benchPingMax; {
		if _, err := c.Write(message); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, message); err != nil {
			return err
		}
		now := time.Now()
		trips = append(trips, now.Sub(last))
		last = now
	}
	slices.Sort(trips)
	at := func(hundredth int) control.Microseconds {
		return control.Microseconds(trips[(len(trips)-1)*hundredth/100])
	}
	return m.show(control.BenchStep{
		Test: control.BenchLatency, Streams: 1, Final: true, Seconds: time.Since(began).Seconds(),
		RoundTrips: len(trips), Min: at(0), Median: at(50), P99: at(99), Max: at(100),
	})
}

// throughput loads one direction with that many streams.
func (m *measurement) throughput(ctx context.Context, direction string, streams int) error {
	var carried atomic.Uint64
	count := func(n int) { carried.Add(uint64(n)) }
	tallies := make([]benchTally, streams)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for i := range tallies {
		group.Go(func() (err error) {
			tallies[i], err = m.stream(ctx, direction, count)
			return err
		})
	}
	ended := make(chan error, 1)
	go func() { ended <- group.Wait() }()
	step := control.BenchStep{Test: control.BenchThroughput, Direction: direction, Streams: streams}
	tick := time.NewTicker(benchShow)
	defer tick.Stop()
	var shown error
	for {
		select {
		case <-tick.C:
			if shown == nil {
				carriedBy(&step, carried.Load(), time.Since(began))
				if shown = m.show(step); shown != nil {
					cancel()
				}
			}
		case err := <-ended:
			if err := errors.Join(err, shown); err != nil {
				return err
			}
			var sum benchTally
			for _, t := range tallies {
				sum.bytes += t.bytes
				sum.took = max(sum.took, t.took)
			}
			step.Final = true
			carriedBy(&step, sum.bytes, sum.took)
			return m.show(step)
		}
	}
}

// stream is one stream, and what its receiving end has counted.
func (m *measurement) stream(ctx context.Context, direction string, count func(int)) (t benchTally, err error) {
	g := benchGreeting{kind: benchSink}
	if direction == control.BenchIn {
		g = benchGreeting{kind: benchSource, length: m.loadFor}
	}
	c, err := m.dial(ctx, g)
	if err != nil {
		return t, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if direction == control.BenchIn {
		return receiveAll(c, count)
	}
	if err := sendFor(c, m.loadFor, count); err != nil {
		return t, err
	}
	if err := c.CloseWrite(); err != nil {
		return t, fmt.Errorf("end the stream: %w", err)
	}
	return readTally(c)
}

func carriedBy(s *control.BenchStep, bytes uint64, took time.Duration) {
	s.Bytes, s.Seconds, s.BitsPerSecond = bytes, took.Seconds(), 0
	if took > 0 {
		s.BitsPerSecond = 8 * float64(bytes) / took.Seconds()
	}
}
