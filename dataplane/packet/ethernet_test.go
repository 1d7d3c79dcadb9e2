package packet_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
)

var (
	hostA     = packet.MAC{2, 0, 0, 0, 0, 0xa}
	hostB     = packet.MAC{2, 0, 0, 0, 0, 0xb}
	broadcast = packet.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
)

func frameOf(dst, src packet.MAC, behind ...byte) []byte {
	return slices.Concat(dst[:], src[:], behind)
}

// checkEthernet reads a header in both ways.
func checkEthernet(t *testing.T, frame []byte) (e packet.Ethernet, ok bool) {
	t.Helper()
	before := bytes.Clone(frame)
	want, wantOK := reference.Ethernet(frame)
	if ok = packet.ParseEthernet(frame, &e); ok != wantOK || ok && e != want {
		t.Fatalf("ParseEthernet(%x) = %+v, %v, want %+v, %v", frame, e, ok, want, wantOK)
	}
	if !bytes.Equal(frame, before) {
		t.Fatalf("%x was changed", before)
	}
	return e, ok
}

func TestParseEthernet(t *testing.T) {
	for _, c := range []struct {
		name      string
		frame     []byte
		length    int // 0: refused
		etherType uint16
		vlan      uint32
	}{
		{"IPv4", frameOf(hostB, hostA, 8, 0, 0x45), 14, 0x800, 0},
		{"nothing behind", frameOf(broadcast, hostA, 8, 6), 14, 0x806, 0},
		{"spanning tree, by length", frameOf(packet.MAC{1, 0x80, 0xc2}, hostA, 0, 38, 0x42, 0x42, 3), 14, 38, 0},
		{"a tag, of priority 7", frameOf(hostB, hostA, 0x81, 0, 0xe0, 10, 8, 0), 18, 0x800, 10},
		{"a tag with a priority only", frameOf(hostB, hostA, 0x81, 0, 0xe0, 0, 8, 0), 18, 0x800, 0},
		{"a service tag", frameOf(hostB, hostA, 0x88, 0xa8, 0, 10, 8, 0), 18, 0x800, 0x100a},
		{"two tags", frameOf(hostB, hostA, 0x88, 0xa8, 0, 10, 0x81, 0, 0x1f, 0xff, 0x86, 0xdd), 22, 0x86dd, 0x100a0fff},
		{"three tags", frameOf(hostB, hostA, 0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3, 8, 0), 0, 0, 0},
		{"cut short", frameOf(hostB, hostA, 8), 0, 0, 0},
		{"cut short in the tag", frameOf(hostB, hostA, 0x81, 0, 0, 10, 8), 0, 0, 0},
		{"cut short in the second tag", frameOf(hostB, hostA, 0x81, 0, 0, 10, 0x81, 0, 0), 0, 0, 0},
		{"from all", frameOf(hostB, broadcast, 8, 0), 0, 0, 0},
		{"from a group", frameOf(hostB, packet.MAC{1, 0, 0x5e, 0, 0, 1}, 8, 0), 0, 0, 0},
		{"from nobody", frameOf(hostB, packet.MAC{}, 8, 0), 0, 0, 0},
		{"none", nil, 0, 0, 0},
	} {
		e, ok := checkEthernet(t, c.frame)
		if !ok && c.length > 0 || ok && (e.Len != c.length || e.EtherType != c.etherType || e.VLAN != c.vlan || e.Src != hostA) {
			t.Errorf("%s: %+v, %v", c.name, e, ok)
		}
	}
}

func TestMAC(t *testing.T) {
	if s := hostB.String(); s != "02:00:00:00:00:0b" {
		t.Errorf("%s", s)
	}
	if !broadcast.Multicast() || !(packet.MAC{0x33, 0x33}).Multicast() || hostA.Multicast() {
		t.Error("Multicast is wrong")
	}
}

// An IP packet is read where EtherType and version agree.
func TestParseFrame(t *testing.T) {
	for _, six := range []bool{false, true} {
		f := tcpFlow(six)
		p := f.packet(10, false)
		for etherType, right := range map[uint16]bool{0x0800: !six, 0x86dd: six, 0x0806: false, 0x88b5: false} {
			frame := append(frameOf(hostB, hostA, 0x81, 0, 0, 1, byte(etherType>>8), byte(etherType)), p...)
			e, _ := checkEthernet(t, frame)
			var h packet.Header
			if ok := packet.ParseFrame(frame, &e, &h); ok != right || ok && h != *parsed(t, p) {
				t.Errorf("IPv6 %v, EtherType %#x: %+v, %v", six, etherType, h, ok)
			}
			if packet.ParseFrame(append(frame, 0), &e, &h) {
				t.Errorf("IPv6 %v: padding was taken", six)
			}
			if packet.ParseFrame(frame[:e.Len], &e, &h) {
				t.Errorf("IPv6 %v: nothing was taken", six)
			}
		}
	}
}

func TestParseEthernetAllocatesNothing(t *testing.T) {
	frame := frameOf(hostB, hostA, 0x81, 0, 0, 1, 8, 0)
	var e packet.Ethernet
	if n := testing.AllocsPerRun(1000, func() {
		if !packet.ParseEthernet(frame, &e) {
			t.Error("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParseEthernet(f *testing.F) {
	f.Add(frameOf(hostB, hostA, 8, 0, 0x45))
	f.Add(frameOf(hostB, hostA, 0x88, 0xa8, 0, 10, 0x81, 0, 0x1f, 0xff, 0x86, 0xdd))
	f.Add(frameOf(hostB, hostA, 0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3, 8, 0))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if e, ok := checkEthernet(t, frame); ok {
			var h packet.Header
			packet.ParseFrame(frame, &e, &h)
		}
	})
}
