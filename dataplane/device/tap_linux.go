package device

import (
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
)

// MaxReadTAP is what MaxRead is of a TAP's queue: a superpacket of 65535 bytes stands behind
// an Ethernet header there.
const MaxReadTAP = MaxRead + Headroom

const _ = uint(MaxReadTAP - (Headroom + maxLink + MaxPacket + 1)) // as MaxRead shows what was cut off

// TAP is a TAP device, opened as a TUN is, but what its queues read and write are Ethernet
// frames: Packet.Data begins with the Ethernet header, and CsumStart counts from there. VLAN
// tags are in the frame. Each Group that is written has a Link, and counts from behind that.
//
// Its methods but Close and Leave may be called at any time by any goroutine.
type TAP struct{ *tuntap }

// OpenTAP is Open for a TAP. Where neither offload.TSO nor offload.USO is wanted, it is made by
// songgao/water, without virtio-net headers: each read and each write is of one frame, with
// its checksum complete. The kernel gives such a device no superpackets.
func OpenTAP(name string, queues int, want offload.Set) (*TAP, error) {
	return tapOf(open(layer2, name, queues, want, theKernel))
}

// AdoptTAP is Adopt for a TAP. One that was opened with virtio-net headers is unfit for a TAP
// without, and the other way round.
func AdoptTAP(given map[string]int, name string, queues int, want offload.Set) (*TAP, error) {
	return tapOf(adopt(layer2, given, name, queues, want))
}

// ReopenTAP is Reopen for a TAP.
func ReopenTAP(name string, queues int, want offload.Set) (*TAP, error) {
	return tapOf(reopen(layer2, name, queues, want))
}

func tapOf(t *tuntap, err error) (*TAP, error) {
	if err != nil {
		return nil, err
	}
	return &TAP{t}, nil
}

// Inject hands one frame to the kernel, complete and at most MaxPacket bytes behind its
// Ethernet header, beside whoever writes to a queue. The error wraps net.ErrClosed when the
// device was deleted.
func (t *TAP) Inject(frame []byte) error {
	var none [virtioLen]byte
	pieces := []unix.Iovec{piece(none[:]), piece(frame)}
	if !t.header {
		pieces = pieces[1:]
	}
	if errno := writev(t.pairs[0].out, pieces); errno != 0 {
		return t.failed("write", errno)
	}
	return nil
}
