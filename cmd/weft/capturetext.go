package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/weft-net/weft/cmd/internal/control"
)

// captureText is a packet as one line.
func captureText(st style, c *control.CapturedPacket) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %-3s %s", st.paint(dim, c.Time.Local().Format("15:04:05.000000")), c.Direction, c.Layer)
	if c.Peer != "" {
		b.WriteString(" " + st.paint(bold, printable(c.Peer)))
	}
	b.WriteString(" " + describePacket(c.Data, c.Layer == control.CaptureOuter))
	if c.Segments > 1 {
		b.WriteString(" (" + segments(c) + ")")
	}
	if c.Drop != "" {
		b.WriteString(" " + st.paint(red, "dropped: "+printable(c.Drop)))
	}
	return b.String()
}

// describePacket says what the packet that data begins is; of an outer one also what is inside. The decoders do not
// trust what they read, and panics of theirs end as a layer that failed (gopacket.DecodeOptions).
func describePacket(data []byte, outer bool) string {
	if len(data) == 0 {
		return "no packet"
	}
	first := gopacket.Decoder(layers.LayerTypeIPv4)
	if data[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	return describe(gopacket.NewPacket(data, first, gopacket.NoCopy), outer)
}

func describe(p gopacket.Packet, outer bool) string {
	src, dst, length := addressesOf(p)
	if src == nil {
		return "no IP packet"
	}
	switch t := p.TransportLayer().(type) {
	case *layers.TCP:
		text := fmt.Sprintf("%s > %s tcp [%s] seq %d", withPort(src, uint16(t.SrcPort)), withPort(dst, uint16(t.DstPort)), tcpFlags(t), t.Seq)
		if t.ACK {
			text += fmt.Sprintf(" ack %d", t.Ack)
		}
		return text + fmt.Sprintf(" win %d len %d", t.Window, max(0, length-len(t.Contents)))
	case *layers.UDP:
		text := fmt.Sprintf("%s > %s udp len %d", withPort(src, uint16(t.SrcPort)), withPort(dst, uint16(t.DstPort)), max(0, length-len(t.Contents)))
		if inner := innerPacket(t.Payload); outer && inner != nil {
			text += " | " + describePacket(inner, false)
		}
		return text
	}
	return fmt.Sprintf("%s > %s %s len %d", src, dst, otherProtocol(p), length)
}

// addressesOf are those of the IP header, and how many bytes it says are behind it and its extensions.
func addressesOf(p gopacket.Packet) (src, dst net.IP, length int) {
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4:
		return ip.SrcIP, ip.DstIP, max(0, int(ip.Length)-len(ip.Contents))
	case *layers.IPv6:
		length = int(ip.Length)
		for _, l := range p.Layers() {
			switch l.LayerType() {
			case layers.LayerTypeIPv6HopByHop, layers.LayerTypeIPv6Routing, layers.LayerTypeIPv6Fragment, layers.LayerTypeIPv6Destination:
				length -= len(l.LayerContents())
			}
		}
		return ip.SrcIP, ip.DstIP, max(0, length)
	}
	return nil, nil, 0
}

func withPort(ip net.IP, port uint16) string {
	return net.JoinHostPort(ip.String(), strconv.Itoa(int(port)))
}

// tcpFlags are written as tcpdump does.
func tcpFlags(t *layers.TCP) string {
	var b strings.Builder
	for _, f := range []struct {
		set  bool
		name string
	}{{t.SYN, "S"}, {t.FIN, "F"}, {t.RST, "R"}, {t.PSH, "P"}, {t.URG, "U"}, {t.ECE, "E"}, {t.CWR, "W"}, {t.ACK, "."}} {
		if f.set {
			b.WriteString(f.name)
		}
	}
	return b.String()
}

func otherProtocol(p gopacket.Packet) string {
	if l, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
		return fmt.Sprintf("icmp %s id %d seq %d", l.TypeCode, l.Id, l.Seq)
	}
	if l, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok {
		return "icmp6 " + l.TypeCode.String()
	}
	if ip, ok := p.NetworkLayer().(*layers.IPv4); ok && ip.FragOffset > 0 {
		return fmt.Sprintf("%s fragment at %d", strings.ToLower(ip.Protocol.String()), int(ip.FragOffset)*8)
	}
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4:
		return strings.ToLower(ip.Protocol.String())
	case *layers.IPv6:
		return strings.ToLower(ip.NextHeader.String())
	}
	return ""
}

// innerPacket is what a datagram carries: bare, behind GUE's header of 12 bytes, or in a VXLAN frame. The first byte
// tells them apart: 4 or 6 in its upper half, 2, and 8.
func innerPacket(datagram []byte) []byte {
	const gue, vxlan = 12, 8 + 14
	switch {
	case len(datagram) == 0:
	case datagram[0]>>4 == 4 || datagram[0]>>4 == 6:
		return datagram
	case datagram[0] == 2 && len(datagram) > gue:
		return datagram[gue:]
	case datagram[0]&8 != 0 && len(datagram) > vxlan:
		return datagram[vxlan:]
	}
	return nil
}
