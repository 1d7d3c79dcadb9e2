package membership

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Limits on the segments of one record. How many hosts there is room for depends on what else is in it: beside
// a certificate and two claims about 50 without addresses, or 30 of one IPv4 address each.
const (
	maxSegments = 64
	maxHostIPs  = 4
)

// Bytes of what a segment and a host take at the least, before base64.
const (
	segmentSize = 4
	hostSize    = 7
)

// The count of a segment's hosts is a byte: a record has no room for more.
const _ = uint(255 - maxPayload*3/4/hostSize)

// Segments are the layer-2 segments that a node is a member of, sorted by VNI.
//
// In JSON it is one string, since hosts as JSON would leave room for a handful of them: in base64 (RFC 4648 section 4,
// without padding) for each segment its VNI (3 bytes, big endian), the count of its hosts (1), and for each host its MAC
// (6), the count of its IPv6 addresses times 16 plus that of its IPv4 addresses (1), these (4 each), and those (16 each).
type Segments []SegmentClaim

// SegmentClaim says that a node is a member of a layer-2 segment, and what is there on it.
type SegmentClaim struct {
	VNI uint32 // 24 bits, not 0
	// Hosts are some of those that the node has, sorted by MAC: what is not in here may yet be there.
	Hosts []SegmentHost
}

// SegmentHost is an Ethernet address that a node hosts.
type SegmentHost struct {
	MAC [6]byte      // unicast
	IPs []netip.Addr // that it uses, sorted; at most 4
}

// Find returns the claim to a segment, and whether there is one.
func (s Segments) Find(vni uint32) (SegmentClaim, bool) {
	i, found := slices.BinarySearchFunc(s, vni, func(c SegmentClaim, vni uint32) int { return cmp.Compare(c.VNI, vni) })
	if !found {
		return SegmentClaim{}, false
	}
	return s[i], true
}

// MarshalText never fails on what validate accepts.
func (s Segments) MarshalText() ([]byte, error) {
	bin := make([]byte, 0, s.size())
	for _, c := range s {
		bin = append(bin, byte(c.VNI>>16), byte(c.VNI>>8), byte(c.VNI), byte(len(c.Hosts)))
		for _, h := range c.Hosts {
			bin = append(append(bin, h.MAC[:]...), h.families())
			for _, ip := range h.IPs {
				bin = append(bin, ip.AsSlice()...)
			}
		}
	}
	return base64.RawStdEncoding.AppendEncode(nil, bin), nil
}

// UnmarshalText takes the one form that MarshalText gives it, and leaves the values to validate.
func (s *Segments) UnmarshalText(text []byte) error {
	bin, err := base64.RawStdEncoding.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("segments: %w", err)
	}
	var all Segments
	for r := (reader{left: bin}); len(r.left) > 0; {
		head := r.next(segmentSize)
		c := SegmentClaim{VNI: uint32(head[0])<<16 | uint32(head[1])<<8 | uint32(head[2])}
		for n := head[3]; n > 0 && !r.short; n-- {
			c.Hosts = append(c.Hosts, r.host())
		}
		all = append(all, c)
	}
	if again, _ := all.MarshalText(); string(again) != string(text) {
		return errors.New("segments: cut off, or not in the shortest form")
	}
	*s = all
	return nil
}

// reader takes bytes from the front. What is not there is zero, and short says so.
type reader struct {
	left  []byte
	short bool
}

func (r *reader) next(n int) []byte {
	if len(r.left) < n {
		r.left, r.short = nil, true
		return make([]byte, n)
	}
	b := r.left[:n]
	r.left = r.left[n:]
	return b
}

func (r *reader) host() (h SegmentHost) {
	h.MAC = [6]byte(r.next(6))
	families := r.next(1)[0]
	for range families & 15 {
		h.IPs = append(h.IPs, netip.AddrFrom4([4]byte(r.next(4))))
	}
	for range families >> 4 {
		h.IPs = append(h.IPs, netip.AddrFrom16([16]byte(r.next(16))))
	}
	return h
}

// families is the byte that says how many addresses follow.
func (h *SegmentHost) families() (n byte) {
	for _, ip := range h.IPs {
		if ip.Is4() {
			n++
		} else {
			n += 16
		}
	}
	return n
}

// size is that of the bytes in base64.
func (s Segments) size() (n int) {
	for _, c := range s {
		n += segmentSize
		for _, h := range c.Hosts {
			n += hostSize
			for _, ip := range h.IPs {
				n += ip.BitLen() / 8
			}
		}
	}
	return n
}

func (s Segments) validate() error {
	if len(s) > maxSegments {
		return fmt.Errorf("%d segments: at most %d", len(s), maxSegments)
	}
	for i, c := range s {
		switch {
		case c.VNI < 1 || c.VNI > maxVNI:
			return fmt.Errorf("segment %d: the VNI is out of range", c.VNI)
		case i > 0 && c.VNI <= s[i-1].VNI:
			return fmt.Errorf("segment %d after %d: want each once, sorted", c.VNI, s[i-1].VNI)
		}
		for j, h := range c.Hosts {
			if j > 0 && compareHosts(h, c.Hosts[j-1]) <= 0 {
				return fmt.Errorf("segment %d: host %x after %x: want each once, sorted", c.VNI, h.MAC, c.Hosts[j-1].MAC)
			}
			if err := h.validate(); err != nil {
				return fmt.Errorf("segment %d: host %x: %w", c.VNI, h.MAC, err)
			}
		}
	}
	return nil
}

func (h *SegmentHost) validate() error {
	if !h.unicast() {
		return errors.New("not the address of one device")
	}
	if len(h.IPs) > maxHostIPs {
		return fmt.Errorf("%d addresses: at most %d", len(h.IPs), maxHostIPs)
	}
	for i, ip := range h.IPs {
		switch {
		case !machines(ip):
			return fmt.Errorf("address %s is not one machine's", ip)
		case i > 0 && ip.Compare(h.IPs[i-1]) <= 0:
			return fmt.Errorf("address %s after %s: want each once, sorted", ip, h.IPs[i-1])
		}
	}
	return nil
}

func (h *SegmentHost) unicast() bool { return h.MAC[0]&1 == 0 && h.MAC != [6]byte{} }

// machines says whether ip can be an address of one machine on a link.
func machines(ip netip.Addr) bool {
	return ip.IsValid() && !ip.Is4In6() && ip.Zone() == "" && (ip.IsGlobalUnicast() || ip.IsLinkLocalUnicast())
}

func compareHosts(a, b SegmentHost) int { return slices.Compare(a.MAC[:], b.MAC[:]) }

func (s Segments) clone() Segments {
	s = slices.Clone(s)
	for i := range s {
		s[i].Hosts = slices.Clone(s[i].Hosts)
		for j := range s[i].Hosts {
			s[i].Hosts[j].IPs = slices.Clone(s[i].Hosts[j].IPs)
		}
	}
	return s
}

func (s Segments) equal(o Segments) bool {
	return slices.EqualFunc(s, o, func(a, b SegmentClaim) bool {
		return a.VNI == b.VNI && slices.EqualFunc(a.Hosts, b.Hosts, func(a, b SegmentHost) bool {
			return a.MAC == b.MAC && slices.Equal(a.IPs, b.IPs)
		})
	})
}
