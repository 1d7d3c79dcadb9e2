package control

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// leaveStale leaves at path the socket of a daemon that was killed.
func leaveStale(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
}

func TestListen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run", "weft")
	path := filepath.Join(dir, "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]fs.FileMode{path: fs.ModeSocket | 0o660, dir: fs.ModeDir | 0o755} {
		if info, err := os.Stat(p); err != nil || info.Mode() != want {
			t.Errorf("%s: mode is %v, want %v (%v)", p, info.Mode(), want, err)
		}
	}
	if _, err := Listen(path); err == nil || err.Error() != "weftd is already running ("+path+")" {
		t.Errorf("second daemon: got %v", err)
	}
	if conn, err := net.Dial("unix", path); err != nil {
		t.Errorf("the second daemon broke the first: %v", err)
	} else {
		conn.Close()
	}
	l.Close()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestListenOverStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	leaveStale(t, path)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestListenOverFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := "create control socket " + path + ": a file that is no socket is in the way; remove it, or set another socket"
	if _, err := Listen(path); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Errorf("the file is %q now, %v", text, err)
	}
	if _, err := Listen(filepath.Join(path, "s")); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("below a file: got %v", err)
	}
}

// TestListenTogether starts daemons at once over a stale socket: one wins, and none removes its socket.
func TestListenTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for range 5 {
		leaveStale(t, path)
		const daemons = 8
		listeners := make([]net.Listener, daemons)
		var wg sync.WaitGroup
		for i := range daemons {
			wg.Go(func() {
				l, err := Listen(path)
				if err == nil {
					listeners[i] = l
				} else if !strings.HasPrefix(err.Error(), "weftd is already running") {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		won := 0
		for _, l := range listeners {
			if l != nil {
				won++
				t.Cleanup(func() { l.Close() }) // where the test ends here
			}
		}
		if won != 1 {
			t.Fatalf("%d daemons listen", won)
		}
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatalf("the winner's socket is gone: %v", err)
		}
		conn.Close()
		for _, l := range listeners {
			if l != nil {
				l.Close()
			}
		}
	}
}
