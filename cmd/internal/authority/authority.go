// Package authority keeps the files by which a cluster says who may be a node: the authority's key, its public half,
// and the certificates of nodes.
//
//	ca.key     ed25519 key, PEM of PKCS #8 (RFC 5958), mode 0600: who has it decides who is a member
//	ca.pub     its public half, PEM of SubjectPublicKeyInfo (RFC 8410): every node has it
//	node.cert  the authority's word about one node, JSON: that node has it
//
// openssl reads the first two. Files are never overwritten. Errors are one line for the user, and end with what to do.
package authority

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/weft-net/weft/membership"
)

// The names of an authority's files.
const (
	KeyName    = "ca.key"
	PublicName = "ca.pub"
)

const publicPEMType = "PUBLIC KEY"

// Make writes a fresh authority to KeyName and PublicName in dir, which it makes where it is missing. Where one of
// the two exists, the error wraps fs.ErrExist, and neither is written.
func Make(dir string) (membership.ID, error) {
	key, err := membership.NewIdentity()
	if err != nil {
		return membership.ID{}, err
	}
	secret, err := key.MarshalPEM()
	if err != nil {
		return membership.ID{}, err
	}
	public, err := marshalPublic(key.ID)
	if err != nil {
		return membership.ID{}, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return membership.ID{}, fmt.Errorf("make the folder of the authority: %w", err)
	}
	if err := writeNew(filepath.Join(dir, PublicName), public, 0o644); err != nil {
		return membership.ID{}, fmt.Errorf("write the authority's public half: %w", err)
	}
	if err := writeNew(filepath.Join(dir, KeyName), secret, 0o600); err != nil {
		err = fmt.Errorf("write the authority's key: %w", err)
		return membership.ID{}, errors.Join(err, os.Remove(filepath.Join(dir, PublicName)))
	}
	return key.ID, nil
}

// LoadKey reads the key of an authority, which nobody but its owner may read.
func LoadKey(path string) (membership.Identity, error) {
	text, mode, err := readFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return membership.Identity{}, fmt.Errorf("authority's key %s: no such file; name it with --ca, or make one with `weft ca init`", path)
	case err != nil:
		return membership.Identity{}, fmt.Errorf("authority's key %s: %w", path, err)
	case mode&0o077 != 0:
		return membership.Identity{}, fmt.Errorf("authority's key %s: mode is %04o, so that others can read it; run `chmod 600 %s`", path, mode, path)
	}
	key, err := membership.ParseIdentity(text)
	if err != nil {
		return membership.Identity{}, fmt.Errorf("authority's key %s: %w; is it the file %s that `weft ca init` made?", path, err, KeyName)
	}
	return key, nil
}

// LoadPublic reads the public half of an authority.
func LoadPublic(path string) (membership.ID, error) {
	text, _, err := readFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return membership.ID{}, fmt.Errorf("authority %s: no such file; copy %s there, which `weft ca init` made", path, PublicName)
	case err != nil:
		return membership.ID{}, fmt.Errorf("authority %s: %w", path, err)
	}
	id, err := parsePublic(text)
	if err != nil {
		return membership.ID{}, fmt.Errorf("authority %s: %w; copy %s there, which `weft ca init` made", path, err, PublicName)
	}
	return id, nil
}

func marshalPublic(id membership.ID) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(id[:]))
	if err != nil {
		return nil, fmt.Errorf("encode the public half of %s: %w", id.Short(), err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: publicPEMType, Bytes: der}), nil
}

// parsePublic reads what marshalPublic writes.
func parsePublic(text []byte) (membership.ID, error) {
	block, rest := pem.Decode(text)
	switch {
	case block != nil && block.Type != publicPEMType:
		return membership.ID{}, fmt.Errorf("holds a %q instead of a public key", block.Type)
	case block == nil || len(bytes.TrimSpace(rest)) != 0:
		return membership.ID{}, errors.New("not one PEM block of a public key")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return membership.ID{}, errors.New("not a public key")
	}
	key, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return membership.ID{}, errors.New("not an ed25519 key")
	}
	return membership.ID(key), nil
}

// NodeID returns the ID of the node whose state directory is dir. Where it has no key yet, that is made.
func NodeID(dir string) (id membership.ID, made bool, err error) {
	_, err = os.Stat(filepath.Join(dir, membership.KeyFile))
	made = errors.Is(err, fs.ErrNotExist)
	node, err := membership.LoadIdentity(dir)
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return membership.ID{}, false, fmt.Errorf("node key in %s: %w; use sudo", dir, fs.ErrPermission)
	}
	return node.ID, made, err
}
