package membership

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestSealOpen(t *testing.T) {
	r := record(1, 7, claim("10.244.1.0/24", 3))
	r.Capabilities, r.VTEPMAC = []string{"rco"}, "02:00:00:00:00:01"
	r.VXLANPort, r.VNI, r.LinkMTU = 4789, 1<<24-1, 1500
	got, err := Open(seal(t, 1, r))
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Fatalf("opened %+v, %v; want %+v", got, err, r)
	}
}

// A full dual-stack record must stay below the 1 kB that records take in normal use.
func TestRecordSize(t *testing.T) {
	r := record(1, 123456789, claim("10.244.113.0/24", 123456780), claim("fd00:10:244:113::/64", 123456780))
	r.Name = "ip-10-11-12-113.eu-central-1.compute.internal"
	r.Endpoints = []netip.AddrPort{netip.MustParseAddrPort("10.11.12.113:8285"), netip.MustParseAddrPort("[2001:db8:1234:5678::113]:8285")}
	r.Modes = []string{"direct", "udp", "vxlan"}
	r.Capabilities = []string{"rco-gue", "rco-vxlan"}
	r.VTEPMAC, r.VXLANPort, r.VNI = "02:00:00:00:00:01", 4789, 1<<24-1
	r.MTU, r.LinkMTU = 8930, 9000
	if n := envelopeHead + len(seal(t, 1, r).Payload); n >= 1000 {
		t.Fatalf("%d bytes on the wire", n)
	}
}

func TestOpenRejects(t *testing.T) {
	raw := func(text string) Envelope { return sign(identity(1), []byte(text)) }
	valid, err := json.Marshal(record(1, 7, claim("10.244.1.0/24", 3)))
	if err != nil {
		t.Fatal(err)
	}
	edit := func(old, new string) Envelope {
		t.Helper()
		if !strings.Contains(string(valid), old) {
			t.Fatalf("%s has no %s", valid, old)
		}
		return raw(strings.Replace(string(valid), old, new, 1))
	}
	forged := raw(string(valid))
	forged.Signature[5] ^= 1
	bare := raw(string(valid))
	bare.Signature = [ed25519.SignatureSize]byte(ed25519.Sign(identity(1).key, valid))
	other := raw(string(valid))
	other.Signer = identity(2).ID

	for name, c := range map[string]struct {
		e    Envelope
		want Reject
	}{
		"forged signature":      {forged, RejectSignature},
		"another signer":        {other, RejectSignature},
		"signed without domain": {bare, RejectSignature},
		"too large":             {raw(strings.Repeat(" ", maxPayload) + string(valid)), RejectSize},
		"not JSON":              {raw("{"), RejectFields},
		"trailing data":         {raw(string(valid) + "{}"), RejectFields},
		"no format":             {edit(`"format":1`, `"form":1`), RejectFormat},
		"next format":           {edit(`"format":1`, `"format":2`), RejectFormat},
		"next format, new type": {raw(`{"format":2,"id":5}`), RejectFormat},
		"another's record":      {sign(identity(2), valid), RejectIdentity},
		"no version":            {edit(`"version":7`, `"version":0`), RejectFields},
		"huge version":          {edit(`"version":7`, `"version":9007199254740993`), RejectFields},
		"negative version":      {edit(`"version":7`, `"version":-1`), RejectFields},
		"claim from the future": {edit(`"since":3`, `"since":8`), RejectFields},
		"claim since zero":      {edit(`"since":3`, `"since":0`), RejectFields},
		"host bits":             {edit(`10.244.1.0/24`, `10.244.1.1/24`), RejectFields},
		"mapped claim":          {edit(`10.244.1.0/24`, `::ffff:10.244.1.0/120`), RejectFields},
		"overlapping claims":    {edit(`"claims":[`, `"claims":[{"prefix":"10.244.0.0/23","since":1},`), RejectFields},
		"empty prefix":          {edit(`10.244.1.0/24`, ``), RejectFields},
		"no endpoints":          {edit(`"endpoints":["192.0.2.1:8285"]`, `"endpoints":[]`), RejectFields},
		"nine endpoints":        {edit(`"endpoints":[`, `"endpoints":[`+strings.Repeat(`"192.0.2.9:1",`, maxEndpoints)), RejectFields},
		"endpoint twice":        {edit(`"endpoints":[`, `"endpoints":["192.0.2.1:8285",`), RejectFields},
		"unspecified endpoint":  {edit(`192.0.2.1:8285`, `0.0.0.0:8285`), RejectFields},
		"loopback endpoint":     {edit(`192.0.2.1:8285`, `127.0.0.1:8285`), RejectFields},
		"multicast endpoint":    {edit(`192.0.2.1:8285`, `224.0.0.1:8285`), RejectFields},
		"broadcast endpoint":    {edit(`192.0.2.1:8285`, `255.255.255.255:8285`), RejectFields},
		"mapped endpoint":       {edit(`192.0.2.1:8285`, `[::ffff:192.0.2.1]:8285`), RejectFields},
		"zoned endpoint":        {edit(`192.0.2.1:8285`, `[fe80::1%eth0]:8285`), RejectFields},
		"endpoint port zero":    {edit(`192.0.2.1:8285`, `192.0.2.1:0`), RejectFields},
		"gossip port zero":      {edit(`192.0.2.1:7946`, `192.0.2.1:0`), RejectFields},
		"no name":               {edit(`"name":"n1"`, `"name":""`), RejectFields},
		"long name":             {edit(`"name":"n1"`, `"name":"`+strings.Repeat("a", maxName+1)+`"`), RejectFields},
		"name with an escape":   {edit(`"name":"n1"`, `"name":"n1\u001b[2J"`), RejectFields},
		"empty mode":            {edit(`["udp"]`, `[""]`), RejectFields},
		"many modes":            {edit(`["udp"]`, `["u"`+strings.Repeat(`,"u"`, maxTokens)+`]`), RejectFields},
		"no MTU":                {edit(`"mtu":1472`, `"mtu":0`), RejectFields},
		"huge MTU":              {edit(`"mtu":1472`, `"mtu":65536`), RejectFields},
		"huge VNI":              {edit(`"mtu":1472`, `"mtu":1472,"vni":16777216`), RejectFields},
		"negative VNI":          {edit(`"mtu":1472`, `"mtu":1472,"vni":-1`), RejectFields},
		"huge VXLAN port":       {edit(`"mtu":1472`, `"mtu":1472,"vxlanPort":65536`), RejectFields},
		"small link MTU":        {edit(`"mtu":1472`, `"mtu":1472,"linkMTU":1279`), RejectFields},
		"negative link MTU":     {edit(`"mtu":1472`, `"mtu":1472,"linkMTU":-1500`), RejectFields},
		"huge link MTU":         {edit(`"mtu":1472`, `"mtu":1472,"linkMTU":65536`), RejectFields},
		"multicast VTEP":        {edit(`"mtu":1472`, `"mtu":1472,"vtepMAC":"01:00:00:00:00:01"`), RejectFields},
		"VTEP in capitals":      {edit(`"mtu":1472`, `"mtu":1472,"vtepMAC":"0A:00:00:00:00:01"`), RejectFields},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(c.e)
			wantReject(t, err, c.want)
		})
	}
}

// A record of a node that knows nothing of VXLAN and link MTUs is as good as before, and writes none.
func TestRecordWithoutLaterFields(t *testing.T) {
	r := record(1, 7)
	e := seal(t, 1, r)
	for _, field := range []string{"vxlanPort", "vni", "linkMTU", "vtepMAC"} {
		if strings.Contains(string(e.Payload), field) {
			t.Errorf("%s is in %s", field, e.Payload)
		}
	}
	if got, err := Open(e); err != nil || !got.Description.equal(r.Description) {
		t.Fatalf("opened %+v, %v", got, err)
	}
}

func TestUnknownFieldsAreRelayed(t *testing.T) {
	valid, err := json.Marshal(record(2, 7))
	if err != nil {
		t.Fatal(err)
	}
	e := sign(identity(2), []byte(strings.Replace(string(valid), `"mtu"`, `"later":{"a":[1]},"mtu"`, 1)))
	s := memoryStore(1)
	merge(t, s, e, true)
	envs, err := ParseMessage(AppendMessage(nil, s.Envelopes()...))
	if err != nil || len(envs) != 1 || !reflect.DeepEqual(envs[0], e) {
		t.Fatalf("relayed %+v, %v", envs, err)
	}
}

func TestParseMessageRejects(t *testing.T) {
	good := AppendMessage(nil, seal(t, 1, record(1, 1)), seal(t, 2, record(2, 1)))
	if envs, err := ParseMessage(good); err != nil || len(envs) != 2 {
		t.Fatalf("%d envelopes, %v", len(envs), err)
	}
	if envs, err := ParseMessage([]byte{messageEnvelopes}); err != nil || len(envs) != 0 {
		t.Fatalf("empty list: %v, %v", envs, err)
	}
	for name, b := range map[string][]byte{
		"empty":             {},
		"unknown format":    append([]byte{9}, good[1:]...),
		"truncated":         good[:len(good)-1],
		"cut in the length": good[:2],
		"length too large":  {messageEnvelopes, 0xff, 0xff, 0xff, 0xff, 0x0f, 0},
		"length overflows":  append([]byte{messageEnvelopes}, bytes.Repeat([]byte{0xff}, 11)...),
		"long zero length":  {messageEnvelopes, 0x80, 0x00},
		"no room for a key": {messageEnvelopes, 2, 0, 0},
		"no payload":        append([]byte{messageEnvelopes, envelopeHead}, make([]byte, envelopeHead)...),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseMessage(b)
			wantReject(t, err, RejectFraming)
		})
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{messageEnvelopes, 0x80, 0x00})
	f.Add(AppendMessage(nil, seal(f, 1, record(1, 1)), seal(f, 2, record(2, 9, claim("10.244.1.0/24", 3)))))
	f.Fuzz(func(t *testing.T, b []byte) {
		envs, err := ParseMessage(b)
		if err != nil {
			return
		}
		// Strict: one message has one spelling.
		if again := AppendMessage(nil, envs...); !bytes.Equal(again, b) {
			t.Fatalf("%x parses and encodes as %x", b, again)
		}
	})
}

func FuzzOpen(f *testing.F) {
	for _, r := range []Record{record(1, 1), record(1, 9, claim("10.244.1.0/24", 3))} {
		f.Add(seal(f, 1, r).Payload)
	}
	certified := record(1, 9, tentative("10.244.1.0/24", 9))
	cert, err := Certify(identity(2), identity(1).ID, podNetworks)
	if err != nil {
		f.Fatal(err)
	}
	certified.Cert, certified.Keys = &cert, []string{"k1"}
	f.Add(seal(f, 1, certified).Payload)
	f.Add(seal(f, 1, goneRecord(1, 2, 9)).Payload)
	segmented := record(1, 9)
	segmented.Segments = Segments{{VNI: 5, Hosts: manyHosts(2)}}
	f.Add(seal(f, 1, segmented).Payload)
	f.Add([]byte(`{"format":1,"id":null,"claims":[{}]}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, err := Open(sign(identity(1), payload))
		if err != nil {
			return
		}
		// What opens can be routed by, and published again.
		resolve(testTerms, []*Record{&r})
		if e, err := Seal(identity(1), r); err == nil {
			if again, err := Open(e); err != nil || !reflect.DeepEqual(again.Claims, r.Claims) && len(r.Claims) > 0 {
				t.Fatalf("%s: sealed again it opens as %+v, %v", payload, again, err)
			}
		}
	})
}
