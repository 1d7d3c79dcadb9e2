//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	echoPort = 7000
	// messageInterval makes a few numbered messages a second.
	messageInterval = 250 * time.Millisecond
	messageSize     = 64
	// What is cut off for a while comes back with the sender's next attempt, which is as far away as the cut was
	// long (RFC 6298 section 5.5). The connection itself stands for 15 minutes without an answer (tcp_retries2).
	longestGap = 2*longestCut + 30*time.Second
)

// flows are the connections that must live as long as the soak: one between each two pods of different nodes.
// Each end checks that the other's messages are the next in order.
type flows struct {
	all     []*flow
	servers []net.Listener
	serving sync.WaitGroup
	done    chan struct{}

	mu    sync.Mutex
	conns []net.Conn // of the servers
	wrong []error    // what servers have seen
}

// A flow is one connection, seen from the side that asks.
type flow struct {
	name string
	conn net.Conn

	mu      sync.Mutex
	sent    uint64
	echoed  uint64
	last    time.Time // of the last echo
	longest time.Duration
	err     error // why it ended, or was given up
}

// openFlows connects all pods of c with those of other nodes. The caller must close them.
func openFlows(ctx context.Context, c *cluster) (*flows, error) {
	f := &flows{done: make(chan struct{})}
	for _, p := range c.pods {
		if err := f.serve(p); err != nil {
			return nil, errors.Join(err, f.close())
		}
	}
	for i, from := range c.pods {
		for _, to := range c.pods[i+1:] {
			if from.node == to.node {
				continue
			}
			if err := f.open(ctx, from, to); err != nil {
				return nil, errors.Join(err, f.close())
			}
		}
	}
	return f, nil
}

func (f *flows) serve(p *pod) error {
	return p.Do(func() error {
		listener, err := (&net.ListenConfig{KeepAlive: -1}).Listen(context.Background(), "tcp4", netip.AddrPortFrom(p.addr, echoPort).String())
		if err != nil {
			return err
		}
		f.servers = append(f.servers, listener)
		f.serving.Go(func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				f.mu.Lock()
				f.conns = append(f.conns, conn)
				f.mu.Unlock()
				f.serving.Go(func() { f.echo(conn) })
			}
		})
		return nil
	})
}

// echo returns every message, which must be the next.
func (f *flows) echo(conn net.Conn) {
	message := make([]byte, messageSize)
	for want := uint64(0); ; want++ {
		_, err := io.ReadFull(conn, message)
		if got := binary.BigEndian.Uint64(message); err == nil && got != want {
			err = fmt.Errorf("message %d came where %d was next", got, want)
		}
		if err == nil {
			_, err = conn.Write(message)
		}
		if err != nil {
			f.note(fmt.Errorf("%s, from %s: %w", conn.LocalAddr(), conn.RemoteAddr(), err))
			return
		}
	}
}

// note keeps an error that is not due to the end of the soak.
func (f *flows) note(err error) {
	select {
	case <-f.done:
	default:
		f.mu.Lock()
		f.wrong = append(f.wrong, err)
		f.mu.Unlock()
	}
}

func (f *flows) open(ctx context.Context, from, to *pod) error {
	var conn net.Conn
	err := from.Do(func() (err error) {
		dialer := net.Dialer{Timeout: 10 * time.Second, KeepAlive: -1}
		conn, err = dialer.DialContext(ctx, "tcp4", netip.AddrPortFrom(to.addr, echoPort).String())
		return err
	})
	if err != nil {
		return err
	}
	w := &flow{name: from.name + " to " + to.name, conn: conn, last: time.Now()}
	f.all = append(f.all, w)
	f.serving.Go(func() { w.ask(f.done) })
	f.serving.Go(func() {
		err := w.hear()
		w.mu.Lock()
		w.err = err
		w.mu.Unlock()
	})
	return nil
}

// ask sends the numbered messages until done. What is wrong with the connection, hear says.
func (w *flow) ask(done <-chan struct{}) {
	tick := time.NewTicker(messageInterval)
	defer tick.Stop()
	message := make([]byte, messageSize)
	for {
		select {
		case <-tick.C:
		case <-done:
			return
		}
		w.mu.Lock()
		binary.BigEndian.PutUint64(message, w.sent)
		w.sent++
		w.mu.Unlock()
		if _, err := w.conn.Write(message); err != nil {
			return
		}
	}
}

// hear takes the echoes until the connection ends, and returns why.
func (w *flow) hear() error {
	message := make([]byte, messageSize)
	for want := uint64(0); ; want++ {
		if _, err := io.ReadFull(w.conn, message); err != nil {
			return err
		}
		if got := binary.BigEndian.Uint64(message); got != want {
			return fmt.Errorf("echo %d came where %d was next", got, want)
		}
		now := time.Now()
		w.mu.Lock()
		w.echoed++
		w.longest = max(w.longest, now.Sub(w.last))
		w.last = now
		w.mu.Unlock()
	}
}

// gap returns the longest time without an echo on any flow since the last call, the present one included.
func (f *flows) gap() (longest time.Duration) {
	now := time.Now()
	for _, w := range f.all {
		w.mu.Lock()
		longest = max(longest, w.longest, now.Sub(w.last))
		w.longest = 0
		w.mu.Unlock()
	}
	return longest
}

// messages is how many have come back, on all flows.
func (f *flows) messages() (sum uint64) {
	for _, w := range f.all {
		w.mu.Lock()
		sum += w.echoed
		w.mu.Unlock()
	}
	return sum
}

// lost describes the connections that have ended, or have had no echo for too long.
func (f *flows) lost() (lost []string) {
	for _, w := range f.all {
		w.mu.Lock()
		gap := time.Since(w.last)
		switch {
		case w.err != nil:
			lost = append(lost, fmt.Sprintf("%s: ended after %d echoes: %v", w.name, w.echoed, w.err))
		case gap > longestGap:
			lost = append(lost, fmt.Sprintf("%s: no echo for %s, after %d", w.name, gap.Round(time.Second), w.echoed))
		}
		w.mu.Unlock()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, err := range f.wrong {
		lost = append(lost, err.Error())
	}
	return lost
}

// behind describes a flow that has messages under way for longer than patience, or is nil.
func (f *flows) behind(patience time.Duration) error {
	for _, w := range f.all {
		w.mu.Lock()
		gap := time.Since(w.last)
		w.mu.Unlock()
		if gap > patience {
			return fmt.Errorf("%s: no echo for %s", w.name, gap.Round(time.Millisecond))
		}
	}
	return nil
}

// close ends all connections and waits for who serves them.
func (f *flows) close() error {
	close(f.done)
	var errs []error
	for _, s := range f.servers {
		errs = append(errs, s.Close())
	}
	for _, w := range f.all {
		errs = append(errs, w.conn.Close())
	}
	f.mu.Lock()
	for _, conn := range f.conns {
		conn.Close() // its other end has gone, or goes at once
	}
	f.mu.Unlock()
	f.serving.Wait()
	return errors.Join(errs...)
}
