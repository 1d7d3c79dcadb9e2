package dataplanetest

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/weft-net/weft/dataplane/device"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
)

// patience bounds every wait for a packet.
const patience = 10 * time.Second

// Device is a queue of a TUN, or of a TAP, in memory. It is a dataplane.Queue.
type Device struct {
	fromKernel *mailbox[packet.Packet]
	toKernel   *mailbox[[]byte]

	mu      sync.Mutex
	refused error // what Write answers, while not nil
	groups  int   // that Write was given
}

// NewDevice makes a device that lives as long as the test.
func NewDevice(t testing.TB) *Device {
	return &Device{fromKernel: newMailbox[packet.Packet](t), toKernel: newMailbox[[]byte](t)}
}

// Send puts a wire packet into the device, as a pod on this node would.
func (d *Device) Send(p []byte) { d.SendSuper(packet.Packet{Buf: p}) }

// SendSuper puts a packet with its metadata into the device.
func (d *Device) SendSuper(p packet.Packet) {
	p.Buf, p.Start = append([]byte(nil), p.Data()...), 0
	d.fromKernel.put(p)
}

// Receive takes the next wire packet that was delivered to this node: superpackets
// are cut and checksums completed, as the kernel would.
func (d *Device) Receive(t testing.TB) []byte {
	t.Helper()
	deadline := time.After(patience)
	for {
		if p, ok, _ := d.toKernel.take(func([]byte) bool { return true }); ok {
			return p
		}
		select {
		case <-d.toKernel.added:
		case <-deadline:
			t.Fatal("no packet was delivered")
		}
	}
}

// Waiting is how many packets were delivered and not yet received.
func (d *Device) Waiting() int { return d.toKernel.len() }

// Groups is how many writes delivered all the packets there were.
func (d *Device) Groups() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.groups
}

// Refuse makes Write refuse every packet with err, until it is nil again.
func (d *Device) Refuse(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused = err
}

// FD is readable while there are packets to read, and once the device is gone.
func (d *Device) FD() int { return d.fromKernel.fd }

// Pending is 0: Read takes one by one.
func (d *Device) Pending() int { return 0 }

// Read takes what is there and fits.
func (d *Device) Read(arena []byte, pkts []packet.Packet) (n int, err error) {
	for n < len(pkts) {
		fits := func(p packet.Packet) bool { return device.Headroom+len(p.Buf) <= len(arena) }
		p, ok, open := d.fromKernel.take(fits)
		if !open {
			return n, net.ErrClosed
		}
		if !ok {
			break
		}
		end := device.Headroom + copy(arena[device.Headroom:], p.Buf)
		p.Buf, p.Start = arena[:end:end], device.Headroom
		pkts[n], arena = p, arena[end:]
		n++
	}
	return n, nil
}

// Write delivers.
func (d *Device) Write(groups []packet.Group) (refused int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range groups {
		if d.refused != nil {
			refused += len(g.Members)
			continue
		}
		d.groups++
		for _, p := range cut(g) {
			d.toKernel.put(append(append([]byte(nil), g.Link...), p...))
		}
	}
	return refused, d.refused
}

// cut makes wire packets of g: what a TAP was given for one is it already.
func cut(g packet.Group) [][]byte {
	if len(g.Members) == 1 && g.CsumStart == 0 {
		return g.Members
	}
	return reference.Segment(whole(g))
}

// whole is the packet that one write of g hands to the kernel.
func whole(g packet.Group) packet.Packet {
	data := append([]byte(nil), g.Header...)
	for _, m := range g.Members {
		data = append(data, m[len(g.Header):]...)
	}
	return packet.Packet{Buf: data, GSO: g.GSO, SegmentSize: g.SegmentSize, CsumStart: g.CsumStart, CsumOffset: g.CsumOffset}
}

// Vanish makes the device behave as one that another program deleted.
func (d *Device) Vanish() { d.fromKernel.shutDown() }
