package packet_test

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/golden"
	"github.com/weft-net/weft/dataplane/packet/reference"
)

// ipv6 is a packet from one pod to another.
func ipv6(next uint8, parts ...[]byte) []byte {
	f := tcpFlow(true)
	p := append(f.header()[:40], bytes.Join(parts, nil)...)
	p[6] = next
	p[4], p[5] = byte((len(p)-40)>>8), byte(len(p)-40)
	return p
}

const (
	hopByHop    = 0
	fragment    = 44
	icmp6       = 58
	destination = 60
)

// An extension header or fragment header with what follows it.
func extension(next uint8) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }

func fragmentHeader(next, offset uint8, more bool) []byte {
	b := []byte{next, 0, offset >> 5, offset << 3, 0, 0, 0, 9}
	if more {
		b[3] |= 1
	}
	return b
}

func icmp6Message(kind uint8) []byte { return []byte{kind, 0, 1, 2, 0, 1, 0, 1, 'h', 'i'} }

// originals6 are what an ICMPv6 error may and may not answer.
func originals6() map[string][]byte {
	from := func(addr string) []byte {
		p := ipv6(icmp6, icmp6Message(128))
		copy(p[8:], netip.MustParseAddr(addr).AsSlice())
		return p
	}
	to := func(addr string) []byte {
		p := ipv6(icmp6, icmp6Message(128))
		copy(p[24:], netip.MustParseAddr(addr).AsSlice())
		return p
	}
	tcp := make([]byte, 20)
	return map[string][]byte{
		"yes TCP":                                  ipv6(packet.ProtocolTCP, tcp),
		"yes a header alone":                       ipv6(packet.NoNextHeader),
		"yes an echo request":                      ipv6(icmp6, icmp6Message(128)),
		"yes an echo reply":                        ipv6(icmp6, icmp6Message(129)),
		"yes a neighbour advertisement":            ipv6(icmp6, icmp6Message(136)),
		"yes the last type":                        ipv6(icmp6, icmp6Message(255)),
		"no an unreachable":                        ipv6(icmp6, icmp6Message(1)),
		"no a packet too big":                      ipv6(icmp6, icmp6Message(2)),
		"no a type 0":                              ipv6(icmp6, icmp6Message(0)),
		"no an error nobody knows":                 ipv6(icmp6, icmp6Message(127)),
		"no a redirect":                            ipv6(icmp6, icmp6Message(137)),
		"no ICMPv6 without a type":                 ipv6(icmp6),
		"yes an echo behind options":               ipv6(hopByHop, extension(destination), extension(icmp6), icmp6Message(128)),
		"no an error behind options":               ipv6(hopByHop, extension(destination), extension(icmp6), icmp6Message(1)),
		"yes UDP that looks like an error":         ipv6(packet.ProtocolUDP, icmp6Message(1)),
		"yes a first fragment":                     ipv6(fragment, fragmentHeader(packet.ProtocolUDP, 0, true), tcp),
		"no a later fragment":                      ipv6(fragment, fragmentHeader(packet.ProtocolUDP, 1, true), tcp),
		"no the last fragment":                     ipv6(fragment, fragmentHeader(packet.ProtocolUDP, 200, false), tcp),
		"no a later fragment behind options":       ipv6(destination, extension(fragment), fragmentHeader(packet.ProtocolUDP, 1, true), tcp),
		"yes an atomic fragment":                   ipv6(fragment, fragmentHeader(icmp6, 0, false), icmp6Message(128)),
		"no an error in an atomic fragment":        ipv6(fragment, fragmentHeader(icmp6, 0, false), icmp6Message(2)),
		"no an error behind options in a fragment": ipv6(fragment, fragmentHeader(destination, 0, true), extension(icmp6), icmp6Message(2)),
		"no a later fragment in a first one": ipv6(fragment, fragmentHeader(fragment, 0, true),
			fragmentHeader(packet.ProtocolUDP, 1, true), tcp),
		"yes options cut short":             ipv6(destination, extension(icmp6)[:7]),
		"yes a first fragment cut short":    ipv6(fragment, fragmentHeader(destination, 0, true), extension(icmp6)[:7]),
		"yes a global address":              from("2001:db8::1"),
		"no from ::":                        from("::"),
		"no from loopback":                  from("::1"),
		"no from multicast":                 from("ff02::1"),
		"yes from below multicast":          from("feff::1"),
		"no to ::":                          to("::"),
		"no to loopback":                    to("::1"),
		"no to multicast":                   to("ff05::2"),
		"yes to below multicast":            to("feff::1"),
		"no from loopback of the other way": from("::ffff:127.0.0.1"),
	}
}

func TestICMP6ErrorAnswersWhereItMay(t *testing.T) {
	for name, orig := range originals6() {
		want := name[0] == 'y'
		if got := len(icmpError(tunAddr6, orig, packet.NoRoute, 0)) > 0; got != want {
			t.Errorf("%s: answered %v", name, got)
		}
		if got := !forbidden6(orig); got != want {
			t.Errorf("%s: the twin says %v", name, got)
		}
	}
}

// The MTU is in all four bytes, never below what every link takes, and in Packet Too
// Big only.
func TestICMP6ErrorMTU(t *testing.T) {
	orig := golden.Load(t, "ipv6-udp")
	for _, c := range []struct {
		problem packet.Problem
		mtu     int
		want    []byte
	}{
		{packet.TooBig, 1400, []byte{0, 0, 5, 120}},
		{packet.TooBig, 65535, []byte{0, 0, 255, 255}},
		{packet.TooBig, 1279, []byte{0, 0, 5, 0}},
		{packet.TooBig, 0, []byte{0, 0, 5, 0}},
		{packet.NoRoute, 1400, []byte{0, 0, 0, 0}},
	} {
		if got := icmpError(tunAddr6, orig, c.problem, c.mtu)[44:48]; !bytes.Equal(got, c.want) {
			t.Errorf("problem %d, MTU %d: %x, want %x", c.problem, c.mtu, got, c.want)
		}
	}
}

// As much is quoted as fits in the smallest MTU, and what is quoted is the original.
func TestICMP6ErrorQuotes(t *testing.T) {
	for _, n := range []int{0, 1, 1280 - 40 - 8 - 40, 1280 - 40 - 8 - 40 + 1, 9000} {
		orig := ipv6(packet.ProtocolUDP, bytes.Repeat([]byte{7}, n))
		got := icmpError(tunAddr6, orig, packet.TooBig, 1300)
		if want := orig[:min(len(orig), 1232)]; !bytes.Equal(got[48:], want) {
			t.Errorf("of %d bytes %d are quoted, want %d", len(orig), len(got)-48, len(want))
		}
		if want := gopacketICMPError(t, tunAddr6, orig, packet.TooBig, 1300); !bytes.Equal(got, want) {
			t.Errorf("got\n%x, gopacket encodes\n%x", got, want)
		}
	}
}

// forbidden6 says whether RFC 4443 section 2.4 (e), or being a later fragment, forbids
// an answer to orig. It looks into a first fragment as if it were no fragment.
func forbidden6(orig []byte) bool {
	for _, ip := range []net.IP{orig[8:24], orig[24:40]} {
		if ip.IsUnspecified() || ip.IsLoopback() || ip.IsMulticast() {
			return true
		}
	}
	l := reference.Read(orig)
	if l.Fragment {
		header := orig[l.Transport-8 : l.Transport]
		if header[2] > 0 || header[3] > 7 {
			return true
		}
		whole := append(bytes.Clone(orig[:40]), orig[l.Transport:]...)
		whole[6] = l.Protocol
		return forbidden6(whole)
	}
	if l.Protocol != icmp6 {
		return false
	}
	return len(orig) == l.Transport || orig[l.Transport] < 128 || orig[l.Transport] == 137
}
