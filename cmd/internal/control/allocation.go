package control

import "net/netip"

// Allocation is how this node comes by its pod CIDRs.
type Allocation struct {
	Auto       bool           `json:"auto"`              // it takes blocks by itself; else they are configured
	BlockSize4 int            `json:"blockSize4"`        // bits of a block's prefix; 0 where the pod network has no IPv4
	BlockSize6 int            `json:"blockSize6"`        // the same of IPv6
	Waiting    string         `json:"waiting,omitempty"` // why a block is missing, one line; "" where none is
	Tentative  []netip.Prefix `json:"tentative"`         // announced, and not held yet
	Lost       []LostBlock    `json:"lost"`
}

// LostBlock is a block that this node claims and another has.
type LostBlock struct {
	Prefix netip.Prefix `json:"prefix"`
	Winner Node         `json:"winner"`
	Pods   []Pod        `json:"pods"` // that still have addresses in it
}

// Pod is one address that the host routes to a device.
type Pod struct {
	Address netip.Addr `json:"address"`
	Device  string     `json:"device"`
}

// Certificate is what the cluster's authority says of this node.
type Certificate struct {
	Required bool           `json:"required"` // the cluster has an authority, and only nodes with a certificate of it are members
	CIDRs    []netip.Prefix `json:"cidrs"`    // what this node's blocks must be inside of; none means any
}
