//go:build netns

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weft-net/weft/bench/topo"
)

const (
	streamPort = 5001

	// A stream carries so many bytes so often, 1.6 MB/s: several packets of any size
	// at a time, and no load.
	streamChunk = 16 << 10
	streamEvery = 10 * time.Millisecond
)

// recovery bounds the waits for what shall take 5 s: the machine may be busy with others.
const recovery = 20 * time.Second

// stream is a TCP connection between pods that carries bytes steadily until the test
// ends, and knows how long none came.
type stream struct {
	c       *cluster
	name    string
	arrived atomic.Int64

	mu      sync.Mutex
	last    time.Time     // when bytes came
	longest time.Duration // that none came, since it was last asked
}

// stream starts one. It must carry on until the test ends.
func (c *cluster) stream(from, to *topo.Pod) *stream {
	c.t.Helper()
	s := &stream{c: c, name: fmt.Sprintf("%s to %s", from.Addr, to.Addr), last: time.Now()}
	var l net.Listener
	err := to.Do(func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(to.Addr, streamPort).String())
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	defer l.Close()
	var group errgroup.Group
	accepted := make(chan net.Conn, 1)
	group.Go(func() error {
		conn, err := l.Accept()
		accepted <- conn
		return err
	})
	out, err := dial(from.Namespace, "tcp", to.Addr, streamPort)
	if err != nil {
		l.Close()
	}
	if err := errors.Join(err, group.Wait()); err != nil {
		c.t.Fatalf("%s: %v", s.name, err)
	}
	in := <-accepted
	over := make(chan struct{})
	group.Go(func() error { return s.send(out, over) })
	group.Go(func() error { return s.receive(in, over) })
	c.t.Cleanup(func() {
		close(over)
		out.Close()
		in.Close()
		if err := group.Wait(); err != nil && !errors.Is(err, net.ErrClosed) {
			c.t.Errorf("%s: %v", s.name, err)
		}
	})
	return s
}

func (s *stream) send(conn net.Conn, over <-chan struct{}) error {
	random, data := rand.NewChaCha8([32]byte{4}), make([]byte, streamChunk)
	tick := time.NewTicker(streamEvery)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return nil
		case <-tick.C:
		}
		_, _ = random.Read(data) // never fails
		if _, err := conn.Write(data); err != nil {
			return err
		}
	}
}

func (s *stream) receive(conn net.Conn, over <-chan struct{}) error {
	random, want, got := rand.NewChaCha8([32]byte{4}), make([]byte, streamChunk), make([]byte, streamChunk)
	for {
		_, _ = random.Read(want)
		if _, err := io.ReadFull(conn, got); err != nil {
			select {
			case <-over: // the sender closed first
				return nil
			default:
				return err
			}
		}
		if !bytes.Equal(got, want) {
			return errors.New("other bytes arrived than were sent")
		}
		s.arrived.Add(streamChunk)
		s.mu.Lock()
		now := time.Now()
		s.longest, s.last = max(s.longest, now.Sub(s.last)), now
		s.mu.Unlock()
	}
}

// goesOn waits until bytes come again after what has just happened, and checks and logs
// for how long none came since it was last called.
func (s *stream) goesOn(what string) {
	s.c.t.Helper()
	before := s.arrived.Load()
	s.c.within(recovery, s.name+" to go on: "+what, func(context.Context) error {
		if n := s.arrived.Load() - before; n < 20*streamChunk {
			return fmt.Errorf("%d bytes came", n)
		}
		return nil
	})
	s.mu.Lock()
	longest := s.longest
	s.longest = 0
	s.mu.Unlock()
	if s.c.t.Logf("%s: %s: no byte came for %s at the most", what, s.name, longest.Round(time.Millisecond)); longest > recovery {
		s.c.t.Errorf("%s: %s: no byte came for %s", what, s.name, longest)
	}
}
