package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Sysctls, by their paths below /proc/sys.
const (
	ipForward      = "net/ipv4/ip_forward"
	ip6Forward     = "net/ipv6/conf/all/forwarding"
	conntrackCount = "net/netfilter/nf_conntrack_count"
	conntrackMax   = "net/netfilter/nf_conntrack_max"
)

func rpFilter(link string) string    { return "net/ipv4/conf/" + link + "/rp_filter" }
func disableIPv6(link string) string { return "net/ipv6/conf/" + link + "/disable_ipv6" }

const (
	// fewFiles is what the daemon may come to need: a dozen sockets for each of up to 8 workers, and gossip's
	// connections in a large cluster.
	fewFiles = 1024

	// wayOff is more than a clock that is kept by anything is off.
	wayOff = time.Second
)

// sysctls checks those that packets depend on, which weftd sets and others may change.
func (x *Examination) sysctls(n Node, m *Machine) {
	x.Looked("rp_filter and forwarding")
	again := "see `journalctl -u weftd`: weftd sets it back within seconds, unless another program, such as `sysctl --system`, sets it again"
	if n.Running {
		for _, link := range []string{n.Tun, n.Underlay} {
			own, ok := m.count(rpFilter(link))
			all, _ := m.count(rpFilter("all"))
			// The higher of the two counts (Documentation/networking/ip-sysctl.rst); 1 is strict.
			if ok && max(own, all) == 1 {
				x.problem("W301", again, "rp_filter is strict on %s, which drops packets that come by another way than they go", link)
			}
		}
		if on, ok := m.count(ipForward); ok && on == 0 && hasFamily(n.PodNetworks, true) {
			x.problem("W302", again, "this machine does not forward IPv4 (net.ipv4.ip_forward is 0)")
		}
		if on, ok := m.count(ip6Forward); ok && on == 0 && hasFamily(n.PodNetworks, false) {
			x.problem("W302", again, "this machine does not forward IPv6 (net.ipv6.conf.all.forwarding is 0)")
		}
		if off, ok := m.count(disableIPv6(n.Tun)); ok && off == 1 && hasFamily(n.PodCIDRs, false) {
			x.problem("W303", again, "IPv6 is disabled on %s", n.Tun)
		}
	}
	x.conntrack(m)
}

// conntrack checks the table whose end is that of new connections (kubernetes #48370).
func (x *Examination) conntrack(m *Machine) {
	used, ok := m.count(conntrackCount)
	limit, known := m.count(conntrackMax)
	if !ok || !known || limit == 0 || used < limit/10*9 {
		return
	}
	fix := fmt.Sprintf("allow more with `sysctl -w net.netfilter.nf_conntrack_max=%d`, and see with `conntrack -L` whose they are", 2*limit)
	what := fmt.Sprintf("the kernel tracks %d connections of the %d that it may", used, limit)
	if used >= limit {
		x.problem("W304", fix, "%s, and drops new ones", what)
	} else {
		x.warning("W304", fix, "%s; at the end new ones are dropped", what)
	}
}

func hasFamily(all []netip.Prefix, v4 bool) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Addr().Is4() == v4 })
}

// ports checks those that weftd will need. What a running one has is its own.
func (x *Examination) ports(n Node, m *Machine) {
	if n.Running {
		return
	}
	x.Looked("ports")
	for _, want := range n.Ports {
		if slices.ContainsFunc(m.Ports, func(p Port) bool { return p.Protocol == want.Protocol && p.Number == want.Number }) {
			x.problem("W601", fmt.Sprintf("see whose it is with `ss -%slnp 'sport = :%d'`, and end that, or set `%s` to another, on every node", want.Protocol[:1], want.Number, want.Key),
				"%s port %d is in use by another program", want.Protocol, want.Number)
		}
	}
}

// machine checks what programs of any kind need.
func (x *Examination) machine(m *Machine) {
	x.Looked("clock and limits")
	switch {
	case m.Clock.Known && m.Clock.Unsynced:
		x.warning("W901", "run one program that keeps it, for instance systemd-timesyncd or chrony: times in logs of different nodes are compared",
			"nothing keeps this machine's clock to the world's time")
	case m.Clock.Known && m.Clock.Error > wayOff:
		x.warning("W901", "see `timedatectl timesync-status` or `chronyc tracking`", "this machine's clock may be off by %s", m.Clock.Error.Round(time.Second))
	}
	if m.Limits.Files > 0 && m.Limits.Files < fewFiles {
		x.warning("W902", fmt.Sprintf("set LimitNOFILE=%d in the unit, or `ulimit -n` before weftd", 16*fewFiles),
			"weftd may have %d files and sockets open, and in a large cluster needs more", m.Limits.Files)
	}
	if m.HugePage == "never" {
		x.warning("W903", "set it with `echo madvise > /sys/kernel/mm/transparent_hugepage/enabled`, and restart weftd: programs that do not ask for huge pages get none by that",
			"the kernel gives no huge pages, which the workers' packet memory is to be of: throughput suffers somewhat")
	}
}
