package config

import "fmt"

// validate checks what the values must satisfy together. Keys that have a problem already are left alone.
// path is the configuration file to name in advice; absent says what to do about it where it does not exist.
func (g *gathering) validate(absent, path string) {
	if g.broken {
		return
	}
	g.validatePods(absent, path)
	g.validateUnderlay()
	g.validateGossip()
	g.validateOffload()
}

func (g *gathering) validatePods(absent, path string) {
	c := g.cfg
	if g.bad["podCIDR"] {
		return
	}
	if !c.PodCIDR.IsValid() {
		if absent != "" {
			path = fmt.Sprintf("%s (%s)", path, absent)
		}
		g.problems = append(g.problems, fmt.Errorf(
			"podCIDR is not set: give this node its own block of %s, for instance `podCIDR: 10.244.1.0/24` in %s, or --pod-cidr, or WEFT_POD_CIDR",
			c.PodNetwork, path))
		return
	}
	if g.bad["podNetwork"] {
		return
	}
	from := g.cfg.origins["podCIDR"]
	switch network := c.PodNetwork; {
	case !network.Overlaps(c.PodCIDR):
		g.problem("podCIDR", from, "%s is outside podNetwork %s (%s)", c.PodCIDR, network, c.Source("podNetwork"))
	case c.PodCIDR.Bits() <= network.Bits():
		g.problem("podCIDR", from, "%s leaves nothing of podNetwork %s (%s) for other nodes; take a smaller block",
			c.PodCIDR, network, c.Source("podNetwork"))
	}
}

// validateUnderlay refuses addresses that would be routed into the overlay they are to carry.
func (g *gathering) validateUnderlay() {
	c := g.cfg
	if g.bad["podNetwork"] {
		return
	}
	if a := c.Underlay.Addr; a.IsValid() && c.PodNetwork.Contains(a) {
		g.problem("underlay", c.origins["underlay"], "%s lies inside podNetwork %s (%s); pods and nodes need networks of their own",
			a, c.PodNetwork, c.Source("podNetwork"))
	}
	if a := c.GossipAddr; a.IsValid() && c.PodNetwork.Contains(a) {
		g.problem("gossipAddr", c.origins["gossipAddr"], "%s lies inside podNetwork %s (%s); pods and nodes need networks of their own",
			a, c.PodNetwork, c.Source("podNetwork"))
	}
}

func (g *gathering) validateGossip() {
	c := g.cfg
	if !g.bad["dataPort"] && !g.bad["gossipPort"] && c.DataPort == c.GossipPort {
		key, other := "dataPort", "gossipPort"
		if c.origins[key].isDefault() {
			key, other = other, key
		}
		g.problem(key, c.origins[key], "%d is also %s (%s); each needs its own port", c.DataPort, other, c.Source(other))
	}
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
