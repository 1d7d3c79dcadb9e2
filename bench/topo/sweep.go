//go:build linux

package topo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/cni/sandbox"
)

// removeCrashed removes the runs whose process is gone, except kept ones.
func removeCrashed() error {
	runs, err := findRuns()
	if err != nil {
		return err
	}
	var errs []error
	for run, namespaces := range runs {
		crashed, err := run.crashed()
		kept, keptErr := run.kept()
		errs = append(errs, err, keptErr)
		if crashed && !kept && keptErr == nil {
			errs = append(errs, removeRun(run, namespaces))
		}
	}
	return errors.Join(errs...)
}

// RemoveKept removes the runs of this prefix that were given up by Keep, with every process in
// them, and what crashed runs left. It returns how many kept runs there were.
func RemoveKept(prefix string) (int, error) {
	runs, err := findRuns()
	if err != nil {
		return 0, fmt.Errorf("remove kept runs: %w", err)
	}
	removed := 0
	var errs []error
	for run, namespaces := range runs {
		kept, err := run.kept()
		errs = append(errs, err)
		if kept && run.prefix == prefix {
			errs = append(errs, removeRun(run, namespaces))
			removed++
		}
	}
	if err := errors.Join(append(errs, removeCrashed())...); err != nil {
		return removed, fmt.Errorf("remove kept runs: %w", err)
	}
	return removed, nil
}

// removeRun leaves the directory, with the mark in it, to the end: what is interrupted can be
// taken up again.
func removeRun(run runID, namespaces []string) error {
	errs := []error{killInside(namespaces)}
	for _, name := range namespaces {
		errs = append(errs, sandbox.Delete(name))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove run %s: %w", run, err)
	}
	return os.RemoveAll(run.dir())
}

// killInside kills the processes inside the named namespaces until none is left.
func killInside(names []string) error {
	var namespaces []os.FileInfo
	for _, name := range names {
		info, err := os.Stat(filepath.Join(sandbox.Dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		namespaces = append(namespaces, info)
	}
	for deadline := time.Now().Add(killTimeout); ; {
		pids, err := processesInside(namespaces)
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v still there %s after SIGKILL", pids, killTimeout)
		}
		for _, pid := range pids {
			if err := killIfInside(pid, namespaces); err != nil {
				return err
			}
		}
	}
}

// processesInside never returns this process, one thread of which may be in Namespace.Do.
func processesInside(namespaces []os.FileInfo) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err == nil && pid != os.Getpid() && isInside(pid, namespaces) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// isInside compares namespaces by device and inode. A process that has ended is in none.
func isInside(pid int, namespaces []os.FileInfo) bool {
	own, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return false
	}
	for _, ns := range namespaces {
		if os.SameFile(own, ns) {
			return true
		}
	}
	return false
}

// killIfInside looks again once it holds a descriptor of the process, which a later process
// with the same pid cannot take over. It waits a moment for the end; the caller looks again.
func killIfInside(pid int, namespaces []os.FileInfo) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if !isInside(pid, namespaces) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	err = ignoringEINTR(func() error {
		const patience = 100 // ms
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, patience)
		return err
	})
	if err != nil {
		return fmt.Errorf("wait for process %d: %w", pid, err)
	}
	return nil
}
