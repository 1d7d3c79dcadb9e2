package config

import (
	"strings"
	"testing"
)

// ok is a configuration of one line.
const ok = "podCIDR: 10.244.1.0/24\n"

func TestProblems(t *testing.T) {
	for _, test := range []struct {
		name string
		source
		want []string // lines
	}{
		// The file's form.
		{"misspelt key", source{yaml: ok + "dataprot: 1\n"}, []string{`FILE:2: unknown key "dataprot"; did you mean dataPort?`}},
		{"flag spelling", source{yaml: "pod-cidr: 10.244.1.0/24\n" + ok}, []string{`FILE:1: unknown key "pod-cidr"; did you mean podCIDR?`}},
		{"foreign key", source{yaml: ok + "geneve: 1\n"}, []string{"FILE:2: unknown key \"geneve\"; `weftd config default` lists them all"}},
		{"merge key", source{yaml: ok + "<<: {tun: a}\n"}, []string{"FILE:2: unknown key \"<<\"; `weftd config default` lists them all"}},
		{"list as key", source{yaml: ok + "? [a]\n: 1\n"}, []string{"FILE:2: a key must be a single word, not a list"}},
		{"duplicate", source{yaml: ok + "tun: a\n\ntun: b\n"}, []string{"FILE:4: tun: is set a second time; line 2 sets it already"}},
		{"list for value", source{yaml: ok + "tun: [a]\n"}, []string{"FILE:2: tun: wants one value, not a list"}},
		{"group for value", source{yaml: ok + "tun:\n  name: a\n"}, []string{"FILE:2: tun: wants one value, not a group of keys"}},
		{"group for list", source{yaml: ok + "join: {a: 1}\n"}, []string{"FILE:2: join: wants a list; write join: [A, B]"}},
		{"bad value for list", source{yaml: ok + "join: a b\n"}, []string{
			`FILE:2: join: "a b" is neither a host name nor an IPv4 address; write host or host:port`}},
		{"group in list", source{yaml: ok + "join:\n- a\n- {b: 1}\n"}, []string{"FILE:4: join: wants a list of single values, not of a group of keys"}},
		{"item of list", source{yaml: ok + "join:\n- a\n- b:0\n- c:x\n"}, []string{
			`FILE:4: join: "b:0": "0" is not a port; give a number from 1 to 65535`,
			`FILE:5: join: "c:x": "x" is not a port; give a number from 1 to 65535`,
		}},
		{"no value", source{yaml: "podCIDR:\n"}, []string{"FILE:1: podCIDR: is empty; write auto, or for instance 10.244.1.0/24"}},
		{"no items", source{yaml: ok + "podNetwork: []\n"}, []string{"FILE:2: podNetwork: is empty; write for instance 10.244.1.0/24 or fd00:10:244:1::/64"}},
		{"item of prefixes", source{yaml: "podCIDR:\n- 10.244.1.0/24\n- fd00::/64x\n"}, []string{
			`FILE:3: podCIDR: "fd00::/64x" is not a prefix; write for instance 10.244.1.0/24 or fd00:10:244:1::/64`}},
		{"overlapping items", source{yaml: "podCIDR:\n- 10.244.1.0/24\n- 10.244.1.128/25\n"}, []string{
			"FILE:1: podCIDR: 10.244.1.0/24 and 10.244.1.128/25 overlap; keep one of them"}},
		{"no value", source{yaml: ok + "tun:\n"}, []string{"FILE:2: tun: has no value; give one, or remove the line to take the default"}},
		{"top list", source{yaml: "- a\n"}, []string{"FILE:1: expected lines of `key: value`, found a list"}},
		{"top text", source{yaml: "\nweft\n"}, []string{"FILE:2: expected lines of `key: value`, found a single value"}},
		{"two documents", source{yaml: ok + "---\n" + ok}, []string{"FILE:2: a second document starts here; keep everything in one, without ---"}},
		{"tab before item", source{yaml: "join:\n\t- a\n" + ok}, []string{"FILE:2: a tab where YAML wants spaces; replace it"}},
		{"tab after spaces", source{yaml: "join:\n - a\n \t- b\n" + ok}, []string{"FILE:3: a tab where YAML wants spaces; replace it"}},
		{"tab before key", source{yaml: ok + "\ttun: a\n"}, []string{"FILE:2: a tab where YAML wants spaces; replace it"}},
		{"open bracket", source{yaml: ok + "join: [a,\n"}, []string{
			"FILE:3: not valid YAML: did not find expected node content"}},
		{"open quote", source{yaml: ok + "\ntun: 'a\n"}, []string{
			"FILE:4: not valid YAML: found unexpected end of stream, while scanning a quoted scalar that starts on line 3"}},
		{"syntax and others", source{yaml: "tun: [\n", env: []string{"WEFT_MTU=1"}}, []string{
			"FILE:2: not valid YAML: did not find expected node content",
			`WEFT_MTU: "1" is not an MTU; give 0 or a number from 1280 to 65507`,
		}},
		{"no space", source{yaml: ok + "tun:a\n"}, []string{
			"FILE:3: not valid YAML: could not find expected ':', while scanning a simple key that starts on line 2"}},
		{"unknown anchor", source{yaml: "tun: *a\n"}, []string{"FILE:1: not valid YAML: unknown anchor 'a' referenced"}},
		{"binary", source{yaml: ok + "tun: \x00\n"}, []string{"FILE:2: not a text file in UTF-8"}},
		{"latin1", source{yaml: ok + "# caf\xe9\n"}, []string{"FILE:2: not a text file in UTF-8"}},

		// The environment.
		{"misspelt variable", source{yaml: ok, env: []string{"WEFT_PODCIDR=10.244.1.0/24"}}, []string{"WEFT_PODCIDR: no such setting; did you mean WEFT_POD_CIDR?"}},
		{"foreign variable", source{yaml: ok, env: []string{"WEFT_CONFIG=/x"}}, []string{
			"WEFT_CONFIG: no such setting; `weftd config default` lists the keys, and podCIDR is WEFT_POD_CIDR here"}},
		{"bad variable", source{yaml: ok, env: []string{"WEFT_MTU=9k"}}, []string{`WEFT_MTU: "9k" is not an MTU; give 0 or a number from 1280 to 65507`}},
		{"list in variable", source{yaml: ok, env: []string{"WEFT_JOIN=a,,b"}}, []string{`WEFT_JOIN: has an empty entry; give host or host:port`}},

		// What values must satisfy together.
		{"outside", source{yaml: "podCIDR: 10.1.0.0/24\n"}, []string{"FILE:1: podCIDR: 10.1.0.0/24 is outside podNetwork 10.244.0.0/16 (default)"}},
		{"whole network", source{yaml: "podCIDR: 10.244.0.0/16\n"}, []string{
			"FILE:1: podCIDR: 10.244.0.0/16 leaves nothing of podNetwork 10.244.0.0/16 (default) for other nodes; take a smaller block"}},
		{"larger than network", source{yaml: ok, args: []string{"--pod-network=10.244.1.128/25"}}, []string{
			"FILE:1: podCIDR: 10.244.1.0/24 leaves nothing of podNetwork 10.244.1.128/25 (--pod-network) for other nodes; take a smaller block"}},
		{"one of two outside", source{yaml: "podCIDR: [10.244.1.0/24, 'fd00:10:244:1::/64']\n"}, []string{
			"FILE:1: podCIDR: fd00:10:244:1::/64 is outside podNetwork 10.244.0.0/16 (default)"}},
		{"outside both", source{yaml: "podCIDR: 10.1.0.0/24\npodNetwork: [10.244.0.0/16, 'fd00:10:244::/48']\n"}, []string{
			"FILE:1: podCIDR: 10.1.0.0/24 is outside podNetwork 10.244.0.0/16 and fd00:10:244::/48 (FILE:2)"}},
		{"whole of one", source{yaml: "podCIDR: fd00:10:244::/48\npodNetwork: [10.244.0.0/16, 'fd00:10:244::/48']\n"}, []string{
			"FILE:1: podCIDR: fd00:10:244::/48 leaves nothing of podNetwork fd00:10:244::/48 (FILE:2) for other nodes; take a smaller block"}},
		{"underlay in pods of IPv6", source{yaml: ok + "podNetwork: 10.244.0.0/16,fd00:10:244::/48\nunderlay: fd00:10:244::9\n"}, []string{
			"FILE:3: underlay: fd00:10:244::9 lies inside podNetwork fd00:10:244::/48 (FILE:2); pods and nodes need networks of their own"}},
		{"underlay in pods", source{yaml: ok + "underlay: 10.244.9.9\n"}, []string{
			"FILE:2: underlay: 10.244.9.9 lies inside podNetwork 10.244.0.0/16 (default); pods and nodes need networks of their own"}},
		{"gossip in pods", source{yaml: ok, env: []string{"WEFT_GOSSIP_ADDR=10.244.9.9"}}, []string{
			"WEFT_GOSSIP_ADDR: 10.244.9.9 lies inside podNetwork 10.244.0.0/16 (default); pods and nodes need networks of their own"}},
		{"one port", source{yaml: ok + "dataPort: 7946\n"}, []string{"FILE:2: dataPort: 7946 is also gossipPort (default); each needs its own port"}},
		{"other port", source{yaml: ok + "gossipPort: 8285\n"}, []string{"FILE:2: gossipPort: 8285 is also dataPort (default); each needs its own port"}},
		{"VXLAN on the data port", source{yaml: ok + "vxlanPort: 8285\n"}, []string{"FILE:2: vxlanPort: 8285 is also dataPort (default); each needs its own port"}},
		{"data on the VXLAN port", source{yaml: ok, args: []string{"--data-port=4789"}}, []string{"--data-port: 4789 is also vxlanPort (default); each needs its own port"}},
		{"page with the metrics", source{yaml: ok + "metricsAddress: 0.0.0.0:8286\npage: 127.0.0.1:8286\n"}, []string{
			"FILE:3: page: 127.0.0.1:8286 is also metricsAddress (FILE:2); each needs its own port"}},
		{"three of one port", source{yaml: ok + "dataPort: 1\nvxlanPort: 1\ngossipPort: 1\n"}, []string{
			"FILE:2: dataPort: 1 is also vxlanPort (FILE:3); each needs its own port",
			"FILE:3: vxlanPort: 1 is also gossipPort (FILE:4); each needs its own port",
		}},
		{"tunnel against mode", source{yaml: ok + "mode: udp\n", env: []string{"WEFT_TUNNEL=vxlan"}}, []string{
			"WEFT_TUNNEL: is vxlan, but mode is udp (FILE:2), which always uses that; remove one of the two"}},
		{"default tunnel against mode", source{yaml: ok + "mode: vxlan\ntunnel: udp\n"}, []string{
			"FILE:3: tunnel: is udp, but mode is vxlan (FILE:2), which always uses that; remove one of the two"}},
		{"tunnel and direct", source{yaml: ok + "mode: direct\ntunnel: udp\n"}, []string{
			"FILE:3: tunnel: is udp, but mode is direct (FILE:2), which never encapsulates; remove one of the two"}},
		{"static peer's line", source{yaml: ok + "staticPeers:\n- " + linux1 + "\n- name=b adress=192.0.2.8\n"}, []string{
			`FILE:4: staticPeers: adress=192.0.2.8: unknown key "adress"; did you mean address?`}},
		{"static peer in own block", source{yaml: ok + "staticPeers:\n- " + strings.Replace(linux1, "10.244.9.0/24", "10.244.1.128/25", 1) + "\n"}, []string{
			"FILE:2: staticPeers: linux1: podCIDR 10.244.1.128/25 overlaps 10.244.1.0/24, of this node (FILE:1)"}},
		{"static peer outside", source{yaml: ok + "staticPeers:\n- " + strings.Replace(linux1, "10.244.9.0/24", "fd00::/64", 1) + "\n"}, []string{
			"FILE:2: staticPeers: linux1: podCIDR fd00::/64 is outside podNetwork 10.244.0.0/16 (default)"}},
		{"static peer among pods", source{yaml: ok + "staticPeers:\n- " + strings.Replace(linux1, "192.0.2.9", "10.244.9.9", 1) + "\n"}, []string{
			"FILE:2: staticPeers: linux1: address 10.244.9.9 lies inside podNetwork 10.244.0.0/16 (default); pods and nodes need networks of their own"}},
		{"static peer is this node", source{yaml: ok + "underlay: 192.0.2.9\nstaticPeers: " + linux1 + "\n"}, []string{
			"FILE:3: staticPeers: linux1: address 192.0.2.9 is this node's own (FILE:2)"}},
		{"static peers alike", source{yaml: ok, args: []string{"--static-peers", linux1,
			"--static-peers", strings.Replace(linux1, "192.0.2.9", "192.0.2.10", 1),
			"--static-peers", strings.Replace(linux1, "linux1", "linux2", 1),
			"--static-peers", "name=linux3 address=192.0.2.11 podCIDR=10.244.8.0/23 mode=direct"}}, []string{
			"--static-peers: linux1: two peers have this name; give each its own",
			"--static-peers: linux2: address 192.0.2.9 is also that of linux1; each needs its own",
			"--static-peers: linux3: podCIDR 10.244.8.0/23 overlaps 10.244.9.0/24, of linux1",
		}},
		{"static peers beside other problems", source{yaml: "podCIDR: x\npodNetwork: y\nvni: z\nstaticPeers: " + linux1 + "\n"}, []string{
			`FILE:1: podCIDR: "x" is neither auto nor a prefix; write auto, or for instance 10.244.1.0/24`,
			`FILE:2: podNetwork: "y" is not a prefix; write for instance 10.244.1.0/24 or fd00:10:244:1::/64`,
			`FILE:3: vni: "z" is not a VNI; give a number from 0 to 16777215`,
		}},
		{"key and insecure", source{yaml: ok + "gossipKeyFile: /etc/weft/gossip.key\n", args: []string{"--insecure"}}, []string{
			"--insecure: is true, but FILE:2 sets gossipKeyFile; remove one of the two"}},
		{"auto beside a block", source{yaml: "podCIDR: [auto, 10.244.1.0/24]\n"}, []string{
			`FILE:1: podCIDR: "auto,10.244.1.0/24" has auto beside something else; write auto alone, or only blocks`}},
		{"auto twice", source{args: []string{"--pod-cidr=auto", "--pod-cidr=auto"}}, []string{
			`--pod-cidr: "auto,auto" has auto beside something else; write auto alone, or only blocks`}},
		{"block size of a chosen block", source{yaml: ok + "blockSize4: 24\n"}, []string{
			"FILE:2: blockSize4: is for podCIDR auto, but podCIDR is 10.244.1.0/24 (FILE:1); remove one of the two"}},
		{"block sizes of a chosen block", source{yaml: ok, env: []string{"WEFT_BLOCK_SIZE4=24"}, args: []string{"--block-size6=64"}}, []string{
			"WEFT_BLOCK_SIZE4: is for podCIDR auto, but podCIDR is 10.244.1.0/24 (FILE:1); remove one of the two",
			"--block-size6: is for podCIDR auto, but podCIDR is 10.244.1.0/24 (FILE:1); remove one of the two"}},
		{"block as large as the network", source{yaml: "podNetwork: 10.244.1.0/24\n"}, []string{
			"blockSize4 (default): a /24 leaves nothing of podNetwork 10.244.1.0/24 (FILE:1) for other nodes; give a number from 25 to 30, or take a larger network"}},
		{"block larger than one network", source{yaml: "podNetwork: [10.244.0.0/16, 10.250.0.0/20, 'fd00::/72']\nblockSize4: 18\n"}, []string{
			"FILE:2: blockSize4: a /18 leaves nothing of podNetwork 10.250.0.0/20 (FILE:1) for other nodes; give a number from 21 to 30, or take a larger network",
			"blockSize6 (default): a /64 leaves nothing of podNetwork fd00::/72 (FILE:1) for other nodes; give a number from 73 to 126, or take a larger network"}},
		{"network of one block", source{yaml: "podNetwork: 10.244.1.0/30\nblockSize4: 30\n"}, []string{
			"FILE:2: blockSize4: podNetwork 10.244.1.0/30 (FILE:1) cannot be shared out: the smallest block is a /30; take a larger network"}},
		{"certificate without authority", source{yaml: "nodeCert: /c\n"}, []string{
			"FILE:1: nodeCert: is set, but clusterCA is not; name the public half of the authority that made the certificate, or remove nodeCert"}},
		{"wiring", source{yaml: "cniConfDir: /n\ncniWiring: ovs\n"}, []string{
			`FILE:2: cniWiring: "ovs" is neither routed nor bridge`}},
		{"wiring that nobody is told of", source{yaml: "cniBinDir: /b\ncniWiring: bridge\n"}, []string{
			"FILE:2: cniWiring: is bridge, but cniConfDir is not set, so that no runtime is told; set cniConfDir, or remove cniWiring"}},
		{"wiring beside a bad folder", source{yaml: "cniConfDir:\ncniWiring: bridge\n"}, []string{
			"FILE:1: cniConfDir: has no value; give one, or remove the line to take the default"}},
		{"certificate beside a bad authority", source{yaml: "nodeCert: /c\nclusterCA:\n"}, []string{
			"FILE:2: clusterCA: has no value; give one, or remove the line to take the default"}},
		{"hostname", source{yaml: ok, hostname: strings.Repeat("x", 64)}, []string{
			`nodeName (default): "` + strings.Repeat("x", 64) + `" has 64 bytes; a name has at most 63`}},

		// All at once, and what a later source overrides is checked too.
		{"several", source{
			yaml: "mtu: 5\ndataPort: 7946\nlogLevel: loud\n",
			env:  []string{"WEFT_LOG_LEVEL=info", "WEFT_TUN=a/b"},
			args: []string{"--dead-grace=5", "--log-format", "xml"},
		}, []string{
			`FILE:1: mtu: "5" is not an MTU; give 0 or a number from 1280 to 65507`,
			`FILE:3: logLevel: "loud" is not a log level; give debug, info, warn or error`,
			`WEFT_TUN: "a/b" cannot name an interface: no spaces, slashes, colons or unprintable characters`,
			`--dead-grace: "5" has no unit; write 5s`,
			`--log-format: "xml" is not a log format; give text or json`,
			"FILE:2: dataPort: 7946 is also gossipPort (default); each needs its own port",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, got := load(t, test.source)
			if want := strings.Join(test.want, "\n"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

const linux1 = "name=linux1 address=192.0.2.9 podCIDR=10.244.9.0/24 vtepMAC=02:00:00:00:00:09"

func TestWrongFile(t *testing.T) {
	_, got := load(t, source{yaml: ok + strings.Repeat("x: y\n", 1000)})
	lines := strings.Split(got, "\n")
	want := "FILE:32: so many problems that the rest is not shown; is this the right file?"
	if len(lines) != maxProblems+1 || lines[maxProblems] != want {
		t.Errorf("got %d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

// TestNoProblem has what a strict loader could trip over, and must not.
func TestNoProblem(t *testing.T) {
	for name, s := range map[string]source{
		"document mark":        {yaml: "---\n" + ok},
		"document end":         {yaml: ok + "...\n"},
		"flow style":           {yaml: "{podCIDR: 10.244.1.0/24, tun: a}"},
		"quotes":               {yaml: "\"podCIDR\": '10.244.1.0/24'\nmtu: \"1400\"\n"},
		"byte order mark":      {yaml: "\ufeff" + ok},
		"carriage returns":     {yaml: "podCIDR: 10.244.1.0/24\r\ntun: a\r\n"},
		"name like a boolean":  {yaml: ok + "nodeName: no\n"},
		"name like a number":   {yaml: ok + "nodeName: 007\n"},
		"alias":                {yaml: ok + "nodeName: &n a\ntun: *n\njoin: [*n]\n"},
		"empty list":           {yaml: ok + "join:\n# - a\n"},
		"list of ports":        {yaml: ok + "join: [a:1, 192.0.2.1:2, '[fd00::1]:3']\n"},
		"empty underlay":       {yaml: ok + "underlay: ''\n"},
		"empty file":           {},
		"comments":             {yaml: "# weft\n"},
		"empty document":       {yaml: "---\n"},
		"block of half":        {yaml: "podNetwork: 10.244.1.0/29\nblockSize4: 30\n"},
		"no block of a family": {yaml: "podNetwork: fd00:10:244::/48\n"},
		"small chosen network": {yaml: "podNetwork: 10.244.1.0/24\npodCIDR: 10.244.1.0/26\n"},
		"insecure and default": {yaml: ok + "insecure: true\n"},
		"secure and key":       {yaml: ok + "insecure: false\ngossipKeyFile: /k\n"},
		"other variables":      {yaml: ok, env: []string{"HOME=/", "weft_tun=/", "WEFTY=1", "=", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, problems := load(t, s); problems != "" {
				t.Error(problems)
			}
		})
	}
}

// FuzzYAML checks that no file makes the loader panic, that every problem is one line which names the file,
// and that what is accepted is a valid configuration.
func FuzzYAML(f *testing.F) {
	f.Add(DefaultFile())
	f.Add([]byte(ok + "join: [a, 'b:1']\ninsecure: true\n"))
	f.Add([]byte("podCIDR: [10.244.1.0/24, 'fd00::/64']\nstaticPeers: [" + linux1 + ", 'name=b podCIDR=10.0.0.0/8,fd00::/8']\n"))
	f.Add([]byte("podCIDR: [auto]\nblockSize4: 25\nforgetAfter: never\nclusterCA: /ca\n"))
	f.Add([]byte("segments:\n- name: office\n  vni: 100\n  peers: [192.0.2.9, '2001:db8::9']\n- {name: b, vni: 2, peers: }\n"))
	f.Add([]byte("a: &a [*a]\njoin: *a\n"))
	f.Add([]byte("tun: !!binary aGk=\n\tx"))
	f.Add([]byte("%YAML 1.2\n---\n<<: {podCIDR: 10.244.1.0/24}\n---\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		g := &gathering{defs: definitions("node1"), cfg: &Config{origins: map[string]origin{}}, bad: map[string]bool{}}
		for _, d := range g.defs {
			if d.def != "" {
				g.set(d, origin{}, d.def)
			}
		}
		g.yaml("FILE", text)
		for _, p := range g.problems {
			if msg := p.Error(); strings.ContainsAny(msg, "\n\r") || !strings.HasPrefix(msg, "FILE") {
				t.Errorf("problem %q", msg)
			}
		}
		// Whatever was set reads back as what it is written as.
		for _, d := range g.defs {
			v := d.bind(g.cfg)
			if text := v.String(); text != "" {
				if err := v.Set(text); err != nil || v.String() != text {
					t.Errorf("%s was set to %q, which is refused: %v", d.name, text, err)
				}
			}
		}
	})
}

// FuzzLists checks that no text makes a parser of a list panic, that its error is one line, and that what is accepted is
// shown as a text that means the same, also behind another item.
func FuzzLists(f *testing.F) {
	f.Add("10.244.1.0/24,fd00:10:244:1::/64")
	f.Add(" auto")
	f.Add("auto,10.244.1.0/24")
	f.Add(linux1 + " mode=vxlan vni=0 port=1 mtu=1450, name=b address=::1 podCIDR=10.244.8.0/24,\tfd00::/64 mode=udp")
	f.Add("name=office vni=100 peers=192.0.2.9,[2001:db8::9]:1, name=b vni=2 bridge=br0 mtu=1400 flood=1")
	f.Add("name=office vni=1 bridge=br0,")
	f.Add("name=a,b=c address=1.2.3.4 podCIDR=10.0.0.0/8, mode=direct")
	f.Fuzz(func(t *testing.T, text string) {
		for _, d := range definitions("") {
			if !d.list {
				continue
			}
			v := d.bind(new(Config))
			if err := v.Set(text); err != nil {
				if strings.ContainsAny(err.Error(), "\n\r") {
					t.Errorf("%s: error of several lines: %q", d.name, err)
				}
				continue
			}
			shown := v.String()
			if err := v.Set(shown); err != nil && shown != "" || v.String() != shown {
				t.Errorf("%s: %q is shown as %q, which is read as %q, %v", d.name, text, shown, v, err)
			}
			if d.name == "segments" && shown != "" {
				if err := v.Set("name=a vni=1 peers=::1," + shown); err == nil && v.String() != "name=a vni=1 flood=2000 peers=::1,"+shown {
					t.Errorf("%q behind another is read as %q", shown, v)
				}
			}
			if d.name == "staticPeers" && shown != "" {
				if err := v.Set(linux1 + "," + shown); err != nil || v.String() != strings.Replace(linux1, " vtep", " mode=vxlan vtep", 1)+","+shown {
					t.Errorf("%q behind another is read as %q, %v", shown, v, err)
				}
			}
		}
	})
}
