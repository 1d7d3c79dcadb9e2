package dataplanetest

import (
	"encoding/binary"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// mailbox is a queue without bound whose descriptor can be polled: it is readable
// while there is something to take, or the mailbox is shut.
type mailbox[T any] struct {
	fd int // an eventfd

	mu    sync.Mutex
	items []T
	shut  bool
	added chan struct{} // holds a token after each put
}

// newMailbox makes a mailbox that lives as long as the test.
func newMailbox[T any](t testing.TB) *mailbox[T] {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatalf("make an eventfd: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return &mailbox[T]{fd: fd, added: make(chan struct{}, 1)}
}

func (m *mailbox[T]) put(item T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shut {
		return
	}
	m.items = append(m.items, item)
	m.mark(len(m.items) == 1)
	select {
	case m.added <- struct{}{}:
	default:
	}
}

// take removes the first item that fits, where it is the first at all. open is
// false once the mailbox is shut.
func (m *mailbox[T]) take(fits func(T) bool) (item T, ok, open bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shut || len(m.items) == 0 || !fits(m.items[0]) {
		return item, false, !m.shut
	}
	item = m.items[0]
	if m.items = m.items[1:]; len(m.items) == 0 {
		m.unmark()
	}
	return item, true, true
}

func (m *mailbox[T]) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.items)
}

// shutDown makes the mailbox refuse everything from now on.
func (m *mailbox[T]) shutDown() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shut, m.items = true, nil
	m.mark(true)
}

func (m *mailbox[T]) mark(needed bool) {
	if needed {
		_, _ = unix.Write(m.fd, binary.NativeEndian.AppendUint64(nil, 1))
	}
}

func (m *mailbox[T]) unmark() {
	var count [8]byte
	_, _ = unix.Read(m.fd, count[:])
}
