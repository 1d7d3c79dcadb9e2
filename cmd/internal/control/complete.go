package control

// The functions here put empty lists and maps in the place of nil ones, so that a program which reads the JSON
// finds [] and {} and never null.

func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

func table[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}

func (s Status) complete() Status {
	s.PodNetworks = list(s.PodNetworks)
	s.PodCIDRs = list(s.PodCIDRs)
	s.Allocation = s.Allocation.complete()
	s.Certificate.CIDRs = list(s.Certificate.CIDRs)
	s.Tun.Addresses = list(s.Tun.Addresses)
	s.Underlay.Addresses = list(s.Underlay.Addresses)
	s.Repairs = table(s.Repairs)
	s.Warnings = list(s.Warnings)
	s.Offload.On = list(s.Offload.On)
	s.Offload.Off = table(s.Offload.Off)
	s.Gossip.Rejected = table(s.Gossip.Rejected)
	return s
}

func (a Allocation) complete() Allocation {
	a.Tentative = list(a.Tentative)
	lost := make([]LostBlock, len(a.Lost))
	for i, b := range a.Lost {
		b.Pods = list(b.Pods)
		lost[i] = b
	}
	a.Lost = lost
	return a
}

func (l PeerList) complete() PeerList {
	peers := make([]Peer, len(l.Peers))
	for i, p := range l.Peers {
		p.PodCIDRs = list(p.PodCIDRs)
		peers[i] = p
	}
	return PeerList{Peers: peers}
}

func (l RouteList) complete() RouteList { return RouteList{Routes: list(l.Routes)} }

func (d Drops) complete() Drops {
	d.Egress.Drops = table(d.Egress.Drops)
	d.Ingress.Drops = table(d.Ingress.Drops)
	d.Reasons = table(d.Reasons)
	return d
}

func (d Diagnosis) complete() Diagnosis {
	return Diagnosis{Findings: list(d.Findings), Checked: list(d.Checked)}
}

func (f Forgotten) complete() Forgotten {
	f.PodCIDRs = list(f.PodCIDRs)
	return f
}
