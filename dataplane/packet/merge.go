package packet

const (
	// What IPv4's total length can say; IPv6 is held to the same.
	maxSuperpacket = 65535
	// UDP_MAX_SEGMENTS of include/linux/udp.h before Linux 6.9.
	maxUDPMembers = 64
	// One writev takes 1024 parts (UIO_MAXIOV): the device's header, the packet's,
	// and then one for each member.
	maxTCPMembers = 1022
	// The longest IPv4 and TCP headers: 15 words each.
	maxHeader = 2 * 60
)

// Merger turns runs of wire packets of one flow back into superpackets. It looks
// at headers only, but for checksums that must be verified, and copies no payload.
//
// What it makes of a run is what a [Segmenter] would cut into the same run again,
// down to the last bit. The one exception is the identification of IPv4 packets
// with Don't Fragment, which means nothing (RFC 6864 section 4.1). A packet that is
// not the direct continuation of the one before it starts a group of its own, so
// that the order of arrival is kept, across flows too.
//
// A Merger belongs to one worker, and is used in rounds: Add for each packet,
// Groups, Reset. It allocates at its creation only.
type Merger struct {
	tso, uso bool
	members  [][]byte // of all groups
	headers  []byte   // of all groups
	groups   []Group
	open     run
}

// NewMerger makes a Merger for rounds of at most packets wire packets. tso and uso
// say whether TCP segments and UDP datagrams are merged at all.
func NewMerger(packets int, tso, uso bool) *Merger {
	return &Merger{
		tso:     tso,
		uso:     uso,
		members: make([][]byte, 0, packets),
		headers: make([]byte, 0, packets/2*maxHeader),
		groups:  make([]Group, 0, packets),
	}
}

// Add takes the next packet p in order of arrival, with header h. partial says
// that its TCP or UDP checksum is, as in [Packet]; it is ignored where there is no
// such field. p is borrowed until Reset, and not changed.
func (m *Merger) Add(p []byte, h *Header, partial bool) {
	if m.open.count < m.open.limit && m.open.takes(p, partial) {
		m.members = append(m.members, p)
		return
	}
	m.close()
	m.begin(p, h, partial)
}

// Repeat takes p, and says so, if Add would have it join the packet before it, and if all that
// anybody may have found there by parsing and checking it holds for p too: it is as long, and
// its headers, which are read for the first time here, differ in nothing but what counts up. Most
// packets of bulk traffic are such. p is borrowed as by Add. Its checksum is partial, as that
// packet's is; where that one's is not, or it is the first of its group, Repeat takes nothing.
func (m *Merger) Repeat(p []byte) (taken bool) {
	if !m.open.repeats(p) {
		return false
	}
	m.members = append(m.members, p)
	return true
}

// Groups ends the round. The groups and their members are in order of arrival; they
// are valid until Reset.
func (m *Merger) Groups() []Group {
	m.close()
	m.open.limit = 0
	return m.groups
}

// Reset starts the next round.
func (m *Merger) Reset() {
	m.members, m.headers, m.groups = m.members[:0], m.headers[:0], m.groups[:0]
	m.open = run{}
}

// begin starts a group with p.
func (m *Merger) begin(p []byte, h *Header, partial bool) {
	m.open.reset(p, h, partial)
	m.open.start = len(m.members)
	m.members = append(m.members, p)
	if h.Protocol == ProtocolTCP && m.tso || h.Protocol == ProtocolUDP && m.uso {
		m.open.begin(h)
	}
}

// close completes the open group.
func (m *Merger) close() {
	r := &m.open
	if r.count == 0 {
		return
	}
	g := Group{Members: m.members[r.start:len(m.members):len(m.members)]}
	if r.partial {
		g.Partial, g.CsumStart, g.CsumOffset = true, r.transport, r.checksum-r.transport
	}
	if r.count > 1 {
		at := len(m.headers)
		m.headers = append(m.headers, r.first[:r.headers]...)
		g.Header = m.headers[at:len(m.headers):len(m.headers)]
		r.patch(g.Header)
		g.GSO, g.SegmentSize = r.gso, r.size
		g.CsumStart, g.CsumOffset = r.transport, r.checksum-r.transport
	}
	m.groups = append(m.groups, g)
	r.count = 0
}
