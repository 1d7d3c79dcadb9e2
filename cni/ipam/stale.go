package ipam

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Stale says whether the attachment's network namespace is gone: at its path is nothing, or something else. It must be
// asked where the path means what it meant to the runtime, in the host's mount namespace. A path that names
// another pod's namespace by now, as /proc/PID/ns/net may, is not stale. An error says neither.
func (a Attachment) Stale() (bool, error) {
	if a.Netns == "" {
		return false, fmt.Errorf("look for the network namespace of %s: its record names none", a.label())
	}
	stale, err := isNoNamespace(a.Netns)
	if err != nil {
		return false, fmt.Errorf("look for the network namespace of %s: %w", a.label(), err)
	}
	return stale, nil
}

func isNoNamespace(path string) (bool, error) {
	// Without waiting: the path may be a FIFO by now.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	gone := []error{unix.ENOENT, unix.ENOTDIR, unix.ESRCH, unix.ELOOP, unix.ENXIO, unix.ENODEV}
	for _, g := range gone {
		if errors.Is(err, g) {
			return true, nil
		}
	}
	if err != nil {
		return false, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	var on unix.Statfs_t
	if err := unix.Fstatfs(fd, &on); err != nil {
		return false, &fs.PathError{Op: "fstatfs", Path: path, Err: err}
	}
	if on.Type != unix.NSFS_MAGIC {
		return true, nil
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil {
		return false, &fs.PathError{Op: "ioctl NS_GET_NSTYPE", Path: path, Err: err}
	}
	return kind != unix.CLONE_NEWNET, nil
}
