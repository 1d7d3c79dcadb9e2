package main

import (
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/cmd/internal/metrics"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/path"
)

// past is what a process writes down for the next one, whenever it changes.
type past struct {
	Ways      []knownWay      `json:"ways"`
	Stopped   time.Duration   `json:"stopped"` // when the workers ended, as now has it; 0 while they run
	Takeovers []countTakeover `json:"takeovers"`
	Hosts     []knownHost     `json:"hosts"` // when it ended
}

// knownHost is where a host of a segment was.
type knownHost struct {
	VNI    uint32
	MAC    packet.MAC
	Member string // its ID
}

// mostHosts bounds how many are written down; who is left out is found again by his frames.
const mostHosts = 8192

type knownWay struct {
	Peer  string
	Mode  string
	To    netip.AddrPort
	State path.State
}

type countTakeover struct {
	metrics.Takeover
	N uint64
}

// leaveHosts adds to what is written down next where hosts are: this process is about to end.
func (d *daemon) leaveHosts() {
	s := &d.succession
	s.past.Hosts = nil
	for _, segment := range d.engine.Segments() {
		for _, h := range segment.Hosts {
			if h.Member != "" && len(s.past.Hosts) < mostHosts {
				s.past.Hosts = append(s.past.Hosts, knownHost{segment.VNI, h.MAC, h.Member})
			}
		}
	}
}

// recallHosts has the engine know where hosts were.
func (d *daemon) recallHosts() {
	s := &d.succession
	for _, h := range s.past.Hosts {
		d.engine.Announce(h.VNI, h.Member, h.MAC, nil)
	}
	s.past.Hosts = nil
}

// remember writes down what the next process shall know. The reconciler calls it.
func (d *daemon) remember() {
	s := &d.succession
	if d.halt == nil { // the process before still writes
		return
	}
	s.past.Stopped = 0
	d.trouble.say(d.log, troubleStore, d.write())
}

func (d *daemon) write() error {
	s := &d.succession
	s.past.Ways, s.past.Takeovers = nil, nil
	for _, c := range d.chosen() {
		for _, w := range c.candidates() {
			s.past.Ways = append(s.past.Ways, knownWay{Peer: w.Peer, Mode: w.Mode, To: w.To, State: d.prober.state(w)})
		}
	}
	s.mu.Lock()
	for kind, n := range s.takeovers {
		s.past.Takeovers = append(s.past.Takeovers, countTakeover{kind, n})
	}
	s.mu.Unlock()
	slices.SortFunc(s.past.Ways, func(a, b knownWay) int { return a.To.Compare(b.To) })
	return s.memory.Write(s.past)
}
