package membership

import (
	"net/netip"
	"slices"
)

// Format is the major version of the record this package writes and reads. Fields
// are added without changing it: an older node ignores them and relays them.
const Format = 1

const (
	// maxVersion is the highest Version accepted: every JSON reader holds it exactly.
	maxVersion = 1 << 53
	// maxClock is how far others' records move a node's clock. A record above it
	// is kept, yet nobody follows it: else one hostile record near maxVersion
	// would leave no version for anyone to publish.
	maxClock = 1 << 52
)

// Limits on one record. All of them fit in MaxEnvelope together in no sensible
// record; it is MaxEnvelope that bounds memory and the gossip packet.
const (
	maxEndpoints = 8
	maxClaims    = 16
	maxTokens    = 16
	maxToken     = 32
	maxName      = 253 // a DNS name, RFC 1035 section 2.3.4 less the root
	maxVNI       = 1<<24 - 1
	maxKeys      = 8
)

// Description is what a node says of itself, apart from its claims.
type Description struct {
	// Name is for people; two nodes may have the same one.
	Name string `json:"name"`
	// Endpoints are the underlay addresses and data ports that reach the node.
	Endpoints []netip.AddrPort `json:"endpoints"`
	// Gossip is where its gossip listens; the zero value when it has none.
	Gossip netip.AddrPort `json:"gossip,omitzero"`
	// Modes are the ways in which it takes packets, the preferred first, of
	// "direct" (not encapsulated), "udp" and "vxlan".
	Modes []string `json:"modes,omitempty"`
	// Capabilities are optional features a sender may use towards it.
	Capabilities []string `json:"capabilities,omitempty"`
	// VTEPMAC is the inner Ethernet address of its VXLAN device, as
	// "02:00:00:00:00:01".
	VTEPMAC string `json:"vtepMAC,omitempty"`
	// VXLANPort is the UDP port on which it takes VXLAN, at the addresses of
	// Endpoints; 0 when it takes none.
	VXLANPort uint16 `json:"vxlanPort,omitempty"`
	// VNI is the one that it takes, 24 bits (RFC 7348 section 5).
	VNI uint32 `json:"vni,omitempty"`
	// MTU is the largest inner packet it takes, in bytes.
	MTU int `json:"mtu"`
	// LinkMTU is the MTU of its underlay link, in bytes; 0 when it does not say.
	LinkMTU int `json:"linkMTU,omitempty"`
	// Segments are the layer-2 segments that it is a member of; in an own record with as many of their hosts as fit.
	Segments Segments `json:"segments,omitempty"`
	// Keys are the fingerprints of the gossip keys that it reads, the one it sends by first.
	Keys []string `json:"keys,omitempty"`
	// Cert is what the cluster's authority says of the node; nil without one.
	Cert *Cert `json:"cert,omitempty"`
}

// Record is all that the cluster knows of one node. A Record handed out by this
// package is shared: its slices must not be changed.
type Record struct {
	Format  int    `json:"format"`
	ID      ID     `json:"id"`
	Version uint64 `json:"version"` // Lamport time of publication
	// Settled says that the node has part in the cluster's history: it began it, or
	// has met one that has. Claims of others are provisional.
	Settled bool `json:"settled,omitempty"`
	Left    bool `json:"left,omitempty"`
	// By is the node that says of ID that it is gone, where that is not ID itself; then
	// Left is set, and nothing but Name is known.
	By     ID      `json:"by,omitzero"`
	Claims []Claim `json:"claims,omitempty"`
	Description
}

// Claim is a pod CIDR that a node holds, and the Version of its record in which it
// was first published.
type Claim struct {
	Prefix netip.Prefix `json:"prefix"`
	Since  uint64       `json:"since"`
	// Tentative says that it is announced and not held yet: it gives way to every
	// claim that is held, and nothing is routed by it.
	Tentative bool `json:"tentative,omitempty"`
}

// author is the node that signs the record.
func (r *Record) author() ID {
	if r.By != (ID{}) {
		return r.By
	}
	return r.ID
}

// since returns when the record first held prefix.
func (r *Record) since(prefix netip.Prefix) (uint64, bool) {
	for _, c := range r.Claims {
		if c.Prefix == prefix {
			return c.Since, true
		}
	}
	return 0, false
}

// shares returns the first underlay address that both records name.
func (r *Record) shares(other *Record) (netip.Addr, bool) {
	for _, e := range r.Endpoints {
		if slices.ContainsFunc(other.Endpoints, func(o netip.AddrPort) bool { return o.Addr() == e.Addr() }) {
			return e.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// clone returns a record whose slices are its own.
func (r Record) clone() Record {
	r.Claims = slices.Clone(r.Claims)
	r.Description = r.Description.clone()
	return r
}

func (d Description) clone() Description {
	d.Endpoints = slices.Clone(d.Endpoints)
	d.Modes = slices.Clone(d.Modes)
	d.Capabilities = slices.Clone(d.Capabilities)
	d.Segments = d.Segments.clone()
	d.Keys = slices.Clone(d.Keys)
	if d.Cert != nil {
		c := d.Cert.clone()
		d.Cert = &c
	}
	return d
}

func (d Description) equal(o Description) bool {
	return d.Name == o.Name && slices.Equal(d.Endpoints, o.Endpoints) && d.Gossip == o.Gossip &&
		slices.Equal(d.Modes, o.Modes) && slices.Equal(d.Capabilities, o.Capabilities) &&
		d.VTEPMAC == o.VTEPMAC && d.VXLANPort == o.VXLANPort && d.VNI == o.VNI &&
		d.MTU == o.MTU && d.LinkMTU == o.LinkMTU && d.Segments.equal(o.Segments) && slices.Equal(d.Keys, o.Keys) && d.Cert.equal(o.Cert)
}
