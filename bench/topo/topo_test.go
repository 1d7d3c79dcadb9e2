//go:build netns && linux

package topo

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// crashHelper makes this test binary the program that crashes in TestCrashedRunIsSwept.
const crashHelper = "WEFT_TOPO_CRASH_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(crashHelper) != "" {
		runUntilKilled()
		return
	}
	goleak.VerifyTestMain(m)
}

func TestUnderlay(t *testing.T) {
	topology := newTopology(t)
	a, b := addNode(t, topology, "a"), addNode(t, topology, "b")
	mustReach(t, a.Namespace, b.Addr)
	mustReach(t, b.Namespace, a.Addr)

	if err := a.Unplug(); err != nil {
		t.Fatal(err)
	}
	mustNotReach(t, a.Namespace, b.Addr)
	eth0, err := a.Handle().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if flags := eth0.Attrs().RawFlags; flags&0x10000 == 0 { // IFF_LOWER_UP, linux/if.h
		t.Errorf("eth0 of the unplugged node has lost its carrier: flags %#x", flags)
	}
	if err := a.Plug(); err != nil {
		t.Fatal(err)
	}
	mustReach(t, a.Namespace, b.Addr)

	// A full packet of the larger MTU arrives whole: 28 octets of it are IP and ICMP headers.
	for _, node := range []*Node{a, b} {
		if err := node.SetMTU(9000); err != nil {
			t.Fatal(err)
		}
	}
	mustRun(t, a.Namespace, "ping", "-c1", "-W5", "-Mdo", "-s8972", b.Addr.String())

	route := mustRun(t, a.Namespace, "ip", "route", "show", "default")
	if !strings.HasPrefix(route, "default via 198.51.100.254 dev eth0") {
		t.Errorf("default route of a node: %q", route)
	}
	mustReach(t, a.Namespace, netip.MustParseAddr("127.0.0.1"))
	if _, err := topology.Node("a"); err == nil {
		t.Error("a second node of the same name gave no error")
	}
}

func TestPod(t *testing.T) {
	topology := newTopology(t)
	node := addNode(t, topology, "a")
	p, q := addPod(t, node, "p", "10.244.1.10"), addPod(t, node, "q", "10.244.1.11")
	mustReach(t, node.Namespace, p.Addr)
	mustReach(t, p.Namespace, node.Addr)

	// A node forwards once someone tells it to, not because the host does.
	mustNotReach(t, p.Namespace, q.Addr)
	mustRun(t, node.Namespace, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
	mustReach(t, p.Namespace, q.Addr)

	if err := p.SetMTU(1472); err != nil {
		t.Fatal(err)
	}
	for _, show := range []string{
		mustRun(t, p.Namespace, "ip", "link", "show", "eth0"),
		mustRun(t, node.Namespace, "ip", "link", "show", "p"),
	} {
		if !strings.Contains(show, " mtu 1472 ") {
			t.Errorf("after SetMTU(1472): %s", show)
		}
	}
}

func TestDo(t *testing.T) {
	home, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	topology := newTopology(t)
	node := addNode(t, topology, "a")
	var inside []net.Interface
	err = node.Do(func() (err error) {
		inside, err = net.Interfaces()
		return err
	})
	if err != nil || len(inside) != 2 || inside[1].Name != "eth0" {
		t.Errorf("interfaces inside = %v, %v, want lo and eth0", inside, err)
	}
	if err := node.Do(func() error { return fs.ErrInvalid }); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Do = %v, want the function's error", err)
	}
	mustAllBeHome(t, home)
	defer func() {
		if recover() != "boom" {
			t.Error("a panic in Do did not reach the caller")
		}
		mustAllBeHome(t, home)
	}()
	node.Do(func() error { panic("boom") })
}

func TestRun(t *testing.T) {
	topology := newTopology(t)
	node := addNode(t, topology, "a")
	out, err := node.Run(t.Context(), "sh", "-c", "echo out; echo err >&2; exit 3")
	var exit *exec.ExitError
	if out != "out\n" || !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.Contains(err.Error(), "out\nerr") {
		t.Errorf("Run = %q, %v", out, err)
	}
	if out, err := node.Run(t.Context(), "echo", "a b"); out != "a b\n" || err != nil {
		t.Errorf("Run = %q, %v", out, err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	pidFile := filepath.Join(topology.Dir(), "pid")
	ran := make(chan error, 1)
	go func() {
		_, err := node.Run(ctx, "sh", "-c", "sleep 1000 & echo $! >"+pidFile+"; wait")
		ran <- err
	}()
	grandchild := readPID(t, pidFile)
	cancel()
	if err := <-ran; !errors.Is(err, context.Canceled) {
		t.Errorf("Run of a cancelled context = %v", err)
	}
	waitGone(t, grandchild)
}

func TestProcess(t *testing.T) {
	topology := newTopology(t)
	node := addNode(t, topology, "a")
	p, err := node.Start("sh", "-c", "echo hello; echo world >&2; exec sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process's log", func() bool {
		log, err := p.Log()
		return err == nil && log == "hello\nworld\n"
	})
	if err := errors.Join(p.Kill(), p.Kill()); err != nil {
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := p.Wait(); !errors.As(err, &exit) || exit.String() != "signal: killed" {
		t.Errorf("Wait = %v", err)
	}
	if err := p.Signal(os.Interrupt); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("Signal after Kill = %v", err)
	}
}

// Were a process forked by any thread of the runtime, it would die with that thread.
func TestProcessOutlivesThreads(t *testing.T) {
	topology := newTopology(t)
	node := addNode(t, topology, "a")
	var (
		processes []*Process
		ended     sync.WaitGroup
	)
	for range 20 {
		for range 10 {
			ended.Go(runtime.LockOSThread) // and never unlock: the thread ends with the goroutine
		}
		p, err := node.Start("sleep", "1000")
		if err != nil {
			t.Fatal(err)
		}
		processes = append(processes, p)
	}
	ended.Wait()
	for _, p := range processes {
		if !isAlive(t, p.PID()) {
			t.Errorf("process %d has died with a thread", p.PID())
		}
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	newTopology(t).Close() // makes the runtime open what it keeps open
	descriptors := openDescriptors(t)
	topology := newTopology(t)
	pod := addPod(t, addNode(t, topology, "a"), "p", "10.244.1.10")
	var pids []int
	for _, start := range []func(...string) (*Process, error){pod.Start, pod.StartDetached} {
		p, err := start("sleep", "1000")
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, p.PID())
	}
	// A daemon that left the process group of what started it.
	pidFile := filepath.Join(topology.Dir(), "pid")
	mustRun(t, pod.Namespace, "sh", "-c",
		"setsid sh -c 'echo $$ >"+pidFile+"; exec sleep 1000' >/dev/null 2>&1 & until [ -s "+pidFile+" ]; do sleep 0.01; done")
	pids = append(pids, readPID(t, pidFile))

	if err := errors.Join(topology.Close(), topology.Close()); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if isAlive(t, pid) {
			t.Errorf("process %d is alive after Close", pid)
		}
	}
	mustNotExist(t, topology.run)
	if n := openDescriptors(t); n != descriptors {
		t.Errorf("%d open descriptors after Close, %d before New", n, descriptors)
	}
	if _, err := pod.Start("sleep", "1000"); err == nil {
		t.Error("Start after Close gave no error")
	}
	if _, err := pod.Run(t.Context(), "true"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run after Close = %v", err)
	}
	if _, err := topology.Node("b"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Node after Close = %v", err)
	}
	if err := pod.Do(func() error { return nil }); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Do after Close = %v", err)
	}
}
