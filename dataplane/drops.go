package dataplane

import (
	"errors"
	"sync/atomic"

	"github.com/weft-net/weft/encap"
)

// Reason is why a packet went no further. Its text is the label of a metric, the
// column of a table and what tests assert.
type Reason uint8

const (
	Malformed Reason = iota
	UnknownPeer
	WrongVNI
	WrongVTEP
	Unsegmented
	Spoofed
	Fenced
	NotOurs
	NoRoute
	TooBig
	Congestion
	SocketFull
	UnderlayRefused
	DeviceRefused
	NotMember
	FloodLimit
	Looped

	reasons
)

// Immutable.
var reasonTexts = [reasons]struct{ name, explanation string }{
	Malformed:       {"malformed", "not a whole IP packet, or an encapsulation this node does not speak"},
	UnknownPeer:     {"unknown-peer", "came from an underlay address that is no known node's"},
	WrongVNI:        {"wrong-vni", "VXLAN of another VNI: `vni` differs between the nodes, or this one was restarted with another a moment ago"},
	WrongVTEP:       {"wrong-vtep", "VXLAN to another MAC address than this node's VTEP: the sender's FDB is out of date; or its own multicast, which is of no use here"},
	Unsegmented:     {"unsegmented", "VXLAN with unfinished checksums, as a Linux sender hands it over where no wire is between: `ethtool -K DEV tx off` for the sender's underlay device cures it"},
	Spoofed:         {"spoofed", "inner source address is not the sending node's to use"},
	Fenced:          {"fenced", "this node holds no block of the pod network, see weft status; the sender is told by ICMP"},
	NotOurs:         {"not-ours", "inner destination is not where the packet turned up: no transit, no loops"},
	NoRoute:         {"no-route", "no node that is up owns the destination; the sender is told by ICMP"},
	TooBig:          {"too-big", "larger than the way to the far node takes, and not to be cut; a pod of this node that sends it is told by ICMP"},
	Congestion:      {"congestion", "marked on the underlay, and the sender does not know ECN (RFC 6040)"},
	SocketFull:      {"socket-full", "the kernel had no room to send"},
	UnderlayRefused: {"underlay-refused", "the kernel would not send: no route to the node, a firewall rule, or a link that is down"},
	DeviceRefused:   {"device-refused", "the kernel would not take the packet from the TUN, or a frame from a TAP: out of memory, or the device is down"},
	NotMember:       {"not-member", "a frame of a segment, from a node that is not in it"},
	FloodLimit:      {"flood-limit", "more frames for all members of a segment than `flood` allows: a storm, or a host that scans"},
	Looped:          {"loop", "a frame of a segment that is blocked, since its bridges are connected in another way as well; see weft segments"},
}

// String is the reason's name.
func (r Reason) String() string { return reasonTexts[r].name }

// Explanation says in a sentence what the reason means.
func (r Reason) Explanation() string { return reasonTexts[r].explanation }

// Reasons are all reasons, in the order of their values.
func Reasons() []Reason {
	all := make([]Reason, reasons)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

// Refusal is why a datagram of such a kind, which is not encap.Packet, is not carried.
func Refusal(kind encap.Kind) Reason {
	switch kind {
	case encap.WrongVNI:
		return WrongVNI
	case encap.WrongVTEP:
		return WrongVTEP
	}
	return Malformed
}

// reasonOf is why a datagram was not sent.
func reasonOf(err error) Reason {
	switch {
	case errors.Is(err, encap.ErrTooBig):
		return TooBig
	case errors.Is(err, encap.ErrFull):
		return SocketFull
	}
	return UnderlayRefused
}

// Account is what became of the packets of one direction, counted in inner wire
// packets. It always adds up: Received = Forwarded + the sum of Drops.
type Account struct {
	Received  uint64
	Forwarded uint64
	Drops     [reasons]uint64 // by Reason
}

// drop enters n wire packets that went no further.
func (a *Account) drop(r Reason, n int) { a.Drops[r] += uint64(n) }

func (a *Account) add(b Account) {
	a.Received += b.Received
	a.Forwarded += b.Forwarded
	for r, n := range b.Drops {
		a.Drops[r] += n
	}
}

// ledger is the Account of one worker, added to by the worker alone, once a
// batch, and read by anyone.
type ledger struct {
	// seq is odd while an entry is being made, so that a reader who met one
	// tries again and never sees half of it (a sequence lock).
	seq   atomic.Uint64
	total [2 + reasons]atomic.Uint64
}

func (l *ledger) enter(a *Account) {
	l.seq.Add(1)
	l.total[0].Add(a.Received)
	l.total[1].Add(a.Forwarded)
	for r, n := range a.Drops {
		if n != 0 {
			l.total[2+r].Add(n)
		}
	}
	l.seq.Add(1)
}

// received is how many packets were received, for the worker itself.
func (l *ledger) received() uint64 { return l.total[0].Load() }

func (l *ledger) read() (a Account) {
	for {
		before := l.seq.Load()
		a.Received = l.total[0].Load()
		a.Forwarded = l.total[1].Load()
		for r := range a.Drops {
			a.Drops[r] = l.total[2+r].Load()
		}
		if before%2 == 0 && l.seq.Load() == before {
			return a
		}
	}
}
