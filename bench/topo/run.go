//go:build linux

package topo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/cni/sandbox"
)

// keptMark is the file in a run's directory that says the run outlives its process.
const keptMark = "kept"

// A runID names everything a topology leaves outside its process. The start time, in clock
// ticks since boot, tells the process from a later one with the same pid; the number n, from
// 1, tells its topologies apart.
type runID struct {
	pid    int
	ticks  uint64
	prefix string
	n      int
}

func (r runID) String() string {
	return fmt.Sprintf("weft-%d-%d-%s-%d", r.pid, r.ticks, r.prefix, r.n)
}

func (r runID) dir() string { return filepath.Join(runDir, r.String()) }

// kept reports whether Keep was called for the run.
func (r runID) kept() (bool, error) {
	_, err := os.Lstat(filepath.Join(r.dir(), keptMark))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// crashed reports whether the run's process is gone.
func (r runID) crashed() (bool, error) {
	ticks, err := startTicks(r.pid)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return err == nil && ticks != r.ticks, err
}

// Immutable. A run, and what is behind it in the name of a namespace.
var runPattern = regexp.MustCompile(`^weft-([0-9]+)-([0-9]+)-([a-z0-9]+)-([0-9]+)(-[a-z0-9-]+)?$`)

// parseRun takes the run out of the name of a namespace or directory; ok is false if the name
// is not one of ours.
func parseRun(name string) (run runID, ok bool) {
	m := runPattern.FindStringSubmatch(name)
	if m == nil {
		return runID{}, false
	}
	pid, pidErr := strconv.Atoi(m[1])
	ticks, ticksErr := strconv.ParseUint(m[2], 10, 64)
	n, nErr := strconv.Atoi(m[4])
	if errors.Join(pidErr, ticksErr, nErr) != nil {
		return runID{}, false
	}
	run = runID{pid: pid, ticks: ticks, prefix: m[3], n: n}
	// What does not print as it was read (a leading zero) was not made here.
	return run, name == run.String()+m[5]
}

// startTicks returns when a process started (field 22 of /proc/PID/stat, proc(5)). The error
// wraps fs.ErrNotExist if there is no such process, or only what its parent has not collected.
func startTicks(pid int) (uint64, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	stat, err := os.ReadFile(path)
	if errors.Is(err, unix.ESRCH) { // it ended between open and read
		err = fs.ErrNotExist
	}
	if err != nil {
		return 0, fmt.Errorf("read the start time of process %d: %w", pid, err)
	}
	ticks, err := parseStat(string(stat))
	if err != nil {
		return 0, fmt.Errorf("read the start time of process %d from %s: %w", pid, path, err)
	}
	return ticks, nil
}

func parseStat(stat string) (ticks uint64, err error) {
	// Field 2, the program's name in parentheses, may itself hold spaces and parentheses, so
	// what follows it is counted from field 3 on.
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const state, startTime = 0, 22 - 3
	if len(fields) <= startTime {
		return 0, fmt.Errorf("%q has too few fields", stat)
	}
	if fields[state] == "Z" || fields[state] == "X" {
		return 0, fs.ErrNotExist
	}
	return strconv.ParseUint(fields[startTime], 10, 64)
}

// findRuns returns the runs that have left something on this machine, and their namespaces.
func findRuns() (map[runID][]string, error) {
	runs := make(map[runID][]string)
	dirs, err := os.ReadDir(runDir)
	if err != nil {
		return nil, err
	}
	for _, entry := range dirs {
		if run, ok := parseRun(entry.Name()); ok && entry.Name() == run.String() {
			runs[run] = nil
		}
	}
	namespaces, err := os.ReadDir(sandbox.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, entry := range namespaces {
		if run, ok := parseRun(entry.Name()); ok {
			runs[run] = append(runs[run], entry.Name())
		}
	}
	return runs, nil
}
