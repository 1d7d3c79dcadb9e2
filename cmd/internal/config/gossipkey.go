package config

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxKeyFile is far more than the 45 bytes of a key of 32.
const maxKeyFile = 1 << 10

// NewKey returns a fresh gossip key of 32 bytes as it stands in a key file, without the newline.
func NewKey() string {
	key := make([]byte, 32)
	rand.Read(key) // never fails: crypto/rand ends the program instead
	return base64.StdEncoding.EncodeToString(key)
}

// LoadKey reads a gossip key: one line of standard base64 that stands for 16 or 32 bytes (AES-128 or
// AES-256), in a regular file that only its owner may read. Errors end with the command that helps, and
// never contain any of the file.
func LoadKey(path string) ([]byte, error) {
	key, err := loadKey(path)
	if err != nil {
		return nil, fmt.Errorf("gossip key %s: %w", path, err)
	}
	return key, nil
}

func loadKey(path string) ([]byte, error) {
	// O_NONBLOCK: opening a FIFO must not wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("no such file; make one with `weft keygen --out %s`, or copy it from another node, or set `insecure: true` to gossip without a key", path)
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() == 0:
		return nil, fmt.Errorf("permission denied: it belongs to another user; run `chown root: %s`", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, errors.New("permission denied; run weftd as root")
	case err != nil:
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	if mode := info.Mode().Perm(); mode&^0o600 != 0 {
		return nil, fmt.Errorf("mode is %04o, so that others can read it or worse; run `chmod 600 %s`", mode, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	return parseKey(text)
}

// parseKey reads the content of a key file.
func parseKey(text []byte) ([]byte, error) {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	rest := text[min(len(text), len(line)+1):]
	line = bytes.TrimSuffix(line, []byte("\r"))
	switch {
	case len(text) > maxKeyFile:
		return nil, errors.New("too long for a key; `weft keygen` makes a good one")
	case len(bytes.TrimSpace(text)) == 0:
		return nil, errors.New("the file is empty; `weft keygen` makes a good key")
	case len(rest) > 0:
		return nil, errors.New("more than one line; the file holds the key and nothing else")
	}
	key, err := base64.StdEncoding.Strict().DecodeString(string(line))
	// The decoder skips carriage returns, hence the comparison.
	if err != nil || base64.StdEncoding.EncodeToString(key) != string(line) {
		return nil, errors.New("not in base64; `weft keygen` makes a good key")
	}
	if len(key) != 16 && len(key) != 32 {
		return nil, fmt.Errorf("the key has %d bytes; it must have 16 or 32: `weft keygen` makes a good one", len(key))
	}
	return key, nil
}

// WriteKey writes a key, as NewKey returns it, to a new file of mode 0600, and makes its folder where that is
// missing. A file that exists is left alone and is an error that wraps fs.ErrExist.
func WriteKey(path, key string) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write gossip key: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write gossip key: %w; all nodes need the same key, so it is kept: remove it first if no node uses it", err)
	}
	if err != nil {
		return fmt.Errorf("write gossip key: %w", err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			os.Remove(path)
			err = fmt.Errorf("write gossip key %s: %w", path, err)
		}
	}()
	if _, err := io.WriteString(f, key+"\n"); err != nil {
		return err
	}
	return f.Sync()
}
