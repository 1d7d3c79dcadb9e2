package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const flannel = "name=flannel address=192.0.2.10 podCIDR=10.244.10.0/24 mode=udp"

// withFile is the configuration of a node that has a file of static peers, called FILE.
func withFile(t testing.TB, yaml string) *Config {
	t.Helper()
	c, problems := load(t, source{yaml: ok + "vni: 7\nstaticPeersFile: /etc/weft/peers.yaml\n" + yaml})
	if problems != "" {
		t.Fatal(problems)
	}
	c.StaticPeersFile = "FILE"
	return c
}

// A file says the same as the same list under the key staticPeers.
func TestPeersFileIsLikeTheKey(t *testing.T) {
	for _, list := range []string{
		"- " + linux1 + "\n- " + flannel + "\n",
		"[" + linux1 + ", " + flannel + "]\n",
		"- '" + linux1 + "'\n# one of both families\n-  name=b address=::1 mode=direct podCIDR=10.244.8.0/24, fd00::/64\n",
		"- " + linux1 + ", " + flannel + "\n",
		"- &a " + linux1 + "\n",
		"- " + linux1 + " vni=0 port=1 mtu=1450\n",
		"", "# none yet\n", "[]\n",
	} {
		networks := "podNetwork: [10.244.0.0/16, 'fd00::/48']\n"
		key := "staticPeers:\n"
		for line := range strings.Lines(list) {
			key += "  " + line
		}
		want := withFile(t, networks+key).StaticPeers
		got, err := withFile(t, networks).ParseStaticPeersFile([]byte(list))
		if err != nil {
			t.Errorf("%s: %v", list, err)
		}
		for i := range got {
			got[i].Source = ""
		}
		if diff := cmp.Diff(want, got, compare); diff != "" {
			t.Errorf("%s-want +got\n%s", list, diff)
		}
	}
}

func TestPeersFileSaysWhere(t *testing.T) {
	peers, err := withFile(t, "").ParseStaticPeersFile([]byte("# peers\n- " + linux1 + "\n\n- " + flannel + "\n"))
	if err != nil || len(peers) != 2 || peers[0].Source != "FILE:2" || peers[1].Source != "FILE:4" {
		t.Errorf("%+v, %v", peers, err)
	}
}

func TestPeersFileProblems(t *testing.T) {
	var many strings.Builder
	for i := range maxFilePeers + 1 {
		fmt.Fprintf(&many, "- name=n%d address=192.0.%d.%d podCIDR=10.244.%d.%d/30 mode=direct\n", i, 4+i/256, i%256, 128+i/64, i%64*4)
	}
	for text, want := range map[string]string{
		"- " + linux1 + "\n- name=b adress=192.0.2.8\n":                                 `FILE:2: adress=192.0.2.8: unknown key "adress"; did you mean address?`,
		"- " + linux1 + "\n- " + linux1 + "\n":                                          "FILE:2: linux1: two peers have this name; give each its own",
		"- " + flannel + "\n- " + strings.Replace(flannel, "name=flannel", "name=b", 1): "FILE:2: b: address 192.0.2.10 is also that of flannel; each needs its own",
		"- " + strings.Replace(flannel, "10.244.10.0/24", "10.244.1.128/25", 1):         "FILE:1: flannel: podCIDR 10.244.1.128/25 overlaps 10.244.1.0/24, of this node (CONFIG:1)",
		"- " + strings.Replace(flannel, "10.244.10.0/24", "10.9.0.0/24", 1):             "FILE:1: flannel: podCIDR 10.9.0.0/24 is outside podNetwork 10.244.0.0/16 (default)",
		"- " + strings.Replace(flannel, "192.0.2.10", "10.244.10.1", 1):                 "FILE:1: flannel: address 10.244.10.1 lies inside podNetwork 10.244.0.0/16 (default); pods and nodes need networks of their own",
		"- " + linux1 + " colour=blue\n- x\n":                                           "FILE:1: colour=blue: unknown key \"colour\"; there are name, address, podCIDR, mode, vtepMAC, vni, port, mtu\nFILE:2: \"x\" is not key=value; write for instance " + staticExample,
		"staticPeers:\n- " + linux1 + "\n":                                              "FILE:1: expected a list, found a group of keys; write the items alone, without a key such as staticPeers",
		linux1:                                                                          "FILE:1: expected a list, found a single value; write for instance - " + staticExample,
		"- name: linux1\n":                                                              "FILE:1: wants a list of single values, not of a group of keys; write for instance - " + staticExample,
		"- " + linux1 + "\n-\n":                                                         "FILE:2: wants a list of single values, not of nothing; write for instance - " + staticExample,
		"- " + linux1 + "\n---\n- b\n":                                                  "FILE:2: a second document starts here; keep everything in one, without ---",
		"- a\n\xff":                                                                     "FILE:2: not a text file in UTF-8",
		"- [a\n":                                                                        "FILE:2: not valid YAML: did not find expected ',' or ']', while parsing a flow sequence that starts on line 1",
		strings.Repeat("- x\n", 100):                                                    "FILE:31: so many problems that the rest is not shown; is this the right file?",
		many.String():                                                                   "FILE:1001: has more than 1000 peers; let some of them run weft",
	} {
		c := withFile(t, "")
		peers, err := c.ParseStaticPeersFile([]byte(text))
		if err == nil || peers != nil {
			t.Errorf("%.100s: got %d peers, want an error with %s", text, len(peers), want)
			continue
		}
		config, _, _ := strings.Cut(c.Source("podCIDR"), ":")
		if got := strings.ReplaceAll(err.Error(), config, "CONFIG"); !strings.HasSuffix(got, want) || strings.Count(want, "\n") > strings.Count(got, "\n") {
			t.Errorf("%.100s: got\n%s\nwant\n%s", text, got, want)
		}
	}
}

// The largest file that there may be is taken.
func TestPeersFileOfThousand(t *testing.T) {
	var text strings.Builder
	for i := range maxFilePeers {
		fmt.Fprintf(&text, "- name=n%d address=192.0.%d.%d podCIDR=10.244.%d.%d/30 mode=direct\n", i, 4+i/256, i%256, 128+i/64, i%64*4)
	}
	if peers, err := withFile(t, "").ParseStaticPeersFile([]byte(text.String())); err != nil || len(peers) != maxFilePeers {
		t.Errorf("%d peers, %v", len(peers), err)
	}
}

// What the configuration says of a peer is kept against the file, and that is said.
func TestPeersFileYields(t *testing.T) {
	c := withFile(t, "staticPeers: "+linux1+"\n")
	other := strings.Replace(flannel, "name=flannel", "name=linux1", 1)
	for item, problem := range map[string]string{
		flannel: "",
		other:   "FILE:1: linux1: what staticPeers (CONFIG:4) has is kept: two peers have this name; give each its own",
		strings.Replace(flannel, "192.0.2.10", "192.0.2.9", 1):         "FILE:1: flannel: what staticPeers (CONFIG:4) has is kept: address 192.0.2.9 is also that of linux1; each needs its own",
		strings.Replace(flannel, "10.244.10.0/24", "10.244.9.0/28", 1): "FILE:1: flannel: what staticPeers (CONFIG:4) has is kept: podCIDR 10.244.9.0/28 overlaps 10.244.9.0/24, of linux1",
	} {
		peers, err := c.ParseStaticPeersFile([]byte("- " + item + "\n- name=last address=192.0.2.99 podCIDR=10.244.99.0/24 mode=direct\n"))
		if err != nil {
			t.Fatal(err)
		}
		all, left := c.WithStaticPeers(peers)
		names := ""
		for _, p := range all {
			names += p.Name + " "
		}
		want := "linux1 flannel last "
		if problem != "" {
			want = "linux1 last "
		}
		got := ""
		if left != nil {
			config, _, _ := strings.Cut(c.Source("staticPeers"), ":")
			got = strings.ReplaceAll(left.Error(), config, "CONFIG")
		}
		if names != want || got != problem {
			t.Errorf("%s: peers %s(want %s), said %q, want %q", item, names, want, got, problem)
		}
	}
	if len(c.StaticPeers) != 1 {
		t.Errorf("the configuration has %d peers of its own", len(c.StaticPeers))
	}
}

// FuzzPeersFile checks that no text makes the parser panic, that each problem is one line which names the file, and
// that what is accepted keeps the rules and is read again as it is shown.
func FuzzPeersFile(f *testing.F) {
	f.Add("- " + linux1 + "\n- " + flannel + "\n")
	f.Add("[" + linux1 + ", '" + flannel + ",name=b podCIDR=10.244.9.0/30,10.244.9.4/30']\n")
	f.Add("--- &a [*a]\n")
	f.Add("staticPeers: x\n---\n")
	f.Add("- !!binary aGk=\n\t- x\n- ? y")
	c := withFile(f, "")
	f.Fuzz(func(t *testing.T, text string) {
		peers, err := c.ParseStaticPeersFile([]byte(text))
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "FILE") {
					t.Errorf("%q: problem %q", text, line)
				}
			}
			return
		}
		var again strings.Builder
		for i := range peers {
			if err := c.checkStaticPeer(&peers[i], peers[:i], true); err != nil {
				t.Errorf("%q: %v", text, err)
			}
			fmt.Fprintf(&again, "- \"%s\"\n", strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(peers[i].String()))
			peers[i].Source = ""
		}
		got, err := c.ParseStaticPeersFile([]byte(again.String()))
		for i := range got {
			got[i].Source = ""
		}
		if diff := cmp.Diff(peers, got, compare); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", again.String(), err, diff)
		}
	})
}
