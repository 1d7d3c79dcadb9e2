package dataplane

import (
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"github.com/weft-net/weft/dataplane/packet"
)

// RFC 1812 section 4.3.2.8 asks that ICMP errors be limited. As Linux does, 1,000
// a second in bursts of 50 go to all senders together (icmp_msgs_per_sec,
// icmp_msgs_burst). Of that a sender takes an eighth at the most, so that one pod
// which floods leaves answers for the others, except those few that share its
// bucket.
const (
	answerRate  = 1000 // a second
	answerBurst = 50
	shareRate   = answerRate / 8
	shareBurst  = answerBurst / 8
	shares      = 256 // buckets; senders share one by the last byte of their address
)

// answers collects the ICMP errors of one turn. One worker owns it.
type answers struct {
	bufs   [][]byte       // of packet.MaxICMPError bytes each
	groups []packet.Group // the messages there are, one to a group
	limit  *rate.Limiter
	share  [shares]*rate.Limiter
}

// newAnswers is for one of so many workers, which have a part of the limits each.
func newAnswers(workers int) answers {
	a := answers{
		bufs:   make([][]byte, answerBurst),
		groups: make([]packet.Group, 0, answerBurst),
		limit:  rate.NewLimiter(rate.Limit(answerRate)/rate.Limit(workers), max(1, answerBurst/workers)),
	}
	for i := range a.bufs {
		a.bufs[i] = make([]byte, packet.MaxICMPError)
		a.groups = append(a.groups, packet.Group{Members: a.bufs[i : i+1 : i+1]})
	}
	a.groups = a.groups[:0]
	for i := range a.share {
		a.share[i] = rate.NewLimiter(rate.Limit(shareRate)/rate.Limit(workers), max(1, shareBurst/workers))
	}
	return a
}

// add prepares the ICMP error from from that says why p, sent by sender, went no
// further, where there may be one.
func (a *answers) add(from netip.Addr, p []byte, sender netip.Addr, problem packet.Problem, mtu int) {
	now, bucket := time.Now(), sender.As16()[15]
	if !a.share[bucket].AllowN(now, 1) || !a.limit.AllowN(now, 1) {
		return
	}
	i := len(a.groups)
	if i == cap(a.groups) {
		return
	}
	buf := a.bufs[i][:packet.MaxICMPError]
	n := packet.ICMPError(buf, from, p, problem, mtu)
	if n == 0 {
		return
	}
	a.bufs[i] = buf[:n]
	a.groups = a.groups[:i+1] // its member is a.bufs[i]
}

// take hands over the prepared messages, until the next add.
func (a *answers) take() []packet.Group {
	batch := a.groups
	a.groups = a.groups[:0]
	return batch
}
