// Package config is weftd's configuration: what can be set, from where, and what is refused.
//
// Every key is defined once, in definitions: its name, default, help text and parser. The YAML file, the
// environment and the command line all feed the same parser, so that a value means the same wherever it is
// written. A later source wins: default, file, environment, flag.
//
//	file         podCIDR: 10.244.1.0/24     (camelCase)
//	environment  WEFT_POD_CIDR=10.244.1.0/24
//	flag         --pod-cidr 10.244.1.0/24
//
// Loading is strict. A key, flag or WEFT_ variable that does not exist is an error with a suggestion, never
// ignored, and all problems of one configuration are reported together.
//
// The package reads the files it is told to and nothing else: the caller passes the environment in.
package config

import (
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/weft-net/weft/dataplane/offload"
)

const (
	// DefaultPath is the configuration file that is read when --config is not given. It may be absent.
	DefaultPath = "/etc/weft/weft.yaml"
	// DefaultSocket is where weftd serves its control API and weft looks for it.
	DefaultSocket = "/run/weft/weft.sock"
	// DefaultStateDir is where weftd keeps what outlives it.
	DefaultStateDir = "/var/lib/weft"
)

// The values of mode.
const (
	ModeAuto   = "auto"   // direct to whom it works, the tunnel to all others
	ModeDirect = "direct" // never encapsulated
	ModeUDP    = TunnelUDP
	ModeVXLAN  = TunnelVXLAN
)

// The values of tunnel.
const (
	TunnelUDP   = "udp"
	TunnelVXLAN = "vxlan"
)

// The values of firewall.
const (
	FirewallCheck  = "check"  // say what would drop pods' packets
	FirewallManage = "manage" // and let them through
)

// The values of offload.
const (
	OffloadAuto = "auto" // what works
	OffloadOn   = "on"   // all, or no start
	OffloadOff  = "off"  // nothing
)

// The values of cniWiring.
const (
	WiringRouted = "routed" // a route to each pod
	WiringBridge = "bridge" // all pods of the node on one bridge
)

// Config is a complete, checked configuration, as Loader.Load returns it. It is not changed after that, so
// that any number of goroutines may read it.
type Config struct {
	NodeName    string         // shown to people; 1 to 63 bytes, printable
	PodNetworks []netip.Prefix // all pods of all nodes; one or more, either family, masked, apart
	AutoCIDR    bool           // this node takes a block of each family by itself; PodCIDRs is nil then
	PodCIDRs    []netip.Prefix // pods of this node; one or more, each inside one of PodNetworks and smaller, masked, apart
	BlockSize4  int            // bits of the prefix of a block that is taken; with AutoCIDR longer than that of any of PodNetworks
	BlockSize6  int            // the same of IPv6
	Underlay    Underlay       // zero: the interface of the default route

	Mode        string       // ModeAuto, ModeDirect, ModeUDP or ModeVXLAN
	Tunnel      string       // TunnelUDP or TunnelVXLAN; Mode's where Mode is one of them
	DataPort    uint16       // UDP
	VXLANPort   uint16       // UDP
	VNI         uint32       // 24 bits
	StaticPeers []StaticPeer // nodes that do not run weft

	Segments []Segment // layer-2 segments that this node is a member of; at most 64

	StaticPeersFile string // more of them; "" for none; see ParseStaticPeersFile

	Masquerade bool   // pods leave the pod network under this node's address
	Firewall   string // FirewallCheck or FirewallManage
	ClampMSS   bool   // lower the MSS in pods' TCP handshakes to what the path takes

	GossipAddr    netip.Addr // zero: the underlay address
	GossipPort    uint16     // UDP and TCP
	Join          []HostPort // nodes to find the others by; empty for the first node
	Bootstrap     bool       // begins a cluster: need not meet another node before it takes a block
	GossipKeyFile string     // see LoadKey; not read when Insecure is set
	Insecure      bool       // gossip without a key
	ClusterCA     string     // file with the public half of the authority whose certificates members need; "" for none
	NodeCert      string     // file with this node's certificate; "" without ClusterCA

	CNIConfDir string // where container runtimes look for networks; "" for none
	CNIBinDir  string // where they look for plugins; "" for none
	CNIWiring  string // WiringRouted or WiringBridge

	Tun           string        // name of the TUN device
	MTU           int           // bytes of an inner packet; 0: the underlay's MTU minus the largest overhead of any mode, aligned
	Offload       string        // OffloadAuto, OffloadOn or OffloadOff
	OffloadExcept offload.Set   // what not to use whatever Offload says
	Workers       int           // threads of the packet path; 0: by the number of CPUs
	DeadGrace     time.Duration // from a peer's death to the withdrawal of its routes
	ForgetAfter   time.Duration // from there to where its blocks are free; at least an hour, or 0: never

	LogLevel  slog.Level
	LogFormat string // "text" or "json"

	MetricsAddress string // TCP, for net.Listen; "": on Socket only
	Pprof          bool   // profiles beside the metrics
	Page           string // of the status page: loopback TCP, for net.Listen, or PageSocket; "": nowhere

	Socket   string // Unix socket of the control API
	StateDir string // identity and peer list, kept across restarts

	origins map[string]origin
}

// Source says where the value of a key (by its YAML name) came from, for messages about a value that only
// proves wrong later: "/etc/weft/weft.yaml:4", "WEFT_UNDERLAY", "--underlay" or "default".
func (c *Config) Source(key string) string { return c.origins[key].String() }

// JoinAddrs returns the join list as host:port, the gossip port filled in where none was given.
func (c *Config) JoinAddrs() []string {
	addrs := make([]string, len(c.Join))
	for i, j := range c.Join {
		if j.Port == 0 {
			j.Port = c.GossipPort
		}
		addrs[i] = j.String()
	}
	return addrs
}

// Underlay names the interface that carries weft's own traffic, by name or by one of its addresses. At most
// one of the fields is set; with neither, the interface of the default route is meant.
type Underlay struct {
	Interface string
	Addr      netip.Addr
}

// String returns the name or address, or "" for the zero value.
func (u Underlay) String() string {
	if u.Addr.IsValid() {
		return u.Addr.String()
	}
	return u.Interface
}

// HostPort is an entry of the join list: a DNS name or IP address, and a port, which is 0 where the entry has
// none.
type HostPort struct {
	Host string
	Port uint16
}

// String returns the entry as it is written in the configuration, an IPv6 address in brackets.
func (h HostPort) String() string {
	if h.Port != 0 {
		return net.JoinHostPort(h.Host, strconv.Itoa(int(h.Port)))
	}
	if a, err := netip.ParseAddr(h.Host); err == nil && a.Is6() {
		return "[" + h.Host + "]"
	}
	return h.Host
}

// origin is the place a value was given. The zero value stands for the default.
type origin struct {
	file string
	line int
	env  string
	flag string
}

func (o origin) isDefault() bool { return o == origin{} }

func (o origin) String() string {
	switch {
	case o.flag != "":
		return "--" + o.flag
	case o.env != "":
		return o.env
	case o.line != 0:
		return o.file + ":" + strconv.Itoa(o.line)
	case o.file != "":
		return o.file
	}
	return "default"
}
