package membership

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Format is the major version of the record this package writes and reads. Fields
// are added without changing it: an older node ignores them and relays them.
const Format = 1

const (
	// maxVersion is the highest Version accepted: every JSON reader holds it exactly.
	maxVersion = 1 << 53
	// maxClock is how far others' records move a node's clock. A record above it
	// is kept, yet nobody follows it: else one hostile record near maxVersion
	// would leave no version for anyone to publish.
	maxClock = 1 << 52
)

// Limits on one record. All of them fit in MaxEnvelope together in no sensible
// record; it is MaxEnvelope that bounds memory and the gossip packet.
const (
	maxEndpoints = 8
	maxClaims    = 16
	maxTokens    = 16
	maxToken     = 32
	maxName      = 253 // a DNS name, RFC 1035 section 2.3.4 less the root
	maxVNI       = 1<<24 - 1
	maxKeys      = 8
)

// Description is what a node says of itself, apart from its claims.
type Description struct {
	// Name is for people; two nodes may have the same one.
	Name string `json:"name"`
	// Endpoints are the underlay addresses and data ports that reach the node.
	Endpoints []netip.AddrPort `json:"endpoints"`
	// Gossip is where its gossip listens; the zero value when it has none.
	Gossip netip.AddrPort `json:"gossip,omitzero"`
	// Modes are the ways in which it takes packets, the preferred first, of
	// "direct" (not encapsulated), "udp" and "vxlan".
	Modes []string `json:"modes,omitempty"`
	// Capabilities are optional features a sender may use towards it.
	Capabilities []string `json:"capabilities,omitempty"`
	// VTEPMAC is the inner Ethernet address of its VXLAN device, as
	// "02:00:00:00:00:01".
	VTEPMAC string `json:"vtepMAC,omitempty"`
	// VXLANPort is the UDP port on which it takes VXLAN, at the addresses of
	// Endpoints; 0 when it takes none.
	VXLANPort uint16 `json:"vxlanPort,omitempty"`
	// VNI is the one that it takes, 24 bits (RFC 7348 section 5).
	VNI uint32 `json:"vni,omitempty"`
	// MTU is the largest inner packet it takes, in bytes.
	MTU int `json:"mtu"`
	// LinkMTU is the MTU of its underlay link, in bytes; 0 when it does not say.
	LinkMTU int `json:"linkMTU,omitempty"`
	// Keys are the fingerprints of the gossip keys that it reads, the one it sends by first.
	Keys []string `json:"keys,omitempty"`
	// Cert is what the cluster's authority says of the node; nil without one.
	Cert *Cert `json:"cert,omitempty"`
}

// Record is all that the cluster knows of one node. A Record handed out by this
// package is shared: its slices must not be changed.
type Record struct {
	Format  int    `json:"format"`
	ID      ID     `json:"id"`
	Version uint64 `json:"version"` // Lamport time of publication
	// Settled says that the node has part in the cluster's history: it began it, or
	// has met one that has. Claims of others are provisional.
	Settled bool `json:"settled,omitempty"`
	Left    bool `json:"left,omitempty"`
	// By is the node that says of ID that it is gone, where that is not ID itself; then
	// Left is set, and nothing but Name is known.
	By     ID      `json:"by,omitzero"`
	Claims []Claim `json:"claims,omitempty"`
	Description
}

// Claim is a pod CIDR that a node holds, and the Version of its record in which it
// was first published.
type Claim struct {
	Prefix netip.Prefix `json:"prefix"`
	Since  uint64       `json:"since"`
	// Tentative says that it is announced and not held yet: it gives way to every
	// claim that is held, and nothing is routed by it.
	Tentative bool `json:"tentative,omitempty"`
}

// author is the node that signs the record.
func (r *Record) author() ID {
	if r.By != (ID{}) {
		return r.By
	}
	return r.ID
}

// since returns when the record first held prefix.
func (r *Record) since(prefix netip.Prefix) (uint64, bool) {
	for _, c := range r.Claims {
		if c.Prefix == prefix {
			return c.Since, true
		}
	}
	return 0, false
}

// shares returns the first underlay address that both records name.
func (r *Record) shares(other *Record) (netip.Addr, bool) {
	for _, e := range r.Endpoints {
		if slices.ContainsFunc(other.Endpoints, func(o netip.AddrPort) bool { return o.Addr() == e.Addr() }) {
			return e.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// clone returns a record whose slices are its own.
func (r Record) clone() Record {
	r.Claims = slices.Clone(r.Claims)
	r.Description = r.Description.clone()
	return r
}

func (d Description) clone() Description {
	d.Endpoints = slices.Clone(d.Endpoints)
	d.Modes = slices.Clone(d.Modes)
	d.Capabilities = slices.Clone(d.Capabilities)
	d.Keys = slices.Clone(d.Keys)
	if d.Cert != nil {
		c := d.Cert.clone()
		d.Cert = &c
	}
	return d
}

func (d Description) equal(o Description) bool {
	return d.Name == o.Name && slices.Equal(d.Endpoints, o.Endpoints) && d.Gossip == o.Gossip &&
		slices.Equal(d.Modes, o.Modes) && slices.Equal(d.Capabilities, o.Capabilities) &&
		d.VTEPMAC == o.VTEPMAC && d.VXLANPort == o.VXLANPort && d.VNI == o.VNI &&
		d.MTU == o.MTU && d.LinkMTU == o.LinkMTU && slices.Equal(d.Keys, o.Keys) && d.Cert.equal(o.Cert)
}

// validate checks everything that does not depend on the reader's configuration:
// every node accepts or refuses the same bytes.
func (r *Record) validate() error {
	if r.Version < 1 || r.Version > maxVersion {
		return fmt.Errorf("version %d is out of range", r.Version)
	}
	if r.By != (ID{}) {
		return r.validateProxy()
	}
	if err := checkClaims(r.Claims, r.Version); err != nil {
		return err
	}
	return r.Description.validate()
}

// validateProxy checks a record that one node publishes about another.
func (r *Record) validateProxy() error {
	bare := Record{Format: r.Format, ID: r.ID, Version: r.Version, Left: true, By: r.By, Description: Description{Name: r.Name, Cert: r.Cert}}
	switch {
	case r.Version > maxClock:
		// Else the node could never speak again: its next version would be none.
		return fmt.Errorf("version %d of another's word is out of range", r.Version)
	case r.By == r.ID:
		return errors.New("by the node itself, and yet in another's words")
	case !r.Left || len(r.Claims) > 0 || r.Settled || !r.Description.equal(bare.Description):
		return fmt.Errorf("node %s says more of %s than that it is gone", r.By.Short(), r.ID.Short())
	}
	return r.validateName()
}

func (d *Description) validateName() error {
	if d.Name == "" || len(d.Name) > maxName || strings.ContainsFunc(d.Name, notNameRune) {
		return fmt.Errorf("node name %q: want 1 to %d letters, digits, '-', '_' and '.'", shorten(d.Name), maxName)
	}
	return nil
}

func (d *Description) validate() error {
	if err := d.validateName(); err != nil {
		return err
	}
	if len(d.Endpoints) < 1 || len(d.Endpoints) > maxEndpoints {
		return fmt.Errorf("%d endpoints: want 1 to %d", len(d.Endpoints), maxEndpoints)
	}
	for i, e := range d.Endpoints {
		if err := checkAddrPort(e); err != nil {
			return fmt.Errorf("endpoint %s: %w", e, err)
		}
		if e.Addr().IsLoopback() {
			return fmt.Errorf("endpoint %s: a loopback address reaches no other machine", e)
		}
		if slices.Contains(d.Endpoints[:i], e) {
			return fmt.Errorf("endpoint %s is listed twice", e)
		}
	}
	// A loopback gossip address is harmless: its receiver would dial itself.
	if d.Gossip != (netip.AddrPort{}) {
		if err := checkAddrPort(d.Gossip); err != nil {
			return fmt.Errorf("gossip address %s: %w", d.Gossip, err)
		}
	}
	if err := checkTokens("mode", d.Modes, maxTokens); err != nil {
		return err
	}
	if err := checkTokens("capability", d.Capabilities, maxTokens); err != nil {
		return err
	}
	if err := checkTokens("key", d.Keys, maxKeys); err != nil {
		return err
	}
	if d.Cert != nil {
		if err := d.Cert.validate(); err != nil {
			return err
		}
	}
	if d.VTEPMAC != "" {
		mac, err := net.ParseMAC(d.VTEPMAC)
		if err != nil || len(mac) != 6 || mac.String() != d.VTEPMAC || mac[0]&1 != 0 {
			return fmt.Errorf("VTEP MAC %q: want a unicast address like 02:00:00:00:00:01", shorten(d.VTEPMAC))
		}
	}
	if d.VNI > maxVNI {
		return fmt.Errorf("VNI %d is out of range", d.VNI)
	}
	// 68 is the least MTU of IPv4 (RFC 791), 65535 its largest packet; 1280 the
	// least of IPv6 (RFC 8200 section 5), below which weft carries nothing.
	if d.MTU < 68 || d.MTU > 65535 {
		return fmt.Errorf("MTU %d is out of range", d.MTU)
	}
	if d.LinkMTU != 0 && (d.LinkMTU < 1280 || d.LinkMTU > 65535) {
		return fmt.Errorf("link MTU %d is out of range", d.LinkMTU)
	}
	return nil
}

func checkClaims(claims []Claim, version uint64) error {
	if len(claims) > maxClaims {
		return fmt.Errorf("%d claims: at most %d", len(claims), maxClaims)
	}
	for i, c := range claims {
		if err := checkPrefix(c.Prefix); err != nil {
			return err
		}
		if c.Since < 1 || c.Since > version {
			return fmt.Errorf("claim %s since %d in version %d", c.Prefix, c.Since, version)
		}
		for _, o := range claims[:i] {
			if c.Prefix.Overlaps(o.Prefix) {
				return fmt.Errorf("claims %s and %s overlap", o.Prefix, c.Prefix)
			}
		}
	}
	return nil
}

func checkPrefix(p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return errors.New("a claim without a prefix")
	case p.Addr().Is4In6():
		return fmt.Errorf("claim %s is an IPv4 address written as IPv6", p)
	case p != p.Masked():
		return fmt.Errorf("claim %s has host bits set: want %s", p, p.Masked())
	}
	return nil
}

func checkAddrPort(ap netip.AddrPort) error {
	a := ap.Addr()
	switch {
	case !a.IsValid():
		return errors.New("no address")
	case a.Is4In6():
		return errors.New("an IPv4 address written as IPv6")
	case a.Zone() != "":
		return errors.New("a zone means nothing to other nodes")
	case a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return errors.New("not the address of one machine")
	case ap.Port() == 0:
		return errors.New("port 0")
	}
	return nil
}

func checkTokens(what string, tokens []string, most int) error {
	if len(tokens) > most {
		return fmt.Errorf("%d of %s: at most %d", len(tokens), what, most)
	}
	for _, t := range tokens {
		if t == "" || len(t) > maxToken || strings.ContainsFunc(t, notNameRune) {
			return fmt.Errorf("%s %q: want 1 to %d letters, digits, '-', '_' and '.'", what, shorten(t), maxToken)
		}
	}
	return nil
}

// notNameRune keeps control characters and spaces out of terminals and labels.
func notNameRune(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
}

// shorten bounds outside text that goes into an error.
func shorten(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}
