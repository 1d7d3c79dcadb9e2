package membership

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"slices"
)

// fit returns d as it goes into r: with those hosts of its segments that there is room for. It shares nothing with d.
func (r *Record) fit(d Description) Description {
	d = d.clone()
	if len(d.Segments) == 0 {
		return d
	}
	rest := *r
	rest.Description = d
	rest.Segments = nil
	payload, err := json.Marshal(rest)
	if err != nil { // as Seal will say
		return d
	}
	d.Segments = d.Segments.fit(maxPayload - len(payload) - len(`,"segments":""`))
	return d
}

// fit returns s as it goes into a record with room for so many bytes of it in base64: tidy, and of the hosts what there
// is room for, by turns of the segments. Addresses come last: without them a question goes to all members,
// and without its host every frame, until that has sent one. It may change s.
func (s Segments) fit(room int) Segments {
	slices.SortFunc(s, func(a, b SegmentClaim) int { return cmp.Compare(a.VNI, b.VNI) })
	cut := make(Segments, len(s))
	for i := range s {
		s[i].Hosts = tidy(s[i].Hosts)
		cut[i].VNI = s[i].VNI
	}
	left := base64.RawStdEncoding.DecodedLen(room) - segmentSize*len(s)
	for turn, more := 0, true; more; turn++ {
		more = false
		for i, c := range s {
			if turn < len(c.Hosts) && left >= hostSize {
				cut[i].Hosts = append(cut[i].Hosts, SegmentHost{MAC: c.Hosts[turn].MAC})
				left, more = left-hostSize, true
			}
		}
	}
	for turn := range maxHostIPs {
		for i := range cut {
			for j := range cut[i].Hosts {
				if ips := s[i].Hosts[j].IPs; turn < len(ips) && left >= ips[turn].BitLen()/8 {
					cut[i].Hosts[j].IPs = append(cut[i].Hosts[j].IPs, ips[turn])
					left -= ips[turn].BitLen() / 8
				}
			}
		}
	}
	return cut
}

// tidy sorts hosts, and leaves out what validate refuses: hosts are what frames claim, which anybody behind a bridge
// can send, and must not keep this node from being heard.
func tidy(hosts []SegmentHost) []SegmentHost {
	hosts = slices.DeleteFunc(hosts, func(h SegmentHost) bool { return !h.unicast() })
	slices.SortStableFunc(hosts, compareHosts)
	hosts = slices.CompactFunc(hosts, func(a, b SegmentHost) bool { return a.MAC == b.MAC })
	for i := range hosts {
		ips := slices.DeleteFunc(hosts[i].IPs, func(ip netip.Addr) bool { return !machines(ip) })
		slices.SortFunc(ips, netip.Addr.Compare)
		ips = slices.Compact(ips)
		hosts[i].IPs = ips[:min(len(ips), maxHostIPs)]
	}
	return hosts
}
