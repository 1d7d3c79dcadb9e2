package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
)

// Two nodes' TUN addresses, and one that is no node's.
const (
	benchHere  = "127.0.1.1"
	benchThere = "127.0.1.2"
	benchPod   = "127.0.1.9"
)

// benchNode serves on an address until the test ends, for those at members.
func benchNode(t *testing.T, address string, number uint16, members ...string) *benchServer {
	t.Helper()
	s := newBenchServer(slog.New(slog.DiscardHandler), number, func(a netip.Addr) bool {
		for _, m := range members {
			if a == netip.MustParseAddr(m) {
				return true
			}
		}
		return false
	})
	s.pingFor, s.loadFor = 50*time.Millisecond, 3*benchShow/2
	s.at([]netip.Addr{netip.MustParseAddr(address)})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	soon(t, "the server to listen", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.listeners) == 1
	})
	return s
}

func soon(t *testing.T, what string, ready func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ready(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 10s for %s", what)
		}
	}
}

// freePort is one that nobody has on the two addresses.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", benchThere+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

func TestBench(t *testing.T) {
	port := freePort(t)
	here, there := benchNode(t, benchHere, port, benchThere), benchNode(t, benchThere, port, benchHere)
	to := netip.AddrPortFrom(netip.MustParseAddr(benchThere), port)
	var final []control.BenchStep
	underway, others := 0, 0
	err := here.measure(t.Context(), "node2", netip.MustParseAddr(benchHere), to, func(s control.BenchStep) error {
		if !s.Final {
			underway++
			// One measurement at a time, at both ends.
			if others++; others == 1 {
				err := there.measure(t.Context(), "node1", to.Addr(), netip.AddrPortFrom(netip.MustParseAddr(benchHere), port), nil)
				if err == nil || !strings.HasPrefix(err.Error(), "a measurement is under way on this node") {
					t.Errorf("the other end measures too: %v", err)
				}
				if n := streamed(t, benchHere, to, sessionID{1}); n != 0 {
					t.Errorf("%d bytes for another session than that under way", n)
				}
				third := benchNode(t, "127.0.1.3", port, benchThere)
				err = third.measure(t.Context(), "node2", netip.MustParseAddr(benchHere), to, nil)
				if err == nil || !strings.HasPrefix(err.Error(), "node2 is busy") {
					t.Errorf("a second session: %v", err)
				}
			}
			return nil
		}
		final = append(final, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []control.BenchStep{
		{Test: control.BenchLatency, Streams: 1},
		{Test: control.BenchThroughput, Direction: control.BenchOut, Streams: 1},
		{Test: control.BenchThroughput, Direction: control.BenchOut, Streams: 4},
		{Test: control.BenchThroughput, Direction: control.BenchIn, Streams: 1},
		{Test: control.BenchThroughput, Direction: control.BenchIn, Streams: 4},
	}
	if len(final) != len(want) || underway == 0 {
		t.Fatalf("got %d steps, and %d before their end", len(final), underway)
	}
	for i, s := range final {
		if s.Test != want[i].Test || s.Direction != want[i].Direction || s.Streams != want[i].Streams {
			t.Errorf("step %d is %+v", i, s)
		}
		if s.Test == control.BenchLatency && (s.RoundTrips == 0 || s.Min <= 0 || s.Min > s.Median || s.Median > s.P99 || s.P99 > s.Max) {
			t.Errorf("latency %+v", s)
		}
		if s.Test == control.BenchThroughput && (s.BitsPerSecond < 1e6 || s.Seconds < 0.2 || s.Seconds > 10) {
			t.Errorf("throughput %+v", s)
		}
	}
	soon(t, "the session, and its connections, to be over", func() bool {
		there.mu.Lock()
		defer there.mu.Unlock()
		return there.session == nil && len(there.seats) == 0
	})
	if here.session != nil {
		t.Error("who measured is still at it")
	}
}

// streamed is how many bytes a source sends to who names that session.
func streamed(t *testing.T, from string, to netip.AddrPort, id sessionID) int64 {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
	c, err := dialer.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write(benchGreeting{kind: benchSource, length: time.Millisecond, session: id}.append(nil)); err != nil {
		return 0
	}
	n, _ := io.Copy(io.Discard, c)
	return n
}

// TestBenchRefuses has nobody but nodes come in, and nothing but sessions that are agreed on.
func TestBenchRefuses(t *testing.T) {
	port := freePort(t)
	there := benchNode(t, benchThere, port, benchHere)
	for name, test := range map[string]struct {
		from string
		send []byte
	}{
		"a pod":            {benchPod, benchGreeting{kind: benchSession}.append(nil)},
		"no greeting":      {benchHere, []byte("GET / HTTP/1.1\r\nHost: node2.example.net\r\n\r\n")},
		"no session":       {benchHere, benchGreeting{kind: benchSource, length: time.Second, session: sessionID{1}}.append(nil)},
		"the zero session": {benchHere, benchGreeting{kind: benchSink}.append(nil)},
	} {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(test.from)}, Timeout: 5 * time.Second}
		c, err := dialer.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr(benchThere), port).String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = c.Write(test.send)
		var got []byte
		if err == nil {
			got, err = io.ReadAll(c)
		}
		if len(got) != 0 || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %d bytes, %v", name, len(got), err)
		}
		c.Close()
	}
	err := there.measure(t.Context(), "node3", netip.MustParseAddr(benchThere), netip.AddrPortFrom(netip.MustParseAddr(benchPod), port), nil)
	if err == nil || !strings.HasPrefix(err.Error(), "node3 takes no measurements at 127.0.1.9:") {
		t.Errorf("nobody listens: %v", err)
	}
	stranger := newBenchServer(slog.New(slog.DiscardHandler), port, nil)
	err = stranger.measure(t.Context(), "node2", netip.MustParseAddr(benchPod), netip.AddrPortFrom(netip.MustParseAddr(benchThere), port), nil)
	if err == nil || !strings.HasPrefix(err.Error(), "node2 hung up on the measurement") {
		t.Errorf("from a pod: %v", err)
	}
}

// TestBenchFollowsTheTUN moves the server with the TUN's address.
func TestBenchFollowsTheTUN(t *testing.T) {
	port := freePort(t)
	there := benchNode(t, benchThere, port, benchHere)
	there.at([]netip.Addr{netip.MustParseAddr("127.0.1.4")})
	listens := func(a string) bool {
		c, err := net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr(a), port).String())
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	soon(t, "the server to move", func() bool { return listens("127.0.1.4") && !listens(benchThere) })
}

func TestBenchEnds(t *testing.T) {
	addrs := func(list ...string) (all []netip.Addr) {
		for _, a := range list {
			all = append(all, netip.MustParseAddr(a))
		}
		return all
	}
	from, to, ok := ends(addrs("10.244.1.0", "fd00:1::"), addrs("fd00:2::"))
	if !ok || from != netip.MustParseAddr("fd00:1::") || to != netip.MustParseAddr("fd00:2::") {
		t.Errorf("got %s, %s, %t", from, to, ok)
	}
	if _, _, ok := ends(addrs("10.244.1.0"), addrs("fd00:2::")); ok {
		t.Error("two families have ends")
	}
}

// FuzzGreeting reads what a stranger may send: never more than a greeting is long, and what is taken is sent the same.
func FuzzGreeting(f *testing.F) {
	f.Add(benchGreeting{kind: benchSession, session: sessionID{1, 2}}.append(nil))
	f.Add(benchGreeting{kind: benchSource, length: benchLoadFor}.append([]byte{}))
	f.Add(benchGreeting{kind: benchSource, length: time.Hour}.append(nil))
	f.Add(append(benchGreeting{kind: benchSink}.append(nil), 1))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: node2.example.net\r\n\r\n"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		r := bytes.NewReader(sent)
		g, err := readGreeting(r)
		if err != nil {
			return
		}
		if taken := sent[:len(sent)-r.Len()]; !bytes.Equal(g.append(nil), taken) || len(taken) != benchGreetingLen {
			t.Errorf("%x is taken as %+v", taken, g)
		}
		if g.length > benchLimit || g.kind < benchSession || g.kind > benchSource {
			t.Errorf("taken: %+v", g)
		}
	})
}

func FuzzTally(f *testing.F) {
	f.Add(benchTally{1 << 40, time.Second}.append(nil))
	f.Add(benchTally{0, -1}.append(nil))
	f.Fuzz(func(t *testing.T, sent []byte) {
		tally, err := readTally(bytes.NewReader(sent))
		if err == nil && (tally.took < 0 || tally.took > benchLimit || !bytes.Equal(tally.append(nil), sent[:benchTallyLen])) {
			t.Errorf("%x is taken as %+v", sent, tally)
		}
	})
}
