package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const lockName = "lock"

// lockDir makes dir where it is missing and holds it against other processes,
// until lock is closed: two daemons with one state directory would be one node at two
// addresses. The lock ends with the process, however that ends, and with those that
// it has given a copy of the descriptor.
func lockDir(dir string) (lock *os.File, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%s is in use by another weftd: give each its own", dir)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// inheritedLock is the lock of dir that another process has given this one, nil where it gave none.
func inheritedLock(given map[string]int, dir string) (lock *os.File, err error) {
	fd, ok := given["file"]
	if !ok {
		return nil, nil
	}
	lock = os.NewFile(uintptr(fd), filepath.Join(dir, lockName))
	is, err := lock.Stat()
	if err == nil {
		var wanted os.FileInfo
		if wanted, err = os.Stat(lock.Name()); err == nil && !os.SameFile(is, wanted) {
			err = fmt.Errorf("the weftd that runs has another state directory than %s", dir)
		}
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}
