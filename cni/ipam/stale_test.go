package ipam

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestStale(t *testing.T) {
	dir := t.TempDir()
	file, fifo, loop := filepath.Join(dir, "file"), filepath.Join(dir, "fifo"), filepath.Join(dir, "loop")
	if err := os.WriteFile(file, nil, 0o600); err != nil { // as under /run/netns after a reboot
		t.Fatal(err)
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		"/proc/self/ns/net": false,
		"/proc/self/ns/mnt": true, // of another kind
		"/proc/self/comm":   true,
		"/dev/null":         true,
		dir + "/absent":     true,
		file + "/below":     true,
		file:                true,
		fifo:                true,
		loop:                true,
		dir:                 true,
	} {
		a := attachment("c1")
		a.Netns = path
		if got, err := a.Stale(); got != want || err != nil {
			t.Errorf("%s: stale %v, error %v; want %v", path, got, err, want)
		}
	}
	a := attachment("c1")
	a.Netns = ""
	if stale, err := a.Stale(); stale || err == nil || !strings.Contains(err.Error(), "c1:eth0") {
		t.Errorf("no path: stale %v, error %v", stale, err)
	}
	a.Netns = "/" + strings.Repeat("a", 300)
	if stale, err := a.Stale(); stale || err == nil {
		t.Errorf("a path that cannot be looked at: stale %v, error %v", stale, err)
	}
}
