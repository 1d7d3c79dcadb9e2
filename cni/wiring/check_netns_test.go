//go:build netns

package wiring

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Each single thing that somebody breaks is named.
func TestCheck(t *testing.T) {
	const onNode, inPod = "node", "pod"
	type breakage struct {
		where, command string // DEV is the device
		says           string // words of the error, none for what is no fault
	}
	both := []breakage{
		{onNode, "ip link set DEV down", "device DEV is down"},
		{onNode, "ip link set DEV mtu 1300", "MTU 1300, not 1400"},
		{onNode, "ip link set DEV alias other", `alias "other"`},
		{onNode, "ip link del DEV", "device DEV is missing; eth0 in the pod is missing"},
		{onNode, "nft delete table netdev weft_pods", "nftables table netdev weft_pods is missing"},
		{onNode, "nft add table netdev weft_pods { flags dormant; }", "nftables table netdev weft_pods is missing or switched off"},
		{onNode, "nft flush chain netdev weft_pods DEV", "chain DEV of nftables table netdev weft_pods is missing or has been changed"},
		{onNode, "nft insert rule netdev weft_pods DEV accept", "chain DEV of nftables table netdev weft_pods is missing or has been changed"},
		{onNode, "nft delete chain netdev weft_pods DEV", "chain DEV of nftables table netdev weft_pods is missing or has been changed"},
		{inPod, "ip link set eth0 down", "eth0 in the pod is down"},
		{inPod, "ip link set eth0 mtu 1500", "eth0 in the pod has the MTU 1500"},
		{inPod, "ip link set eth0 mtu 1300", ""},
		{inPod, "ip addr del ADDR4 dev eth0", "eth0 in the pod lacks the address 10.244.1.2"},
		{inPod, "ip addr del ADDR6 dev eth0", "eth0 in the pod lacks the address fd24:0:0:1::2"},
		{inPod, "ip route del default", "the route to 0.0.0.0/0 via"},
		{inPod, "ip route replace default dev eth0", "the route to 0.0.0.0/0 via"},
		{inPod, "ip -6 route del default", "the route to ::/0 via"},
		{inPod, "ip link set eth0 name eth1", "eth0 in the pod is missing"},
	}
	for bridge, more := range map[string][]breakage{
		"": {
			{onNode, "nft flush chain netdev weft_pods shared", "chain shared of nftables table netdev weft_pods is missing or has been changed"},
			{onNode, "nft add chain netdev weft_pods DEV { policy accept; }", "chain DEV of nftables table netdev weft_pods is missing or has been changed"},
			{onNode, "ip addr del 169.254.1.1/32 dev DEV", "device DEV lacks the address 169.254.1.1/32"},
			{onNode, "ip addr del fe80::1/64 dev DEV", "device DEV lacks the address fe80::1/64"},
			{onNode, "ip route del 10.244.1.2/32", "the route to 10.244.1.2/32 by device DEV is missing"},
			{onNode, "ip route replace blackhole 10.244.1.2/32", "the route to 10.244.1.2/32 by device DEV is missing"},
			{onNode, "ip route replace 10.244.1.2/32 dev lo", "the route to 10.244.1.2/32 by device DEV is missing"},
			{onNode, "ip route del fd24:0:0:1::2/128", "the route to fd24:0:0:1::2/128 by device DEV is missing"},
			{inPod, "ip neigh replace 169.254.1.1 lladdr 02:00:00:00:00:99 dev eth0", "gateway 169.254.1.1"},
			{inPod, "ip neigh replace fe80::1 lladdr 02:00:00:00:00:99 dev eth0", "gateway fe80::1"},
			{inPod, "ip neigh replace 169.254.1.1 lladdr 02:00:00:00:00:99 dev eth0 nud stale", "gateway 169.254.1.1 of eth0 in the pod is taken for 02:00:00:00:00:99"},
			{inPod, "ip neigh replace fe80::1 dev eth0 nud failed", "gateway fe80::1 of eth0 in the pod does not answer"},
			{inPod, "ip neigh del 169.254.1.1 dev eth0", ""},
			{inPod, "ip route del 169.254.1.1", "the route to 169.254.1.1/32 by eth0 in the pod is missing"},
		},
		"cni0": {
			{onNode, "ip link set DEV nomaster", "device DEV is no port of bridge cni0"},
			{onNode, "ip link set DEV type bridge_slave hairpin off", "device DEV has no hairpin mode"},
			{onNode, "ip link set cni0 down", "bridge cni0 is down"},
			{onNode, "ip link del cni0", "bridge cni0 is missing"},
			{onNode, "ip addr del 10.244.1.1/24 dev cni0", "bridge cni0 lacks the address 10.244.1.1/24"},
			{onNode, "ip addr del fd24:0:0:1::1/64 dev cni0", "bridge cni0 lacks the address fd24:0:0:1::1/64"},
			{onNode, "nft flush chain bridge weft_pods DEV", "chain DEV of nftables table bridge weft_pods"},
			{onNode, "nft flush chain bridge weft_pods shared", "chain shared of nftables table bridge weft_pods"},
			{onNode, "nft flush chain bridge weft_pods prerouting", "chain prerouting of nftables table bridge weft_pods"},
			{onNode, "nft flush map bridge weft_pods ports", "lacks DEV"},
			{onNode, "nft add table bridge weft_pods { flags dormant; }", "nftables table bridge weft_pods is missing or switched off"},
			{onNode, "nft delete table bridge weft_pods", "nftables table bridge weft_pods is missing or switched off"},
			{onNode, "sysctl -w net.ipv4.conf.cni0.proxy_arp=0", "bridge cni0 has proxy_arp off"},
			{onNode, "sysctl -w net.ipv6.conf.cni0.proxy_ndp=0", "bridge cni0 has proxy_ndp off"},
			{inPod, "ip neigh replace 10.244.1.1 lladdr 02:00:00:00:00:99 dev eth0 nud reachable", "gateway 10.244.1.1 of eth0 in the pod is taken for 02:00:00:00:00:99, and cni0 has 0e:77:0a:f4:01:01"},
			{inPod, "ip neigh replace fd24:0:0:1::1 dev eth0 nud failed", "gateway fd24:0:0:1::1 of eth0 in the pod does not answer"},
		},
	} {
		for _, c := range append(more, both...) {
			t.Run(fmt.Sprintf("bridge %q/%s", bridge, c.command), func(t *testing.T) {
				n := newNode(t)
				a := n.pod(bridge)
				must(t, n.Check(a.Port))
				fill := strings.NewReplacer("DEV", a.Device, "ADDR4", a.inPod(a.Addresses[0]).String(), "ADDR6", a.inPod(a.Addresses[1]).String())
				in := map[string]*namespace{onNode: n.namespace, inPod: a.namespace}[c.where]
				in.run(strings.Fields(fill.Replace(c.command))...)
				err := n.Check(a.Port)
				says := fill.Replace(c.says)
				if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n")) {
					t.Errorf("Check: %v, want a line with %q", err, says)
				}
			})
		}
	}
}

func TestCheckOfNothing(t *testing.T) {
	n := newNode(t)
	p, _ := n.port("")
	if err := n.Check(p); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("Check of what was never attached: %v", err)
	}
	p.Netns += "x"
	if err := n.Check(p); !errors.Is(err, ErrNamespace) {
		t.Errorf("Check without a namespace: %v", err)
	}
}
