package doctor

import (
	"net/netip"
	"time"
)

// Machine is what one look at this machine has found. Nothing in it is shared.
type Machine struct {
	Links    []Link
	Routes   []Route           // of the main table and weft's
	Sysctls  map[string]string // by path below /proc/sys; those that are not there are not
	Ports    []Port            // that sockets are bound to in this network namespace, the kernel's own too
	Services []string          // of systemd that run, of those that matter here
	Files    []string          // that are there, of those that matter here
	Networks []Network         // that container runtimes are told of, in the order in which they look
	Clock    Clock
	Limits   Limits
	HugePage string   // how the kernel gives huge pages: "always", "madvise" or "never"; "" unknown
	Unseen   []string // what could not be looked at, and why, one line each
}

// Link is a network interface.
type Link struct {
	Name      string
	Index     int
	Kind      string // of virtual ones: "veth", "bridge", "tun", ...; "" of hardware
	Alias     string
	MTU       int
	Up        bool // set up
	Carrier   bool // and connected
	Master    int  // index of the bridge or bond that it is part of; 0 for none
	Addresses []netip.Prefix
	Off       []string // offloads that are off, of those that matter here; nil where it is not known
}

// Route is a route of the kernel's.
type Route struct {
	Prefix   netip.Prefix // valid also of a default route
	Link     int          // index; 0 where it has none
	Protocol int
	Metric   int
	Main     bool // of the main table
	Unicast  bool // not unreachable, blackhole, ...
}

// Network is a file that tells container runtimes of a network.
type Network struct {
	File string // name in its folder
	Name string // of the network
	Type string // of its first plugin
	Bad  string // why it cannot be read; "" where it can
}

// Clock is the state of the kernel's clock.
type Clock struct {
	Known    bool
	Unsynced bool          // nothing keeps it to the world's time (STA_UNSYNC)
	Error    time.Duration // the most that it is off by, by what keeps it
}

// Limits are those of the daemon's process; 0 is not known.
type Limits struct {
	Files uint64 // descriptors
}

// link returns the link of that name, or nil.
func (m *Machine) link(name string) *Link {
	for i := range m.Links {
		if m.Links[i].Name == name && name != "" {
			return &m.Links[i]
		}
	}
	return nil
}

// linkAt returns the link of that index, or nil.
func (m *Machine) linkAt(index int) *Link {
	for i := range m.Links {
		if m.Links[i].Index == index {
			return &m.Links[i]
		}
	}
	return nil
}
