// Package handover passes open descriptors from one process to its successor, so that
// what the kernel has queued at them outlives both: the queues of the TUN and the
// sockets of the data ports. There are two carriers of the same [Set]: systemd's file
// descriptor store (store.go), which also outlives a process that was killed, and a Unix
// socket between an old process and a new one (talk.go, giver.go, taker.go). Beside the
// descriptors goes a [Memory] of what the old process had found out.
package handover

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// layout begins every name that a carrier sees, and changes where descriptors of an
// earlier weftd are of no use to a later one, or mean another thing.
const layout = "weft1."

// Set is descriptors by name, of letters, digits, dots and dashes. Who holds a Set owns
// them, and all have FD_CLOEXEC. A Set is used by one goroutine at a time.
type Set map[string]int

// Add puts descriptors under prefix and a dot.
func (s Set) Add(prefix string, fds map[string]int) {
	for name, fd := range fds {
		s[prefix+"."+name] = fd
	}
}

// Take removes what Add put under prefix: it is the caller's.
func (s Set) Take(prefix string) map[string]int {
	taken := make(map[string]int)
	for name, fd := range s {
		if short, ok := strings.CutPrefix(name, prefix+"."); ok {
			taken[short] = fd
			delete(s, name)
		}
	}
	return taken
}

// Clone duplicates every descriptor. Both Sets are of the same open files: what one
// process sets on them the other finds set.
func (s Set) Clone() (Set, error) {
	clone := make(Set, len(s))
	for name, fd := range s {
		dup, err := duplicate(fd)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("keep descriptor %s: %w", name, err), clone.Close())
		}
		clone[name] = dup
	}
	return clone, nil
}

// Close closes every descriptor that is left.
func (s Set) Close() error {
	var errs []error
	for name, fd := range s {
		if err := unix.Close(fd); err != nil {
			errs = append(errs, fmt.Errorf("close descriptor %s: %w", name, os.NewSyscallError("close", err)))
		}
	}
	clear(s)
	return errors.Join(errs...)
}

// names are in the order in which carriers see them.
func (s Set) names() []string { return slices.Sorted(maps.Keys(s)) }

// put takes what a carrier brought under name, and says whether it is of this layout.
// A descriptor that is not, or whose name came twice, is closed.
func (s Set) put(name string, fd int) (known bool) {
	short, known := strings.CutPrefix(name, layout)
	if _, twice := s[short]; !known || twice || short == "" {
		unix.Close(fd)
		return known
	}
	s[short] = fd
	return true
}

func duplicate(fd int) (int, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	return dup, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
}
