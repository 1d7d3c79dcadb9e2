package doctor

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// bridge is that of the pods, where they are on one: weft's, or that of an earlier pod network.
const bridge = "cni0"

// strangers are the links of other pod networks, by the names that these give. Immutable.
var strangers = map[string]string{
	"flannel.1": "flannel", "flannel-v6.1": "flannel", "flannel0": "flannel", "flannel-wg": "flannel",
	"weave": "Weave", "vethwe-bridge": "Weave", "vxlan-6784": "Weave",
	"cilium_host": "Cilium", "cilium_net": "Cilium", "cilium_vxlan": "Cilium", "cilium_geneve": "Cilium",
	"vxlan.calico": "Calico", "vxlan-v6.calico": "Calico", "wireguard.cali": "Calico",
	"kube-bridge": "kube-router", "antrea-gw0": "Antrea", "ovn-k8s-mp0": "OVN-Kubernetes",
}

// leftovers checks what weft has left, and what earlier pod networks have.
func (x *Examination) leftovers(n Node, m *Machine) {
	x.Looked("leftovers, of weft and of other pod networks")
	if n.Running {
		x.secondTUN(n, m)
	} else {
		x.ownLeft(n, m)
	}
	for i := range m.Links {
		l := &m.Links[i]
		whose := strangers[l.Name]
		if l.Name == bridge && !n.Bridge {
			whose = "another pod network, or of a weft with cniWiring: bridge"
		}
		if whose != "" {
			x.warning("W702", fmt.Sprintf("if nothing uses it any more: `ip link delete %s`; if that is to stay, keep its pods' addresses apart from podNetwork", l.Name),
				"there is an interface of %s: %s", whose, l.Name)
		}
	}
	x.hijacked(n, m)
	x.wrongBridge(n, m)
}

func (x *Examination) secondTUN(n Node, m *Machine) {
	for i := range m.Links {
		if l := &m.Links[i]; l.Kind == "tun" && l.Alias == LinkAlias && l.Name != n.Tun {
			x.warning("W701", fmt.Sprintf("if no other weftd runs here: `ip link delete %s`", l.Name), "there is another TUN device of weft's: %s", l.Name)
		}
	}
}

// ownLeft is for a daemon that does not run. It may be meant: what is left carries packets until it is back.
func (x *Examination) ownLeft(n Node, m *Machine) {
	var left []string
	for i := range m.Links {
		if l := &m.Links[i]; l.Name == n.Tun || l.Kind == "tun" && l.Alias == LinkAlias {
			left = append(left, "interface "+l.Name)
		}
	}
	if routes := len(slices.DeleteFunc(slices.Clone(m.Routes), func(r Route) bool { return r.Protocol != RouteProtocol })); routes > 0 {
		left = append(left, fmt.Sprintf("routes of protocol %d (%d)", RouteProtocol, routes))
	}
	if len(left) > 0 {
		x.warning("W701", "start weftd, which takes over what it can use; or remove it with `weft uninstall`", "a weftd that has ended left: %s", strings.Join(left, ", "))
	}
}

// hijacked checks for routes of others that take packets out of the pod network (flannel #1788, #2554).
func (x *Examination) hijacked(n Node, m *Machine) {
	var lost []string
	fix := ""
	for _, r := range m.Routes {
		l := m.linkAt(r.Link)
		if !r.Main || !r.Unicast || r.Protocol == RouteProtocol || !within(n.PodNetworks, r.Prefix) || within(n.PodCIDRs, r.Prefix) || l == nil || l.Name == n.Tun {
			continue
		}
		lost = append(lost, fmt.Sprintf("%s by %s", r.Prefix, l.Name))
		fix = cmp.Or(fix, fmt.Sprintf("remove each, for instance with `ip route del %s dev %s`, and see who makes them, or they come back", r.Prefix, l.Name))
	}
	if len(lost) > 0 {
		x.problem("W703", fix, "routes of other programs lead out of the pod network: %s", some(lost))
	}
}

// wrongBridge checks that weft's bridge has no address of an earlier block (flannel #1437).
func (x *Examination) wrongBridge(n Node, m *Machine) {
	l := m.link(bridge)
	if !n.Bridge || l == nil || len(n.PodCIDRs) == 0 {
		return
	}
	for _, a := range l.Addresses {
		if !a.Addr().IsLinkLocalUnicast() && !within(n.PodCIDRs, a) {
			x.problem("W704", fmt.Sprintf("once no pod has an address of it: `ip addr del %s dev %s`", a, bridge),
				"the bridge %s has the address %s, which is outside this node's blocks", bridge, a)
		}
	}
}

// networks checks whether container runtimes take weft's network.
func (x *Examination) networks(n Node, m *Machine) {
	if n.CNIConfDir == "" {
		return
	}
	x.Looked("networks of container runtimes")
	for i, w := range m.Networks {
		path := filepath.Join(n.CNIConfDir, w.File)
		switch {
		case w.Bad != "":
			x.warning("W712", "remove it, or put it right: some runtimes take no network at all because of it", "%s cannot be used: %s", path, w.Bad)
		case i == 0 && w.File != n.Conflist && n.Conflist != "":
			x.problem("W711", "remove it, unless its network is the one that pods shall have: then leave cniConfDir out",
				"container runtimes take the first of their networks, which is %s of %s (plugin %s), and not weft's", w.Name, path, w.Type)
		}
	}
}

// Programs that take interfaces and routes for theirs.
const (
	networkd       = "systemd-networkd"
	networkManager = "NetworkManager"
)

// roots are where a drop-in may lie (systemd.unit(5), NetworkManager.conf(5)).
func roots() []string { return []string{"/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"} }

// dropIns are the files, below a root, that keep a program off weft's devices, and off its routes where the program takes
// foreign ones away.
func dropIns(service string) []string {
	if service == networkd {
		return []string{"/systemd/network/10-weft.network", "/systemd/networkd.conf.d/50-weft.conf"}
	}
	return []string{"/NetworkManager/conf.d/50-weft.conf"}
}

// managers checks those that delete foreign routes and addresses (cilium #10645).
func (x *Examination) managers(m *Machine) {
	x.Looked("systemd-networkd and NetworkManager")
	for i, service := range []string{networkd, networkManager} {
		if !slices.Contains(m.Services, service) {
			continue
		}
		var lacks []string
		for _, file := range dropIns(service) {
			if !slices.ContainsFunc(roots(), func(root string) bool { return slices.Contains(m.Files, root+file) }) {
				lacks = append(lacks, "/usr/lib"+file)
			}
		}
		if len(lacks) > 0 {
			x.warning([]string{"W801", "W802"}[i], fmt.Sprintf("put %s in place, as weft's packages do, and restart %s", strings.Join(lacks, " and "), service),
				"%s runs, and nothing keeps it from weft's interfaces and routes", service)
		}
	}
}
