package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
)

// defaultNodeCert is the name of this node's certificate in the state directory.
const defaultNodeCert = "node.cert"

// validate checks what the values must satisfy together, and completes those that follow others. Keys that have a
// problem already are left alone.
func (g *gathering) validate() {
	if g.broken {
		return
	}
	g.validatePods()
	g.validateBlockSizes()
	g.validateUnderlay()
	g.validateTunnel()
	g.validatePorts()
	g.validateStaticPeers()
	g.validateSegments()
	g.validateGossip()
	g.validateAuthority()
	g.validateCNI()
	g.validateOffload()
}

func (g *gathering) validatePods() {
	c := g.cfg
	if g.bad["podCIDR"] {
		return
	}
	c.AutoCIDR = len(c.PodCIDRs) == 0
	if g.bad["podNetwork"] {
		return
	}
	for _, block := range c.PodCIDRs {
		if err := c.checkBlock(block); err != nil {
			g.problem("podCIDR", c.origins["podCIDR"], "%w", err)
		}
	}
}

// validateBlockSizes has every part of the pod network hold more blocks than one, where blocks are taken.
func (g *gathering) validateBlockSizes() {
	c := g.cfg
	if g.bad["podCIDR"] {
		return
	}
	for _, of := range []struct {
		key           string
		v4            bool
		size, longest int
	}{{"blockSize4", true, c.BlockSize4, maxBlockSize4}, {"blockSize6", false, c.BlockSize6, maxBlockSize6}} {
		from := c.origins[of.key]
		switch {
		case g.bad[of.key]:
			continue
		case !c.AutoCIDR && !from.isDefault():
			g.problem(of.key, from, "is for podCIDR auto, but podCIDR is %s (%s); remove one of the two", joined(c.PodCIDRs, ", "), c.Source("podCIDR"))
		case c.AutoCIDR && !g.bad["podNetwork"]:
			if err := c.checkBlockSize(of.v4, of.size, of.longest); err != nil {
				g.problem(of.key, from, "%w", err)
			}
		}
	}
}

// checkBlockSize names the part of the pod network that blocks of one family and of size bits are too large for.
func (c *Config) checkBlockSize(v4 bool, size, longest int) error {
	for _, n := range c.PodNetworks {
		switch {
		case n.Addr().Is4() != v4 || n.Bits() < size:
			continue
		case n.Bits() == longest:
			return fmt.Errorf("podNetwork %s (%s) cannot be shared out: the smallest block is a /%d; take a larger network", n, c.Source("podNetwork"), longest)
		}
		return fmt.Errorf("a /%d leaves nothing of podNetwork %s (%s) for other nodes; give a number from %d to %d, or take a larger network",
			size, n, c.Source("podNetwork"), n.Bits()+1, longest)
	}
	return nil
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
	if !g.bad["page"] && !g.bad["metricsAddress"] && clash(c.Page, c.MetricsAddress) {
		g.problem("page", c.origins["page"], "%s is also metricsAddress (%s); each needs its own port", c.Page, c.Source("metricsAddress"))
	}
}

func (g *gathering) validateGossip() {
	c := g.cfg
	if c.Insecure && !g.bad["insecure"] && !c.origins["gossipKeyFile"].isDefault() {
		g.problem("insecure", c.origins["insecure"], "is true, but %s sets gossipKeyFile; remove one of the two",
			c.Source("gossipKeyFile"))
	}
}

// validateAuthority completes where this node's certificate is.
func (g *gathering) validateAuthority() {
	c := g.cfg
	switch from := c.origins["nodeCert"]; {
	case g.bad["clusterCA"] || g.bad["nodeCert"]:
	case c.ClusterCA == "" && !from.isDefault():
		g.problem("nodeCert", from, "is set, but clusterCA is not; name the public half of the authority that made the certificate, or remove nodeCert")
	case c.ClusterCA != "" && from.isDefault():
		c.NodeCert = filepath.Join(c.StateDir, defaultNodeCert)
	}
}

// validateCNI refuses a wiring that nobody is told of.
func (g *gathering) validateCNI() {
	c := g.cfg
	from := c.origins["cniWiring"]
	if !g.bad["cniWiring"] && !g.bad["cniConfDir"] && c.CNIConfDir == "" && c.CNIWiring != WiringRouted {
		g.problem("cniWiring", from, "is %s, but cniConfDir is not set, so that no runtime is told; set cniConfDir, or remove cniWiring", c.CNIWiring)
	}
}

func (g *gathering) validateOffload() {
	c := g.cfg
	if !g.bad["offload"] && c.Offload == OffloadOff && c.OffloadExcept != 0 {
		g.problem("offloadExcept", c.origins["offloadExcept"], "excepts %s, but offload is off (%s); remove one of the two",
			c.OffloadExcept, c.Source("offload"))
	}
}
