package ipam

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Files beside the attachments', which all have a colon in their name.
const (
	lockFile  = "lock"
	draftFile = "draft" // the record that the lock's holder is writing
	hintFile  = "last"
)

// locked runs f while no other process is in there, and after what an Add that was killed has left is swept away. A
// directory that is not there is made where create is set; otherwise there is nothing to do, and f is not called.
func (s *Store) locked(ctx context.Context, create bool, f func() error) error {
	var lock *os.File
	err := s.do("lock", func() (err error) {
		lock, err = s.lock(ctx, create)
		return err
	})
	if !create && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	err = s.do("sweep", func() error { return os.Remove(filepath.Join(s.dir, draftFile)) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return f()
}

// lock returns the lock's file, locked until it is closed or the process ends.
func (s *Store) lock(ctx context.Context, create bool) (*os.File, error) {
	if f, err := s.acquire(create, unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		return f, err
	}
	type outcome struct {
		file *os.File
		err  error
	}
	waited := make(chan outcome, 1)
	go func() {
		f, err := s.acquire(create, 0)
		waited <- outcome{f, err}
	}()
	select {
	case o := <-waited:
		return o.file, o.err
	case <-ctx.Done():
		// flock cannot be cancelled. Most callers end by this error, and their goroutine with them; that of any other
		// gives the lock back when it gets it.
		go func() {
			if o := <-waited; o.file != nil {
				o.file.Close()
			}
		}()
		path := filepath.Join(s.dir, lockFile)
		return nil, fmt.Errorf("wait for %s, which another process holds (`fuser %s` names it): %w", path, path, context.Cause(ctx))
	}
}

// acquire waits in the kernel, unless how is LOCK_NB. Where the lock has been replaced meanwhile it takes the other.
func (s *Store) acquire(create bool, how int) (*os.File, error) {
	for {
		f, err := s.openLock(create)
		if err != nil {
			return nil, err
		}
		for err = unix.EINTR; errors.Is(err, unix.EINTR); {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX|how)
		}
		if err != nil {
			err = &os.PathError{Op: "flock", Path: f.Name(), Err: err}
		} else if err = s.confirm(f); err == nil {
			return f, nil
		}
		f.Close()
		if !errors.Is(err, errReplaced) {
			return nil, err
		}
	}
}

var errReplaced = errors.New("the lock was replaced")

// confirm sees that the locked file is still the directory's lock: who removes the directory and makes it
// again does not ask for the lock.
func (s *Store) confirm(f *os.File) error {
	locked, err := f.Stat()
	if err != nil {
		return err
	}
	there, err := os.Stat(f.Name())
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(locked, there) {
		return errReplaced
	}
	return err
}

// openLock makes the lock's file only in a directory that is durable itself, so that it tells others that much.
func (s *Store) openLock(create bool) (*os.File, error) {
	path := filepath.Join(s.dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if !create {
		if _, err := os.Stat(s.dir); err != nil {
			return nil, err
		}
	}
	if err := makeDir(s.dir); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}

// makeDir makes dir, and what is missing above it, where it is not there. It is durable either way.
func makeDir(dir string) error {
	parent := filepath.Dir(dir)
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// syncDir makes what was renamed or removed in dir durable: fsync of a file alone does not (fsync(2)).
func syncDir(dir string) (err error) {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.Sync()
}
