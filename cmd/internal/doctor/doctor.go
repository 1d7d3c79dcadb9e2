// Package doctor looks for what keeps pods' packets from arriving on this machine, or makes them slow: what other
// programs, earlier pod networks and the machine's settings do to weft. It changes nothing.
//
// [Look] takes a snapshot of the machine, and [Examine] judges it: checks are functions of values, in the order of their
// codes. A code stays with its check for ever:
//
//	W0xx  weft itself: daemon, configuration
//	W1xx  links, the underlay, MTUs
//	W2xx  offloads
//	W3xx  sysctls and what the kernel has of them
//	W4xx  firewalls
//	W5xx  the ways to other nodes, and packets that were dropped
//	W6xx  ports
//	W7xx  leftovers, and other pod networks
//	W8xx  programs that manage links and routes
//	W9xx  clock, limits, kernel
package doctor

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/cmd/internal/control"
)

// Weft's own marks on what it makes: the protocol number of its routes, and the alias of its TUN. Package host sets them.
const (
	RouteProtocol = 119
	LinkAlias     = "weft"
)

// Node is what weft is on this machine: what its daemon says, or where none runs its configuration. What is not known is
// zero.
type Node struct {
	Running     bool // the daemon does
	Tun         string
	MTU         int    // bytes of a pod's packet
	Underlay    string // interface
	UnderlayMTU int    // as the daemon took it
	UnderlayWhy string // how it was chosen
	Named       bool   // the configuration says which
	PodNetworks []netip.Prefix
	PodCIDRs    []netip.Prefix
	Ports       []Port // that weft has, or wants
	Bridge      bool   // pods are on a bridge of weft's, cni0
	CNIConfDir  string // where weft tells runtimes of its network; "" for nowhere
	Conflist    string // name of the file there
	Peers       []Peer // that are up
}

// Peer is where another node is.
type Peer struct {
	Name     string
	Endpoint netip.Addr
}

// Port is one that packets come to.
type Port struct {
	Protocol string // "udp" or "tcp"
	Number   uint16
	Key      string // of the configuration; "" in a snapshot
}

// Examine says what is wrong with m for n. A finding that needs what m lacks is not made.
func Examine(n Node, m *Machine) control.Diagnosis {
	x := Examination{}
	for _, what := range m.Unseen {
		x.Find(control.LevelWarning, "W003", what+" could not be looked at", "run `weft doctor` as root")
	}
	x.links(n, m)
	x.offloads(n, m)
	x.sysctls(n, m)
	x.ports(n, m)
	x.leftovers(n, m)
	x.networks(n, m)
	x.managers(m)
	x.machine(m)
	return x.Diagnosis
}

// Examination is a Diagnosis being made. The zero value is an empty one.
type Examination struct{ control.Diagnosis }

// Looked enters what is looked at, a few words.
func (x *Examination) Looked(at string) { x.Checked = append(x.Checked, at) }

// Find enters a finding; what and fix are one line each.
func (x *Examination) Find(level, code, what, fix string) {
	x.Findings = append(x.Findings, control.Finding{Level: level, Code: code, What: what, Fix: fix})
}

// Add enters all of d.
func (x *Examination) Add(d control.Diagnosis) {
	x.Findings = append(x.Findings, d.Findings...)
	x.Checked = append(x.Checked, d.Checked...)
}

func (x *Examination) problem(code, fix, format string, args ...any) {
	x.Find(control.LevelProblem, code, fmt.Sprintf(format, args...), fix)
}

func (x *Examination) warning(code, fix, format string, args ...any) {
	x.Find(control.LevelWarning, code, fmt.Sprintf(format, args...), fix)
}

// within says whether p is inside one of all, or is one.
func within(all []netip.Prefix, p netip.Prefix) bool {
	return slices.ContainsFunc(all, func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) })
}
