package main

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/membership"
)

const (
	// loopInterval is how often a loop is looked for, and how often it is looked what hosts there are.
	loopInterval = 2 * time.Second

	// loopHold is how long a segment stays blocked after the last probe that has come back.
	loopHold = 5 * loopInterval

	// hostsInterval is the least time between two records that say what hosts there are.
	hostsInterval = 5 * time.Second
)

// loops are the segments that are blocked, by VNI, each with the reason. It may be used concurrently; the zero
// value is ready.
type loops struct {
	mu  sync.Mutex
	why map[uint32]string
}

func (l *loops) blocked(vni uint32) (why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why[vni]
}

// set says whether that is news.
func (l *loops) set(vni uint32, why string) (changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why == nil {
		l.why = make(map[uint32]string)
	}
	changed = (l.why[vni] == "") != (why == "")
	l.why[vni] = why
	return changed
}

// guardSegments looks for loops, and tells the others what hosts this node has, until ctx is done.
func (d *daemon) guardSegments(ctx context.Context) error {
	if len(d.taps) == 0 {
		return nil
	}
	tick := time.NewTicker(loopInterval)
	defer tick.Stop()
	var told time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			all := d.engine.Segments()
			news := false
			for _, t := range d.taps {
				probe := dataplane.LoopProbe{Node: d.id, VNI: t.VNI}
				probe.Proof = proofOf(d.keys.first(), &probe)
				_ = t.tap.Inject(probe.AppendFrame(nil, packet.MAC(d.station.MAC))) // a TAP that is down has no loop
				for i := range all {
					if all[i].VNI == t.VNI && d.loops.set(t.VNI, d.looped(&all[i])) {
						news = true
						d.log.Warn("segment", "name", t.Name, "blocked", d.loops.blocked(t.VNI))
					}
				}
			}
			claims := claimsOf(all)
			if was := d.hosted.Load(); (was == nil || !sameSegments(*was, claims)) && now.Sub(told) >= hostsInterval {
				told, news = now, true
				d.hosted.Store(&claims)
			}
			if news {
				token(d.settings.changed)
			}
		}
	}
}

// looped says why a segment is to be blocked, "" where it is not: the node with the lowest ID of those whose
// bridges are connected goes on, for all.
func (d *daemon) looped(s *dataplane.SegmentStats) (why string) {
	for _, l := range s.Loops {
		if l.Age > loopHold || l.VNI != s.VNI || bytes.Compare(l.Node[:], d.id[:]) > 0 || !d.proven(&l.LoopProbe) {
			continue
		}
		if l.Node == d.id {
			return "what this node sends into its TAP comes back by it: there is a loop behind the TAP; find two ports of the bridge that are connected, or turn STP on"
		}
		return fmt.Sprintf("what node %s sends into its own bridge comes out of this one: the two are connected in another way as well, which carries the frames meanwhile; take that away, or the segment", d.nameOf(l.Node))
	}
	return ""
}

// proven says whether a node has sent p, and no host, which could block the segment by it.
func (d *daemon) proven(p *dataplane.LoopProbe) bool {
	if d.keys.ring == nil { // insecure
		return p.Proof == proofOf(nil, p)
	}
	return slices.ContainsFunc(d.keys.ring.Keys(), func(key []byte) bool {
		proof := proofOf(key, p)
		return hmac.Equal(proof[:], p.Proof[:])
	})
}

// proofOf is an HMAC-SHA256, cut, by a key of its own that is made of the gossip key (RFC 5869).
func proofOf(gossipKey []byte, p *dataplane.LoopProbe) (proof [16]byte) {
	key, err := hkdf.Key(sha256.New, gossipKey, nil, "weft loop probe", sha256.Size)
	if err != nil {
		panic("weftd: 32 bytes are within what HKDF gives: " + err.Error())
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(binary.BigEndian.AppendUint32(p.Node[:], p.VNI))
	copy(proof[:], mac.Sum(nil))
	return proof
}

func (d *daemon) nameOf(id membership.ID) string {
	for _, m := range d.store.View(time.Now()).Members {
		if m.ID == id {
			return m.Name
		}
	}
	return id.Short()
}

// claimsOf are the segments with the hosts that this node has.
func claimsOf(all []dataplane.SegmentStats) (claims membership.Segments) {
	for _, s := range all {
		c := membership.SegmentClaim{VNI: s.VNI}
		for _, h := range s.Hosts {
			if h.Member == "" && !h.Announced {
				c.Hosts = append(c.Hosts, membership.SegmentHost{MAC: h.MAC, IPs: announced(h.IPs)})
			}
		}
		claims = append(claims, c)
	}
	return claims
}

// announced are those of a host's addresses that others need: not the link-local ones, which mostly come of its MAC.
func announced(ips []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(ips), netip.Addr.IsLinkLocalUnicast)
}

func sameSegments(a, b membership.Segments) bool {
	return slices.EqualFunc(a, b, func(a, b membership.SegmentClaim) bool {
		return a.VNI == b.VNI && slices.EqualFunc(a.Hosts, b.Hosts, func(a, b membership.SegmentHost) bool {
			return a.MAC == b.MAC && slices.Equal(a.IPs, b.IPs)
		})
	})
}

// segmentClaims are what this node's record says of its segments.
func (d *daemon) segmentClaims() membership.Segments {
	if hosted := d.hosted.Load(); hosted != nil {
		return *hosted
	}
	var claims membership.Segments
	for _, s := range d.config.Segments {
		claims = append(claims, membership.SegmentClaim{VNI: s.VNI})
	}
	return claims
}
