// Package control is the API by which weft, the command line client, talks to weftd: its types, the client,
// and weftd's end of the socket.
//
// It is HTTP over a Unix socket. Who may write to the socket (mode 0660) may use it.
//
//	GET  /v1/status   Status
//	GET  /v1/peers    PeerList
//	GET  /v1/routes   RouteList
//	GET  /v1/drops    Drops
//	POST /v1/leave    {}
//
// Answers are JSON. An error is {"error": "..."}: one line, meant for the user. Fields may be added; a client
// ignores those it does not know.
package control

import (
	"net/netip"
	"time"
)

const (
	pathStatus = "/v1/status"
	pathPeers  = "/v1/peers"
	pathRoutes = "/v1/routes"
	pathDrops  = "/v1/drops"
	pathLeave  = "/v1/leave"
)

// States of the daemon.
const (
	StateStarting = "starting"
	StateReady    = "ready"   // forwards
	StateFenced   = "fenced"  // withholds this node's pod CIDR: see Status.Reason
	StateLeaving  = "leaving" // has announced its departure
)

// States of a peer.
const (
	PeerUp       = "up"
	PeerGrace    = "grace"    // does not answer; its routes are kept for the grace period
	PeerDown     = "down"     // its routes are withdrawn
	PeerRefused  = "refused"  // what it claims is another's, or cannot be right: see Peer.Reason
	PeerReplaced = "replaced" // another machine has its underlay address now
	PeerLeft     = "left"     // announced its departure
)

// Status is the state of a daemon at one moment. Addresses and prefixes that are not known yet are zero, ""
// in JSON.
type Status struct {
	Version    string       `json:"version"`
	Node       Node         `json:"node"`
	State      string       `json:"state"`
	Reason     string       `json:"reason,omitempty"` // why the state is not "ready"
	Started    time.Time    `json:"started"`
	PodNetwork netip.Prefix `json:"podNetwork"`
	PodCIDR    netip.Prefix `json:"podCIDR"`
	Tun        Tun          `json:"tun"`
	Underlay   Underlay     `json:"underlay"`
	DataPort   uint16       `json:"dataPort"`
	Offload    Offload      `json:"offload"`
	Gossip     Gossip       `json:"gossip"`
	Peers      PeerCount    `json:"peers"`
	Warnings   []string     `json:"warnings"` // what works, but not as well as it should; one line each
}

// Node identifies a node. The ID is its public key in lower-case base32; the name is for people, and need not
// be unique.
type Node struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Tun is the device that pod packets pass.
type Tun struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	MTU     int        `json:"mtu"` // bytes of an inner packet
}

// Underlay is the interface that carries weft's own traffic.
type Underlay struct {
	Interface string     `json:"interface"`
	Address   netip.Addr `json:"address"`
	MTU       int        `json:"mtu"`
	Why       string     `json:"why"` // how it was chosen
}

// Offload is what the kernel does for the packet path.
type Offload struct {
	Workers int               `json:"workers"` // threads that carry packets
	On      []string          `json:"on"`      // what is in use
	Off     map[string]string `json:"off"`     // what is not, and why
}

// Gossip is how this node finds the others.
type Gossip struct {
	Address       netip.AddrPort    `json:"address"`
	Encrypted     bool              `json:"encrypted"`
	Members       int               `json:"members"` // alive, this node included
	KeyMismatches uint64            `json:"keyMismatches"`
	Rejected      map[string]uint64 `json:"rejected"` // records that were refused, by reason
}

// PeerCount counts the other nodes.
type PeerCount struct {
	Known int `json:"known"`
	Up    int `json:"up"`
}

// PeerList is the answer to /v1/peers.
type PeerList struct {
	Peers []Peer `json:"peers"`
}

// Peer is another node.
type Peer struct {
	ID       string         `json:"id"`
	Name     string         `json:"name"`
	State    string         `json:"state"`
	Reason   string         `json:"reason,omitempty"`
	Since    time.Time      `json:"since,omitzero"` // when the state was entered
	Endpoint netip.AddrPort `json:"endpoint"`
	PodCIDRs []netip.Prefix `json:"podCIDRs"`
	Mode     string         `json:"mode"` // encapsulation
	MTU      int            `json:"mtu"`
	Tx       Traffic        `json:"tx"`
	Rx       Traffic        `json:"rx"`
}

// Traffic counts inner packets and their bytes.
type Traffic struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// RouteList is the answer to /v1/routes.
type RouteList struct {
	Routes []Route `json:"routes"`
}

// Route says where packets to a prefix go.
type Route struct {
	Prefix   netip.Prefix   `json:"prefix"`
	Node     string         `json:"node"` // name
	ID       string         `json:"id"`
	Endpoint netip.AddrPort `json:"endpoint"`
	Mode     string         `json:"mode"`
	MTU      int            `json:"mtu"`
	Local    bool           `json:"local"` // this node's own pods; Endpoint, Mode and MTU are zero
}

// Drops accounts for every inner packet. In each direction, received = forwarded + the sum of drops. Counters
// start at zero with the daemon.
type Drops struct {
	Egress   Direction         `json:"egress"`   // from the TUN to peers
	Ingress  Direction         `json:"ingress"`  // from peers to the TUN
	ICMPSent uint64            `json:"icmpSent"` // errors returned to senders, beside the count of Ingress
	Kernel   Kernel            `json:"kernel"`
	Reasons  map[string]string `json:"reasons"` // what a drop reason means, in one line
}

// Direction counts inner packets on their way through the daemon.
type Direction struct {
	Received  uint64            `json:"received"`
	Forwarded uint64            `json:"forwarded"`
	Drops     map[string]uint64 `json:"drops"` // by reason; every reason is present
}

// Unaccounted returns received minus forwarded minus all drops: 0, or else weftd has a bug.
func (d Direction) Unaccounted() int64 {
	n := int64(d.Received) - int64(d.Forwarded)
	for _, dropped := range d.Drops {
		n -= int64(dropped)
	}
	return n
}

// Kernel counts what the kernel dropped before or after the daemon's own counters saw it.
type Kernel struct {
	SocketOverflow uint64 `json:"socketOverflow"` // datagrams; the data socket's buffer was full (SO_RXQ_OVFL)
	TunTxDropped   uint64 `json:"tunTxDropped"`   // packets, a TCP superpacket as one; the TUN's queue to the daemon was full
}
