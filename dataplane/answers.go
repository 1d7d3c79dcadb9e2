package dataplane

import (
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"github.com/weft-net/weft/dataplane/device"
	"github.com/weft-net/weft/dataplane/packet"
)

// RFC 1812 section 4.3.2.8 asks that ICMP errors be limited. Linux lets a
// machine send 1,000 a second in bursts of 50 (icmp_msgs_per_sec); here it is as
// much for all senders together, of which each takes no more than its share, so
// that one pod which floods does not silence the answers to the others.
const (
	answerRate   = 1000 / 8 // a second, for each of the senders that share a limiter
	answerBurst  = 50
	answerLimits = 64 // limiters; senders share one by the low bits of their address
)

// answers collects the ICMP errors of one batch. One goroutine owns it.
type answers struct {
	bufs   [][]byte
	n      int
	limits [answerLimits]*rate.Limiter
}

func newAnswers(batch int) answers {
	a := answers{bufs: make([][]byte, batch)}
	for i := range a.bufs {
		a.bufs[i] = make([]byte, device.Headroom+packet.MaxICMPError)
	}
	for i := range a.limits {
		a.limits[i] = rate.NewLimiter(answerRate, answerBurst)
	}
	return a
}

// add prepares the ICMP error that says why p, sent by sender, went no further,
// where there may be one.
func (a *answers) add(from netip.Addr, p []byte, sender netip.Addr, code uint8, mtu int) {
	if a.n == len(a.bufs) || !sender.Is4() {
		return
	}
	last := sender.As4()[3]
	if !a.limits[last%answerLimits].AllowN(time.Now(), 1) {
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
