package dataplane

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/weft-net/weft/dataplane/fdb"
	"github.com/weft-net/weft/dataplane/packet"
)

/* Layer-2 segments: the frames of a TAP travel as VXLAN, in a network of their own, to the
 * nodes that have the same segment. The way out is in segmentout.go, the way in in segmentin.go,
 * and the probes that find loops in segmentprobe.go.
 */

// Segment is a layer-2 segment, and who is in it.
type Segment struct {
	// VNI is the VXLAN network, of 24 bits, by which a segment is known.
	VNI uint32

	// MTU is the size of the largest frame that this node takes, in bytes, without its
	// Ethernet header and VLAN tags.
	MTU int

	// Flood is how many frames a second this node sends to all members, each of them
	// counted once: broadcasts, multicasts, and those whose destination is unknown.
	Flood int

	// Blocked says that nothing passes, since the segment's bridges are connected in
	// another way as well.
	Blocked bool

	// Members are the other nodes, each with a Tunnel of the segment's VNI. Of a Peer counts
	// what is not about pods; its MTU is that of frames, as above.
	Members []Peer
}

const (
	// stations is how many MACs a segment knows the places of, and neighbours how many
	// addresses of the network layer.
	stations   = 16 << 10
	neighbours = 4 << 10

	// floodBurst is how long a segment may be silent and then flood at once what it has
	// saved.
	floodBurst = 100 * time.Millisecond

	// untagged is the VLAN of frames without a tag, whose addresses are announced.
	untagged = 0

	// mostMembers is how many there may ever be while an engine lives: each keeps its number.
	mostMembers = 1<<16 - 2
)

// segment is a Segment made ready, and what outlives the tables. It is immutable but for that.
type segment struct {
	Segment
	*station
	port    int // index of its queue among a worker's
	members []*peer
	sources map[netip.Addr]*member
	owners  []*peer // by fdb.Owner; nil is nobody that is a member
}

// member is who sends frames, and by which number the FDB knows them.
type member struct {
	*peer
	owner fdb.Owner
}

// station is what an engine knows of one segment for as long as it lives.
type station struct {
	began      time.Time
	fdb        *fdb.Table
	neighbours *fdb.Neighbours
	moves      fdb.Moves
	limits     []*rate.Limiter // of flooding, a part for each worker

	flooded, limited, answered atomic.Uint64

	mu      sync.Mutex
	blocked bool                 // by the last tables
	numbers map[string]fdb.Owner // of all members there ever were
	probes  map[LoopProbe]uint32 // when each was last heard on the TAP
}

func newStation(began time.Time, workers int) *station {
	s := &station{
		began: began, fdb: fdb.New(stations), neighbours: fdb.NewNeighbours(neighbours),
		numbers: make(map[string]fdb.Owner), probes: make(map[LoopProbe]uint32),
	}
	for range workers {
		s.limits = append(s.limits, rate.NewLimiter(0, 1))
	}
	return s
}

// seconds is the FDB's clock.
func seconds(began time.Time) uint32 { return uint32(time.Since(began) / time.Second) }

// compileSegments makes the segments of c; those without a TAP are an error.
func (t *tables) compileSegments(c Config, e *Engine) error {
	t.segments = make([]*segment, len(e.vnis))
	for _, given := range c.Segments {
		port := slices.Index(e.vnis, given.VNI)
		if port < 0 {
			return fmt.Errorf("configure the dataplane: segment of VNI %d has no TAP", given.VNI)
		}
		s := &segment{Segment: given, station: e.stations[port], port: port, sources: make(map[netip.Addr]*member)}
		for _, p := range given.Members {
			owner, ok := s.number(p.ID)
			if !ok {
				return fmt.Errorf("configure the dataplane: the segment of VNI %d has had %d members: restart weftd", given.VNI, mostMembers)
			}
			m := &member{peer: &peer{Peer: p, link: e.link(p.ID)}, owner: owner}
			for _, addr := range p.Endpoints {
				if other, taken := s.sources[addr]; taken {
					return fmt.Errorf("configure the dataplane: %s and %s, both of the segment of VNI %d, have the same endpoint address %s", other.ID, p.ID, given.VNI, addr)
				}
				s.sources[addr] = m
			}
			s.members = append(s.members, m.peer)
			s.owners = append(s.owners, make([]*peer, max(0, int(m.owner)+1-len(s.owners)))...)
			s.owners[m.owner] = m.peer
		}
		t.segments[port] = s
		if t.networks == nil {
			t.networks = make(map[uint32]*segment)
		}
		t.networks[s.VNI] = s
	}
	return nil
}

// number is that of a member, which it keeps. ok is false where there is none left.
func (s *station) number(id string) (o fdb.Owner, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, known := s.numbers[id]
	switch {
	case known:
	case len(s.numbers) == mostMembers:
		return fdb.None, false
	default:
		o = fdb.Local + 1 + fdb.Owner(len(s.numbers))
		s.numbers[id] = o
	}
	return o, true
}

// settle brings what outlives the tables to s: flooding as it may be, and nothing known of
// those that have left.
func (s *segment) settle() {
	for _, l := range s.limits {
		share := rate.Limit(s.Flood) / rate.Limit(len(s.limits))
		l.SetLimit(share)
		l.SetBurst(max(1, int(float64(share)*floodBurst.Seconds())))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	turned := s.blocked != s.Blocked
	s.blocked = s.Blocked
	if turned { // a loop shows hosts where they are not
		s.fdb.Flush(fdb.Local)
	}
	for _, o := range s.numbers {
		if turned || s.at(o) == nil {
			s.fdb.Flush(o)
		}
	}
}

// at is the member of that number, if it is one.
func (s *segment) at(o fdb.Owner) *peer {
	if int(o) < len(s.owners) {
		return s.owners[o]
	}
	return nil
}

// learn takes note of where a frame has come from.
func (s *segment) learn(mac packet.MAC, from fdb.Owner, now uint32) {
	if was := s.fdb.Learn(mac, from, now); was != from && was != fdb.None {
		s.moves.Note(mac, was, from, now)
	}
}

// SegmentStats is what an engine knows of a segment.
type SegmentStats struct {
	VNI      uint32
	Hosts    []Host
	Twice    []Twice
	Loops    []Loop
	Flooded  uint64 // frames that went to all members, each counted once
	Limited  uint64 // those beyond Segment.Flood, which went nowhere
	Answered uint64 // questions for a hardware address that went nowhere
}

// Host is a station of a segment.
type Host struct {
	MAC       packet.MAC
	Member    string        // the node's ID; "" for this one
	IPs       []netip.Addr  // of frames without a VLAN tag
	Age       time.Duration // since it was last heard of
	Announced bool          // by its node, and not seen yet
}

// Twice is a MAC that turns up at two nodes; "" is this one.
type Twice struct {
	MAC   packet.MAC
	Nodes [2]string
}

// Loop is a probe that has come back by the TAP.
type Loop struct {
	LoopProbe
	Age time.Duration // since it was last heard
}

// Segments is what is known of each segment, in the order of their VNIs.
func (e *Engine) Segments() []SegmentStats {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []SegmentStats
	for i, s := range e.stations {
		all = append(all, s.stats(e.vnis[i]))
	}
	slices.SortFunc(all, func(a, b SegmentStats) int { return cmp.Compare(a.VNI, b.VNI) })
	return all
}

func (s *station) stats(vni uint32) SegmentStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := seconds(s.began)
	out := SegmentStats{VNI: vni, Flooded: s.flooded.Load(), Limited: s.limited.Load(), Answered: s.answered.Load()}
	names := make(map[fdb.Owner]string)
	for id, o := range s.numbers {
		names[o] = id
	}
	ips := make(map[packet.MAC][]netip.Addr)
	for _, n := range s.neighbours.All(now) {
		if n.VLAN == untagged {
			ips[n.MAC] = append(ips[n.MAC], n.IP)
		}
	}
	for _, h := range s.fdb.All(now) {
		out.Hosts = append(out.Hosts, Host{
			MAC: h.MAC, Member: names[h.Owner], IPs: ips[h.MAC], Age: time.Duration(h.Age) * time.Second, Announced: h.Announced,
		})
	}
	for _, d := range s.moves.Duplicates(now) {
		out.Twice = append(out.Twice, Twice{MAC: d.MAC, Nodes: [2]string{names[d.Between[0]], names[d.Between[1]]}})
	}
	for p, at := range s.probes {
		if now-at > probesKept {
			delete(s.probes, p)
			continue
		}
		out.Loops = append(out.Loops, Loop{LoopProbe: p, Age: time.Duration(now-at) * time.Second})
	}
	return out
}

// Announce takes a member's word for the hosts that are behind it.
func (e *Engine) Announce(vni uint32, member string, mac packet.MAC, ips []netip.Addr) {
	e.mu.Lock()
	defer e.mu.Unlock()
	port := slices.Index(e.vnis, vni)
	if port < 0 {
		return
	}
	s := e.stations[port]
	now := seconds(s.began)
	o, ok := s.number(member)
	if !ok {
		return
	}
	s.fdb.Announce(mac, o, now)
	for _, ip := range ips {
		if _, heard := s.neighbours.Lookup(untagged, ip, now); !heard {
			s.neighbours.Learn(untagged, ip, mac, now)
		}
	}
}
