package gossip

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weft-net/weft/membership"
)

const (
	// maxUnanswered is how many digests wait. A node is asked once a second while many
	// pull, else once or twice in some minutes.
	maxUnanswered = 16
	// maxAnswer bounds one message of an answer, so that each is sent within the time
	// that a stream is given: 400 kbit/s do.
	maxAnswer = 256 << 10
)

// digested takes a digest out of memberlist's hands, which must not wait.
func (g *Gossip) digested(b []byte) {
	d, err := membership.ParseDigest(b)
	if err != nil {
		g.reject(err)
		return
	}
	select {
	case g.digests <- d:
	default:
		g.log.Debug("a digest was not answered: too many wait; the next exchange makes up for it", "sender", d.Sender)
	}
}

// answerDigests sends each sender of a digest what it lacks, until g is closed.
func (g *Gossip) answerDigests() {
	for {
		select {
		case d := <-g.digests:
			if err := g.answer(d); err != nil {
				g.log.Debug("the answer to a digest ended early; the next exchange goes on with it", "error", err)
			}
		case <-g.closed:
			return
		}
	}
}

// answer sends the records that d's sender lacks, where that is alive. It asks for none:
// the sender answers our own digest likewise. What one peer takes too slowly must not keep
// the others waiting, so it ends after two streams' time at the most.
func (g *Gossip) answer(d membership.Digest) error {
	g.mu.Lock()
	addr, alive := g.peers[d.Sender]
	g.mu.Unlock()
	if !alive {
		return fmt.Errorf("node %s is not alive", d.Sender.Short())
	}
	to := peer(d.Sender, addr)
	began := time.Now()
	for _, msg := range messages(g.store.Newer(d), maxAnswer) {
		if time.Since(began) > g.timing.stream {
			return fmt.Errorf("node %s takes records too slowly", d.Sender.Short())
		}
		if err := g.list.SendReliable(to, msg); err != nil {
			return fmt.Errorf("send records to node %s: %w", d.Sender.Short(), err)
		}
	}
	return nil
}

// peer is a member as memberlist's sends want it.
func peer(id membership.ID, addr netip.AddrPort) *memberlist.Node {
	return &memberlist.Node{Name: id.String(), Addr: addr.Addr().AsSlice(), Port: addr.Port()}
}

// messages packs envs into messages of at most size bytes, or of one record.
func messages(envs []membership.Envelope, size int) [][]byte {
	var all [][]byte
	for _, e := range envs {
		one := membership.AppendMessage(nil, e)
		if last := len(all) - 1; last >= 0 && len(all[last])+len(one)-1 <= size {
			all[last] = append(all[last], one[1:]...) // less its format byte
			continue
		}
		all = append(all, one)
	}
	return all
}
