package main

import (
	"context"
	"errors"
	"maps"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/cmd/internal/handover"
	"github.com/weft-net/weft/cmd/internal/metrics"
	"github.com/weft-net/weft/dataplane/path"
)

// What the daemon lives on with.
const troubleStore = "systemd does not keep what packets wait in, so that a restart would lose some"

// relaxAfter is how long after a hand-over the sockets' buffers that were made large for it are made
// usual again: what has waited in them has long been taken by then, unless processors are scarce. Then they are
// looked at again as much later.
const relaxAfter = time.Second

// Who kept the descriptors of the process before.
const (
	fromSystemd = "systemd"
	fromWeftd   = "weftd"
)

// The prefixes of what is handed over.
const (
	partTUN    = "tun"
	partTAP    = "tap-" // and the segment's name
	partPort   = "port"
	partMemory = "memory"
	partLock   = "lock"
)

// launch is how this process came to be, beside its configuration.
type launch struct {
	takeover bool   // from the weftd that runs
	notify   string // systemd's socket for this service; "" without
}

// succession is what this process has from the one before it, and leaves to the next. Its fields
// are set by succeed and changed by one life at a time, but for what says otherwise.
type succession struct {
	from   string                  // who kept what there is; "" where this process begins
	left   handover.Set            // what nobody has taken yet
	heir   bool                    // TUN and sockets are those of the process before
	taker  *handover.Taker         // until the process before has left
	store  *handover.Store         // systemd's; nil without
	memory *handover.Memory        // of past, for the next process
	past   past                    // as the process before left it, and then as it is
	states map[path.Way]path.State // of past, for the first life
	stays  bool                    // the kernel's state stays for the next process
	giving atomic.Bool             // a process is taking over
	asked  chan *handover.Giver    // holds who takes over when its checks are done
	lock   *os.File                // of the state directory

	mu        sync.Mutex // over what follows
	takeovers map[metrics.Takeover]uint64
	gap       time.Duration
}

// now is a clock that all processes of this machine share, and nobody sets.
func now() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // it does not fail
	return time.Duration(t.Nano())
}

// succeed finds what an earlier process has left for this one, or asks the one that runs for it,
// after which that has ended everything but its workers.
func (m *machine) succeed(l launch) (err error) {
	s := &m.succession
	s.asked = make(chan *handover.Giver, 1)
	s.takeovers = make(map[metrics.Takeover]uint64)
	var foreign []string
	if s.store, s.left, foreign, err = handover.OpenStore(l.notify); err != nil {
		return err
	}
	m.keep(func() error { return s.left.Close() })
	if len(foreign) > 0 {
		m.log.Warn("systemd kept descriptors of another version of weftd, which are of no use to this one; packets that waited there are lost", "names", foreign)
	}
	if len(s.left) > 0 {
		s.from = fromSystemd
	}
	if l.takeover {
		if s.store != nil {
			return errors.New("--takeover is for a weftd that no service manager starts; use `systemctl restart weftd`")
		}
		if err := m.takeOver(); err != nil {
			return err
		}
	}
	if err := s.recall(); err != nil {
		return err
	}
	m.keep(s.memory.Close)
	m.bequeath(partMemory, map[string]int{"file": s.memory.FD()}, s.from != fromSystemd)
	return nil
}

// recall opens the memory, and takes from it what the process before knew.
func (s *succession) recall() (err error) {
	s.states = make(map[path.Way]path.State)
	fd, ok := s.left.Take(partMemory)["file"]
	if !ok {
		s.memory, err = handover.NewMemory()
		return err
	}
	s.memory = handover.AdoptMemory(fd)
	if err := s.memory.Read(&s.past); err != nil && !errors.Is(err, handover.ErrNoMemory) {
		return err
	}
	for _, w := range s.past.Ways {
		s.states[path.Way{Peer: w.Peer, Mode: w.Mode, To: w.To}] = w.State
	}
	for _, c := range s.past.Takeovers {
		s.takeovers[c.Takeover] = c.N
	}
	return nil
}

// inheritedTUN is the name of the TUN that this process has inherited, if it has.
func (s *succession) inheritedTUN(name string) string {
	for held := range s.left {
		if len(held) > len(partTUN) && held[:len(partTUN)+1] == partTUN+"." {
			return name
		}
	}
	return ""
}

// lockState holds the state directory against other processes, by the lock of the one before where
// that hands over and may have to go on.
func (m *machine) lockState() error {
	lock, err := inheritedLock(m.succession.left.Take(partLock), m.config.StateDir)
	if err != nil {
		return err
	}
	if lock == nil {
		if lock, err = lockDir(m.config.StateDir); err != nil {
			return err
		}
	}
	m.succession.lock = lock
	m.keep(lock.Close)
	return nil
}

// goAhead has the first life go on where the process before has ended, if its TUN was taken over.
// Packets wait, or are carried by a process that is about to leave: what this life does not need to
// carry them comes later, and the kernel's rules are as they were.
func (d *daemon) goAhead() error {
	s := &d.succession
	if !s.heir {
		s.from = ""
	}
	if s.from == "" {
		return nil
	}
	d.joined.Store(true)
	if err := d.resume(); err != nil {
		return err
	}
	return d.startEngine()
}

// reclaim tells the others of what goAhead has carried on: that this node is what it was, and where.
func (d *daemon) reclaim() error {
	if !d.joined.Load() {
		return nil
	}
	if err := d.store.Publish(d.description()); err != nil || d.allotter != nil {
		return err
	}
	return d.store.Claim(d.config.PodCIDRs...)
}

// resume goes on where the process before, or the life before, has ended: this node's word is
// out, its blocks are its own, and it knows who is there. When it returns nobody carries packets,
// and all is ready to.
func (d *daemon) resume() error {
	s := &d.succession
	if s.from != "" {
		if err := d.inheritMembership(); err != nil {
			return err
		}
	}
	d.prober.recall(s.states)
	s.states = nil
	view := d.store.View(time.Now())
	d.decide(view, newLookup(d.host).way) // the kernel is as it was
	d.recallHosts()
	d.hear(&view)
	if s.taker != nil {
		return s.taker.Start()
	}
	return nil
}

// inheritMembership makes this node what it was before: a member of a cluster, by its state
// directory, whose others are routed for their grace while gossip looks for them.
func (d *daemon) inheritMembership() error {
	if err := d.store.Check(d.description(), d.config.PodCIDRs...); err != nil {
		return err
	}
	d.keepHost()
	return d.device.Persist()
}

// keepHost has what weft adds to the kernel removed at the end, and not before.
func (m *machine) keepHost() {
	m.keep(m.unlessItStays(func() error { return errors.Join(m.closeTAPs(), second(m.host.Remove())) }))
}

// unlessItStays is undo, but where the next process goes on with what it would undo.
func (m *machine) unlessItStays(undo func() error) func() error {
	return func() error {
		if m.succession.stays {
			return nil
		}
		return undo()
	}
}

// succeeded is called when packets are carried with what was inherited: the process before
// leaves.
func (d *daemon) succeeded() error {
	s := &d.succession
	if s.from == "" {
		return nil
	}
	var was past
	if s.memory.Read(&was) == nil { // what the process before has written when it stopped
		s.past.Stopped = was.Stopped
	}
	gap := time.Duration(0) // of a process that was killed nobody knows
	result := "killed"
	if s.past.Stopped != 0 {
		gap, result = now()-s.past.Stopped, "ok"
	}
	if s.taker != nil {
		if err := s.taker.Done(); err != nil {
			return err
		}
		s.taker, s.stays = nil, false
	}
	s.mu.Lock()
	s.gap = gap
	s.mu.Unlock()
	s.count(s.from, result)
	d.log.Info("packets are carried on with what the weftd before has left", "from", s.from, "result", result, "gap", gap)
	s.from = ""
	return nil
}

func (s *succession) count(from, result string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takeovers[metrics.Takeover{From: from, Result: result}]++
}

// handed says how often what kind of hand-over there was, and how long packets waited in the last.
// Every kind is present. The map is the caller's.
func (s *succession) handed() (takeovers map[metrics.Takeover]uint64, gap time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	takeovers = map[metrics.Takeover]uint64{
		{From: fromSystemd, Result: "ok"}: 0, {From: fromSystemd, Result: "killed"}: 0, {From: fromSystemd, Result: "unfit"}: 0,
		{From: fromWeftd, Result: "ok"}: 0, {From: fromWeftd, Result: "failed"}: 0,
	}
	maps.Copy(takeovers, s.takeovers)
	return takeovers, s.gap
}

// awaitTakeover returns errTakeover when a process is ready to take over. Who asked is left in
// asked.
func (m *machine) awaitTakeover(ctx context.Context) error {
	select {
	case giver := <-m.succession.asked:
		m.succession.asked <- giver
		return errTakeover
	case <-ctx.Done():
		return nil
	}
}
