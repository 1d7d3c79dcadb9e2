package authority

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"

	"github.com/weft-net/weft/membership"
)

// CertFile is a certificate as it stands in a file: what membership.Cert says, and about whom. Only the signature
// counts; Authority is there to tell whose it should be.
type CertFile struct {
	Node      membership.ID `json:"node"`
	Authority membership.ID `json:"authority"`
	membership.Cert
}

// Sign makes the certificate of a node, given by the text of its ID, with the authority's key. Its blocks must be
// inside cidrs; none means any.
func Sign(key membership.Identity, node string, cidrs []netip.Prefix) (CertFile, error) {
	id, err := membership.ParseID(node)
	if err != nil {
		return CertFile{}, fmt.Errorf("%w; `weft id` prints it on the node", err)
	}
	cert, err := membership.Certify(key, id, cidrs)
	if err != nil {
		return CertFile{}, err
	}
	return CertFile{Node: id, Authority: key.ID, Cert: cert}, nil
}

// Write writes f to a new file at path, which anyone may read: there is nothing secret in it.
func (f CertFile) Write(path string) error {
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the certificate of node %s: %w", f.Node.Short(), err)
	}
	if err := writeNew(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the certificate of node %s: %w", f.Node.Short(), err)
	}
	return nil
}

// LoadCert reads the certificate of node at path, and says what is wrong with it if it is not authority's word.
func LoadCert(path string, authority, node membership.ID) (*membership.Cert, error) {
	again := fmt.Sprintf("make one where the authority's key is, with `weft ca sign --node %s`, and copy it to %s", node, path)
	text, _, err := readFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("node certificate %s: no such file; %s", path, again)
	case err != nil:
		return nil, fmt.Errorf("node certificate %s: %w", path, err)
	}
	f, err := parseCert(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("node certificate %s is damaged (%w); %s", path, err, again)
	case f.Node != node:
		return nil, fmt.Errorf("node certificate %s is for node %s, and this is node %s; %s", path, f.Node.Short(), node.Short(), again)
	case f.Authority != authority:
		return nil, fmt.Errorf("node certificate %s is of authority %s, and clusterCA names %s; let clusterCA name the right one, or %s",
			path, f.Authority.Short(), authority.Short(), again)
	case f.Verify(authority, node) != nil:
		return nil, fmt.Errorf("node certificate %s was changed after it was signed; %s", path, again)
	}
	return &f.Cert, nil
}

// parseCert reads what CertFile.Write writes, and nothing else.
func parseCert(text []byte) (CertFile, error) {
	var f CertFile
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return CertFile{}, errors.New(oneLine(err))
	}
	switch {
	case len(bytes.TrimSpace(text[d.InputOffset():])) != 0:
		return CertFile{}, errors.New("more than one certificate")
	case len(f.Signature) == 0:
		return CertFile{}, errors.New("no signature")
	}
	return f, nil
}

// oneLine is the text of an error about bytes from outside.
func oneLine(err error) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' {
			return ' '
		}
		return r
	}, err.Error())
}
