package dataplane

import (
	"bytes"
	"encoding/binary"

	"github.com/weft-net/weft/dataplane/packet"
)

// LoopProbe is what a node sends into its own TAP, and what no other node forwards: where one
// comes out of another node's TAP, the bridges of the two are connected in another way as well.
type LoopProbe struct {
	Node  [32]byte // its ID
	VNI   uint32
	Proof [16]byte // that it is the node's, which the engine does not look at
}

// etherTypeProbe is the first that IEEE 802 leaves to local experiments, as weft's control
// messages have it.
const etherTypeProbe = 0x88b5

// probeMagic tells probes from what others do with that EtherType. Immutable.
var probeMagic = []byte("weft loop probe\x00")

// AppendFrame appends the probe as a frame from the VTEP address mac.
func (p LoopProbe) AppendFrame(dst []byte, mac packet.MAC) []byte {
	dst = append(dst, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	dst = append(dst, mac[:]...)
	dst = binary.BigEndian.AppendUint16(dst, etherTypeProbe)
	dst = append(dst, probeMagic...)
	dst = binary.BigEndian.AppendUint32(dst, p.VNI)
	return append(append(dst, p.Node[:]...), p.Proof[:]...)
}

// parseProbe reads a frame whose EtherType is etherTypeProbe.
func parseProbe(frame []byte, e *packet.Ethernet) (p LoopProbe, ok bool) {
	rest, ok := bytes.CutPrefix(frame[e.Len:], probeMagic)
	if !ok || len(rest) < 4+len(p.Node)+len(p.Proof) {
		return p, false
	}
	p.VNI = binary.BigEndian.Uint32(rest)
	copy(p.Proof[:], rest[4+copy(p.Node[:], rest[4:]):])
	return p, true
}

// mostProbes bounds how many probes are kept, since hosts can forge such.
const mostProbes = 64

// probesKept is for how many seconds one is told of.
const probesKept = 60

// hear takes note of a probe that came out of the TAP.
func (s *station) hear(p LoopProbe, now uint32) {
	if !s.mu.TryLock() { // the next one comes soon
		return
	}
	defer s.mu.Unlock()
	if _, known := s.probes[p]; known || len(s.probes) < mostProbes {
		s.probes[p] = now
	}
}
