package config

import (
	"fmt"
	"net/netip"
)

// validate checks what the values must satisfy together, and completes those that follow others. Keys that have a
// problem already are left alone. path is the configuration file to name in advice; absent says what to do about it
// where it does not exist.
func (g *gathering) validate(absent, path string) {
	if g.broken {
		return
	}
	g.validatePods(absent, path)
	g.validateUnderlay()
	g.validateTunnel()
	g.validatePorts()
	g.validateStaticPeers()
	g.validateGossip()
	g.validateOffload()
}

func (g *gathering) validatePods(absent, path string) {
	c := g.cfg
	if g.bad["podCIDR"] {
		return
	}
	if len(c.PodCIDRs) == 0 {
		if absent != "" {
			path = fmt.Sprintf("%s (%s)", path, absent)
		}
		g.problems = append(g.problems, fmt.Errorf(
			"podCIDR is not set: give this node its own block of %s, for instance `podCIDR: 10.244.1.0/24` in %s, or --pod-cidr, or WEFT_POD_CIDR",
			joined(c.PodNetworks, " or "), path))
		return
	}
	if g.bad["podNetwork"] {
		return
	}
	for _, block := range c.PodCIDRs {
		if err := c.checkBlock(block); err != nil {
			g.problem("podCIDR", c.origins["podCIDR"], "%w", err)
		}
	}
}

// checkBlock says why block cannot be a node's: it must be inside one of the pod networks, and leave some of that.
func (c *Config) checkBlock(block netip.Prefix) error {
	for _, network := range c.PodNetworks {
		switch {
		case !network.Overlaps(block):
			continue
		case block.Bits() <= network.Bits():
			return fmt.Errorf("%s leaves nothing of podNetwork %s (%s) for other nodes; take a smaller block",
				block, network, c.Source("podNetwork"))
		}
		return nil
	}
	return fmt.Errorf("%s is outside podNetwork %s (%s)", block, joined(c.PodNetworks, " and "), c.Source("podNetwork"))
}

// validateUnderlay refuses addresses that would be routed into the overlay they are to carry.
func (g *gathering) validateUnderlay() {
	c := g.cfg
	if g.bad["podNetwork"] {
		return
	}
	if err := c.checkOutside(c.Underlay.Addr); err != nil {
		g.problem("underlay", c.origins["underlay"], "%w", err)
	}
	if err := c.checkOutside(c.GossipAddr); err != nil {
		g.problem("gossipAddr", c.origins["gossipAddr"], "%w", err)
	}
}

// checkOutside says that an address of a node is one of a pod.
func (c *Config) checkOutside(a netip.Addr) error {
	for _, network := range c.PodNetworks {
		if network.Contains(a) {
			return fmt.Errorf("%s lies inside podNetwork %s (%s); pods and nodes need networks of their own", a, network, c.Source("podNetwork"))
		}
	}
	return nil
}

func (g *gathering) validateTunnel() {
	c := g.cfg
	if g.bad["mode"] || g.bad["tunnel"] || c.Mode == ModeAuto {
		return
	}
	switch chosen := !c.origins["tunnel"].isDefault(); {
	case chosen && c.Mode == ModeDirect:
		g.problem("tunnel", c.origins["tunnel"], "is %s, but mode is direct (%s), which never encapsulates; remove one of the two", c.Tunnel, c.Source("mode"))
	case chosen && c.Mode != c.Tunnel:
		g.problem("tunnel", c.origins["tunnel"], "is %s, but mode is %s (%s), which always uses that; remove one of the two", c.Tunnel, c.Mode, c.Source("mode"))
	case c.Mode != ModeDirect:
		c.Tunnel = c.Mode
	}
}

func (g *gathering) validatePorts() {
	c := g.cfg
	ports := []struct {
		key  string
		port uint16
	}{{"dataPort", c.DataPort}, {"vxlanPort", c.VXLANPort}, {"gossipPort", c.GossipPort}}
	for i, a := range ports {
		for _, b := range ports[i+1:] {
			if g.bad[a.key] || g.bad[b.key] || a.port != b.port {
				continue
			}
			key, other := a.key, b.key
			if c.origins[key].isDefault() {
				key, other = other, key
			}
			g.problem(key, c.origins[key], "%d is also %s (%s); each needs its own port", a.port, other, c.Source(other))
		}
	}
}

func (g *gathering) validateGossip() {
	c := g.cfg
	if c.Insecure && !g.bad["insecure"] && !c.origins["gossipKeyFile"].isDefault() {
		g.problem("insecure", c.origins["insecure"], "is true, but %s sets gossipKeyFile; remove one of the two",
			c.Source("gossipKeyFile"))
	}
}

func (g *gathering) validateOffload() {
	c := g.cfg
	if !g.bad["offload"] && c.Offload == OffloadOff && c.OffloadExcept != 0 {
		g.problem("offloadExcept", c.origins["offloadExcept"], "excepts %s, but offload is off (%s); remove one of the two",
			c.OffloadExcept, c.Source("offload"))
	}
}
