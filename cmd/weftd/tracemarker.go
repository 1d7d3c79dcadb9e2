package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// markerMagic begins the payload of a probe, so that a pod's own data is none by chance.
	markerMagic = 0x776566742d747263 // "weft-trc"

	// markedBytes is how much of a marked packet is looked at: more than a probe in an ICMPv6 error.
	markedBytes = 128
)

// markerBytes is the payload of a probe with that marker.
func markerBytes(marker uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, markerMagic), marker)
}

// octet is a byte of a packet, IP header first, that is told by those of its bits that are in mask.
type octet struct {
	at       uint32
	mask, is uint32
}

// shape is a kind of packet, and where it has a marker.
type shape struct {
	octets []octet
	marker uint32
}

// shapes are the kinds that bear a marker: a probe, and an ICMP error that quotes one, whose own headers have no
// options (RFC 791 section 3.1, RFC 792, RFC 8200 section 3, RFC 4443 section 3).
func shapes() []shape {
	const (
		version6 = 0x60
		plain4   = 0x45 // version 4, five words

		protocol4, protocol6 = 9, 6
		header4, header6     = 20, 40
		udp, icmp            = 8, 8 // lengths of their headers, an error's for ICMP
	)
	four := func(at uint32) octet { return octet{at, 0xff, plain4} }
	six := func(at uint32) octet { return octet{at, 0xf0, version6} }
	protocol := func(at, is uint32) octet { return octet{at, 0xff, is} }
	const quoted4, quoted6 = header4 + icmp, header6 + icmp
	return []shape{
		{[]octet{four(0), protocol(protocol4, unix.IPPROTO_UDP)}, header4 + udp},
		{[]octet{six(0), protocol(protocol6, unix.IPPROTO_UDP)}, header6 + udp},
		{[]octet{four(0), protocol(protocol4, unix.IPPROTO_ICMP), four(quoted4), protocol(quoted4+protocol4, unix.IPPROTO_UDP)}, quoted4 + header4 + udp},
		{[]octet{six(0), protocol(protocol6, unix.IPPROTO_ICMPV6), six(quoted6), protocol(quoted6+protocol6, unix.IPPROTO_UDP)}, quoted6 + header6 + udp},
	}
}

// markerFilter lets markedBytes of the packets with the marker of probes with this payload through, and no others. A
// load beyond the end of a packet ends the program, which takes none then (net/core/filter.c): of all shapes, since a packet has one
// at the most.
func markerFilter(payload []byte) (program []bpf.Instruction) {
	for _, s := range shapes() {
		var tests []bpf.Instruction
		for _, o := range s.octets {
			tests = append(tests, bpf.LoadAbsolute{Off: o.at, Size: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: o.mask}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: o.is})
		}
		for i := 0; i < len(payload); i += 4 {
			tests = append(tests, bpf.LoadAbsolute{Off: s.marker + uint32(i), Size: 4}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(payload[i:])})
		}
		for i, t := range tests {
			if jump, ok := t.(bpf.JumpIf); ok {
				jump.SkipTrue = uint8(len(tests) - i) // to behind this shape's RetConstant
				tests[i] = jump
			}
		}
		program = append(append(program, tests...), bpf.RetConstant{Val: markedBytes})
	}
	return append(program, bpf.RetConstant{Val: 0})
}

// marked is a packet that bears a marker.
type marked struct {
	from, to   netip.Addr
	probe      bool // else what came of one
	icmp       bool // an ICMP or ICMPv6 error; else UDP
	kind, code byte // of that error
}

// parseMarked reads a packet that has passed markerFilter, IP header first. A frame's padding may follow it.
func parseMarked(data []byte) (m marked, ok bool) {
	var protocol byte
	switch {
	case len(data) >= 24 && data[0]>>4 == 4:
		m.from, m.to, protocol = netip.AddrFrom4([4]byte(data[12:])), netip.AddrFrom4([4]byte(data[16:])), data[9]
		data = data[20:]
	case len(data) >= 44 && data[0]>>4 == 6:
		m.from, m.to, protocol = netip.AddrFrom16([16]byte(data[8:])), netip.AddrFrom16([16]byte(data[24:])), data[6]
		data = data[40:]
	default:
		return m, false
	}
	switch protocol {
	case unix.IPPROTO_UDP:
		m.probe = binary.BigEndian.Uint16(data[2:]) == tracePort
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		m.icmp, m.kind, m.code = true, data[0], data[1]
	default:
		return m, false
	}
	return m, true
}

// tells says whether m, which came of a probe to destination, shows that it arrived: nothing listens on its port there,
// or something does and answers.
func (m *marked) tells(destination netip.Addr) bool {
	const unreachable, port, unreachable6, port6 = 3, 3, 1, 4 // RFC 792, RFC 4443 section 3.1
	kind, code := byte(unreachable), byte(port)
	if m.from.Is6() {
		kind, code = unreachable6, port6
	}
	return m.from == destination && (!m.icmp || m.kind == kind && m.code == code)
}

func (m *marked) String() string {
	if m.icmp {
		return fmt.Sprintf("an ICMP error (type %d, code %d) from %s", m.kind, m.code, m.from)
	}
	return "a packet from " + m.from.String()
}
