package membership

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base32"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Immutable. idText is lower case because the ID is typed in shells and compared by eye.
var idText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

const idTextLen = 52

// ID names a node for life: its ed25519 public key. Its text form is 52
// characters of lower-case base32 without padding.
type ID [ed25519.PublicKeySize]byte

// String returns the full text form.
func (id ID) String() string { return idText.EncodeToString(id[:]) }

// Short returns the first 8 characters, for logs and tables beside a name.
func (id ID) Short() string { return id.String()[:8] }

// Compare orders IDs by their bytes: the lower ID wins ties.
func (id ID) Compare(other ID) int { return bytes.Compare(id[:], other[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText accepts exactly what MarshalText writes, so that one node has
// one spelling.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) != idTextLen {
		return fmt.Errorf("node ID of %d characters: want %d", len(text), idTextLen)
	}
	var got ID
	if _, err := idText.Decode(got[:], text); err != nil {
		return fmt.Errorf("node ID %q: %w", text, err)
	}
	// 52 characters hold 260 bits: the last four must be zero.
	if got.String() != string(text) {
		return fmt.Errorf("node ID %q: not in canonical form", text)
	}
	*id = got
	return nil
}

// ParseID reads the text form of an ID.
func ParseID(text string) (ID, error) {
	var id ID
	err := id.UnmarshalText([]byte(text))
	return id, err
}

// Identity is a node's key pair. The zero value signs nothing.
type Identity struct {
	ID  ID
	key ed25519.PrivateKey
}

// Sign returns the signature of payload (Ed25519, RFC 8032). context names what payload
// is, so that a signature over one thing is none over another; it holds no NUL.
func (id Identity) Sign(context string, payload []byte) [ed25519.SignatureSize]byte {
	return [ed25519.SignatureSize]byte(ed25519.Sign(id.key, signed(context, payload)))
}

// Verify says whether signature is what the node id made of payload by Sign.
func (id ID) Verify(context string, payload, signature []byte) bool {
	return ed25519.Verify(id[:], signed(context, payload), signature)
}

func signed(context string, payload []byte) []byte {
	return append(append([]byte(context), 0), payload...)
}

// NewIdentity makes a key pair that is on no disk.
func NewIdentity() (Identity, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Identity{}, fmt.Errorf("make a node key: %w", err)
	}
	return newIdentity(key), nil
}

func newIdentity(key ed25519.PrivateKey) Identity {
	return Identity{ID: ID(key.Public().(ed25519.PublicKey)), key: key}
}

// KeyFile is the name of a node's key in its state directory.
const KeyFile = "node.key"

const (
	keyPEMType  = "PRIVATE KEY" // PKCS #8, RFC 5958: openssl reads it
	maxKeyBytes = 4 << 10
)

// LoadIdentity reads dir/node.key, or makes it (and dir) when there is none. The
// key is on disk before the call returns: a node never speaks under an ID that it
// could forget. A damaged key is an error and never replaced, since a new key is a
// new node.
func LoadIdentity(dir string) (Identity, error) {
	path := filepath.Join(dir, KeyFile)
	id, err := readIdentity(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Identity{}, fmt.Errorf("make the state directory: %w", err)
	}
	if id, err = NewIdentity(); err != nil {
		return Identity{}, err
	}
	text, err := id.MarshalPEM()
	if err != nil {
		return Identity{}, err
	}
	if err := WriteFile(path, text); err != nil {
		return Identity{}, fmt.Errorf("write the node key: %w", err)
	}
	return id, nil
}

func readIdentity(path string) (Identity, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return Identity{}, fmt.Errorf("read the node key: %w; the state directory and its files must belong to the user that weftd runs as: `chown -R USER: %s`", err, filepath.Dir(path))
	}
	if err != nil {
		return Identity{}, fmt.Errorf("read the node key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Identity{}, fmt.Errorf("read the node key: %w", err)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return Identity{}, fmt.Errorf("node key %s may be read by others (mode %04o): run chmod 600 %s", path, perm, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyBytes))
	if err != nil {
		return Identity{}, fmt.Errorf("read the node key: %w", err)
	}
	id, err := ParseIdentity(text)
	if err != nil {
		return Identity{}, fmt.Errorf("node key %s is damaged (%w): restore it from a backup, or remove it to join as a new node", path, err)
	}
	return id, nil
}

// MarshalPEM returns the key pair as text, one PEM block of PKCS #8, which is secret.
func (id Identity) MarshalPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(id.key)
	if err != nil {
		return nil, fmt.Errorf("encode the key of %s: %w", id.ID.Short(), err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyPEMType, Bytes: der}), nil
}

// ParseIdentity reads what MarshalPEM writes. The error holds nothing of the text.
func ParseIdentity(text []byte) (Identity, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != keyPEMType || len(bytes.TrimSpace(rest)) != 0 {
		return Identity{}, errors.New("not one PEM block of a private key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return Identity{}, errors.New("not a PKCS #8 key")
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return Identity{}, errors.New("not an ed25519 key")
	}
	return newIdentity(key), nil
}
