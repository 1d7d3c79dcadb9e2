package handover

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// The next process reads what was written last, and the text before where the process was
// killed while it wrote.
func TestMemory(t *testing.T) {
	m, err := NewMemory()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var got string
	if err := m.Read(&got); !errors.Is(err, ErrNoMemory) {
		t.Errorf("an empty one has %q (%v)", got, err)
	}
	read := func(want string) {
		t.Helper()
		fd, err := duplicate(m.FD())
		if err != nil {
			t.Fatal(err)
		}
		next := AdoptMemory(fd)
		defer next.Close()
		if err := next.Read(&got); err != nil || got != want {
			t.Errorf("the next process reads %q (%v), want %q", got, err, want)
		}
	}
	for _, text := range []string{"one", "another, and longer", "third"} {
		if err := m.Write(text); err != nil {
			t.Fatal(err)
		}
		read(text)
	}
	// As far as "third" was written, anything may stand in its place.
	at := int64(m.generation%2) * slotSize
	for i := range int64(slotHeader + len(`"third"`)) {
		var b [1]byte
		if _, err := unix.Pread(m.fd, b[:], at+i); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Pwrite(m.fd, []byte{^b[0]}, at+i); err != nil {
			t.Fatal(err)
		}
		read("another, and longer")
		if _, err := unix.Pwrite(m.fd, b[:], at+i); err != nil {
			t.Fatal(err)
		}
	}
	read("third")

	// Who adopts it goes on behind what was there.
	fd, err := duplicate(m.FD())
	if err != nil {
		t.Fatal(err)
	}
	next := AdoptMemory(fd)
	defer next.Close()
	if err := next.Write("fourth"); err != nil {
		t.Fatal(err)
	}
	read("fourth")
}
