package main

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/net/bpf"
)

const testMarker = 0x0123456789abcdef

// podHeader4 and podHeader6 are those of a packet of this protocol from one of two pods to the other.
func podHeader4(p layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: p, SrcIP: []byte{10, 244, 1, 10}, DstIP: []byte{10, 244, 2, 20}}
}

func podHeader6(p layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: p, SrcIP: netip.MustParseAddr("fd00:1::10").AsSlice(), DstIP: netip.MustParseAddr("fd00:2::20").AsSlice()}
}

// layered is a packet of these layers.
func layered(tb testing.TB, all ...gopacket.SerializableLayer) []byte {
	tb.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, all...); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// markedPackets are those that bear payload as a probe, or what came of one, does, by what they are.
func markedPackets(tb testing.TB, payload []byte) map[string][]byte {
	udp := &layers.UDP{SrcPort: 40000, DstPort: tracePort}
	echoed := &layers.UDP{SrcPort: tracePort, DstPort: 40000}
	data := gopacket.Payload(payload)
	probe4 := layered(tb, podHeader4(layers.IPProtocolUDP), udp, data)
	probe6 := layered(tb, podHeader6(layers.IPProtocolUDP), udp, data)
	port4, port6 := layers.CreateICMPv4TypeCode(3, 3), layers.CreateICMPv6TypeCode(1, 4)
	return map[string][]byte{
		"probe4":  probe4,
		"probe6":  probe6,
		"echo4":   layered(tb, podHeader4(layers.IPProtocolUDP), echoed, data),
		"padded4": append(bytes.Clone(probe4), 0, 0),
		"error4":  layered(tb, podHeader4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: port4}, gopacket.Payload(probe4)),
		"error6":  layered(tb, podHeader6(layers.IPProtocolICMPv6), &layers.ICMPv6{TypeCode: port6}, gopacket.Payload(append(make([]byte, 4), probe6...))),
	}
}

func markerVM(tb testing.TB) *bpf.VM {
	tb.Helper()
	vm, err := bpf.NewVM(markerFilter(markerBytes(testMarker)))
	if err != nil {
		tb.Fatal(err)
	}
	return vm
}

// The filter lets through what bears the marker, and that is told apart; it lets nothing else through.
func TestMarkerFilter(t *testing.T) {
	vm := markerVM(t)
	passes := func(data []byte) bool {
		n, err := vm.Run(data)
		return err == nil && n > 0
	}
	pod4, pod6 := netip.MustParseAddr("10.244.1.10"), netip.MustParseAddr("fd00:1::10")
	other4, other6 := netip.MustParseAddr("10.244.2.20"), netip.MustParseAddr("fd00:2::20")
	want := map[string]marked{
		"probe4":  {from: pod4, to: other4, probe: true},
		"padded4": {from: pod4, to: other4, probe: true},
		"probe6":  {from: pod6, to: other6, probe: true},
		"echo4":   {from: pod4, to: other4},
		"error4":  {from: pod4, to: other4, icmp: true, kind: 3, code: 3},
		"error6":  {from: pod6, to: other6, icmp: true, kind: 1, code: 4},
	}
	for name, data := range markedPackets(t, markerBytes(testMarker)) {
		if m, ok := parseMarked(data); !passes(data) || !ok || m != want[name] || !m.tells(m.from) || m.tells(m.to) {
			t.Errorf("%s: passes: %v; read as %+v, %v", name, passes(data), m, ok)
		}
		if name == "padded4" {
			continue
		}
		for n := range data {
			if passes(data[:n]) {
				t.Errorf("the first %d of %d bytes of %s pass", n, len(data), name)
			}
		}
	}
	for name, data := range markedPackets(t, markerBytes(testMarker+1)) {
		if passes(data) {
			t.Errorf("%s with another marker passes", name)
		}
	}
	data := gopacket.Payload(markerBytes(testMarker))
	for name, packet := range map[string][]byte{
		"TCP":         layered(t, podHeader4(layers.IPProtocolTCP), &layers.TCP{DataOffset: 5}, data),
		"GRE":         layered(t, podHeader4(layers.IPProtocolGRE), gopacket.Payload(make([]byte, 8)), data),
		"quoted TCP":  layered(t, podHeader4(layers.IPProtocolICMPv4), &layers.ICMPv4{}, podHeader4(layers.IPProtocolTCP), gopacket.Payload(make([]byte, 8)), data),
		"behind data": layered(t, podHeader4(layers.IPProtocolUDP), &layers.UDP{}, gopacket.Payload("x"), data),
	} {
		if passes(packet) {
			t.Errorf("%s passes", name)
		}
	}
}

// What passes the filter can be read, and nothing makes the reader panic.
func FuzzParseMarked(f *testing.F) {
	for _, data := range markedPackets(f, markerBytes(testMarker)) {
		f.Add(data)
	}
	vm := markerVM(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, ok := parseMarked(data)
		if n, err := vm.Run(data); err == nil && n > 0 && !ok {
			t.Errorf("it passes, and cannot be read")
		}
		if ok && (!m.from.IsValid() || m.from.Is4() != m.to.Is4()) {
			t.Errorf("read as %+v", m)
		}
	})
}
