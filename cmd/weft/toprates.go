package main

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
)

// sample is what the daemon has counted by then.
type sample struct {
	at    time.Time
	peers []control.Peer
	drops control.Drops
}

// rates are what `weft top` shows: a line of its JSON. Before there are two samples they are 0.
type rates struct {
	Time    time.Time  `json:"time"`
	Seconds float64    `json:"seconds"` // that they are of
	Peers   []peerRate `json:"peers"`
	Out     flow       `json:"out"` // to all peers
	In      flow       `json:"in"`
	Drops   []dropRate `json:"drops"` // those that are more than 0, the largest first
}

// peerRate is the traffic with one peer.
type peerRate struct {
	ID       string               `json:"id"`
	Name     string               `json:"name"`
	State    string               `json:"state"`
	Mode     string               `json:"mode"` // of "direct" the kernel carries all, and Out and In have weft's own share
	DataPath string               `json:"dataPath"`
	Out      flow                 `json:"out"`
	In       flow                 `json:"in"`
	RTT      control.Microseconds `json:"rttUs"`
	Loss     float64              `json:"loss"`
	PathMTU  int                  `json:"pathMTU"`

	peer control.Peer
}

// flow is one direction, of inner packets.
type flow struct {
	Packets float64 `json:"packetsPerSecond"`
	Bits    float64 `json:"bitsPerSecond"`
}

func (f flow) plus(g flow) flow { return flow{f.Packets + g.Packets, f.Bits + g.Bits} }

// dropRate is how fast packets are dropped for one reason.
type dropRate struct {
	Direction string  `json:"direction"` // "egress" or "ingress"
	Reason    string  `json:"reason"`
	Packets   float64 `json:"packetsPerSecond"`
}

// since returns what happened between before, which may be zero, and s.
func (s *sample) since(before *sample) rates {
	r := rates{Time: s.at, Peers: []peerRate{}, Drops: []dropRate{}}
	known := make(map[string]*control.Peer, len(before.peers))
	if !before.at.IsZero() {
		r.Seconds = s.at.Sub(before.at).Seconds()
		for i := range before.peers {
			known[before.peers[i].ID] = &before.peers[i]
		}
		r.addDrops("egress", &s.drops.Egress, &before.drops.Egress)
		r.addDrops("ingress", &s.drops.Ingress, &before.drops.Ingress)
	}
	for _, p := range s.peers {
		row := peerRate{ID: p.ID, Name: p.Name, State: p.State, Mode: p.Mode, DataPath: p.DataPath, RTT: p.RTT, Loss: p.Loss, PathMTU: p.PathMTU, peer: p}
		if was := known[p.ID]; was != nil {
			row.Out, row.In = r.flow(p.Tx, was.Tx), r.flow(p.Rx, was.Rx)
		}
		r.Out, r.In = r.Out.plus(row.Out), r.In.plus(row.In)
		r.Peers = append(r.Peers, row)
	}
	return r
}

func (r *rates) flow(now, was control.Traffic) flow {
	return flow{Packets: r.rate(now.Packets, was.Packets), Bits: 8 * r.rate(now.Bytes, was.Bytes)}
}

// rate is 0 where a counter went back, as those of a daemon that was restarted do.
func (r *rates) rate(now, was uint64) float64 {
	if now < was || r.Seconds <= 0 {
		return 0
	}
	return float64(now-was) / r.Seconds
}

func (r *rates) addDrops(direction string, now, was *control.Direction) {
	for reason, n := range now.Drops {
		if rate := r.rate(n, was.Drops[reason]); rate > 0 {
			r.Drops = append(r.Drops, dropRate{direction, reason, rate})
		}
	}
	slices.SortFunc(r.Drops, func(a, b dropRate) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), strings.Compare(a.Direction+a.Reason, b.Direction+b.Reason))
	})
}

// column is one of the table's.
type column int

const (
	columnNode column = iota
	columnState
	columnMode
	columnOut
	columnOutPackets
	columnIn
	columnInPackets
	columnRTT
	columnLoss
	columnMTU
	columns
)

// order is how the table is sorted.
type order struct {
	column  column
	reverse bool
}

// sorted returns the peers in that order: numbers from the largest, texts from A. Peers that are alike are in the order of
// their names, so that they do not jump.
func (o order) sorted(peers []peerRate) []peerRate {
	number := func(f func(p *peerRate) float64) func(a, b *peerRate) int {
		return func(a, b *peerRate) int { return cmp.Compare(f(b), f(a)) }
	}
	by := [columns]func(a, b *peerRate) int{
		columnNode:       func(a, b *peerRate) int { return strings.Compare(a.Name, b.Name) },
		columnState:      func(a, b *peerRate) int { return strings.Compare(a.State, b.State) },
		columnMode:       func(a, b *peerRate) int { return strings.Compare(a.Mode, b.Mode) },
		columnOut:        number(func(p *peerRate) float64 { return p.Out.Bits }),
		columnOutPackets: number(func(p *peerRate) float64 { return p.Out.Packets }),
		columnIn:         number(func(p *peerRate) float64 { return p.In.Bits }),
		columnInPackets:  number(func(p *peerRate) float64 { return p.In.Packets }),
		columnRTT:        number(func(p *peerRate) float64 { return float64(p.RTT) }),
		columnLoss:       number(func(p *peerRate) float64 { return p.Loss }),
		columnMTU:        number(func(p *peerRate) float64 { return float64(p.PathMTU) }),
	}[o.column]
	return slices.SortedFunc(slices.Values(peers), func(a, b peerRate) int {
		first := by(&a, &b)
		if o.reverse {
			first = -first
		}
		return cmp.Or(first, strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
}

// press changes the order as a key says.
func (o *order) press(k key) {
	chosen, ok := map[key]column{
		'n': columnNode, 's': columnState, 'm': columnMode, 'o': columnOut, 'i': columnIn, 't': columnRTT, 'l': columnLoss, 'p': columnMTU,
	}[k]
	switch {
	case ok:
		*o = order{column: chosen}
	case k == keyLeft:
		*o = order{column: (o.column + columns - 1) % columns}
	case k == keyRight:
		*o = order{column: (o.column + 1) % columns}
	case k == 'r':
		o.reverse = !o.reverse
	}
}
