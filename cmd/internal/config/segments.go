package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Segment is a layer-2 segment that this node is a member of.
type Segment struct {
	Name   string           // 1 to 11 of a-z, 0-9 and '-'; unlike that of any other Segment
	VNI    uint32           // 1 to 2^24-1; unlike that of any other Segment, and the pod network's
	Bridge string           // that its TAP becomes a port of, of no other Segment; "" for none
	MTU    int              // bytes of what follows the Ethernet header, at least 1280; 0: what the underlay leaves
	Flood  int              // frames a second that this node sends to all members, at least 1
	Peers  []netip.AddrPort // VTEPs that do not run weft; apart, and none is this node or a pod
}

const (
	// maxSegments is how many a node's record holds (package membership).
	maxSegments = 64
	// maxSegmentName leaves room for what a TAP's name begins with.
	maxSegmentName = maxLinkName - len(tapPrefix)
	tapPrefix      = "seg-"
	// defaultFlood is far above what hosts ask for at rest, and far below what a loop makes of it.
	defaultFlood = 2000
	// maxFlood is no limit in practice: more than a node sends.
	maxFlood = 1_000_000
	// podBridge is where weft puts pods with WiringBridge (package cni).
	podBridge = "cni0"
)

const segmentExample = "name=office vni=100 bridge=br0"

// Device is the name of the segment's TAP.
func (s *Segment) Device() string { return tapPrefix + s.Name }

// parseSegments reads segments with commas between. An empty text is an empty list.
func parseSegments(text string) ([]Segment, error) {
	var segments []Segment
	for _, text := range splitGroups(text) {
		s, err := parseSegment(text)
		if err != nil {
			return nil, err
		}
		if segments = append(segments, s); len(segments) > maxSegments {
			return nil, fmt.Errorf("has more than %d segments; one node's record has no room for more", maxSegments)
		}
	}
	return segments, nil
}

// parseSegment reads one segment: key=value with spaces between.
func parseSegment(text string) (Segment, error) {
	s := Segment{Flood: defaultFlood}
	given := map[string]bool{}
	for word := range strings.FieldsSeq(text) {
		key, val, ok := strings.Cut(word, "=")
		switch {
		case !ok:
			return s, fmt.Errorf("%q is not key=value; write for instance %s", word, segmentExample)
		case given[key]:
			return s, fmt.Errorf("%q gives %s twice", text, key)
		}
		given[key] = true
		if err := s.set(key, val); err != nil {
			return s, fmt.Errorf("%s: %w", word, err)
		}
	}
	for _, key := range []string{"name", "vni"} {
		if !given[key] {
			return s, fmt.Errorf("%q gives no %s; write for instance %s", text, key, segmentExample)
		}
	}
	return s, nil
}

// set gives one key its value.
func (s *Segment) set(key, text string) (err error) {
	switch key {
	case "name":
		s.Name, err = parseSegmentName(text)
	case "vni":
		if s.VNI, err = parseVNI(text); err == nil && s.VNI == 0 {
			return fmt.Errorf("0 is no segment's; give a number from 1 to %d", maxVNI)
		}
	case "bridge":
		if strings.Contains(text, ",") {
			return errors.New("a segment joins one bridge, whose name has no comma")
		}
		s.Bridge, err = parseLinkName(text)
	case "mtu":
		s.MTU, err = parseMTU(text)
	case "flood":
		if s.Flood, err = strconv.Atoi(text); err != nil || s.Flood < 1 || s.Flood > maxFlood {
			return fmt.Errorf("%q is not a number of frames a second; give a number from 1 to %d", text, maxFlood)
		}
	case "peers":
		s.Peers, err = parseSegmentPeers(text)
	default:
		names := []string{"name", "vni", "bridge", "mtu", "flood", "peers"}
		return fmt.Errorf("unknown key %q%s", key, didYouMean(key, names, "there are "+strings.Join(names, ", ")))
	}
	return err
}

func parseSegmentName(text string) (string, error) {
	bad := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }
	if text == "" || len(text) > maxSegmentName || strings.ContainsFunc(text, bad) {
		return "", fmt.Errorf("%q cannot name a segment: 1 to %d small letters, digits and '-', since its device is called %sNAME", text, maxSegmentName, tapPrefix)
	}
	return text, nil
}

// parseSegmentPeers reads addresses, each with a port or without, with commas between. The port of one without is 0.
func parseSegmentPeers(text string) ([]netip.AddrPort, error) {
	var peers []netip.AddrPort
	if text == "" {
		return nil, nil
	}
	for item := range strings.SplitSeq(text, ",") {
		peer, err := netip.ParseAddrPort(item)
		if err != nil {
			addr, err := netip.ParseAddr(item)
			if err != nil {
				return nil, fmt.Errorf("%q is neither an address nor address:port; write for instance 198.51.100.9 or [2001:db8::9]:4789", item)
			}
			peer = netip.AddrPortFrom(addr, 0)
		} else if peer.Port() == 0 {
			return nil, fmt.Errorf("%q has port 0; give a number from 1 to 65535", item)
		}
		if err := checkNodeAddr(peer.Addr()); err != nil {
			return nil, err
		}
		for _, other := range peers {
			if other.Addr() == peer.Addr() {
				return nil, fmt.Errorf("%s is listed twice; keep one of them", peer.Addr())
			}
		}
		peers = append(peers, peer)
	}
	return peers, nil
}

// validateSegments checks the segments against each other and against this node, and gives their peers the port at
// which this node takes VXLAN, as StaticPeers have it.
func (g *gathering) validateSegments() {
	c := g.cfg
	if g.bad["segments"] {
		return
	}
	for i := range c.Segments {
		s := &c.Segments[i]
		for j, p := range s.Peers {
			if p.Port() == 0 {
				s.Peers[j] = netip.AddrPortFrom(p.Addr(), c.VXLANPort)
			}
		}
		for _, err := range []error{s.checkUnlike(c.Segments[:i]), g.checkSegment(s)} {
			if err != nil {
				g.problem("segments", c.origins["segments"], "%s: %w", s.Name, err)
			}
		}
	}
}

// checkUnlike says what s has in common with one of others. A bridge of two segments would make them one.
func (s *Segment) checkUnlike(others []Segment) error {
	for i := range others {
		switch o := &others[i]; {
		case s.Name == o.Name:
			return errors.New("two segments have this name; give each its own")
		case s.VNI == o.VNI:
			return fmt.Errorf("vni %d is also that of %s; each needs its own", s.VNI, o.Name)
		case s.Bridge != "" && s.Bridge == o.Bridge:
			return fmt.Errorf("bridge %s is also that of %s, and would join the two; each needs its own", s.Bridge, o.Name)
		}
	}
	return nil
}

// checkSegment says what s has that is the pod network's, or this node's.
func (g *gathering) checkSegment(s *Segment) error {
	c := g.cfg
	switch {
	case !g.bad["vni"] && s.VNI == c.VNI:
		return fmt.Errorf("vni %d is the pod network's (%s); give the segment another", s.VNI, c.Source("vni"))
	case !g.bad["tun"] && s.Device() == c.Tun:
		return fmt.Errorf("its device %s is called as the TUN is (%s); give one of the two another name", s.Device(), c.Source("tun"))
	case s.Bridge == podBridge:
		return fmt.Errorf("bridge %s is that of pods with cniWiring bridge, which no segment may leak into; take another bridge", s.Bridge)
	}
	for _, o := range c.Segments {
		if s.Bridge == o.Device() {
			return fmt.Errorf("bridge %s is the device of segment %s, and no bridge", s.Bridge, o.Name)
		}
	}
	for _, p := range c.StaticPeers {
		if !g.bad["staticPeers"] && p.VNI == s.VNI {
			return fmt.Errorf("vni %d is that of static peer %s (%s), which carries pods' packets in it; give the segment another", s.VNI, p.Name, c.Source("staticPeers"))
		}
	}
	for _, p := range s.Peers {
		if p.Addr() == c.Underlay.Addr {
			return fmt.Errorf("peer %s is this node (%s)", p.Addr(), c.Source("underlay"))
		}
		if err := c.checkOutside(p.Addr()); err != nil && !g.bad["podNetwork"] {
			return fmt.Errorf("peer %w", err)
		}
	}
	return nil
}

func formatSegments(segments []Segment) string { return joined(segments, ",") }

// String returns the segment as it is written in a flag.
func (s Segment) String() string {
	words := []string{"name=" + s.Name, "vni=" + formatVNI(s.VNI)}
	if s.Bridge != "" {
		words = append(words, "bridge="+s.Bridge)
	}
	if s.MTU != 0 {
		words = append(words, "mtu="+strconv.Itoa(s.MTU))
	}
	words = append(words, "flood="+strconv.Itoa(s.Flood))
	if len(s.Peers) > 0 {
		words = append(words, "peers="+formatSegmentPeers(s.Peers))
	}
	return strings.Join(words, " ")
}

func formatSegmentPeers(peers []netip.AddrPort) string {
	var texts []string
	for _, p := range peers {
		if p.Port() == 0 {
			texts = append(texts, p.Addr().String())
			continue
		}
		texts = append(texts, p.String())
	}
	return strings.Join(texts, ",")
}
