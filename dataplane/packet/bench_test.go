package packet_test

import (
	"testing"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/golden"
)

func BenchmarkParse(b *testing.B) {
	for _, name := range []string{"ipv4-tcp", "ipv6-tcp"} {
		p := golden.Load(b, name)
		var h packet.Header
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				packet.ParseInto(p, &h)
			}
		})
	}
}

func BenchmarkFlowHash(b *testing.B) {
	for _, name := range []string{"ipv4-tcp", "ipv6-tcp"} {
		p := golden.Load(b, name)
		h := parsed(b, p)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				h.FlowHash(p)
			}
		})
	}
}

func BenchmarkChecksum(b *testing.B) {
	p := make([]byte, 1400)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		packet.Checksum(p, 0)
	}
}

// The superpackets of all that follows are as full as they come on a path of MTU
// 1450.
const benchmarkSegment, benchmarkSegments = 1398, 46

func benchmarkFlows() map[string]flow {
	return map[string]flow{"tcp4": tcpFlow(false), "tcp6": tcpFlow(true), "udp4": udpFlow(false)}
}

// One operation is one segment.
func BenchmarkPut(b *testing.B) {
	for name, f := range benchmarkFlows() {
		p := f.superpacket(benchmarkSegment*benchmarkSegments, benchmarkSegment)
		h := parsed(b, p.Data())
		arena := make([]byte, 128*benchmarkSegments)
		b.Run(name, func(b *testing.B) {
			var s packet.Segmenter
			i := 0
			for b.Loop() {
				if i == 0 {
					s.Reset(&p, h)
				}
				s.Put(arena[128*i:], i)
				i = (i + 1) % benchmarkSegments
			}
		})
	}
}

// One operation is one packet, its part of Groups and Reset included.
func BenchmarkAdd(b *testing.B) {
	for name, f := range benchmarkFlows() {
		for _, partial := range []bool{true, false} {
			var packets [benchmarkSegments][]byte
			var headers [benchmarkSegments]packet.Header
			for i := range packets {
				packets[i] = f.packet(benchmarkSegment, partial)
				headers[i] = *parsed(b, packets[i])
			}
			m := packet.NewMerger(benchmarkSegments, true, true)
			run := name + " whole"
			if partial {
				run = name + " partial"
			}
			b.Run(run, func(b *testing.B) {
				i := 0
				for b.Loop() {
					m.Add(packets[i], &headers[i], partial)
					if i++; i == benchmarkSegments {
						m.Groups()
						m.Reset()
						i = 0
					}
				}
			})
		}
	}
}

// BenchmarkRepeat is BenchmarkAdd for packets that nobody has parsed.
func BenchmarkRepeat(b *testing.B) {
	for name, f := range benchmarkFlows() {
		var packets [benchmarkSegments][]byte
		var headers [benchmarkSegments]packet.Header
		for i := range packets {
			packets[i] = f.packet(benchmarkSegment, true)
			headers[i] = *parsed(b, packets[i])
		}
		m := packet.NewMerger(benchmarkSegments, true, true)
		b.Run(name, func(b *testing.B) {
			i := 0
			for b.Loop() {
				if i < 2 {
					m.Add(packets[i], &headers[i], true)
				} else if !m.Repeat(packets[i]) {
					b.Fatal("not taken")
				}
				if i++; i == benchmarkSegments {
					m.Groups()
					m.Reset()
					i = 0
				}
			}
		})
	}
}
