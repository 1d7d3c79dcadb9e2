package handover

import (
	"encoding/binary"
	"encoding/json"
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

// FuzzMemory has an earlier process leave anything, with a right checksum or without: who adopts it reads JSON or nothing, and
// is read by the next.
func FuzzMemory(f *testing.F) {
	for _, seed := range []string{"", "null", `{"a":[1]}`, "{"} {
		f.Add([]byte(seed), uint64(1), uint32(len(seed)), true)
	}
	f.Add([]byte(`"x"`), uint64(1<<64-1), uint32(1<<32-1), false)
	f.Fuzz(func(t *testing.T, text []byte, generation uint64, length uint32, sealed bool) {
		generation >>= 1 // nobody writes so often that another does not follow
		m, err := NewMemory()
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		slot := make([]byte, slotHeader, slotHeader+len(text))
		binary.BigEndian.PutUint64(slot, generation)
		binary.BigEndian.PutUint32(slot[8:], length)
		slot = append(slot, text...)
		if sealed {
			binary.BigEndian.PutUint32(slot[8:], uint32(len(text)))
			binary.BigEndian.PutUint32(slot[12:], checksum(slot))
		}
		if _, err := unix.Pwrite(m.fd, slot, int64(generation%2)*slotSize); err != nil {
			t.Fatal(err)
		}
		fd, err := duplicate(m.FD())
		if err != nil {
			t.Fatal(err)
		}
		next := AdoptMemory(fd)
		defer next.Close()
		var got any
		if err := next.Read(&got); err == nil && !json.Valid(text) {
			t.Errorf("reads %v of %q", got, text)
		}
		if err := next.Write("next"); err != nil {
			t.Fatal(err)
		}
		if err := next.Read(&got); err != nil || got != "next" {
			t.Errorf("after generation %d reads %v (%v)", generation, got, err)
		}
	})
}
