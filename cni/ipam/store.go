package ipam

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Store is a directory of attachments, of all networks of this node, as they share its blocks. Any number of
// processes may use the same directory at once, through Stores of their own; so may goroutines through one Store.
type Store struct {
	dir  string
	step func(name string) error
}

// Open returns the store in dir, an absolute path. It touches nothing: the first Add makes the directory.
func Open(dir string) *Store {
	return &Store{dir: dir, step: func(string) error { return nil }}
}

// Inject has f called before every step of Add and Remove, with a name that is the same each time. An error from f is
// the step's. For tests that fail, or end the process, there. Call it before the store is used.
func (s *Store) Inject(f func(name string) error) { s.step = f }

// Vacant is ErrExists where k is on record, as Add would say; nil says nothing of what comes between the two.
func (s *Store) Vacant(k Key) error {
	if err := k.Validate(); err != nil {
		return fmt.Errorf("look for an attachment: %w", err)
	}
	if _, err := os.Lstat(s.path(k)); err != nil { // what prevents that, Add comes to
		return nil
	}
	return fmt.Errorf("attach %s: %w", k, s.exists(k))
}

// Add puts a on record with addresses of r, one of each family that r.Blocks has, and returns it with Blocks,
// Addresses and Since filled in. When it returns nil the record survives a power cut; when it fails, nothing is held.
//
// A free address is the next one after the last that was picked, so that one is not given again while others are
// left. ErrExists, and no change, where a's key is on record. It waits for other processes while ctx lasts.
func (s *Store) Add(ctx context.Context, a Attachment, r Request) (Attachment, error) {
	if err := a.Key().Validate(); err != nil {
		return Attachment{}, fmt.Errorf("reserve an address: %w", err)
	}
	err := s.locked(ctx, true, func() error {
		p := picker{last: s.readHints(), label: s.label}
		err := s.do("read", func() (err error) {
			p.held, err = s.taken(a.Key())
			return err
		})
		if err != nil {
			return err
		}
		if a.Blocks, a.Addresses, err = p.pick(r); err != nil {
			return err
		}
		if err := s.writeHints(r.Blocks, p.last); err != nil {
			return err
		}
		a.Since = time.Now().UTC().Truncate(time.Second)
		return s.write(a)
	})
	if err != nil {
		return Attachment{}, fmt.Errorf("reserve an address for %s: %w", a.label(), err)
	}
	return a, nil
}

// Get returns the attachment named k. Where its file is there and cannot be used, found is true, a has nothing but
// the key, and the error is as in Damaged.
func (s *Store) Get(k Key) (a Attachment, found bool, err error) {
	if err := k.Validate(); err != nil {
		return Attachment{}, false, fmt.Errorf("look for an attachment: %w", err)
	}
	a, _, err = s.readRecord(k, make([]byte, maxRecord+1))
	if errors.Is(err, fs.ErrNotExist) {
		return Attachment{}, false, nil
	}
	return a, true, err
}

// Remove frees what the attachments hold, whatever state their records are in, and is done when that is durable. One
// that is not there is no error. It also removes what an Add that was killed has left, for which no keys are needed.
// It waits for other processes while ctx lasts.
func (s *Store) Remove(ctx context.Context, keys ...Key) error {
	for _, k := range keys {
		if err := k.Validate(); err != nil {
			return fmt.Errorf("free addresses: %w", err)
		}
	}
	err := s.locked(ctx, false, func() error {
		var errs []error
		for _, k := range keys {
			err := s.do("remove", func() error { return os.Remove(s.path(k)) })
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
		if len(keys) > 0 { // found or not: a Remove that was killed may not have come to this
			errs = append(errs, s.do("sync the directory", func() error { return syncDir(s.dir) }))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return fmt.Errorf("free addresses: %w", err)
	}
	return nil
}

// List returns all attachments, sorted by address, and the files that cannot be used as such. It does not wait: an Add
// or Remove that has not returned yet may or may not show. A directory that is not there is empty.
func (s *Store) List() ([]Attachment, []Damaged, error) {
	all, damaged, err := s.readAll()
	if err != nil {
		return nil, nil, fmt.Errorf("list attachments: %w", err)
	}
	slices.SortFunc(all, func(a, b Attachment) int {
		return slices.CompareFunc(a.Addresses, b.Addresses, netip.Addr.Compare)
	})
	return all, damaged, nil
}

func (s *Store) path(k Key) string { return filepath.Join(s.dir, k.String()) }

// do is a step, under the name that Inject's function gets.
func (s *Store) do(name string, step func() error) error {
	if err := s.step(name); err != nil {
		return err
	}
	return step()
}
