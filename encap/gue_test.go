package encap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/weft-net/weft/dataplane/packet/golden"
)

// outer reads a golden underlay packet and returns the datagram in it.
func outer(t *testing.T, name string, first gopacket.Decoder, port layers.UDPPort) []byte {
	t.Helper()
	p := gopacket.NewPacket(golden.Load(t, name), first, gopacket.Default)
	udp, ok := p.Layers()[1].(*layers.UDP)
	if !ok || udp.DstPort != port {
		t.Fatalf("gopacket reads %v", p)
	}
	return udp.Payload
}

// udp is a tunnel of plain UDP.
var udp = &Tunnel{Codec: UDP}

// The golden underlay packets are golden inner packets in UDP, both ways.
func TestUDPIsGUE(t *testing.T) {
	for _, c := range []struct {
		outer, inner string
		first        gopacket.Decoder
		sum          Checksum
		pseudo       uint16 // what the checksum's field holds where it is not complete
	}{
		{"underlay-udp", "ipv4-tcp", layers.LayerTypeIPv4, Checksum{}, 0},
		{"underlay-udp-remote-checksum", "ipv4-tcp", layers.LayerTypeIPv4, Checksum{Start: 20, Field: 36}, 0x192e},
		{"underlay-udp-remote-checksum-ipv6", "ipv6-udp", layers.LayerTypeIPv6, Checksum{Start: 40, Field: 46}, 0xfee5},
	} {
		want, inner := outer(t, c.outer, c.first, 8285), golden.Load(t, c.inner)
		if c.sum != (Checksum{}) {
			binary.BigEndian.PutUint16(inner[c.sum.Field:], c.pseudo)
		}
		buf := append(make([]byte, Headroom), inner...)
		start := udp.Encap(buf, Headroom, c.sum)
		if datagram := buf[start:]; !bytes.Equal(datagram, want) {
			t.Errorf("%s: Encap makes\n%x, the file says\n%x", c.outer, datagram, want)
		}
		if n := Headroom - start; n != udp.Len(c.sum) {
			t.Errorf("%s: Encap wrote %d bytes, Len says %d", c.outer, n, udp.Len(c.sum))
		}
		if got, sum, kind := decapUDP(want); kind != Packet || sum != c.sum || !bytes.Equal(got, inner) {
			t.Errorf("%s: Decap = %v %v\n%x, want %v\n%x", c.outer, kind, sum, got, c.sum, inner)
		}
	}
}

// Of the packet Encap has the first byte alone in a header arena.
func TestEncapInFrontOfAHeader(t *testing.T) {
	want := outer(t, "underlay-udp-remote-checksum", layers.LayerTypeIPv4, 8285)
	buf := append(make([]byte, gueLen), 0x45)
	if start := udp.Encap(buf, gueLen, Checksum{Start: 20, Field: 36}); start != 0 || !bytes.Equal(buf, want[:len(buf)]) {
		t.Errorf("Encap = %d, %x, want 0, %x", start, buf, want[:len(buf)])
	}
}

// The first two bits decide (draft-ietf-intarea-gue-09 section 2).
func TestUDPDecapByFirstBits(t *testing.T) {
	for first := range 256 {
		datagram := []byte{byte(first), 1, 2, 3}
		inner, _, kind := decapUDP(datagram)
		ok := kind == Packet
		if want := first>>6 == 1; ok != want || ok && !bytes.Equal(inner, datagram) {
			t.Errorf("Decap(%x) = %x %v, want ok %v", datagram, inner, ok, want)
		}
	}
	if _, _, kind := decapUDP(nil); kind != Malformed {
		t.Error("Decap accepts an empty datagram")
	}
}

// No bit of the header may differ, nor may it be cut, nor reach beyond the packet.
func TestGUERefuses(t *testing.T) {
	for name, first := range map[string]gopacket.Decoder{
		"underlay-udp-remote-checksum":      layers.LayerTypeIPv4,
		"underlay-udp-remote-checksum-ipv6": layers.LayerTypeIPv6,
	} {
		good := outer(t, name, first, 8285)
		refused := func(what string, datagram []byte) {
			t.Helper()
			if inner, sum, kind := decapUDP(datagram); kind != Malformed || inner != nil {
				t.Errorf("%s: %s: Decap = %x %v %v", name, what, inner, sum, kind)
			}
		}
		for bit := range 8 * 8 {
			if bit == 1 {
				continue // variant 1, whatever follows
			}
			bad := bytes.Clone(good)
			bad[bit/8] ^= 0x80 >> (bit % 8)
			refused(fmt.Sprintf("bit %d of byte %d", bit%8, bit/8), bad)
		}
		for bit := range 4 {
			bad := bytes.Clone(good)
			bad[gueLen] ^= 0x80 >> bit
			refused("another IP version", bad)
			clear(bad[:4])
			refused("another IP version and no header", bad)
		}
		for n := range gueLen + 1 {
			refused(fmt.Sprintf("%d bytes", n), good[:n])
		}
		_, sum, _ := decapUDP(good)
		for _, bad := range []Checksum{{}, {0, sum.Field}, {sum.Field + 1, sum.Field}, {sum.Start, len(good) - gueLen - 1}, {1, 0xffff}, {0xffff, 0xffff}} {
			datagram := bytes.Clone(good)
			binary.BigEndian.PutUint16(datagram[8:], uint16(bad.Start))
			binary.BigEndian.PutUint16(datagram[10:], uint16(bad.Field))
			refused(fmt.Sprint(bad), datagram)
		}
		for _, fine := range []Checksum{{sum.Field, sum.Field}, {1, 2}, {sum.Start, len(good) - gueLen - 2}} {
			datagram := bytes.Clone(good)
			binary.BigEndian.PutUint16(datagram[8:], uint16(fine.Start))
			binary.BigEndian.PutUint16(datagram[10:], uint16(fine.Field))
			if _, got, kind := decapUDP(datagram); kind != Packet || got != fine {
				t.Errorf("%s: Decap = %v %v, want %v", name, got, kind, fine)
			}
		}
	}
}

// A control message is told from any packet by its first word.
func TestGUEControl(t *testing.T) {
	b := udp.AppendControl([]byte("before"), []byte("message"), 20)
	if want := "before\x20\xff\x00\x00message\x00\x00\x00\x00\x00\x00\x00\x00\x00"; string(b) != want {
		t.Errorf("AppendControl = %q, want %q", b, want)
	}
	for bit := range 8 * gueControlLen {
		other := bytes.Clone(b[6:])
		other[bit/8] ^= 0x80 >> (bit % 8)
		if _, _, kind := decapUDP(other); kind == Control {
			t.Errorf("%x is a control message too", other)
		}
	}
	for n := range gueControlLen {
		if _, _, kind := decapUDP(b[6:][:n]); kind != Malformed {
			t.Errorf("%d bytes of a control message are %v", n, kind)
		}
	}
}
