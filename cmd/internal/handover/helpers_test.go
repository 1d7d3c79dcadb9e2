package handover

import (
	"fmt"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// pair is the two ends of a conversation.
func pair(t testing.TB) (giver, taker *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	end := func(fd int) *net.UnixConn {
		f := os.NewFile(uintptr(fd), "an end")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c.(*net.UnixConn)
	}
	return end(fds[0]), end(fds[1])
}

// files are a Set of count memory files that hold their names, closed with the test.
func files(t testing.TB, count int) Set {
	t.Helper()
	s := make(Set)
	t.Cleanup(func() { s.Close() })
	for i := range count {
		name := fmt.Sprintf("part.%d", i)
		fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		s[name] = fd
		if _, err := unix.Pwrite(fd, []byte(name), 0); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// open is how many descriptors this process has.
func open(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
