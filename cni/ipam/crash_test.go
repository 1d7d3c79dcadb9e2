package ipam

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestKilledAtWork kills processes whenever it comes. What they were told that they have is on record; at most one
// attachment besides, of the call that was cut short.
func TestKilledAtWork(t *testing.T) {
	s := newStore(t)
	for i := range 20 {
		cmd, stdout := child(t, "churn", s.dir, fmt.Sprint("k", i), "1000", t.TempDir())
		held := make(map[string]bool)
		read := func() bool {
			line, err := stdout.ReadString('\n')
			sign, container, _ := strings.Cut(strings.TrimSpace(line), " ")
			held[container] = sign == "+"
			return err == nil
		}
		for range 3 + i {
			if !read() {
				t.Fatal("the child has ended early")
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for read() {
		}
		_ = cmd.Wait() // "signal: killed"

		extra := 0
		var keys []Key
		for _, a := range list(t, s) {
			if !held[a.Container] {
				extra++
			}
			delete(held, a.Container)
			keys = append(keys, a.Key())
		}
		for container, missing := range held {
			if missing {
				t.Errorf("%s is not on record", container)
			}
		}
		if extra > 1 {
			t.Errorf("%d attachments are on record that nobody was told of", extra)
		}
		if err := s.Remove(t.Context(), keys...); err != nil {
			t.Fatal(err)
		}
		if got := files(t, s); !slices.Equal(got, []string{"last", "lock"}) {
			t.Fatalf("files %v", got)
		}
	}
}

// stop ends at a step of an Add or Remove: it says so and waits to be killed. args: "Add" or "Remove", step's number.
func stop(dir string, args []string) error {
	at, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	s := Open(dir)
	s.Inject(func(name string) error {
		if at--; at < 0 {
			fmt.Println(name)
			_, err := io.Copy(io.Discard, os.Stdin) // until killed
			return errors.Join(errors.New("not killed"), err)
		}
		return nil
	})
	return call(context.Background(), s, args[0])
}

// call is the Add or Remove that is interrupted.
func call(ctx context.Context, s *Store, verb string) error {
	if verb == "Remove" {
		return s.Remove(ctx, Key{"first", "eth0"})
	}
	_, err := s.Add(ctx, attachment("c1"), blocks("10.244.1.0/24", "fd00:1::/64"))
	return err
}

// steps returns the names of a call's steps in order.
func steps(t *testing.T, verb string) []string {
	t.Helper()
	s := newStore(t)
	add(t, s, "first", blocks("10.244.1.0/24"))
	var names []string
	s.Inject(func(name string) error { names = append(names, name); return nil })
	if err := call(t.Context(), s, verb); err != nil {
		t.Fatal(err)
	}
	return names
}

func TestSteps(t *testing.T) {
	if got, want := strings.Join(steps(t, "Add"), ", "), "lock, sweep, read, write the hint, create the draft, write the draft, sync the draft, rename the draft, sync the directory"; got != want {
		t.Errorf("Add has the steps %s; want %s", got, want)
	}
	if got, want := strings.Join(steps(t, "Remove"), ", "), "lock, sweep, remove, sync the directory"; got != want {
		t.Errorf("Remove has the steps %s; want %s", got, want)
	}
}

// TestKilledAtStep kills a process with SIGKILL before every step. The address is held by a whole record or free, and
// the store goes on.
func TestKilledAtStep(t *testing.T) {
	for _, verb := range []string{"Add", "Remove"} {
		for i, name := range steps(t, verb) {
			t.Run(verb+" "+name, func(t *testing.T) {
				s := newStore(t)
				add(t, s, "first", blocks("10.244.1.0/24"))
				cmd, stdout := child(t, "stop", s.dir, verb, fmt.Sprint(i))
				if line, err := stdout.ReadString('\n'); line != name+"\n" {
					t.Fatalf("the child says %q, error %v", line, err)
				}
				_ = cmd.Process.Kill()
				if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
					t.Fatalf("the child ended with %v", err)
				}
				last := name == "sync the directory"
				resume(t, s, map[string]bool{"first": verb == "Add" || !last, "c1": verb == "Add" && last})
			})
		}
	}
}

// TestFailedAtStep has every step fail: what failed is as if it had not been called.
func TestFailedAtStep(t *testing.T) {
	for _, verb := range []string{"Add", "Remove"} {
		for i, name := range steps(t, verb) {
			t.Run(verb+" "+name, func(t *testing.T) {
				s := newStore(t)
				add(t, s, "first", blocks("10.244.1.0/24"))
				cause := errors.New("the disk is on fire")
				at := i
				s.Inject(func(string) error {
					if at--; at == -1 {
						return cause
					}
					return nil
				})
				if err := call(t.Context(), s, verb); !errors.Is(err, cause) {
					t.Fatalf("error %v", err)
				}
				if got := files(t, s); slices.Contains(got, draftFile) {
					t.Fatalf("files %v", got)
				}
				resume(t, Open(s.dir), map[string]bool{"first": verb == "Add" || name != "sync the directory"})
			})
		}
	}
}

// resume sees that exactly the containers given are on record, and that the store is as good as any other.
func resume(t *testing.T, s *Store, want map[string]bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var got []string
	for _, a := range list(t, s) {
		got = append(got, a.Container)
		if !want[a.Container] || a.Netns != "/run/netns/"+a.Container || len(a.Addresses) == 0 {
			t.Errorf("on record is %+v", a)
		}
	}
	for container := range want {
		if _, found, err := s.Get(Key{container, "eth0"}); found != want[container] || err != nil {
			t.Errorf("%s: found %v, error %v; want %v", container, found, err, want[container])
		}
	}
	if err := s.Remove(ctx); err != nil { // sweeps
		t.Fatal(err)
	}
	if names := files(t, s); slices.Contains(names, draftFile) {
		t.Errorf("files %v", names)
	}
	a, err := s.Add(ctx, attachment("next"), blocks("10.244.1.0/24", "fd00:1::/64"))
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range list(t, s) {
		if other.Container != "next" && slices.ContainsFunc(other.Addresses, func(x netip.Addr) bool { return slices.Contains(a.Addresses, x) }) {
			t.Errorf("%s and %s share an address of %v", other.Container, a.Container, a.Addresses)
		}
	}
	remove(t, s, append(got, "next", "c1")...)
	if names := files(t, s); !slices.Equal(names, []string{"last", "lock"}) {
		t.Errorf("files %v", names)
	}
}
