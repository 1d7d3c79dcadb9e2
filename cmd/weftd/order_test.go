//go:build netns

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	orderFlows    = 32
	orderShare    = 500 // packets of each flow that a stage of the test waits for
	orderSize     = 64  // of a packet, in bytes: its number, and something to carry
	orderSegments = 8   // packets to a superpacket
	orderWindow   = 64  // packets of a flow under way: all together, most of what the queues hold
)

// A flow's packets arrive in the order in which they were sent, also while they are
// spread over workers, while replies begin to come in through other workers,
// and while either daemon is started again with another number of them. Some may be
// lost. Probes do not wait behind packets, so that a receiver which is short of CPU is not left
// for another way, on which packets would overtake those that still wait.
func TestFlowsKeepTheirOrder(t *testing.T) { testOrder(t, orderWindow) }

// The same when far more is offered than the nodes carry, so that all queues are full
// whenever something changes.
func TestFlowsKeepTheirOrderUnderOverload(t *testing.T) { testOrder(t, math.MaxUint64) }

func testOrder(t *testing.T, window uint64) {
	c := newCluster(t, 2)
	a, b := c.members[0], c.members[1]
	for _, m := range c.members {
		m.start("--workers", "3")
	}
	c.converged()
	o := newOrder(t, a, b)
	o.window = window
	a.pin()
	b.pin()

	before := map[*member]map[string]int{a: a.threadTimes(), b: b.threadTimes()}
	o.send()
	o.advance("flows in one direction", o.there)
	o.replying.Store(true)
	o.advance("replies to half of them", o.there, o.back)
	for _, m := range c.members {
		n := m.busySince(before[m])
		if t.Logf("%s: %d workers carry packets", m, n); n < 2 {
			t.Errorf("%s: one worker alone carried packets, so that there was nothing to reorder", m)
		}
	}

	oneCPU := []string{"taskset", "-c", "0"}
	b.stop()
	b.startBy(oneCPU, "--workers", "1")
	c.converged()
	o.advance("the receiving daemon to be back", o.there, o.back)
	a.stop()
	a.startBy(oneCPU, "--workers", "2")
	c.converged()
	o.advance("the sending daemon to be back", o.there, o.back)
}

// pin keeps each thread of the daemon on one CPU. Where the scheduler moves a worker,
// the kernel itself can reorder: what a thread has handed over waits in a queue of the
// CPU it was on then (netif_rx, net/core/dev.c).
func (m *member) pin() {
	m.c.t.Helper()
	for i, task := range m.tasks() {
		tid, err := strconv.Atoi(filepath.Base(task))
		if err != nil {
			m.c.t.Fatal(err)
		}
		if err := pinThread(tid, i); err != nil && !errors.Is(err, unix.ESRCH) {
			m.c.t.Fatal(err)
		}
	}
}

func pinThread(tid, cpu int) error {
	var one unix.CPUSet
	one.Set(cpu % runtime.NumCPU())
	return unix.SchedSetaffinity(tid, &one)
}

// tasks are the folders of the daemon's threads.
func (m *member) tasks() []string {
	m.c.t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", m.daemon.PID()))
	if err != nil || len(tasks) == 0 {
		m.c.t.Fatalf("%s has no threads: %v", m, err)
	}
	return tasks
}

// threadTimes is how long each thread that carries packets has been on a CPU, in nanoseconds.
func (m *member) threadTimes() map[string]int {
	m.c.t.Helper()
	times := make(map[string]int)
	for _, task := range m.tasks() {
		if !isWorker(task) {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(task, "schedstat"))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		first, _, _ := strings.Cut(string(stat), " ")
		ns, e := strconv.Atoi(first)
		if err := errors.Join(err, e); err != nil {
			m.c.t.Fatal(err)
		}
		times[task] = ns
	}
	return times
}

// isWorker tells workers by their scheduling policy, which the Go runtime's own threads lack.
func isWorker(task string) bool {
	tid, err := strconv.Atoi(filepath.Base(task))
	policy, _, errno := unix.Syscall(unix.SYS_SCHED_GETSCHEDULER, uintptr(tid), 0, 0)
	return err == nil && errno == 0 && policy == unix.SCHED_BATCH
}

// busySince is how many workers did some part of the work since before.
func (m *member) busySince(before map[string]int) (n int) {
	m.c.t.Helper()
	total, times := 0, m.threadTimes()
	for task := range times {
		times[task] -= before[task]
		total += times[task]
	}
	for _, ns := range times {
		if ns > total/50 {
			n++
		}
	}
	return n
}

// order is the flows: each a socket in one pod that sends to the one in the other.
type order struct {
	c           *cluster
	window      uint64 // packets of a flow under way, at the most
	conns       []net.Conn
	server      *net.UDPConn
	there, back *arrivals
	moved       [orderSenders]chan struct{} // holds a token where a sender's packets have arrived
	replying    atomic.Bool

	running sync.WaitGroup
	over    chan struct{}
}

const orderSenders = 2

// arrivals is what came of each flow in one direction.
type arrivals struct {
	name  string
	flows []arrival

	mu    sync.Mutex
	wrong []string
}

type arrival struct{ count, last atomic.Uint64 }

// newOrder opens the sockets, and starts to receive.
func newOrder(t *testing.T, a, b *member) *order {
	from, to := a.pod(10), b.pod(20)
	o := &order{
		c: a.c, server: listenUDP(t, to.Namespace),
		there: &arrivals{name: "there", flows: make([]arrival, orderFlows)},
		back:  &arrivals{name: "back", flows: make([]arrival, orderFlows/2)},
		over:  make(chan struct{}),
	}
	for i := range o.moved {
		o.moved[i] = make(chan struct{}, 1)
	}
	if err := o.server.SetReadBuffer(4 << 20); err != nil {
		t.Fatal(err)
	}
	for i := range orderFlows {
		conn, err := dial(from.Namespace, "udp4", to.Addr, echoPort)
		if err != nil {
			t.Fatal(err)
		}
		o.conns = append(o.conns, conn)
		if i%2 == 1 {
			if err := segments(conn.(*net.UDPConn), orderSize); err != nil {
				t.Fatal(err)
			}
		}
		if i < len(o.back.flows) {
			o.running.Go(func() { o.back.receive(conn.(*net.UDPConn), func(int, netip.AddrPort) {}) })
		}
	}
	o.running.Go(func() {
		stayOn(1)
		o.there.receive(o.server, o.answer)
	})
	t.Cleanup(func() {
		close(o.over)
		o.server.Close()
		for _, conn := range o.conns {
			conn.Close()
		}
		o.running.Wait()
		o.there.report(t)
		o.back.report(t)
	})
	return o
}

func (a *arrivals) report(t *testing.T) {
	received, last := uint64(0), uint64(0)
	for i := range a.flows {
		received += a.flows[i].count.Load()
		last += a.flows[i].last.Load()
	}
	t.Logf("%s: %d packets received of %d", a.name, received, last)
	if n := len(a.wrong); n > 0 {
		t.Errorf("%s: %d packets were overtaken: %s", a.name, n, strings.Join(a.wrong[:min(n, 10)], "; "))
	}
}

// stayOn keeps the goroutine on a thread, and that on a CPU. The thread ends with
// the goroutine.
func stayOn(cpu int) {
	runtime.LockOSThread()
	_ = pinThread(0, cpu) // else there may be an error that is none of weft's
}

// advance waits until so many more packets of every flow have arrived.
func (o *order) advance(stage string, directions ...*arrivals) {
	o.c.t.Helper()
	var goals [][]uint64
	for _, a := range directions {
		var goal []uint64
		for i := range a.flows {
			goal = append(goal, a.flows[i].count.Load()+orderShare)
		}
		goals = append(goals, goal)
	}
	o.c.eventually(stage, func(context.Context) error {
		for i, a := range directions {
			for f, goal := range goals[i] {
				if n := a.flows[f].count.Load(); n < goal {
					return fmt.Errorf("%s: of flow %d %d packets arrived, want %d", a.name, f, n, goal)
				}
			}
		}
		return nil
	})
}

// receive checks what arrives at c, and hands on from where, until that is closed.
func (a *arrivals) receive(c *net.UDPConn, took func(flow int, from netip.AddrPort)) {
	buf := make([]byte, 2*orderSize)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n != orderSize {
			continue // an ICMP error, while a daemon is away
		}
		number, flow := binary.BigEndian.Uint64(buf), int(binary.BigEndian.Uint64(buf[8:]))
		f := &a.flows[flow]
		if last := f.last.Swap(number); last >= number {
			a.mu.Lock()
			a.wrong = append(a.wrong, fmt.Sprintf("flow %d: %d after %d", flow, number, last))
			a.mu.Unlock()
		}
		f.count.Add(1)
		took(flow, from)
	}
}

// answer sends something back for every other packet.
func (o *order) answer(flow int, from netip.AddrPort) {
	select {
	case o.moved[flow%orderSenders] <- struct{}{}:
	default:
	}
	if n := o.there.flows[flow].count.Load(); o.replying.Load() && flow < len(o.back.flows) && n%2 == 0 {
		_, _ = o.server.WriteToUDPAddrPort(numbered(n, 1, flow), from)
	}
}

// send starts the threads that send on all flows, as fast as the flows' windows
// let them. Where nothing arrives they try again all the same, since packets may be lost.
func (o *order) send() {
	for i := range orderSenders {
		o.running.Go(func() {
			stayOn(i)
			again := time.NewTicker(5 * time.Millisecond)
			defer again.Stop()
			next := make([]uint64, orderFlows)
			for {
				for f := i; f < orderFlows; f += orderSenders {
					o.sendFlow(f, &next[f], o.window)
				}
				select {
				case <-o.over:
					return
				case <-o.moved[i]:
				case <-again.C:
					for f := i; f < orderFlows; f += orderSenders {
						o.sendFlow(f, &next[f], math.MaxUint64)
					}
				}
			}
		})
	}
}

// sendFlow sends the flow's next packets where fewer than window are under way. A flow
// of superpackets has small ones among them.
func (o *order) sendFlow(f int, next *uint64, window uint64) {
	if *next-o.there.flows[f].last.Load() >= window {
		return
	}
	n := 1
	if f%2 == 1 && *next%3 != 0 {
		n = orderSegments
	}
	_, _ = o.conns[f].Write(numbered(*next+1, n, f)) // it fails while a daemon is away
	*next += uint64(n)
}

// numbered is n packets of a flow, from number first on.
func numbered(first uint64, n, flow int) (data []byte) {
	for i := range n {
		data = binary.BigEndian.AppendUint64(data, first+uint64(i))
		data = binary.BigEndian.AppendUint64(data, uint64(flow))
		data = append(data, make([]byte, orderSize-16)...)
	}
	return data
}
