package dataplane

import (
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"github.com/weft-net/weft/dataplane/device"
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

// answers collects the ICMP errors of one batch, at most one for each packet. One
// goroutine owns it.
type answers struct {
	bufs  [][]byte
	n     int
	limit *rate.Limiter
	share [shares]*rate.Limiter
}

func newAnswers(batch int) answers {
	a := answers{bufs: make([][]byte, batch), limit: rate.NewLimiter(answerRate, answerBurst)}
	for i := range a.bufs {
		a.bufs[i] = make([]byte, device.Headroom+packet.MaxICMPError)
	}
	for i := range a.share {
		a.share[i] = rate.NewLimiter(shareRate, shareBurst)
	}
	return a
}

// add prepares the ICMP error that says why p, sent by sender, went no further,
// where there may be one.
func (a *answers) add(from netip.Addr, p []byte, sender netip.Addr, code uint8, mtu int) {
	if !sender.Is4() {
		return
	}
	now := time.Now()
	if !a.share[sender.As4()[3]].AllowN(now, 1) || !a.limit.AllowN(now, 1) {
		return
	}
	buf := a.bufs[a.n][:device.Headroom+packet.MaxICMPError]
	n := packet.ICMPError(buf[device.Headroom:], from, p, code, mtu)
	if n == 0 {
		return
	}
	a.bufs[a.n] = buf[:device.Headroom+n]
	a.n++
}

// take hands over the prepared messages, behind device.Headroom bytes each,
// until the next add.
func (a *answers) take() [][]byte {
	batch := a.bufs[:a.n]
	a.n = 0
	return batch
}
