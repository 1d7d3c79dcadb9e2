package membership

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func host(mac uint32, ips ...string) SegmentHost {
	h := SegmentHost{MAC: [6]byte{2, 0, byte(mac >> 24), byte(mac >> 16), byte(mac >> 8), byte(mac)}}
	for _, ip := range ips {
		h.IPs = append(h.IPs, netip.MustParseAddr(ip))
	}
	return h
}

// withSegments is the description of node n as a member of segments.
func withSegments(n byte, segments ...SegmentClaim) Description {
	d := record(n, 1).Description
	d.Segments = segments
	return d
}

// manyHosts are hosts with an address of each family.
func manyHosts(n int) (hosts []SegmentHost) {
	for i := range n {
		hosts = append(hosts, host(uint32(i+1), fmt.Sprintf("192.168.%d.%d", i/250, i%250+1), fmt.Sprintf("fd00::%x", i+1)))
	}
	return hosts
}

func manySegments(n int) (segments Segments) {
	for i := range n {
		segments = append(segments, SegmentClaim{VNI: uint32(maxVNI - n + i)})
	}
	return segments
}

// The bytes are what other nodes of the cluster read.
func TestSegmentsOnTheWire(t *testing.T) {
	r := record(1, 7)
	r.Segments = Segments{
		{VNI: 100, Hosts: []SegmentHost{host(1), host(2, "192.168.0.2", "fe80::2")}},
		{VNI: maxVNI},
	}
	e := seal(t, 1, r)
	golden := "000064" + "02" + // VNI 100, 2 hosts
		"020000000001" + "00" + // without addresses
		"020000000002" + "11" + "c0a80002" + "fe800000000000000000000000000002" + // one of each family
		"ffffff" + "00" // VNI 16777215, none
	_, rest, _ := strings.Cut(string(e.Payload), `"segments":"`)
	text, _, _ := strings.Cut(rest, `"`)
	if bin, err := base64.RawStdEncoding.DecodeString(text); err != nil || fmt.Sprintf("%x", bin) != golden {
		t.Errorf("on the wire %x, %v; want %s", bin, err, golden)
	}
	if got, err := Open(e); err != nil || !reflect.DeepEqual(got, r) {
		t.Fatalf("opened %+v, %v; want %+v", got, err, r)
	}
}

func TestSegmentsFind(t *testing.T) {
	s := Segments{{VNI: 3}, {VNI: 7, Hosts: []SegmentHost{host(1)}}}
	if c, ok := s.Find(7); !ok || len(c.Hosts) != 1 {
		t.Errorf("VNI 7: %v, %v", c, ok)
	}
	for _, vni := range []uint32{0, 4, 8} {
		if c, ok := s.Find(vni); ok {
			t.Errorf("VNI %d: %v", vni, c)
		}
	}
}

func TestSegmentsRejects(t *testing.T) {
	for name, s := range map[string]Segments{
		"VNI 0":              {{VNI: 0}},
		"VNI of 25 bits":     {{VNI: 1 << 24}},
		"twice":              {{VNI: 5}, {VNI: 5}},
		"unsorted":           {{VNI: 5}, {VNI: 4}},
		"too many":           manySegments(maxSegments + 1),
		"host twice":         {{VNI: 5, Hosts: []SegmentHost{host(1), host(1)}}},
		"hosts unsorted":     {{VNI: 5, Hosts: []SegmentHost{host(2), host(1)}}},
		"multicast":          {{VNI: 5, Hosts: []SegmentHost{{MAC: [6]byte{1, 0, 94}}}}},
		"zero MAC":           {{VNI: 5, Hosts: make([]SegmentHost, 1)}},
		"addresses unsorted": {{VNI: 5, Hosts: []SegmentHost{host(1, "192.168.0.2", "192.168.0.1")}}},
		"families unsorted":  {{VNI: 5, Hosts: []SegmentHost{host(1, "fe80::1", "192.168.0.1")}}},
		"address twice":      {{VNI: 5, Hosts: []SegmentHost{host(1, "192.168.0.1", "192.168.0.1")}}},
		"too many addresses": {{VNI: 5, Hosts: []SegmentHost{host(1, "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5")}}},
		"unspecified":        {{VNI: 5, Hosts: []SegmentHost{host(1, "0.0.0.0")}}},
		"group":              {{VNI: 5, Hosts: []SegmentHost{host(1, "ff02::1")}}},
		"broadcast":          {{VNI: 5, Hosts: []SegmentHost{host(1, "255.255.255.255")}}},
		"loopback":           {{VNI: 5, Hosts: []SegmentHost{host(1, "127.0.0.1")}}},
		"4 in 6":             {{VNI: 5, Hosts: []SegmentHost{host(1, "::ffff:10.0.0.1")}}},
		"zone":               {{VNI: 5, Hosts: []SegmentHost{host(1, "fe80::1%eth0")}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := record(1, 7)
			r.Segments = s
			if _, err := Seal(identity(1), r); err == nil {
				t.Error("sealed")
			}
		})
	}
	for name, text := range map[string]string{
		"half a segment": "AABk",
		"half a host":    "AABkAQIA",
		"half an IP":     "AABkAQIAAAAAAQHA",
		"a line end":     `AABk\nAA`,
		"stray bits":     "AABkAB",
		"no base64":      "?",
	} {
		t.Run(name, func(t *testing.T) {
			e := seal(t, 1, record(1, 7))
			e = sign(identity(1), []byte(strings.Replace(string(e.Payload), `"mtu"`, `"segments":"`+text+`","mtu"`, 1)))
			if _, err := Open(e); err == nil {
				t.Error("opened")
			}
		})
	}
}

// A node that has more hosts than there is room for announces what fits, sorted, and addresses give way first.
func TestPublishWhatFits(t *testing.T) {
	s := memoryStore(1)
	given := withSegments(1,
		SegmentClaim{VNI: 7, Hosts: []SegmentHost{host(9), host(8, "10.0.0.8")}},
		SegmentClaim{VNI: 5, Hosts: manyHosts(400)},
	)
	if err := s.Publish(given); err != nil {
		t.Fatal(err)
	}
	own := s.ownRecord()
	if own.Segments[0].VNI != 5 || own.Segments[1].VNI != 7 || own.Segments[1].Hosts[0].MAC != host(8).MAC || len(own.Segments[1].Hosts) != 2 {
		t.Errorf("published %+v", own.Segments)
	}
	if n := len(own.Segments[0].Hosts); n < 60 {
		t.Errorf("%d hosts fit", n)
	}
	if n := len(s.own.env.Payload); n > maxPayload || n < maxPayload-20 {
		t.Errorf("%d bytes of %d", n, maxPayload)
	}
	if given.Segments[0].VNI != 7 || len(given.Segments[1].Hosts) != 400 || given.Segments[0].Hosts[0].MAC != host(9).MAC {
		t.Error("what was given is changed")
	}
	for _, again := range []func(Description) error{s.Publish, s.Redescribe} {
		if err := again(given); err != nil || s.ownRecord().Version != own.Version {
			t.Errorf("the same once more: version %d after %d, %v", s.ownRecord().Version, own.Version, err)
		}
	}
}

func TestFewHostsKeepTheirAddresses(t *testing.T) {
	s := memoryStore(1)
	if err := s.Publish(withSegments(1, SegmentClaim{VNI: 5, Hosts: manyHosts(5)})); err != nil {
		t.Fatal(err)
	}
	if got := s.ownRecord().Segments[0].Hosts; !reflect.DeepEqual(got, manyHosts(5)) {
		t.Errorf("published %v", got)
	}
}

// Whatever frames claim, the node is heard.
func TestNoHostKeepsNodeFromPublishing(t *testing.T) {
	s := memoryStore(1)
	if err := s.Publish(withSegments(1, SegmentClaim{VNI: 5, Hosts: []SegmentHost{
		host(2, "10.0.0.2", "224.0.0.1", "0.0.0.0", "127.0.0.1", "10.0.0.1", "10.0.0.2", "::ffff:10.0.0.3", "::1", "fe80::1%eth0"), {},
		{MAC: [6]byte{255, 255, 255, 255, 255, 255}}, {MAC: host(1).MAC, IPs: make([]netip.Addr, 9)}, host(2, "10.0.0.9"),
		host(3, "10.0.0.5", "10.0.0.4", "10.0.0.3", "10.0.0.2", "10.0.0.1"),
	}})); err != nil {
		t.Fatal(err)
	}
	want := []SegmentHost{host(1), host(2, "10.0.0.1", "10.0.0.2"), host(3, "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")}
	if got := s.ownRecord().Segments; !got.equal(Segments{{VNI: 5, Hosts: want}}) {
		t.Errorf("published %v, want %v", got, want)
	}
}

// Claims are what a node cannot do without: they take the room of hosts.
func TestClaimsComeBeforeHosts(t *testing.T) {
	s := memoryStore(1)
	if err := s.Publish(withSegments(1, SegmentClaim{VNI: 5, Hosts: manyHosts(200)})); err != nil {
		t.Fatal(err)
	}
	before := len(s.ownRecord().Segments[0].Hosts)
	if err := s.Claim(netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:10:244:1::/64")); err != nil {
		t.Fatal(err)
	}
	if own := s.ownRecord(); len(own.Claims) != 2 || len(own.Segments[0].Hosts) >= before || len(own.Segments[0].Hosts) == 0 {
		t.Errorf("%d claims, %d hosts of %d", len(own.Claims), len(own.Segments[0].Hosts), before)
	}
}

// As many segments as there may be, beside all that a usual record has.
func TestRoomForSegments(t *testing.T) {
	cert, err := Certify(identity(9), identity(1).ID, podNetworks)
	if err != nil {
		t.Fatal(err)
	}
	r := record(1, 123456789, claim("10.244.113.0/24", 123456780), claim("fd00:10:244:113::/64", 123456780))
	r.Modes, r.Capabilities = []string{"direct", "udp", "vxlan"}, []string{"rco-gue", "rco-vxlan"}
	r.VTEPMAC, r.VXLANPort, r.VNI, r.LinkMTU = "02:00:00:00:00:01", 4789, 1<<24-1, 1500
	r.Keys, r.Cert = []string{"0123456789abcdef"}, &cert
	few := r.Description
	few.Segments = Segments{{VNI: 5}}
	for i := range 200 {
		few.Segments[0].Hosts = append(few.Segments[0].Hosts, host(uint32(i+1)))
	}
	r.Description = r.fit(few)
	t.Logf("%d hosts without addresses", len(r.Segments[0].Hosts))
	if n := len(r.Segments[0].Hosts); n < 25 {
		t.Errorf("room for %d hosts", n)
	}
	seal(t, 1, r)
	r.Segments = manySegments(maxSegments)
	if _, err := Seal(identity(1), r); err != nil {
		t.Error(err)
	}
}

// Who left is a member of no segment, and nobody says of another that it is.
func TestLeftWithoutSegments(t *testing.T) {
	s := memoryStore(1)
	if err := s.Publish(withSegments(1, SegmentClaim{VNI: 5})); err != nil {
		t.Fatal(err)
	}
	if err := s.Leave(); err != nil {
		t.Fatal(err)
	}
	if own := s.ownRecord(); len(own.Segments) != 0 {
		t.Errorf("left with %v", own.Segments)
	}
	gone := goneRecord(1, 2, 9)
	gone.Segments = Segments{{VNI: 5}}
	if _, err := Seal(identity(1), gone); err == nil {
		t.Error("another's segments are told")
	}
}

// A node that knows nothing of segments takes such a record, and relays it as it is.
func TestSegmentsAreRelayedUnread(t *testing.T) {
	r := record(2, 7)
	r.Segments = Segments{{VNI: 5, Hosts: manyHosts(3)}}
	e := seal(t, 2, r)
	e = sign(identity(2), []byte(strings.Replace(string(e.Payload), `"segments"`, `"segmentsLater"`, 1)))
	s := memoryStore(1)
	merge(t, s, e, true)
	if envs := s.Envelopes(); len(envs) != 1 || !reflect.DeepEqual(envs[0], e) {
		t.Errorf("relayed %+v", envs)
	}
}

func FuzzSegments(f *testing.F) {
	for _, s := range []Segments{{}, {{VNI: 5}}, {{VNI: 5, Hosts: manyHosts(3)}, {VNI: 6, Hosts: []SegmentHost{host(1)}}}} {
		text, err := s.MarshalText()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), 100)
	}
	f.Fuzz(func(t *testing.T, text string, room int) {
		var s Segments
		if s.UnmarshalText([]byte(text)) != nil || s.validate() != nil {
			return
		}
		if again, err := s.MarshalText(); err != nil || string(again) != text {
			t.Fatalf("%q is %q when written again, %v", text, again, err)
		}
		cut := s.clone().fit(room)
		if err := cut.validate(); err != nil || len(cut) != len(s) {
			t.Fatalf("%v is cut to %v: %v", s, cut, err)
		}
		if short, _ := cut.MarshalText(); len(short) > max(room, base64.RawStdEncoding.EncodedLen(4*len(s))) {
			t.Fatalf("%d bytes where there is room for %d", len(short), room)
		}
		if len(text) <= room && !cut.equal(s) {
			t.Fatalf("%v fits, and is cut to %v", s, cut)
		}
	})
}
