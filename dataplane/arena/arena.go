// Package arena gives a worker its packet memory: one mapping outside Go's heap,
// on huge pages where the kernel has them, made once and carved up. Linux only.
package arena

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size of a huge page on amd64 and arm64 with 4 KiB pages, in bytes.
const hugePage = 2 << 20

// Arena is a mapping that is handed out piece by piece. It belongs to one
// goroutine. The pieces stay valid until Close, and nothing keeps them from
// being used after it.
type Arena struct {
	mapping []byte
	free    []byte
}

// New maps an arena of size bytes, zeroed. A packet of 64 KiB spans 17 pages,
// of which every copy in and out would touch a TLB entry; on a huge page it is one.
func New(size int) (*Arena, error) {
	rounded := (size + hugePage - 1) &^ (hugePage - 1)
	// One more than needed, so that an aligned run of huge pages is in it.
	mapping, err := unix.Mmap(-1, 0, rounded+hugePage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of packet memory: %w", rounded+hugePage, os.NewSyscallError("mmap", err))
	}
	start := -uintptr(unsafe.Pointer(unsafe.SliceData(mapping))) & (hugePage - 1)
	a := &Arena{mapping: mapping, free: mapping[start:][:rounded]}
	// Where the kernel has no huge pages the small ones do as well.
	_ = unix.Madvise(a.free, unix.MADV_HUGEPAGE)
	return a, nil
}

// Take hands out the next size bytes, aligned to a cache line. It panics where
// the arena has no more: how much is needed is known beforehand.
func (a *Arena) Take(size int) []byte {
	const line = 64
	b := a.free[:size:size]
	a.free = a.free[(size+line-1)&^(line-1):]
	return b
}

// Close unmaps the arena.
func (a *Arena) Close() error {
	mapping := a.mapping
	a.mapping, a.free = nil, nil
	if err := unix.Munmap(mapping); err != nil {
		return fmt.Errorf("unmap packet memory: %w", os.NewSyscallError("munmap", err))
	}
	return nil
}
