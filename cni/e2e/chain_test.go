//go:build netns

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// What the chain's plugins are told, and their configuration. Debian's firewall leaves its chains, which is why a first
// attachment comes before those that are compared.
const (
	mappedPort = 18081
	chosenMAC  = "02:11:22:33:44:55"

	chainCapabilities = `CAP_ARGS={"portMappings": [{"hostPort": 18081, "containerPort": 8080, "protocol": "tcp"}],
"bandwidth": {"ingressRate": 100000000, "ingressBurst": 10000000, "egressRate": 100000000, "egressBurst": 10000000}}`
)

// TestChain attaches pods by weft-cni and four plugins of the reference's.
func TestChain(t *testing.T) {
	top := newTopology(t)
	outside, err := top.Node("outside")
	if err != nil {
		t.Fatal(err)
	}
	number := 0
	for _, plugins := range []struct {
		version string
		folder  func(*testing.T) string
	}{
		{"1.0.0", func(*testing.T) string { return debianCNI }},
		{"1.1.0", latestPlugins},
	} {
		for _, wiring := range []string{"routed", "bridge"} {
			number++
			t.Run(plugins.version+" "+wiring, func(t *testing.T) {
				n := newNode(t, top, number, plugins.folder(t), wiring)
				n.configure(plugins.version, wiring,
					`{"type": "portmap", "capabilities": {"portMappings": true}}`,
					`{"type": "bandwidth", "capabilities": {"bandwidth": true}}`,
					fmt.Sprintf(`{"type": "tuning", "dataDir": %q, "mac": %q, "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}}`, n.path("tuning"), chosenMAC),
					`{"type": "firewall", "backend": "iptables"}`)
				n.chain(&node{Node: outside, t: t}) // makes what plugins leave for later pods
				before := n.state()
				n.chain(&node{Node: outside, t: t})
				n.unchangedSince(before)
			})
		}
	}
}

// chain attaches a pod, sees what every plugin has done, and detaches it.
func (n *node) chain(outside *node) {
	n.t.Helper()
	s := n.sandbox()
	r := s.add(chainCapabilities)
	s.serve()
	if r.CNIVersion == "1.1.0" { // Debian's portmap looks for IPv4's rules among those of IPv6, where there are ip6tables
		n.mustCnitool([]string{chainCapabilities}, "check", chainName, s.path())
	}

	outside.reaches(netip.AddrPortFrom(n.Addr, mappedPort))
	for _, ip := range r.IPs { // the node reaches the pod, whose MAC has changed
		if _, err := n.fetch(context.Background(), netip.AddrPortFrom(ip.Address.Addr(), webPort)); err != nil {
			n.t.Error(err)
		}
		if save := n.run("iptables-save") + n.run("ip6tables-save"); !strings.Contains(save, netip.PrefixFrom(ip.Address.Addr(), ip.Address.Addr().BitLen()).String()) {
			n.t.Errorf("firewall has no rule for %s:\n%s", ip.Address, save)
		}
	}
	inPod := func(args ...string) string {
		return n.run(append([]string{"nsenter", "--net=" + s.path()}, args...)...)
	}
	if link := inPod("ip", "link", "show", "eth0"); !strings.Contains(link, chosenMAC) {
		n.t.Errorf("tuning has not set the MAC: %s", link)
	}
	if value := inPod("sysctl", "-n", "net.ipv4.conf.eth0.arp_filter"); strings.TrimSpace(value) != "1" {
		n.t.Errorf("tuning has set arp_filter to %s", value)
	}
	host := slices.IndexFunc(r.Interfaces, func(i struct{ Name, Mac, Sandbox string }) bool { return podDevice.MatchString(i.Name) })
	if host < 0 {
		n.t.Fatalf("no host end among %v", r.Interfaces)
	}
	if qdisc := n.run("tc", "qdisc", "show", "dev", r.Interfaces[host].Name); !strings.Contains(qdisc, "tbf") && !strings.Contains(qdisc, "htb") {
		n.t.Errorf("bandwidth shapes nothing: %s", qdisc)
	}

	for range 2 {
		n.mustCnitool([]string{chainCapabilities}, "del", chainName, s.path())
	}
	n.nothingLeft()
	s.end()
}
