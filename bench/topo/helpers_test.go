//go:build netns && linux

package topo

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/cni/sandbox"
)

func newTopology(t *testing.T) *Topology {
	t.Helper()
	topology, err := New("topotest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := topology.Close(); err != nil {
			t.Error(err)
		}
	})
	return topology
}

func addNode(t *testing.T, topology *Topology, name string) *Node {
	t.Helper()
	node, err := topology.Node(name)
	if err != nil {
		t.Fatal(err)
	}
	return node
}

func addPod(t *testing.T, node *Node, name, addr string) *Pod {
	t.Helper()
	pod, err := node.Pod(name, netip.MustParseAddr(addr))
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

func mustRun(t *testing.T, ns *Namespace, args ...string) string {
	t.Helper()
	out, err := ns.Run(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func mustReach(t *testing.T, ns *Namespace, addr netip.Addr) {
	t.Helper()
	mustRun(t, ns, "ping", "-c1", "-W5", addr.String())
}

func mustNotReach(t *testing.T, ns *Namespace, addr netip.Addr) {
	t.Helper()
	_, err := ns.Run(t.Context(), "ping", "-c1", "-W1", addr.String())
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 { // 1 is "no reply" (ping(8))
		t.Fatalf("ping from %s to %s = %v, want no reply", ns, addr, err)
	}
}

// mustNotExist checks that a run has left neither namespaces nor its directory.
func mustNotExist(t *testing.T, run runID) {
	t.Helper()
	runs, err := findRuns()
	if err != nil {
		t.Fatal(err)
	}
	if namespaces, found := runs[run]; found {
		t.Errorf("run %s still exists, with namespaces %v", run, namespaces)
	}
}

// mustAllBeHome checks that no thread of this process was left in another network namespace.
func mustAllBeHome(t *testing.T, home string) {
	t.Helper()
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(threads) == 0 {
		t.Fatal("no threads found", err)
	}
	for _, thread := range threads {
		if ns, err := os.Readlink(thread); err == nil && ns != home {
			t.Errorf("%s is in %s, not in %s", thread, ns, home)
		}
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func isAlive(t *testing.T, pid int) bool {
	t.Helper()
	_, err := startTicks(pid)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

func waitGone(t *testing.T, pid int) {
	t.Helper()
	eventually(t, "the end of process "+strconv.Itoa(pid), func() bool { return !isAlive(t, pid) })
}

func readPID(t *testing.T, file string) int {
	t.Helper()
	var pid int
	eventually(t, "a pid in "+file, func() bool {
		data, err := os.ReadFile(file)
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(data)))
		return err == nil
	})
	return pid
}

// eventually polls until done is true, and fails the test if that takes too long.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// rename gives everything a run has left the name of another.
func rename(t *testing.T, from, to runID) {
	t.Helper()
	runs, err := findRuns()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range runs[from] {
		path := filepath.Join(sandbox.Dir, name)
		renamed := filepath.Join(sandbox.Dir, to.String()+strings.TrimPrefix(name, from.String()))
		if err := os.WriteFile(renamed, nil, 0o400); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("mount", "--bind", path, renamed).CombinedOutput(); err != nil {
			t.Fatalf("mount %s: %v: %s", renamed, err, out)
		}
		if err := sandbox.Delete(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(from.dir(), to.dir()); err != nil {
		t.Fatal(err)
	}
}
