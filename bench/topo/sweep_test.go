//go:build netns && linux

package topo

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/weft-net/weft/cni/sandbox"
)

func TestSideBySide(t *testing.T) {
	one, other := newTopology(t), newTopology(t)
	a, b := addNode(t, one, "a"), addNode(t, other, "a")
	if a.Addr != b.Addr || a.Name() == b.Name() {
		t.Errorf("two topologies: %s %s and %s %s", a.Name(), a.Addr, b.Name(), b.Addr)
	}
	bb := addNode(t, other, "bb")
	mustNotReach(t, a.Namespace, bb.Addr)
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	mustReach(t, b.Namespace, bb.Addr)
}

func TestCrashedRunIsSwept(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashHelper+"=1")
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	crash := sync.OnceValue(func() error { return errors.Join(cmd.Process.Kill(), cmd.Wait()) })
	t.Cleanup(func() { _ = crash() }) // for a test that fails before it gets there
	var runName string
	var owned, detached int
	_, err = fmt.Fscan(bufio.NewReader(stdout), &runName, &owned, &detached)
	if err != nil {
		t.Errorf("read from the helper: %v", err)
	}
	run, ok := parseRun(runName)
	if !ok {
		t.Errorf("the helper's run is %q", runName)
	}

	// While its process lives, a run is left alone.
	newTopology(t)
	if !isAlive(t, owned) || !isAlive(t, detached) {
		t.Error("New has killed processes of a live run")
	}

	var exit *exec.ExitError
	if err := crash(); !errors.As(err, &exit) || exit.String() != "signal: killed" {
		t.Errorf("the helper ended with %v", err)
	}
	waitGone(t, owned) // by its parent death signal
	if !isAlive(t, detached) {
		t.Error("the detached process has died with the helper: nothing shows that New kills it")
	}
	newTopology(t)
	waitGone(t, detached) // New waits too, but not for what another program's New kills meanwhile
	mustNotExist(t, run)
}

func runUntilKilled() {
	topology, err := New("crash")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer topology.Close()
	node, err := topology.Node("a")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	owned, err := node.Start("sleep", "1000")
	detached, detachedErr := node.StartDetached("sleep", "1000")
	if err := errors.Join(err, detachedErr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	fmt.Println(topology.run, owned.PID(), detached.PID())
	select {}
}

func TestKeep(t *testing.T) {
	const prefix = "keeptest"
	topology, err := New(prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := RemoveKept(prefix); err != nil {
			t.Error(err)
		}
	})
	a, b := addNode(t, topology, "a"), addNode(t, topology, "b")
	owned, err := a.Start("sleep", "1000")
	detached, detachedErr := a.StartDetached("sleep", "1000")
	if err := errors.Join(err, detachedErr); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(topology.Keep(), topology.Close()); err != nil {
		t.Fatal(err)
	}
	if isAlive(t, owned.PID()) || !isAlive(t, detached.PID()) {
		t.Errorf("after Keep: owned process alive %v, detached alive %v", isAlive(t, owned.PID()), isAlive(t, detached.PID()))
	}
	// The run's own process still lives here, so let the sweep see it as one of a process that is gone.
	gone := topology.run
	gone.ticks--
	rename(t, topology.run, gone)
	newTopology(t)
	if !isAlive(t, detached.PID()) {
		t.Error("New has swept a kept run")
	}
	if out, err := exec.Command("nsenter", "--net="+filepath.Join(sandbox.Dir, gone.String()+"-a"), "ping", "-c1", "-W2", b.Addr.String()).CombinedOutput(); err != nil {
		t.Errorf("ping in the kept run: %v: %s", err, out)
	}
	if n, err := RemoveKept(prefix + "x"); n != 0 || err != nil || !isAlive(t, detached.PID()) {
		t.Errorf("RemoveKept of another prefix = %d, %v", n, err)
	}
	if n, err := RemoveKept(prefix); n != 1 || err != nil {
		t.Errorf("RemoveKept = %d, %v, want 1", n, err)
	}
	waitGone(t, detached.PID())
	mustNotExist(t, gone)
}
