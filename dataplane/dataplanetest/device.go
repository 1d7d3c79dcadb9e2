package dataplanetest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// spoil is how many bytes behind a packet Write overwrites.
const spoil = 64

// patience bounds every wait for a packet.
const patience = 10 * time.Second

// Device is a TUN in memory. It is a dataplane.Device.
type Device struct {
	fromKernel chan []byte
	toKernel   chan []byte
	closed     chan struct{}
	once       sync.Once
	batch      int

	mu      sync.Mutex
	refused error // what Write answers, while not nil
}

// NewDevice makes a device that hands over up to batch packets in one Read.
func NewDevice(batch int) *Device {
	return &Device{
		fromKernel: make(chan []byte, queued),
		toKernel:   make(chan []byte, queued),
		closed:     make(chan struct{}),
		batch:      batch,
	}
}

// Send puts a packet into the device, as a pod on this node would.
func (d *Device) Send(p []byte) {
	select {
	case d.fromKernel <- append([]byte(nil), p...):
	case <-d.closed:
	}
}

// Receive takes the next packet that was delivered to this node.
func (d *Device) Receive(t testing.TB) []byte {
	t.Helper()
	select {
	case p := <-d.toKernel:
		return p
	case <-time.After(patience):
		t.Fatal("no packet was delivered")
		return nil
	}
}

// Waiting is how many packets were delivered and not yet received.
func (d *Device) Waiting() int { return len(d.toKernel) }

// Refuse makes Write refuse every packet with err, until it is nil again.
func (d *Device) Refuse(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused = err
}

// BatchSize is what NewDevice was given.
func (d *Device) BatchSize() int { return d.batch }

// Read waits for a packet and takes what else is there.
func (d *Device) Read(bufs [][]byte, sizes []int, offset int) (n int, err error) {
	var p []byte
	select {
	case p = <-d.fromKernel:
	case <-d.closed:
		return 0, net.ErrClosed
	}
	for {
		sizes[n] = copy(bufs[n][offset:], p)
		if n++; n == len(bufs) {
			return n, nil
		}
		select {
		case p = <-d.fromKernel:
		default:
			return n, nil
		}
	}
}

// Write delivers, and then spoils the buffers, as a real device may.
func (d *Device) Write(bufs [][]byte, offset int) (lost int, err error) {
	d.mu.Lock()
	refused := d.refused
	d.mu.Unlock()
	if refused != nil {
		return len(bufs), refused
	}
	for i, b := range bufs {
		select {
		case d.toKernel <- append([]byte(nil), b[offset:]...):
		case <-d.closed:
			return len(bufs) - i, net.ErrClosed
		}
		spoilt := b[:min(cap(b), len(b)+spoil)]
		for j := range spoilt {
			spoilt[j] = 0xa5
		}
	}
	return 0, nil
}

// Close ends Read and Write.
func (d *Device) Close() error {
	d.once.Do(func() { close(d.closed) })
	return nil
}
