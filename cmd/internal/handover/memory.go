package handover

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// A memory has two slots, which are written in turn, so that whenever its process is
	// killed one of them is whole. They lie far apart in a file without blocks for what is
	// not written.
	slotSize = 16 << 20

	// slotHeader is a generation of 8 bytes, then the length and the CRC-32 (IEEE 802.3) of the text
	// behind it, 4 bytes each, all big-endian. The CRC covers generation and length too.
	slotHeader = 16
)

// ErrNoMemory is what Read returns where nothing whole was ever written.
var ErrNoMemory = errors.New("there is no whole memory of an earlier process")

// Memory is a text that a process keeps up to date for its successor, in a file of
// memory (memfd_create(2)) that is handed over with the other descriptors. One goroutine
// at a time may use it.
type Memory struct {
	fd         int
	generation uint64
}

// NewMemory makes an empty one.
func NewMemory() (*Memory, error) {
	fd, err := unix.MemfdCreate("weft-memory", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a memory for the next process: %w", os.NewSyscallError("memfd_create", err))
	}
	return &Memory{fd: fd}, nil
}

// AdoptMemory goes on with that of an earlier process. The descriptor is the Memory's.
func AdoptMemory(fd int) *Memory {
	m := &Memory{fd: fd}
	_, m.generation, _ = m.newest()
	return m
}

// FD is the descriptor, which stays the Memory's.
func (m *Memory) FD() int { return m.fd }

// Write makes v, as JSON, what Read returns.
func (m *Memory) Write(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write the memory for the next process: %w", err)
	}
	if len(text) > slotSize-slotHeader {
		return fmt.Errorf("write the memory for the next process: %d bytes are too many", len(text))
	}
	generation := m.generation + 1
	slot := make([]byte, slotHeader, slotHeader+len(text))
	binary.BigEndian.PutUint64(slot, generation)
	binary.BigEndian.PutUint32(slot[8:], uint32(len(text)))
	slot = append(slot, text...)
	binary.BigEndian.PutUint32(slot[12:], checksum(slot))
	for offset := int64(generation%2) * slotSize; len(slot) > 0; {
		n, err := unix.Pwrite(m.fd, slot, offset)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("write the memory for the next process: %w", os.NewSyscallError("pwrite", err))
		}
		n = max(n, 0)
		slot, offset = slot[n:], offset+int64(n)
	}
	m.generation = generation
	return nil
}

// Read fills v, to which the text is as to json.Unmarshal. The error wraps ErrNoMemory
// where there is none.
func (m *Memory) Read(v any) error {
	text, _, err := m.newest()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("read the memory of the process before: %w", err)
	}
	return nil
}

// Close closes it. Copies of its descriptor keep it.
func (m *Memory) Close() error {
	return os.NewSyscallError("close", unix.Close(m.fd))
}

// newest is the whole slot of the higher generation.
func (m *Memory) newest() (text []byte, generation uint64, err error) {
	for i := range int64(2) {
		t, g, ok := m.slot(i * slotSize)
		if ok && g > generation {
			text, generation = t, g
		}
	}
	if generation == 0 {
		return nil, 0, ErrNoMemory
	}
	return text, generation, nil
}

func (m *Memory) slot(offset int64) (text []byte, generation uint64, ok bool) {
	var header [slotHeader]byte
	if n, err := unix.Pread(m.fd, header[:], offset); err != nil || n < slotHeader {
		return nil, 0, false
	}
	length := binary.BigEndian.Uint32(header[8:])
	if length > slotSize-slotHeader {
		return nil, 0, false
	}
	slot := make([]byte, slotHeader+int(length))
	if n, err := unix.Pread(m.fd, slot, offset); err != nil || n < len(slot) {
		return nil, 0, false
	}
	if binary.BigEndian.Uint32(slot[12:]) != checksum(slot) {
		return nil, 0, false
	}
	return slot[slotHeader:], binary.BigEndian.Uint64(slot), true
}

// checksum is that of a slot but for the checksum itself.
func checksum(slot []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(slot[:12]), crc32.IEEETable, slot[slotHeader:])
}
