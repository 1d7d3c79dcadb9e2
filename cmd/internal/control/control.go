// Package control is the API by which weft, the command line client, talks to weftd: its types, the client,
// and weftd's end of the socket.
//
// It is HTTP over a Unix socket. Who may write to the socket (mode 0660) may use it.
//
//	GET  /v1/status   Status
//	GET  /v1/peers    PeerList
//	GET  /v1/routes   RouteList
//	GET  /v1/drops    Drops
//	GET  /v1/segments SegmentList
//	GET  /v1/ping     Ping; ?node= a name, an ID, or the start of an ID
//	GET  /v1/doctor   Diagnosis
//	GET  /v1/capture  captured packets, a line of JSON each, until the client goes; see CaptureRequest
//	POST /v1/trace    Trace; ?from= and ?to= an address, a pod of this node, or a node
//	POST /v1/bench    BenchStep, one a line, as they come; ?node= as above
//	POST /v1/detach   {}, when the device of a pod is gone; ?device= its name, &netns= the inode number of its network namespace
//	POST /v1/reload   Reloaded
//	POST /v1/leave    {}
//	POST /v1/down     {}
//	POST /v1/forget   Forgotten; ?node= as above
//	GET  /v1/keys     KeyList
//	POST /v1/keys/rotate  KeyList
//	POST /v1/keys/remove  KeyList; ?key= a fingerprint, &force=true
//	GET  /v1/keys/export  GossipKey
//
// Answers are JSON. An error is {"error": "..."}: one line, meant for the user. Fields may be added; a client
// ignores those it does not know.
package control

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"time"
)

const (
	pathStatus = "/v1/status"
	pathPeers  = "/v1/peers"
	pathRoutes = "/v1/routes"
	pathDrops  = "/v1/drops"
	pathPing   = "/v1/ping"
	pathDoctor = "/v1/doctor"
	pathLeave  = "/v1/leave"
	pathDown   = "/v1/down"
	pathForget = "/v1/forget"
)

// States of the daemon.
const (
	StateStarting = "starting"
	StateReady    = "ready"    // forwards
	StateImpaired = "impaired" // the kernel refuses what packets need, routes for instance: see Status.Reason
	StateFenced   = "fenced"   // withholds this node's pod CIDR: see Status.Reason
	StateLeaving  = "leaving"  // has announced its departure
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

// What is known of the data path to a peer.
const (
	DataWorks   = "works"   // probes on the data port are answered
	DataUnknown = "unknown" // no probe was answered yet, or the peer answers none
	DataFails   = "fails"   // probes were answered, or had time enough, and are not
)

// Status is the state of a daemon at one moment. Addresses and prefixes that are not known yet are zero, ""
// in JSON.
type Status struct {
	Version     string            `json:"version"`
	Node        Node              `json:"node"`
	State       string            `json:"state"`
	Reason      string            `json:"reason,omitempty"` // why the state is not "ready"
	Started     time.Time         `json:"started"`
	PodNetworks []netip.Prefix    `json:"podNetworks"`
	PodCIDRs    []netip.Prefix    `json:"podCIDRs"` // for pods of this node: as configured, or with Allocation.Auto those it holds and did not lose
	Allocation  Allocation        `json:"allocation"`
	Settled     bool              `json:"settled"` // has part in the cluster's history: it began it, or met a node that has
	Certificate Certificate       `json:"certificate"`
	Attachments string            `json:"attachments"` // path of the directory with the records of this node's pods
	Tun         Tun               `json:"tun"`
	Underlay    Underlay          `json:"underlay"`
	Mode        string            `json:"mode"`   // as configured: "auto", "direct", "udp" or "vxlan"
	Tunnel      string            `json:"tunnel"` // encapsulation that this node asks its peers for: "udp" or "vxlan"
	DataPort    uint16            `json:"dataPort"`
	VXLAN       VXLAN             `json:"vxlan"`
	Masquerade  bool              `json:"masquerade"` // pods leave the pod network under this node's address
	Firewall    string            `json:"firewall"`   // "check" or "manage"
	Offload     Offload           `json:"offload"`
	Gossip      Gossip            `json:"gossip"`
	Peers       PeerCount         `json:"peers"`
	Repairs     map[string]uint64 `json:"repairs"`  // what other programs took or changed of weft's, and weftd put back, since it started, by kind: link, address, route, rule, sysctl, firewall, guard
	Warnings    []string          `json:"warnings"` // what works, but not as well as it should; one line each
}

// Node identifies a node. The ID is its public key in lower-case base32; the name is for people, and need not
// be unique.
type Node struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Tun is the device that pod packets pass.
type Tun struct {
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses"`
	MTU       int          `json:"mtu"` // bytes of an inner packet
}

// Underlay is the interface that carries weft's own traffic.
type Underlay struct {
	Interface string       `json:"interface"`
	Addresses []netip.Addr `json:"addresses"` // one of a family at the most
	MTU       int          `json:"mtu"`
	Why       string       `json:"why"` // how it was chosen
}

// VXLAN is this node's end of VXLAN (RFC 7348).
type VXLAN struct {
	Port    uint16 `json:"port"` // UDP
	VNI     uint32 `json:"vni"`  // 24 bits
	VTEPMAC string `json:"vtepMAC"`
	Closed  string `json:"closed,omitempty"` // why this node takes no VXLAN; "" while it does
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
	Static   bool           `json:"static"` // does not run weft, and is known from the configuration
	State    string         `json:"state"`
	Reason   string         `json:"reason,omitempty"`
	Since    time.Time      `json:"since,omitzero"` // when the state was entered
	Endpoint netip.AddrPort `json:"endpoint"`       // the one in use
	PodCIDRs []netip.Prefix `json:"podCIDRs"`

	Mode       string       `json:"mode"`          // in use: "direct", "udp", "vxlan", or "" for none
	Why        string       `json:"why,omitempty"` // why this mode, or none; one line
	MTU        int          `json:"mtu"`           // largest inner packet that is sent to it, bytes
	PathMTU    int          `json:"pathMTU"`       // largest outer packet that the path takes, bytes
	PathProven bool         `json:"pathProven"`    // PathMTU was found by probes; else it is what the links at both ends take
	DataPath   string       `json:"dataPath"`      // DataWorks, DataUnknown or DataFails
	RTT        Microseconds `json:"rttUs"`         // of probes on the data port, smoothed; 0 where none is known
	Loss       float64      `json:"loss"`          // of the last probes, 0 to 1

	Tx Traffic `json:"tx"`
	Rx Traffic `json:"rx"`
}

// Microseconds is a duration which in JSON is a number of microseconds, with up to three decimals.
type Microseconds time.Duration

// MarshalJSON never fails.
func (m Microseconds) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(m)/float64(time.Microsecond), 'f', -1, 64), nil
}

// UnmarshalJSON refuses what is no number.
func (m *Microseconds) UnmarshalJSON(text []byte) error {
	us, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return fmt.Errorf("%q is no number of microseconds", text)
	}
	*m = Microseconds(math.Round(us * float64(time.Microsecond)))
	return nil
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
	Mode     string         `json:"mode"` // as of Peer
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
	Spoofed        uint64 `json:"spoofed"`        // packets that the kernel's anti-spoof rules dropped: of directly routed peers, and of pods
}

// Ping is one probe on the data port, sent to a peer the way its pods' packets go, and what became of it.
type Ping struct {
	Node     string         `json:"node"` // name
	ID       string         `json:"id"`
	Endpoint netip.AddrPort `json:"endpoint"`
	Mode     string         `json:"mode"`
	RTT      Microseconds   `json:"rttUs"` // 0 where Lost
	MTU      int            `json:"mtu"`
	PathMTU  int            `json:"pathMTU"`
	Lost     bool           `json:"lost"`
	Reason   string         `json:"reason,omitempty"` // why it was lost, as far as can be told
}

// Forgotten is a node that is gone for good by this node's word.
type Forgotten struct {
	Node     Node           `json:"node"`
	PodCIDRs []netip.Prefix `json:"podCIDRs"` // that it claimed, and that are free by this
}

// Levels of a finding.
const (
	LevelProblem = "problem" // something does not work
	LevelWarning = "warning" // something will not, or not as well as it should
)

// Diagnosis is the answer to /v1/doctor.
type Diagnosis struct {
	Findings []Finding `json:"findings"`
	Checked  []string  `json:"checked"` // what was looked at, found in order or not; a few words each
}

// Finding is one thing that is not as it should be. What and Fix are one line each.
type Finding struct {
	Level string `json:"level"`
	Code  string `json:"code"` // names the check, for programs: stays the same, as W101
	What  string `json:"what"`
	Fix   string `json:"fix"` // what to do about it
}
