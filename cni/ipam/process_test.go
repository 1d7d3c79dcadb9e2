package ipam

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// childRole in the environment makes this test binary another process at the store.
const childRole = "WEFT_IPAM_CHILD"

func TestMain(m *testing.M) {
	role := os.Getenv(childRole)
	if role == "" {
		os.Exit(m.Run())
	}
	run := map[string]func(dir string, args []string) error{"churn": churn, "stop": stop}[role]
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// child starts this binary in a role, with a standard input that stays open. Should it still run at the end of the
// test it is killed.
func child(t *testing.T, role, dir string, args ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{dir}, args...)...)
	cmd.Env = append(os.Environ(), childRole+"="+role)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewReader(stdout)
}

// churn adds and removes, with two attachments at a time, and writes "+ CONTAINER" after each Add and "- CONTAINER"
// before each Remove. It claims its addresses in another directory, where one that is claimed already fails it.
// args: name of the process, number of attachments, directory of claims.
func churn(dir string, args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	s := Open(dir)
	var held []Attachment
	for i := range n + 2 {
		if i >= 2 {
			a := held[0]
			held = held[1:]
			if err := errors.Join(release(args[2], a), s.Remove(ctx, a.Key())); err != nil {
				return err
			}
		}
		if i < n {
			a, err := s.Add(ctx, attachment(fmt.Sprintf("%s-%d", args[0], i)), blocks("10.244.1.0/27", "fd00:1::/123"))
			if err != nil {
				return err
			}
			if err := claim(args[2], a); err != nil {
				return err
			}
			held = append(held, a)
		}
	}
	return nil
}

func claim(dir string, a Attachment) error {
	for _, address := range a.Addresses {
		f, err := os.OpenFile(filepath.Join(dir, address.String()), os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("%s has an address that another has: %w", a.Container, err)
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	fmt.Println("+", a.Container)
	return nil
}

func release(dir string, a Attachment) error {
	fmt.Println("-", a.Container)
	for _, address := range a.Addresses {
		if err := os.Remove(filepath.Join(dir, address.String())); err != nil {
			return err
		}
	}
	return nil
}

// TestProcesses has 8 processes at once use a store with room for 29 attachments.
func TestProcesses(t *testing.T) {
	s, claims := newStore(t), t.TempDir()
	var wait sync.WaitGroup
	for i := range 8 {
		cmd, stdout := child(t, "churn", s.dir, fmt.Sprint("p", i), "30", claims)
		wait.Go(func() {
			_, _ = io.Copy(io.Discard, stdout)
			if err := cmd.Wait(); err != nil {
				t.Errorf("process %d: %v", i, err)
			}
		})
	}
	done := make(chan struct{})
	go func() { wait.Wait(); close(done) }()
	for running := true; running; { // whoever looks on sees whole records only
		select {
		case <-done:
			running = false
		default:
			list(t, s)
		}
	}
	if got := files(t, s); !slices.Equal(got, []string{"last", "lock"}) {
		t.Fatalf("files %v", got)
	}
}

func TestGoroutines(t *testing.T) {
	s := newStore(t)
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			for j := range 3 {
				if _, err := s.Add(t.Context(), attachment(fmt.Sprintf("g%d-%d", i, j)), blocks("10.244.1.0/27")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	seen := make(map[netip.Addr]bool)
	for _, a := range list(t, s) {
		seen[a.Addresses[0]] = true
	}
	if len(seen) != 24 {
		t.Fatalf("%d addresses are held; want 24", len(seen))
	}
}

// TestLockIsWaitedFor has another process hold the lock: a call waits as long as it may, and is done once that is gone.
func TestLockIsWaitedFor(t *testing.T) {
	s := newStore(t)
	add(t, s, "first", blocks("10.244.1.0/24"))
	cmd, stdout := child(t, "stop", s.dir, "Add", "1")
	if line, err := stdout.ReadString('\n'); line != "sweep\n" {
		t.Fatalf("the child says %q, error %v", line, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := call(ctx, s, "Add"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "fuser "+s.dir+"/lock") {
		t.Fatalf("error %v", err)
	}
	if _, found, err := s.Get(Key{"first", "eth0"}); !found || err != nil { // reading does not wait
		t.Fatalf("found %v, error %v", found, err)
	}
	done := make(chan error, 1)
	go func() { done <- call(t.Context(), s, "Add") }()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the lock of a process that was killed is still held")
	}
}

// TestLockOfAnotherDirectory removes the directory while a call waits for its lock, and makes it again.
func TestLockOfAnotherDirectory(t *testing.T) {
	s := newStore(t)
	add(t, s, "first", blocks("10.244.1.0/24"))
	old, err := s.acquire(false, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if err := s.confirm(old); !errors.Is(err, errReplaced) {
		t.Fatalf("the lock of a directory that is gone: error %v", err)
	}
	add(t, s, "second", blocks("10.244.1.0/24"))
	if err := s.confirm(old); !errors.Is(err, errReplaced) {
		t.Fatalf("the lock of a directory with another in its place: error %v", err)
	}
}
