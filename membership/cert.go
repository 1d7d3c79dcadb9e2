package membership

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// certContext is what a Cert's signature is made over: see Identity.Sign.
const certContext = "weft node certificate"

// Cert is the word of the cluster's authority that a node may be a member, and which
// blocks it may claim. It has no time in it: no clock decides who is a member. A Cert
// is not changed.
type Cert struct {
	// CIDRs are what the node's claims must be inside of; none means any.
	CIDRs     []netip.Prefix `json:"cidrs,omitempty"`
	Signature []byte         `json:"signature"` // 64 bytes, over the node's ID and CIDRs
}

// Certify returns the word of authority about node. The CIDRs are masked, and inside the pod network.
func Certify(authority Identity, node ID, cidrs []netip.Prefix) (Cert, error) {
	c := Cert{CIDRs: slices.Clone(cidrs), Signature: make([]byte, ed25519.SignatureSize)}
	if err := c.validate(); err != nil {
		return Cert{}, fmt.Errorf("certify node %s: %w", node.Short(), err)
	}
	signature := authority.Sign(certContext, c.signedBytes(node))
	c.Signature = signature[:]
	return c, nil
}

// Verify says why c is not authority's word about node; nil where it is. c may be nil.
func (c *Cert) Verify(authority, node ID) error {
	switch {
	case c == nil:
		return errors.New("it has no certificate of the cluster's authority: make one with `weft ca sign`")
	case !authority.Verify(certContext, c.signedBytes(node), c.Signature):
		return errors.New("its certificate is another authority's, or another node's: make one with `weft ca sign`")
	}
	return nil
}

// covers says whether node may claim p by c.
func (c *Cert) covers(p netip.Prefix) bool {
	return c == nil || len(c.CIDRs) == 0 || within(c.CIDRs, p)
}

// signedBytes are the node's ID, then for each prefix its length of address, address, and bits.
func (c *Cert) signedBytes(node ID) []byte {
	b := slices.Clone(node[:])
	for _, p := range c.CIDRs {
		a := p.Addr().AsSlice()
		b = append(append(append(b, byte(len(a))), a...), byte(p.Bits()))
	}
	return b
}

func (c *Cert) validate() error {
	if len(c.CIDRs) > maxClaims {
		return fmt.Errorf("a certificate of %d CIDRs: at most %d", len(c.CIDRs), maxClaims)
	}
	for _, p := range c.CIDRs {
		if err := checkPrefix(p); err != nil {
			return err
		}
	}
	if len(c.Signature) != ed25519.SignatureSize {
		return fmt.Errorf("a certificate's signature of %d bytes: want %d", len(c.Signature), ed25519.SignatureSize)
	}
	return nil
}

func (c *Cert) clone() Cert {
	return Cert{slices.Clone(c.CIDRs), slices.Clone(c.Signature)}
}

func (c *Cert) equal(o *Cert) bool {
	if c == nil || o == nil {
		return c == o
	}
	return slices.Equal(c.CIDRs, o.CIDRs) && bytes.Equal(c.Signature, o.Signature)
}
