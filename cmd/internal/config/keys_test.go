package config

import (
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/weft-net/weft/dataplane/offload"
)

func TestEveryKey(t *testing.T) {
	want := &Config{
		NodeName:    "rack 1, node 2",
		PodNetworks: []netip.Prefix{netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("fd00:10:244::/48")},
		AutoCIDR:    true,
		BlockSize4:  26,
		BlockSize6:  80,
		Underlay:    Underlay{Addr: netip.MustParseAddr("2001:db8::1")},
		Mode:        "vxlan",
		Tunnel:      "vxlan",
		DataPort:    4000,
		VXLANPort:   4002,
		VNI:         16777215,
		StaticPeers: []StaticPeer{
			{Name: "linux1", Address: netip.MustParseAddr("192.0.2.8"), Mode: "vxlan", VTEPMAC: "02:00:00:00:00:08", VNI: 16777215, Port: 4002,
				PodCIDRs: []netip.Prefix{netip.MustParsePrefix("172.16.8.0/26"), netip.MustParsePrefix("fd00:10:244:8::/64")}},
			{Name: "linux2", Address: netip.MustParseAddr("2001:db8::9"), Mode: "vxlan", VTEPMAC: "0a:00:00:00:00:09", VNI: 0, Port: 1, MTU: 1450,
				PodCIDRs: []netip.Prefix{netip.MustParsePrefix("172.16.10.0/24")}},
			{Name: "flannel", Address: netip.MustParseAddr("192.0.2.10"), Mode: "udp", Port: 4000, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("172.16.11.0/24")}},
			{Name: "router", Address: netip.MustParseAddr("192.0.2.11"), Mode: "direct", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("172.16.12.0/24")}},
		},
		StaticPeersFile: "/p",
		Segments: []Segment{
			{Name: "office", VNI: 100, Flood: 2000},
			{Name: "lab-2", VNI: 16777214, Bridge: "br1", MTU: 1400, Flood: 1, Peers: []netip.AddrPort{
				netip.MustParseAddrPort("192.0.2.9:4002"), netip.MustParseAddrPort("[2001:db8::9]:4002"), netip.MustParseAddrPort("192.0.2.10:1")}},
		},

		Firewall:       "manage",
		ClampMSS:       true,
		GossipAddr:     netip.MustParseAddr("fd01::9"),
		GossipPort:     4001,
		Join:           []HostPort{{"seed.example.net", 0}, {"192.0.2.2", 7000}, {"2001:db8::1", 7000}},
		Bootstrap:      true,
		GossipKeyFile:  "/k",
		ClusterCA:      "/ca",
		NodeCert:       "/c",
		CNIConfDir:     "/n",
		CNIBinDir:      "/b",
		CNIWiring:      "bridge",
		Tun:            "pods",
		MTU:            1400,
		Offload:        "on",
		OffloadExcept:  offload.Of(offload.USO, offload.RCO),
		Workers:        3,
		DeadGrace:      90 * time.Second,
		ForgetAfter:    90 * time.Minute,
		LogLevel:       slog.LevelDebug,
		LogFormat:      "json",
		MetricsAddress: "127.0.0.1:9100",
		Pprof:          true,
		Page:           "127.0.0.1:9101",
		Socket:         "/s",
		StateDir:       "/d",
	}
	texts := map[string]string{
		"nodeName": "rack 1, node 2", "podNetwork": "172.16.0.0/12,fd00:10:244::/48",
		"podCIDR": "auto", "blockSize4": "26", "blockSize6": "80", "bootstrap": "true", "clusterCA": "/ca", "nodeCert": "/c", "forgetAfter": "1h30m",
		"mode": "vxlan", "tunnel": "vxlan", "vxlanPort": "4002", "vni": "16777215", "masquerade": "false", "firewall": "manage", "clampMSS": "true",
		"staticPeers": "name=linux1 address=192.0.2.8 podCIDR=172.16.8.0/26,fd00:10:244:8::/64 vtepMAC=02:00:00:00:00:08," +
			"name=linux2 address=2001:db8::9 podCIDR=172.16.10.0/24 vtepMAC=0A-00-00-00-00-09 vni=0 port=1 mtu=1450," +
			"name=flannel address=192.0.2.10 podCIDR=172.16.11.0/24 mode=udp,name=router address=192.0.2.11 podCIDR=172.16.12.0/24 mode=direct",
		"staticPeersFile": "/p",
		"segments":        "name=office vni=100,name=lab-2 vni=16777214 bridge=br1 mtu=1400 flood=1 peers=192.0.2.9,2001:db8::9,192.0.2.10:1",
		"underlay":        "2001:db8::1", "dataPort": "4000", "gossipAddr": "fd01::9", "gossipPort": "4001",
		"join": "seed.example.net,192.0.2.2:7000,[2001:db8::1]:7000", "gossipKeyFile": "/k", "insecure": "false",
		"cniConfDir": "/n", "cniBinDir": "/b", "cniWiring": "bridge",
		"tun": "pods", "mtu": "1400", "offload": "on", "offloadExcept": "uso,rco", "workers": "3", "deadGrace": "1m30s", "logLevel": "debug", "logFormat": "json",
		"metricsAddress": "127.0.0.1:9100", "pprof": "true", "page": "127.0.0.1:9101",
		"socket": "/s", "stateDir": "/d",
	}
	var file, env, flags source
	for _, d := range definitions("") {
		text, ok := texts[d.name]
		if !ok {
			t.Fatalf("key %s is not in this test", d.name)
		}
		switch {
		case d.name == "staticPeers" || d.name == "segments":
			file.yaml += d.name + ":\n- " + strings.ReplaceAll(text, ",name", "\n- name") + "\n"
		case d.list:
			file.yaml += d.name + ": ['" + strings.ReplaceAll(text, ",", "', '") + "']\n"
		default:
			file.yaml += d.name + ": " + text + "\n"
		}
		env.env = append(env.env, d.env()+"="+text)
		flags.args = append(flags.args, "--"+d.flag()+"="+text)
	}
	for name, s := range map[string]source{"file": file, "environment": env, "flags": flags} {
		t.Run(name, func(t *testing.T) {
			cfg, problems := load(t, s)
			if problems != "" {
				t.Fatal(problems)
			}
			if diff := cmp.Diff(want, cfg, compare); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestDefinitionsCoverConfig(t *testing.T) {
	fields := 0
	for f := range reflect.TypeFor[Config]().Fields() {
		if f.IsExported() {
			fields++
		}
	}
	fields-- // AutoCIDR goes by PodCIDRs
	if defs := definitions(""); len(defs) != fields {
		t.Errorf("%d definitions for %d fields", len(defs), fields)
	}
	bound := map[any]string{}
	cfg := new(Config)
	for _, d := range definitions("node1") {
		v := d.bind(cfg)
		field := reflect.ValueOf(v).Elem().FieldByName("field").Pointer()
		if other := bound[field]; other != "" {
			t.Errorf("%s and %s are bound to one field", d.name, other)
		}
		bound[field] = d.name
		if d.def != "" {
			if err := v.Set(d.def); err != nil {
				t.Errorf("default of %s: %v", d.name, err)
			}
			if v.String() != d.def {
				t.Errorf("default of %s: %q is shown as %q", d.name, d.def, v.String())
			}
		}
		if strings.HasSuffix(d.help, ".") || d.help == "" {
			t.Errorf("help of %s: %q", d.name, d.help)
		}
	}
}

// TestOneValueForList has the three ways of writing a list in a file mean the same.
func TestOneValueForList(t *testing.T) {
	for text, want := range map[string]string{
		"auto":                                "auto",
		"[auto]":                              "auto",
		"10.244.1.0/24":                       "10.244.1.0/24",
		"[10.244.1.0/24]":                     "10.244.1.0/24",
		"10.244.1.0/24, fd00:10:244:1::/64":   "10.244.1.0/24,fd00:10:244:1::/64",
		"[fd00:10:244:1::/64, 10.244.1.0/24]": "fd00:10:244:1::/64,10.244.1.0/24",
		"\n- 10.244.1.0/24\n- 10.244.3.0/24,10.244.2.0/24": "10.244.1.0/24,10.244.3.0/24,10.244.2.0/24",
	} {
		cfg, problems := load(t, source{yaml: "podNetwork: [10.244.0.0/16, fd00:10:244::/48]\npodCIDR: " + text + "\n"})
		if problems != "" || formatPodCIDRs(cfg.PodCIDRs) != want || cfg.AutoCIDR != (want == autoCIDR) {
			t.Errorf("%s: got %v (%s), want %s", text, cfg, problems, want)
		}
	}
	cfg, problems := load(t, source{
		env:  []string{"WEFT_POD_NETWORK=10.244.0.0/16,fd00:10:244::/48"},
		args: []string{"--pod-cidr", "10.244.1.0/24", "--pod-cidr", "fd00:10:244:1::/64"},
	})
	if problems != "" || formatPrefixes(cfg.PodCIDRs) != "10.244.1.0/24,fd00:10:244:1::/64" {
		t.Errorf("flags: got %v (%s)", cfg, problems)
	}
}

// TestTunnelFollowsMode has the tunnel be the mode's wherever the mode is a tunnel.
func TestTunnelFollowsMode(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "udp",
		"tunnel: vxlan\n":              "vxlan",
		"mode: udp\n":                  "udp",
		"mode: vxlan\n":                "vxlan",
		"mode: vxlan\ntunnel: vxlan\n": "vxlan",
		"mode: direct\n":               "udp",
	} {
		cfg, problems := load(t, source{yaml: ok + text})
		if problems != "" || cfg.Tunnel != want {
			t.Errorf("%q: got %v (%s), want %s", text, cfg, problems, want)
		}
	}
}

// TestLastPodCIDRWins has a later source turn taken blocks into chosen ones, and back.
func TestLastPodCIDRWins(t *testing.T) {
	for _, test := range []struct {
		source
		want string
	}{
		{source{yaml: ok, env: []string{"WEFT_POD_CIDR=auto"}}, "auto"},
		{source{yaml: "podCIDR: auto\n", env: []string{"WEFT_POD_CIDR=10.244.2.0/24"}}, "10.244.2.0/24"},
		{source{yaml: ok, env: []string{"WEFT_POD_CIDR=auto"}, args: []string{"--pod-cidr=10.244.3.0/24"}}, "10.244.3.0/24"},
	} {
		cfg, problems := load(t, test.source)
		if problems != "" || formatPodCIDRs(cfg.PodCIDRs) != test.want || cfg.AutoCIDR != (test.want == autoCIDR) {
			t.Errorf("%+v: got %v (%s), want %s", test.source, cfg, problems, test.want)
		}
	}
}

// TestNodeCertFollowsStateDir has the certificate be where the node's key is, where there is an authority.
func TestNodeCertFollowsStateDir(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "",
		"stateDir: /s\n":                      "",
		"clusterCA: /ca\n":                    "/var/lib/weft/node.cert",
		"clusterCA: /ca\nstateDir: /s\n":      "/s/node.cert",
		"clusterCA: /ca\nnodeCert: /c/mine\n": "/c/mine",
	} {
		cfg, problems := load(t, source{yaml: text})
		if problems != "" || cfg.NodeCert != want {
			t.Errorf("%q: got %v (%s), want %s", text, cfg, problems, want)
		}
	}
}
