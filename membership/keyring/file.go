package keyring

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/weft-net/weft/membership"
)

const (
	fileName   = "keyring.json"
	fileFormat = 1
	maxFile    = 64 << 10 // over ten times the largest

	// maxAside bounds how many files of a kind are kept aside.
	maxAside = 10
)

// fileJSON is the file. Ring is a message, since its exact bytes are signed.
type fileJSON struct {
	Format int      `json:"format"`
	Ring   []byte   `json:"ring"`
	Kept   [][]byte `json:"kept,omitempty"`
	Sends  string   `json:"sends"` // fingerprint
}

// Open returns the keyring that lives in dir/keyring.json, and is made by the first ring of a
// version above 0. key is what the node's key file holds, 16 or 32 bytes: the ring where there is
// none in dir, or where dir's does not know the key, and so is the one of another cluster, or of an
// earlier life of this. What is not used is moved aside, and each warning is one line for the
// log. An error means that the file could not be read or moved.
func Open(dir string, identity membership.Identity, key []byte) (*Keyring, []string, error) {
	if !sized(key) {
		return nil, nil, fmt.Errorf("a gossip key of %d bytes: it must have 16 or 32", len(key))
	}
	path := filepath.Join(dir, fileName)
	k := newKeyring(identity, alone(key), func(s state) error { return writeState(path, s) })
	text, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the gossip keyring: %w", err)
	}
	s, err := parseState(text)
	if err != nil {
		aside, moved := setAside(path, "corrupt")
		return k, []string{fmt.Sprintf("gossip keyring %s is damaged (%v): it is kept as %s, and the key of gossipKeyFile is used; if that is out of date, "+
			"`weft key export` on another node prints the one in use", path, err, aside)}, moved
	}
	switch read, removed := s.knows(key); {
	case removed:
		k.state = s
		return k, []string{fmt.Sprintf("gossipKeyFile is out of date: key %s was removed by `weft key remove`, and the keys in %s are used; "+
			"replace the file by what `weft key export` prints, for the case that stateDir is lost", Fingerprint(key), path)}, nil
	case read:
		k.state = s
		return k, nil, nil
	}
	aside, err := setAside(path, "former")
	return k, []string{fmt.Sprintf("gossipKeyFile has key %s, which %s does not know: that is kept as %s, and the file's key alone is used", Fingerprint(key), path, aside)}, err
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// parseState reads the content of a file. Its errors have none of the keys.
func parseState(text []byte) (state, error) {
	if len(text) > maxFile {
		return state{}, fmt.Errorf("it has more than %d bytes", maxFile)
	}
	var f fileJSON
	if err := json.Unmarshal(text, &f); err != nil {
		return state{}, errors.New("it is not JSON of a keyring")
	}
	if f.Format != fileFormat {
		return state{}, fmt.Errorf("format %d, this version reads %d", f.Format, fileFormat)
	}
	ring, err := open(f.Ring)
	if err != nil {
		return state{}, err
	}
	kept := Ring{Version: 1, Keys: slices.Concat(ring.Keys, f.Kept), Removed: ring.Removed}
	if err := kept.validate(); err != nil {
		return state{}, err
	}
	if !slices.Contains(Fingerprints(kept.Keys), f.Sends) {
		return state{}, errors.New("it sends by a key that is not in it")
	}
	return state{ring: ring, kept: f.Kept, sends: f.Sends}, nil
}

// setAside renames path to the first free name of a kind; the last is used again.
func setAside(path, kind string) (aside string, err error) {
	for n := 1; n <= maxAside; n++ {
		aside = fmt.Sprintf("%s.%s-%d", path, kind, n)
		if _, err = os.Lstat(aside); err != nil {
			break
		}
	}
	if err := os.Rename(path, aside); err != nil {
		return aside, fmt.Errorf("move the gossip keyring aside: %w", err)
	}
	return aside, nil
}

func writeState(path string, s state) error {
	text, err := json.Marshal(fileJSON{Format: fileFormat, Ring: s.ring.message, Kept: s.kept, Sends: s.sends})
	if err != nil {
		return fmt.Errorf("encode the keyring: %w", err)
	}
	if err := membership.WriteFile(path, append(text, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
