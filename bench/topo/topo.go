//go:build linux

// Package topo builds network topologies out of Linux network namespaces: nodes on one
// underlay bridge or behind routers, and pods routed by their node. The demo, the tests and the benchmarks
// share it. It needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN).
//
// Nothing is made in the host's own network namespace, so that the host's firewall and
// routes do not matter and runs do not meet each other. What a run leaves outside its
// process is named after that process, weft-PID-STARTTICKS-PREFIX-N:
//
//	/run/netns/RUN-underlay          the bridge
//	/run/netns/RUN-NODE              a node: eth0 on the bridge, one veth for each pod
//	/run/netns/RUN-router-a, -b      the routers before remote nodes, where there are any
//	/run/netns/RUN-NODE-POD          a pod: eth0 to its node
//	/run/RUN/                        logs of the processes, and what the caller puts there
//
// (/run/netns itself is left as iproute2 leaves it, a mount that is shared.)
//
// A process that is gone, or whose pid has another start time now, cannot own a run any
// more: the next New removes what it left. Keep exempts a run from that.
package topo

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weft-net/weft/cni/sandbox"
)

const (
	runDir = "/run"

	bridgeName = "underlay"
	// killTimeout bounds the wait for killed processes. SIGKILL acts within milliseconds
	// except in uninterruptible sleep, which is worth an error.
	killTimeout = 10 * time.Second
)

// A Topology is one underlay bridge with the nodes on it and everything that runs in them.
// Its methods and those of its namespaces may be called concurrently; after Close or Keep,
// those that make something return an error that wraps net.ErrClosed.
type Topology struct {
	run      runID
	underlay *Namespace
	bridge   netlink.Link
	forks    chan forkRequest
	forker   sync.WaitGroup // the goroutine that forks
	waiters  sync.WaitGroup // one goroutine for each process

	narrow func() (*Narrow, error) // makes the routers at the first call

	mu         sync.Mutex // guards what follows; whoever makes something holds it, so that Close misses nothing
	closed     bool
	namespaces []*Namespace
	nodes      int
	remotes    int
	logs       int
	processes  map[*Process]struct{}

	finish    sync.Once
	finishErr error
}

// New removes what crashed runs left behind and makes a topology of one empty underlay
// bridge. The prefix (lower-case letters and digits) is part of every name, for the people
// who read them. The caller must Close the topology.
func New(prefix string) (*Topology, error) {
	if err := checkName(prefix); err != nil {
		return nil, fmt.Errorf("new topology: prefix: %w", err)
	}
	if err := removeCrashed(); err != nil {
		return nil, fmt.Errorf("remove what a crashed run left: %w", err)
	}
	run, err := claimRun(prefix)
	if err != nil {
		return nil, fmt.Errorf("new topology: %w", err)
	}
	t := &Topology{
		run:       run,
		forks:     make(chan forkRequest),
		processes: make(map[*Process]struct{}),
	}
	t.narrow = sync.OnceValues(t.addRouters)
	t.forker.Go(t.fork)
	if err := t.addUnderlay(); err != nil {
		return nil, errors.Join(fmt.Errorf("new topology: %w", err), t.Close())
	}
	return t, nil
}

// claimRun takes the first free number for this process and prefix by making the run's
// directory, which is the only step two topologies of one process could race for.
func claimRun(prefix string) (runID, error) {
	pid := os.Getpid()
	ticks, err := startTicks(pid)
	if err != nil {
		return runID{}, err
	}
	for n := 1; ; n++ {
		run := runID{pid: pid, ticks: ticks, prefix: prefix, n: n}
		err := os.Mkdir(run.dir(), 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return runID{}, fmt.Errorf("make the run's directory: %w", err)
		}
		return run, nil
	}
}

func (t *Topology) addUnderlay() error {
	underlay, err := t.addNamespace("underlay")
	if err != nil {
		return err
	}
	t.underlay = underlay
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridgeName
	if err := underlay.handle.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return fmt.Errorf("add bridge %s: %w", bridgeName, err)
	}
	if t.bridge, err = underlay.upLink(bridgeName); err != nil {
		return err
	}
	return nil
}

// Underlay returns the namespace of the bridge, whose ports carry the names of their nodes.
func (t *Topology) Underlay() *Namespace { return t.underlay }

// Dir returns the run's directory, of mode 0700 and with a short path, so that Unix sockets
// fit in it. The caller may put files there; Close removes it with everything in it.
func (t *Topology) Dir() string { return t.run.dir() }

// Close kills every process started in the topology or found inside it, waits for them, and
// removes the namespaces and the directory. It may be called at any time and more than once;
// every call returns the result of the first. After Keep it does nothing.
func (t *Topology) Close() error {
	t.finish.Do(func() { t.finishErr = t.shutDown() })
	return t.finishErr
}

func (t *Topology) shutDown() error {
	namespaces, processes := t.stopMaking()
	var errs []error
	for _, p := range processes {
		errs = append(errs, p.signalKill())
	}
	var names []string
	for _, ns := range slices.Backward(namespaces) {
		names = append(names, ns.name)
	}
	errs = append(errs, killInside(names), t.waitProcesses())
	for _, ns := range namespaces {
		ns.closeHandle()
	}
	for _, name := range names {
		errs = append(errs, sandbox.Delete(name))
	}
	errs = append(errs, os.RemoveAll(t.run.dir()))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close topology %s: %w", t.run, err)
	}
	return nil
}

// stopMaking refuses new namespaces and processes from now on and returns those there are.
func (t *Topology) stopMaking() ([]*Namespace, []*Process) {
	t.mu.Lock()
	t.closed = true
	close(t.forks)
	namespaces := slices.Clone(t.namespaces)
	processes := make([]*Process, 0, len(t.processes))
	for p := range t.processes {
		processes = append(processes, p)
	}
	t.mu.Unlock()
	t.forker.Wait()
	return namespaces, processes
}

// waitProcesses waits until every process started here has been reaped.
func (t *Topology) waitProcesses() error {
	reaped := make(chan struct{})
	go func() {
		t.waiters.Wait()
		close(reaped)
	}()
	select {
	case <-reaped:
		return nil
	case <-time.After(killTimeout):
		return fmt.Errorf("processes still there %s after SIGKILL", killTimeout)
	}
}

// Keep gives the topology up without removing it: namespaces, directory and the processes of
// StartDetached outlive this program until RemoveKept. The other processes are killed.
func (t *Topology) Keep() error {
	t.finish.Do(func() { t.finishErr = t.handOver() })
	return t.finishErr
}

func (t *Topology) handOver() error {
	// The mark comes first: were it missing, the next New would take the run for a crashed one.
	errs := []error{os.WriteFile(filepath.Join(t.run.dir(), keptMark), nil, 0o600)}
	namespaces, processes := t.stopMaking()
	for _, p := range processes {
		if !p.detached {
			errs = append(errs, p.Kill())
		}
	}
	for _, ns := range namespaces {
		ns.closeHandle()
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("keep topology %s: %w", t.run, err)
	}
	return nil
}

// errIfClosed must be called with t.mu held.
func (t *Topology) errIfClosed() error {
	if t.closed {
		return fmt.Errorf("topology %s: %w", t.run, net.ErrClosed)
	}
	return nil
}

// checkName keeps names parsable (no hyphen, which separates them) and short enough for an
// interface name (IFNAMSIZ - 1).
func checkName(name string) error {
	const maxLen = 15
	ok := len(name) > 0 && len(name) <= maxLen
	for _, c := range []byte(name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9')
	}
	if !ok {
		return fmt.Errorf("name %q is not 1 to %d lower-case letters and digits", name, maxLen)
	}
	return nil
}
