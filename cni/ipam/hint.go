package ipam

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// maxHints bounds the file of hints: hundreds of blocks.
const maxHints = 64 << 10

// hints has the address picked last of each block. It only decides where the search begins, so it need be neither
// durable nor right.
type hints map[netip.Prefix]netip.Addr

func (s *Store) readHints() hints {
	f, err := os.Open(filepath.Join(s.dir, hintFile))
	if err != nil {
		return hints{}
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, maxHints))
	return parseHints(string(text))
}

// parseHints reads lines of BLOCK ADDRESS, and leaves out what is none.
func parseHints(text string) hints {
	last := hints{}
	for line := range strings.Lines(text) {
		block, address, _ := strings.Cut(strings.TrimSpace(line), " ")
		b, err := netip.ParsePrefix(block)
		a, errA := netip.ParseAddr(address)
		if errors.Join(err, errA) == nil && b.Contains(a) {
			last[b] = a
		}
	}
	return last
}

// writeHints keeps those of blocks. The file is overwritten in place: one that is truncated to nothing or replaced by
// rename would be written out at once (ext4, auto_da_alloc), and what a kill leaves half written is left out by
// parseHints.
func (s *Store) writeHints(blocks []netip.Prefix, last hints) error {
	var text bytes.Buffer
	for _, b := range blocks {
		if a, known := last[b.Masked()]; known {
			fmt.Fprintln(&text, b.Masked(), a)
		}
	}
	return s.do("write the hint", func() (err error) {
		f, err := os.OpenFile(filepath.Join(s.dir, hintFile), os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		if _, err := f.Write(text.Bytes()); err != nil {
			return err
		}
		return f.Truncate(int64(text.Len()))
	})
}
