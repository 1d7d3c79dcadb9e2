package config

import (
	"strings"
	"time"
	"unicode"

	"github.com/spf13/pflag"
)

// definition is everything there is to know about one key.
type definition struct {
	name    string // as in the YAML file; flag and variable names derive from it
	def     string // text for the parser; "" leaves the field at its zero value
	example string // shown in the default file where def is empty or not a good example
	help    string // starts the flag's help and the file's comment; no full stop
	list    bool   // a YAML sequence; as one text its items are separated by commas
	groups  bool   // an item of the list may be a mapping, see groupText
	live    bool   // takes effect while weftd runs, by `weft reload`; any other key by a restart
	bind    func(*Config) pflag.Value
}

// definitions returns all keys in the order in which people read about them.
func definitions(hostname string) []definition {
	return []definition{
		{
			name: "nodeName", def: hostname, example: "node1",
			help: "name of this node as people see it; the hostname unless set",
			bind: func(c *Config) pflag.Value { return bind(&c.NodeName, "name", parseNodeName, same) },
		},
		{
			name: "podNetwork", def: "10.244.0.0/16", list: true,
			help: "network that holds the pods of all nodes, or a list of such networks, for instance [10.244.0.0/16, fd00:10:244::/48]; the same on every node, and apart from every network the nodes themselves use",
			bind: func(c *Config) pflag.Value { return bind(&c.PodNetworks, "CIDR,...", parsePrefixes, formatPrefixes) },
		},
		{
			name: "podCIDR", def: autoCIDR, list: true,
			help: "block of the pod network for the pods of this node: auto takes a free one of each family of podNetwork, and keeps it; or a block of your choice, for instance 10.244.1.0/24, or a list of such blocks, different on every node",
			bind: func(c *Config) pflag.Value { return bind(&c.PodCIDRs, "auto|CIDR,...", parsePodCIDRs, formatPodCIDRs) },
		},
		{
			name: "blockSize4", def: "24",
			help: "length in bits of the prefix of an IPv4 block that podCIDR auto takes: the larger the number, the fewer pods to a node and the more nodes to a podNetwork; the same on every node",
			bind: func(c *Config) pflag.Value { return bind(&c.BlockSize4, "bits", parseBlockSize4, formatInt) },
		},
		{
			name: "blockSize6", def: "64",
			help: "the same of an IPv6 block",
			bind: func(c *Config) pflag.Value { return bind(&c.BlockSize6, "bits", parseBlockSize6, formatInt) },
		},
		{
			name: "underlay", example: "eth0",
			help: "interface that carries weft's own traffic, by name or by one of its addresses, and then by that alone; the interface of the default route unless set",
			bind: func(c *Config) pflag.Value {
				return bind(&c.Underlay, "interface|address", parseUnderlay, Underlay.String)
			},
		},
		{
			name: "mode", def: ModeAuto, live: true,
			help: "how packets travel to a peer: auto goes direct where the peer is on the same link and a probe came through, and by the tunnel otherwise; udp and vxlan always encapsulate; direct never does",
			bind: func(c *Config) pflag.Value { return bind(&c.Mode, "auto|direct|udp|vxlan", parseMode, same) },
		},
		{
			name: "tunnel", def: TunnelUDP, live: true,
			help: "encapsulation that this node asks its peers for where packets are encapsulated: udp or vxlan; with mode udp or vxlan it is that one",
			bind: func(c *Config) pflag.Value { return bind(&c.Tunnel, "udp|vxlan", parseTunnel, same) },
		},
		{
			name: "dataPort", def: "8285",
			help: "UDP port for pod traffic between nodes, and for the probes of every mode",
			bind: func(c *Config) pflag.Value { return bind(&c.DataPort, "port", parsePort, formatPort) },
		},
		{
			name: "vxlanPort", def: "4789",
			help: "UDP port for pod traffic in VXLAN",
			bind: func(c *Config) pflag.Value { return bind(&c.VXLANPort, "port", parsePort, formatPort) },
		},
		{
			name: "vni", def: "1",
			help: "VXLAN network identifier that this node takes, 0 to 16777215",
			bind: func(c *Config) pflag.Value { return bind(&c.VNI, "number", parseVNI, formatVNI) },
		},
		{
			name: "staticPeers", list: true, live: true,
			example: "[name=linux1 address=192.0.2.9 podCIDR=10.244.9.0/24 mode=direct]",
			help:    "nodes that do not run weft, such as a Linux VXLAN device, each as key=value with spaces between: name, address, podCIDR (several with commas between), mode (vxlan unless set, udp or direct), vtepMAC (for vxlan), vni and port (this node's unless set), and mtu",
			bind: func(c *Config) pflag.Value {
				return bind(&c.StaticPeers, "peer,...", parseStaticPeers, formatStaticPeers)
			},
		},
		{
			name: "staticPeersFile", example: "/etc/weft/peers.yaml",
			help: "file with more such nodes, as a list of the same form; it need not exist, and changes of it take effect at once, without a restart",
			bind: func(c *Config) pflag.Value { return bind(&c.StaticPeersFile, "file", parsePath, same) },
		},
		{
			name: "segments", list: true, groups: true,
			example: "[{name: office, vni: 100, bridge: br0}]",
			help:    "layer-2 segments that this node is a member of, with all nodes that have a segment of the same vni, each with name (its device is seg-NAME), vni (not that of the pod network), bridge (that the device joins; you make it; none unless set), mtu (what the underlay leaves unless set), flood (frames a second that this node sends to all members; 2000 unless set) and peers (addresses of VTEPs that do not run weft, with or without a port); in one line as key=value with spaces between",
			bind: func(c *Config) pflag.Value {
				return bind(&c.Segments, "segment,...", parseSegments, formatSegments)
			},
		},
		{
			name: "masquerade", def: "true", live: true,
			help: "let pods leave the pod network under this node's address",
			bind: func(c *Config) pflag.Value { return bind(&c.Masquerade, "bool", parseBool, formatBool) },
		},
		{
			name: "firewall", def: FirewallCheck, live: true,
			help: "what to do about firewall rules of this host that would drop pod traffic: check warns of them; manage adds accepts for pod traffic to the host's forward chains that would drop it",
			bind: func(c *Config) pflag.Value { return bind(&c.Firewall, "check|manage", parseFirewall, same) },
		},
		{
			name: "clampMSS", def: "false", live: true,
			help: "lower the MSS in TCP handshakes of pods to what the path to the peer takes",
			bind: func(c *Config) pflag.Value { return bind(&c.ClampMSS, "bool", parseBool, formatBool) },
		},
		{
			name: "gossipAddr", example: "192.0.2.1",
			help: "address on which this node gossips; the underlay's unless set",
			bind: func(c *Config) pflag.Value { return bind(&c.GossipAddr, "address", parseGossipAddr, formatAddr) },
		},
		{
			name: "gossipPort", def: "7946",
			help: "UDP and TCP port for gossip",
			bind: func(c *Config) pflag.Value { return bind(&c.GossipPort, "port", parsePort, formatPort) },
		},
		{
			name: "join", example: "[node1.example.net, 192.0.2.2:7946]", list: true, live: true,
			help: "nodes by which to find the others, as host or host:port; one that is up is enough, and names are resolved anew each time",
			bind: func(c *Config) pflag.Value { return bind(&c.Join, "host,...", parseJoin, formatJoin) },
		},
		{
			name: "bootstrap", def: "false",
			help: "true on the first node of a cluster, and on no other: it takes a block before it has met another node",
			bind: func(c *Config) pflag.Value { return bind(&c.Bootstrap, "bool", parseBool, formatBool) },
		},
		{
			name: "gossipKeyFile", def: "/etc/weft/gossip.key",
			help: "file with the key that encrypts gossip, the same on every node; `weft keygen` makes one",
			bind: func(c *Config) pflag.Value { return bind(&c.GossipKeyFile, "file", parsePath, same) },
		},
		{
			name: "insecure", def: "false",
			help: "gossip without a key: whoever reaches the gossip port can join, and reroute pods",
			bind: func(c *Config) pflag.Value { return bind(&c.Insecure, "bool", parseBool, formatBool) },
		},
		{
			name: "clusterCA", example: "/etc/weft/ca.pub",
			help: "file with the public half of the cluster's authority, the same on every node: only nodes with a certificate of it are members; `weft ca init` makes one",
			bind: func(c *Config) pflag.Value { return bind(&c.ClusterCA, "file", parsePath, same) },
		},
		{
			name: "nodeCert", example: "/var/lib/weft/node.cert",
			help: "file with this node's certificate, which `weft ca sign` makes; node.cert in stateDir unless set",
			bind: func(c *Config) pflag.Value { return bind(&c.NodeCert, "file", parsePath, same) },
		},
		{
			name: "cniConfDir", example: "/etc/cni/net.d",
			help: "folder where container runtimes look for their network: as soon as this node can carry pods' packets weftd writes 10-weft.conflist there, and keeps it until `weft uninstall`; no runtime is told of weft unless set",
			bind: func(c *Config) pflag.Value { return bind(&c.CNIConfDir, "folder", parsePath, same) },
		},
		{
			name: "cniBinDir", example: "/opt/cni/bin",
			help: "folder where container runtimes look for CNI plugins: weftd puts weft-cni there, which lies beside weftd, and looks there for portmap, which maps host ports; unless set weft-cni is yours to put in place, and host ports are not mapped",
			bind: func(c *Config) pflag.Value { return bind(&c.CNIBinDir, "folder", parsePath, same) },
		},
		{
			name: "cniWiring", def: WiringRouted,
			help: "how container runtimes' pods are joined to this node: routed gives each a route of its own; bridge puts all on one bridge, cni0; pods that are there keep what they have",
			bind: func(c *Config) pflag.Value { return bind(&c.CNIWiring, "routed|bridge", parseWiring, same) },
		},
		{
			name: "tun", def: "weft0",
			help: "name of the TUN device",
			bind: func(c *Config) pflag.Value { return bind(&c.Tun, "name", parseLinkName, same) },
		},
		{
			name: "mtu", def: "0",
			help: "largest pod packet in bytes, at least 1280; 0 takes the underlay's MTU minus the largest overhead of any mode, which is 50 bytes with IPv4 addresses on the underlay and 70 with IPv6, rounded down by up to 7 so that full TCP segments are a multiple of 8 bytes",
			bind: func(c *Config) pflag.Value { return bind(&c.MTU, "bytes", parseMTU, formatInt) },
		},
		{
			name: "offload", def: OffloadAuto,
			help: "what the kernel does for the packet path: auto uses what works here, on refuses to start unless all of it does, off carries each packet alone, which is slow and needs nothing",
			bind: func(c *Config) pflag.Value { return bind(&c.Offload, "auto|on|off", parseOffload, same) },
		},
		{
			name: "offloadExcept", example: "[uso, rco]", list: true,
			help: "parts of it to do without: tso and uso (superpackets of the TUN), gso and gro (of the sockets), rco (remote checksum offload)",
			bind: func(c *Config) pflag.Value { return bind(&c.OffloadExcept, "part,...", parseFeatures, formatFeatures) },
		},
		{
			name: "workers", def: "0",
			help: "threads that carry packets, each with its own queue of the TUN; 0 takes one for every two CPUs, up to 8",
			bind: func(c *Config) pflag.Value { return bind(&c.Workers, "count", parseWorkers, formatInt) },
		},
		{
			name: "deadGrace", def: "5s",
			help: "how long the routes to a dead node are kept, in case it comes back",
			bind: func(c *Config) pflag.Value {
				return bind(&c.DeadGrace, "duration", parseGrace, time.Duration.String)
			},
		},
		{
			name: "forgetAfter", def: "168h", live: true,
			help: "how long a dead node keeps its blocks, of the time in which most nodes are seen; then the cluster forgets it and they are free; never keeps them until `weft forget`",
			bind: func(c *Config) pflag.Value {
				return bind(&c.ForgetAfter, "duration", parseForgetAfter, formatForgetAfter)
			},
		},
		{
			name: "logLevel", def: "info", live: true,
			help: "least important message to log: debug, info, warn or error",
			bind: func(c *Config) pflag.Value { return bind(&c.LogLevel, "level", parseLevel, formatLevel) },
		},
		{
			name: "logFormat", def: "text",
			help: "how to log: text, for people, or json, one object a line",
			bind: func(c *Config) pflag.Value { return bind(&c.LogFormat, "format", parseLogFormat, same) },
		},
		{
			name: "metricsAddress", example: "0.0.0.0:8286",
			help: "TCP address and port at which Prometheus finds /metrics, and others /healthz and /readyz: whoever reaches it sees the names, addresses and traffic of all nodes; on the control socket only unless set",
			bind: func(c *Config) pflag.Value { return bind(&c.MetricsAddress, "address:port", parseListen, same) },
		},
		{
			name: "pprof", def: "false",
			help: "serve profiles of weftd itself at /debug/pprof/, at metricsAddress and without a password, for whoever looks for a bug in it",
			bind: func(c *Config) pflag.Value { return bind(&c.Pprof, "bool", parseBool, formatBool) },
		},
		{
			name: "page", example: "127.0.0.1:8287",
			help: "where a browser finds the status page: a loopback address and port, for every user of this machine (from elsewhere by `ssh -L`), or socket, the control socket, for those who may use that; nowhere unless set",
			bind: func(c *Config) pflag.Value { return bind(&c.Page, "address:port", parsePage, same) },
		},
		{
			name: "socket", def: DefaultSocket,
			help: "Unix socket on which weft, the command line client, finds weftd",
			bind: func(c *Config) pflag.Value { return bind(&c.Socket, "file", parseSocket, same) },
		},
		{
			name: "stateDir", def: DefaultStateDir,
			help: "folder for what must outlive a restart: this node's identity and the peers it knew",
			bind: func(c *Config) pflag.Value { return bind(&c.StateDir, "folder", parsePath, same) },
		},
	}
}

// flag returns the name of the key's flag: podCIDR -> pod-cidr.
func (d definition) flag() string { return separated(d.name, '-') }

// env returns the name of the key's environment variable: podCIDR -> WEFT_POD_CIDR.
func (d definition) env() string { return envPrefix + strings.ToUpper(separated(d.name, '_')) }

// separated splits a camelCase name where a capital follows a small letter, so that an abbreviation stays one
// word.
func separated(name string, sep rune) string {
	var b strings.Builder
	small := false
	for _, r := range name {
		if unicode.IsUpper(r) && small {
			b.WriteRune(sep)
		}
		small = unicode.IsLower(r)
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
