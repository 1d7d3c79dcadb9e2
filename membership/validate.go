package membership

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

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
	return d.Segments.validate()
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
