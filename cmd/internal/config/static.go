package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// StaticPeer is a node that does not run weft: a Linux VXLAN device, flannel, or a router. It gossips nothing and
// answers no probes, so that all that is known of it stands here.
type StaticPeer struct {
	Name     string         // unlike that of any other StaticPeer
	Address  netip.Addr     // on the underlay; unlike that of any other StaticPeer
	PodCIDRs []netip.Prefix // one or more, as of Config; apart from this node's and every other StaticPeer's
	Mode     string         // ModeVXLAN, ModeUDP or ModeDirect
	VTEPMAC  string         // "02:00:00:00:00:09", lower case; "" except with ModeVXLAN
	VNI      uint32         // 24 bits; 0 except with ModeVXLAN
	Port     uint16         // UDP; 0 with ModeDirect
	MTU      int            // bytes of the largest inner packet it takes; 0: this node's
	Source   string         // "/etc/weft/peers.yaml:3"; "" for the key staticPeers
}

// vniUnset stands for this node's own VNI until the whole configuration is known. It does not fit in 24 bits.
const vniUnset = math.MaxUint32

const staticExample = "name=linux1 address=192.0.2.9 podCIDR=10.244.9.0/24 vtepMAC=02:00:00:00:00:09"

// parseStaticPeers reads peers with commas between. An empty text is an empty list.
func parseStaticPeers(s string) ([]StaticPeer, error) {
	var peers []StaticPeer
	for _, text := range splitGroups(s) {
		p, err := parseStaticPeer(text)
		if err != nil {
			return nil, err
		}
		peers = append(peers, p)
	}
	return peers, nil
}

// parseStaticPeer reads one peer: key=value with spaces between.
func parseStaticPeer(s string) (StaticPeer, error) {
	p := StaticPeer{Mode: ModeVXLAN, VNI: vniUnset}
	given := map[string]bool{}
	for word := range strings.FieldsSeq(s) {
		key, text, ok := strings.Cut(word, "=")
		switch {
		case !ok:
			return p, fmt.Errorf("%q is not key=value; write for instance %s", word, staticExample)
		case given[key]:
			return p, fmt.Errorf("%q gives %s twice", s, key)
		}
		given[key] = true
		if err := p.set(key, text); err != nil {
			return p, fmt.Errorf("%s: %w", word, err)
		}
	}
	return p, p.check(s, given)
}

// set gives one key its value.
func (p *StaticPeer) set(key, text string) (err error) {
	switch key {
	case "name":
		p.Name, err = parseNodeName(text)
	case "address":
		if p.Address, err = netip.ParseAddr(text); err != nil {
			return fmt.Errorf("%q is not an address; write for instance 192.0.2.9 or 2001:db8::9", text)
		}
		return checkNodeAddr(p.Address)
	case "podCIDR":
		p.PodCIDRs, err = parsePrefixes(text)
	case "mode":
		if p.Mode, err = parseMode(text); err != nil || p.Mode == ModeAuto {
			return fmt.Errorf("%q is neither vxlan, udp nor direct", text)
		}
	case "vtepMAC":
		p.VTEPMAC, err = parseMAC(text)
	case "vni":
		p.VNI, err = parseVNI(text)
	case "port":
		p.Port, err = parsePort(text)
	case "mtu":
		p.MTU, err = parseMTU(text)
	default:
		names := []string{"name", "address", "podCIDR", "mode", "vtepMAC", "vni", "port", "mtu"}
		return fmt.Errorf("unknown key %q%s", key, didYouMean(key, names, "there are "+strings.Join(names, ", ")))
	}
	return err
}

// parseMAC reads the Ethernet address of one device.
func parseMAC(s string) (string, error) {
	mac, err := net.ParseMAC(s)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 || [6]byte(mac) == [6]byte{} {
		return "", fmt.Errorf("%q is not the MAC address of a device; write for instance 02:00:00:00:00:09", s)
	}
	return mac.String(), nil
}

// check refuses a peer, written as s, that lacks what it needs, or says what its mode has no use for.
func (p *StaticPeer) check(s string, given map[string]bool) error {
	needs, useless := []string{"name", "address", "podCIDR"}, []string{}
	switch p.Mode {
	case ModeVXLAN:
		needs = append(needs, "vtepMAC")
	case ModeUDP:
		useless = append(useless, "vtepMAC", "vni")
	case ModeDirect:
		useless = append(useless, "vtepMAC", "vni", "port")
	}
	for _, key := range needs {
		if !given[key] {
			return fmt.Errorf("%q gives no %s; write for instance %s", s, key, staticExample)
		}
	}
	for _, key := range useless {
		if given[key] {
			return fmt.Errorf("%q gives %s, which mode %s has no use for; remove it", s, key, p.Mode)
		}
	}
	return nil
}

// complete fills in what a peer has in common with this node unless it was given: a VXLAN device sends to the VNI and
// the port at which it receives, and so does flannel's udp backend.
func (p *StaticPeer) complete(c *Config) {
	switch {
	case p.Mode == ModeVXLAN && p.Port == 0:
		p.Port = c.VXLANPort
	case p.Mode == ModeUDP && p.Port == 0:
		p.Port = c.DataPort
	}
	switch {
	case p.Mode != ModeVXLAN:
		p.VNI = 0
	case p.VNI == vniUnset:
		p.VNI = c.VNI
	}
}

// validateStaticPeers checks the peers against each other and against this node.
func (g *gathering) validateStaticPeers() {
	c := g.cfg
	if g.bad["staticPeers"] {
		return
	}
	for i := range c.StaticPeers {
		p := &c.StaticPeers[i]
		p.complete(c)
		if err := c.checkStaticPeer(p, c.StaticPeers[:i], !g.bad["podNetwork"]); err != nil {
			g.problem("staticPeers", c.origins["staticPeers"], "%s: %w", p.Name, err)
		}
	}
}

// checkStaticPeer says what p has that is another's, or cannot be a node's; networks says whether PodNetworks is known.
func (c *Config) checkStaticPeer(p *StaticPeer, others []StaticPeer, networks bool) error {
	if p.Address == c.Underlay.Addr {
		return fmt.Errorf("address %s is this node's own (%s)", p.Address, c.Source("underlay"))
	}
	if err := checkApart(p.PodCIDRs, c.PodCIDRs); err != nil {
		return fmt.Errorf("podCIDR %w, of this node (%s)", err, c.Source("podCIDR"))
	}
	if err := p.checkUnlike(others); err != nil {
		return err
	}
	if !networks {
		return nil
	}
	if err := c.checkOutside(p.Address); err != nil {
		return fmt.Errorf("address %w", err)
	}
	for _, block := range p.PodCIDRs {
		if err := c.checkBlock(block); err != nil {
			return fmt.Errorf("podCIDR %w", err)
		}
	}
	return nil
}

// checkUnlike says what p has in common with one of others.
func (p *StaticPeer) checkUnlike(others []StaticPeer) error {
	for i := range others {
		o := &others[i]
		if p.Name == o.Name {
			return errors.New("two peers have this name; give each its own")
		}
		if p.Address == o.Address {
			return fmt.Errorf("address %s is also that of %s; each needs its own", p.Address, o.Name)
		}
		if err := checkApart(p.PodCIDRs, o.PodCIDRs); err != nil {
			return fmt.Errorf("podCIDR %w, of %s", err, o.Name)
		}
	}
	return nil
}

// checkApart says which of two nodes' blocks overlap.
func checkApart(blocks, others []netip.Prefix) error {
	for _, b := range blocks {
		for _, o := range others {
			if b.Overlaps(o) {
				return fmt.Errorf("%s overlaps %s", b, o)
			}
		}
	}
	return nil
}

func formatStaticPeers(peers []StaticPeer) string { return joined(peers, ",") }

// String returns the peer as it is written in the configuration.
func (p StaticPeer) String() string {
	words := []string{"name=" + p.Name, "address=" + p.Address.String(), "podCIDR=" + formatPrefixes(p.PodCIDRs), "mode=" + p.Mode}
	if p.VTEPMAC != "" {
		words = append(words, "vtepMAC="+p.VTEPMAC)
	}
	if p.Mode == ModeVXLAN && p.VNI != vniUnset {
		words = append(words, "vni="+formatVNI(p.VNI))
	}
	if p.Port != 0 {
		words = append(words, "port="+formatPort(p.Port))
	}
	if p.MTU != 0 {
		words = append(words, "mtu="+strconv.Itoa(p.MTU))
	}
	return strings.Join(words, " ")
}
