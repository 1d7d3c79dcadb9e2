package packet_test

import (
	"bytes"
	"testing"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/golden"
	"github.com/weft-net/weft/dataplane/packet/reference"
)

// Every length up to some turns of the loops, at every alignment, and of bytes that
// carry at every step.
func TestChecksumAtAllLengths(t *testing.T) {
	const longest = 300
	random := randomDice(1, longest+8)
	for name, b := range map[string][]byte{"random": random, "ones": bytes.Repeat([]byte{0xff}, longest+8), "zeros": make([]byte, longest+8)} {
		for start := range 8 {
			for n := range longest {
				p := b[start : start+n]
				if got, want := packet.Checksum(p, 0), slowChecksum(p, 0); got != want {
					t.Fatalf("%s, %d bytes from %d: %#04x, want %#04x", name, n, start, got, want)
				}
			}
		}
	}
}

func TestChecksumOK(t *testing.T) {
	for name, want := range map[string]bool{
		"ipv4-tcp": true, "ipv4-udp": true, "ipv4-options": true, "ipv6-tcp": true, "ipv6-udp": true, "ipv6-extension-headers": true,
		"ipv4-icmp-echo": false, "ipv4-empty": false, "ipv6-empty": false, "ipv4-fragment-first": false, "ipv4-fragment-later": false,
	} {
		p := golden.Load(t, name)
		h := parsed(t, p)
		if got := packet.ChecksumOK(p, h); got != want {
			t.Errorf("%s: %v", name, got)
		}
		if !want {
			continue
		}
		for bit := range 8 * (len(p) - h.Transport) {
			p[h.Transport+bit/8] ^= 1 << (bit % 8)
			if packet.ChecksumOK(p, h) {
				t.Errorf("%s: also with bit %d of the transport header turned over", name, bit)
			}
			p[h.Transport+bit/8] ^= 1 << (bit % 8)
		}
	}
}

func TestChecksumOKOfShortPackets(t *testing.T) {
	for protocol, field := range map[uint8]int{packet.ProtocolTCP: 16, packet.ProtocolUDP: 6} {
		for n := range field + 2 {
			p := make([]byte, 20+n)
			h := packet.Header{Protocol: protocol, Transport: 20}
			// The sum would be right.
			rest := uint16(protocol) + uint16(n)
			p[12], p[13] = byte(^rest>>8), byte(^rest)
			if packet.ChecksumOK(p, &h) {
				t.Errorf("protocol %d, %d bytes: OK", protocol, n)
			}
		}
	}
}

func TestChecksumField(t *testing.T) {
	for _, c := range []struct {
		header packet.Header
		want   int
	}{
		{packet.Header{Protocol: packet.ProtocolTCP, Transport: 24}, 40},
		{packet.Header{Protocol: packet.ProtocolUDP, Transport: 40}, 46},
		{packet.Header{Protocol: packet.ProtocolUDP, Transport: 40, Fragment: true}, 0},
		{packet.Header{Protocol: packet.NoNextHeader, Transport: 40}, 0},
	} {
		if got := c.header.ChecksumField(); got != c.want {
			t.Errorf("%+v: %d, want %d", c.header, got, c.want)
		}
	}
}

// A UDP packet whose data are all that a checksum of 0 could mean.
func udpWithSumOfOnes(tb testing.TB, partial bool) []byte {
	f := udpFlow(false)
	p := f.packet(2, false)
	p[28], p[29] = 0, 0
	finish(p, false)
	copy(p[28:], p[26:28]) // now the data cancel the checksum out
	finish(p, partial)
	if !partial && (p[26] != 0xff || p[27] != 0xff) {
		tb.Fatalf("the checksum is %x", p[26:28])
	}
	return p
}

func TestUDPHasAllOnesForZero(t *testing.T) {
	want := udpWithSumOfOnes(t, false)
	p := packet.Packet{Buf: udpWithSumOfOnes(t, true), CsumStart: 20, CsumOffset: 6}
	packet.Complete(&p)
	if !bytes.Equal(p.Buf, want) {
		t.Errorf("Complete: %x, want %x", p.Buf, want)
	}
	if !packet.ChecksumOK(want, parsed(t, want)) {
		t.Error("all ones are not OK")
	}
	want[26], want[27] = 0, 0
	if packet.ChecksumOK(want, parsed(t, want)) {
		t.Error("0 is OK, though it means that there is no checksum")
	}
}

// Any other protocol has 0 for 0.
func TestTCPHasZeroForZero(t *testing.T) {
	f := tcpFlow(false)
	p := f.packet(2, false)
	n := len(p) - 2
	p[n], p[n+1] = 0, 0
	finish(p, false)
	copy(p[n:], p[36:38])
	finish(p, true)
	q := packet.Packet{Buf: p, CsumStart: 20, CsumOffset: 16}
	packet.Complete(&q)
	if p[36] != 0 || p[37] != 0 || !packet.ChecksumOK(p, parsed(t, p)) {
		t.Errorf("the checksum is %x", p[36:38])
	}
}

// A checksum of any protocol, wherever it says.
func TestCompleteAnywhere(t *testing.T) {
	for seed := range uint64(500) {
		d := randomDice(seed, 400)
		start := 20 + d.roll(40)
		offset := d.roll(40)
		b := append(make([]byte, 7), d[:start+offset+2+d.roll(60)]...)
		p := packet.Packet{Buf: b, Start: 7, CsumStart: start, CsumOffset: offset}
		want := reference.Complete(p)
		packet.Complete(&p)
		if !bytes.Equal(p.Data(), want) || p.CsumStart != 0 || p.CsumOffset != 0 {
			t.Errorf("from %d, offset %d: %x, want %x", start, offset, p.Data(), want)
		}
		packet.Complete(&p)
		if !bytes.Equal(p.Data(), want) {
			t.Errorf("a packet without partial checksum was changed")
		}
	}
}
