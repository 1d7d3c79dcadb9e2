package sim

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"

	"github.com/weft-net/weft/membership"
)

// Keys are node keys, which histories draw from. It is not changed.
type Keys []membership.Identity

// MakeKeys returns n keys that follow from their numbers alone.
func MakeKeys(n int) (Keys, error) {
	keys := make(Keys, 0, n)
	for i := range n {
		seed := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("weft simulated node"), uint64(i)))
		der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(seed[:]))
		if err != nil {
			return nil, fmt.Errorf("encode key %d: %w", i, err)
		}
		key, err := membership.ParseIdentity(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		if err != nil {
			return nil, fmt.Errorf("make key %d: %w", i, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}
