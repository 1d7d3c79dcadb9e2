package packet_test

import (
	"encoding/binary"
	"fmt"
	"math/big"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/weft-net/weft/dataplane/packet"
)

// decoded is what gopacket reads in an IP header.
type decoded struct {
	header packet.Header // without what is about the transport header
	length int           // of the whole packet, as its length field says
}

// decode asks gopacket. err says that gopacket does not like b; what it read by
// then is returned all the same. It panics on some hostile bytes, which is the
// same as not to like them.
func decode(b []byte) (d decoded, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("gopacket panicked: %v", r)
		}
	}()
	if len(b) == 0 {
		return d, fmt.Errorf("nothing to decode")
	}
	switch b[0] >> 4 {
	case 4:
		var ip layers.IPv4
		err = ip.DecodeFromBytes(b, gopacket.NilDecodeFeedback)
		d.header.Src, _ = netip.AddrFromSlice(ip.SrcIP)
		d.header.Dst, _ = netip.AddrFromSlice(ip.DstIP)
		d.header.DSField = ip.TOS
		if len(b) >= 4 {
			// Not ip.Length: gopacket takes 0 for what Windows captures with TSO.
			d.length = int(binary.BigEndian.Uint16(b[2:]))
		}
	case 6:
		var ip layers.IPv6
		err = ip.DecodeFromBytes(b, gopacket.NilDecodeFeedback)
		d.header.Src, _ = netip.AddrFromSlice(ip.SrcIP)
		d.header.Dst, _ = netip.AddrFromSlice(ip.DstIP)
		d.header.DSField = ip.TrafficClass
		d.length = 40 + int(ip.Length)
		if isEmpty6(b) {
			err = nil
		}
	default:
		err = fmt.Errorf("IP version %d", b[0]>>4)
	}
	return d, err
}

// isEmpty6 says whether b is an IPv6 header alone, which RFC 8200 section 4.7
// allows and gopacket takes for a jumbogram gone wrong.
func isEmpty6(b []byte) bool {
	return len(b) == 40 && b[0]>>4 == 6 && b[4]|b[5] == 0 && layers.IPProtocol(b[6]) == layers.IPProtocolNoNextHeader
}

// reserialised decodes the layers of b as far as the first transport header and has
// gopacket encode them again, with lengths and checksums of its own. What a datagram
// carries is no packet of this package's.
func reserialised(tb testing.TB, b []byte) []byte {
	tb.Helper()
	first := layers.LayerTypeIPv4
	if b[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	p := gopacket.NewPacket(b, first, gopacket.Default)
	out := gopacket.NewSerializeBuffer()
	if isEmpty6(b) {
		if err := p.NetworkLayer().(*layers.IPv6).SerializeTo(out, serialiseOptions); err != nil {
			tb.Fatal(err)
		}
		return out.Bytes()
	}
	if e := p.ErrorLayer(); e != nil {
		tb.Fatalf("gopacket: %v", e.Error())
	}
	var all []gopacket.SerializableLayer
	for _, l := range p.Layers() {
		all = append(all, l.(gopacket.SerializableLayer))
		if l, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := l.SetNetworkLayerForChecksum(p.NetworkLayer()); err != nil {
				tb.Fatal(err)
			}
		}
		if t := p.TransportLayer(); t != nil && l.LayerType() == t.LayerType() {
			all = append(all, gopacket.Payload(t.LayerPayload()))
			break
		}
	}
	if err := gopacket.SerializeLayers(out, serialiseOptions, all...); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

var serialiseOptions = gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}

// slowChecksum is RFC 1071 in its own words: the one's complement of the one's
// complement sum of the 16-bit words, which is the sum modulo 2^16 - 1, where 0
// stands for both zeros and only a sum of nothing but zeros is the positive one.
func slowChecksum(b []byte, partial uint32) uint16 {
	if len(b)%2 == 1 {
		b = append(append([]byte(nil), b...), 0)
	}
	sum := new(big.Int).SetUint64(uint64(partial))
	for i := 0; i < len(b); i += 2 {
		sum.Add(sum, big.NewInt(int64(binary.BigEndian.Uint16(b[i:]))))
	}
	if sum.Sign() == 0 {
		return 0xffff
	}
	return 0xffff - uint16(sum.Sub(sum, big.NewInt(1)).Mod(sum, big.NewInt(0xffff)).Uint64()+1)
}

// repaired makes of arbitrary bytes a packet that Parse accepts, where that
// takes no more than a version, lengths and a checksum. Without it a fuzzer
// would spend its life at the header checksum.
func repaired(raw []byte) (p []byte, ok bool) {
	if len(raw) == 0 || len(raw) > 65535 {
		return nil, false
	}
	p = append([]byte(nil), raw...)
	if p[0]>>4 == 6 {
		if len(p) < 40 {
			return nil, false
		}
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
		return p, true
	}
	p[0] = 4<<4 | max(p[0]&0x0f, 5)
	n := int(p[0]&0x0f) * 4
	if len(p) < n {
		return nil, false
	}
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	fixHeaderChecksum(p)
	return p, true
}

// fixHeaderChecksum gives an IPv4 packet the right header checksum.
func fixHeaderChecksum(p []byte) {
	p[10], p[11] = 0, 0
	binary.BigEndian.PutUint16(p[10:], slowChecksum(p[:int(p[0]&0x0f)*4], 0))
}
