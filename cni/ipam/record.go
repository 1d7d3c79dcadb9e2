package ipam

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
)

const (
	// maxRecord bounds what is read of a file. A record has some 500 bytes.
	maxRecord = 64 << 10
	// maxAddress is the length of an address in text (INET6_ADDRSTRLEN less its NUL).
	maxAddress = 45
)

// write puts a in its file: whole and durable when it returns nil, not there when it fails or the process ends.
func (s *Store) write(a Attachment) (err error) {
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the record: %w", err)
	}
	if _, err := parse(a.Key(), text); err != nil {
		return fmt.Errorf("encode the record: %w", err)
	}
	draft, path := filepath.Join(s.dir, draftFile), s.path(a.Key())
	defer func() {
		if err != nil { // which is what to report; a draft that stays is swept by the next holder of the lock
			_ = os.Remove(draft)
			_ = os.Remove(path)
		}
	}()
	if err := s.writeDraft(draft, append(text, '\n')); err != nil {
		return err
	}
	if err := s.do("rename the draft", func() error { return os.Rename(draft, path) }); err != nil {
		return err
	}
	return s.do("sync the directory", func() error { return syncDir(s.dir) })
}

func (s *Store) writeDraft(path string, text []byte) (err error) {
	var f *os.File
	err = s.do("create the draft", func() (err error) {
		f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	err = s.do("write the draft", func() error {
		_, err := f.Write(text)
		return err
	})
	if err != nil {
		return err
	}
	return s.do("sync the draft", f.Sync)
}

// taken reads who holds what, and refuses a key that is on record. Every record on the node is in the way of an Add, so
// none is decoded: what it names, it holds, and so does one that is damaged. One that cannot be read might hold anything.
func (s *Store) taken(key Key) (map[netip.Addr]Key, error) {
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	held := make(map[netip.Addr]Key)
	buffer := make([]byte, maxRecord+1)
	for _, name := range names {
		k, err := ParseKey(name)
		if err != nil {
			continue
		}
		if k == key {
			return nil, s.exists(k)
		}
		text, err := readFile(s.path(k), buffer)
		if err != nil {
			return nil, err
		}
		for _, a := range readable(text) {
			held[a] = k
		}
	}
	return held, nil
}

func (s *Store) exists(k Key) error {
	a, _, err := s.readRecord(k, make([]byte, maxRecord+1))
	what := fmt.Sprintf("in network %s with %v", a.Network, a.Addresses)
	if err != nil {
		what = "and " + err.Error()
	}
	return fmt.Errorf("it %w, %s: remove that first (CNI DEL, or `weft ipam release %s`)", ErrExists, what, k)
}

// label names who holds an address for people.
func (s *Store) label(k Key) string {
	a, _, err := s.readRecord(k, make([]byte, maxRecord+1))
	if err != nil {
		return k.String() + ", whose record is damaged"
	}
	return a.label()
}

// names returns what is in the directory, in no order. One that is not there is empty.
func (s *Store) names() ([]string, error) {
	d, err := os.Open(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// readAll reads every file whose name is a key, in no order.
func (s *Store) readAll() (all []Attachment, damaged []Damaged, err error) {
	names, err := s.names()
	if err != nil {
		return nil, nil, err
	}
	buffer := make([]byte, maxRecord+1)
	for _, name := range names {
		k, err := ParseKey(name)
		if err != nil {
			continue
		}
		a, text, err := s.readRecord(k, buffer)
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed since
		case err != nil:
			damaged = append(damaged, Damaged{k, readableNetwork(text), readable(text), err})
		default:
			all = append(all, a)
		}
	}
	return all, damaged, nil
}

// readRecord returns what k's file holds, and beside an error just the key and what could be read, in the buffer.
func (s *Store) readRecord(k Key, buffer []byte) (Attachment, []byte, error) {
	none := Attachment{Container: k.Container, Interface: k.Interface}
	text, err := readFile(s.path(k), buffer)
	if err != nil {
		return none, nil, err
	}
	a, err := parse(k, text)
	if err != nil {
		return none, text, fmt.Errorf("%s: %w: %w", s.path(k), ErrDamaged, err)
	}
	return a, nil, nil
}

// readFile reads what the buffer has room for.
func readFile(path string, buffer []byte) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	n, err := io.ReadFull(f, buffer)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return buffer[:n], err
}

// parse decodes the record of k. Fields that it does not know are ignored.
func parse(k Key, text []byte) (a Attachment, err error) {
	if len(text) > maxRecord {
		return Attachment{}, fmt.Errorf("it has over %d bytes", maxRecord)
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return Attachment{}, err
	}
	if a.Key() != k {
		return Attachment{}, fmt.Errorf("it is of %q", a.Key())
	}
	if len(a.Addresses) == 0 || len(a.Blocks) != len(a.Addresses) {
		return Attachment{}, fmt.Errorf("it has %d addresses of %d blocks", len(a.Addresses), len(a.Blocks))
	}
	for i, address := range a.Addresses {
		if !a.Blocks[i].Contains(address) || address.Is4In6() || a.Blocks[i] != a.Blocks[i].Masked() {
			return Attachment{}, fmt.Errorf("address %s is not of block %s", address, a.Blocks[i])
		}
		if i > 0 && (i > 1 || address.Is4() == a.Addresses[0].Is4()) {
			return Attachment{}, fmt.Errorf("it has more than one address of a family: %v", a.Addresses)
		}
	}
	return a, nil
}

// readableNetwork returns the name in a record or in what is left of one, as write has it.
func readableNetwork(text []byte) string {
	_, text, _ = bytes.Cut(text, []byte(`"network": "`))
	name, _, found := bytes.Cut(text, []byte{'"'})
	if !found {
		return ""
	}
	return string(name)
}

// readable returns every address in quotes, in a record or in what is left of one. One too many, of another field, does
// no harm.
func readable(text []byte) []netip.Addr {
	var all []netip.Addr
	_, text, found := bytes.Cut(text, []byte{'"'})
	for found {
		var part []byte
		if part, text, found = bytes.Cut(text, []byte{'"'}); !found || len(part) > maxAddress || !bytes.ContainsAny(part, ".:") {
			continue
		}
		if a, err := netip.ParseAddr(string(part)); err == nil && a.Zone() == "" {
			all = append(all, a.Unmap())
		}
	}
	return all
}
