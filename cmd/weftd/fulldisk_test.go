//go:build netns

package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fullDisk gives m a small disk for its state, and fills it. The file that it returns
// takes the room.
func (m *member) fullDisk() (ballast string) {
	m.c.t.Helper()
	dir := filepath.Join(m.c.Dir(), m.String()+".state")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		m.c.t.Fatal(err)
	}
	if err := unix.Mount("weft-test", dir, "tmpfs", 0, "size=256k"); err != nil {
		m.c.t.Fatal(err)
	}
	m.c.t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			m.c.t.Error(err)
		}
	})
	return filepath.Join(dir, "ballast")
}

func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, io.LimitReader(zeros{}, 1<<20)); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A node whose disk fills up says so, carries on, and saves what it could not once there
// is room again. One that starts on a full disk takes no block that it could not keep.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	a, b, late := c.members[0], c.members[1], c.members[2]
	for _, m := range c.members {
		m.auto(nil)
	}
	a.auto(map[string]string{"bootstrap": "true"})
	ballast := a.fullDisk()
	a.start()
	block := a.held()
	fill(t, ballast)
	b.start()
	from, to := a.podOf(block, 10), b.podOf(b.held(), 20)
	c.reach(from, to)
	s := c.stream(from, to)
	a.warns("no space left on device")
	s.goesOn("the disk of a node is full")
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	a.warnsNoMore("no space left on device")
	a.says("works again", "saved")

	ballast = late.fullDisk()
	fill(t, ballast)
	if status, said := late.attempt(nil); status == 0 || !strings.Contains(said, "no space left on device") ||
		!strings.Contains(said, filepath.Dir(ballast)) || strings.Count(said, "\n") != 1 {
		t.Errorf("on a full disk weftd ends with %d, and says %q", status, said)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	late.start()
	if got := late.held(); got == block {
		t.Errorf("%s has the block of %s", late, a)
	}
	s.goesOn("a node did not start")
}
