package meter

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// userHZ is the unit of processor times in /proc, 1/100 s for every program on every
// architecture that Go knows (USER_HZ, linux/asm/param.h).
const userHZ = 100

// Processor is processor time in seconds.
type Processor struct{ User, System float64 }

// Sub returns the time between an earlier reading and this one.
func (p Processor) Sub(earlier Processor) Processor {
	return Processor{User: p.User - earlier.User, System: p.System - earlier.System}
}

// Add returns the sum.
func (p Processor) Add(other Processor) Processor {
	return Processor{User: p.User + other.User, System: p.System + other.System}
}

// OfProcess reads the processor time of all threads of a process, living and ended.
func OfProcess(pid int) (Processor, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	data, err := os.ReadFile(path)
	if err != nil {
		return Processor{}, fmt.Errorf("read the processor time of process %d: %w", pid, err)
	}
	p, err := parseProcessStat(string(data))
	if err != nil {
		return Processor{}, fmt.Errorf("read the processor time of process %d from %s: %w", pid, path, err)
	}
	return p, nil
}

// parseProcessStat reads fields 14 and 15 of /proc/PID/stat (proc(5)). Field 2, the program's
// name in parentheses, may itself hold spaces and parentheses.
func parseProcessStat(stat string) (Processor, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const utime, stime = 14 - 3, 15 - 3
	if len(fields) <= stime {
		return Processor{}, fmt.Errorf("%q has too few fields", stat)
	}
	user, userErr := strconv.ParseUint(fields[utime], 10, 64)
	system, systemErr := strconv.ParseUint(fields[stime], 10, 64)
	if err := errors.Join(userErr, systemErr); err != nil {
		return Processor{}, err
	}
	return Processor{User: float64(user) / userHZ, System: float64(system) / userHZ}, nil
}

// OfMachine reads the time that all processors of the machine have spent on anything: in
// User what programs took, in System the kernel, interrupts included. Time that a hypervisor
// took away is in neither.
func OfMachine() (Processor, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Processor{}, fmt.Errorf("read the processor time of the machine: %w", err)
	}
	p, err := parseMachineStat(string(data))
	if err != nil {
		return Processor{}, fmt.Errorf("read the processor time of the machine from /proc/stat: %w", err)
	}
	return p, nil
}

// parseMachineStat reads the first line of /proc/stat:
// cpu user nice system idle iowait irq softirq steal guest guest_nice (proc(5)).
func parseMachineStat(stat string) (Processor, error) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	const user, nice, system, irq, softirq = 1, 2, 3, 6, 7
	if len(fields) <= softirq || fields[0] != "cpu" {
		return Processor{}, fmt.Errorf("unknown first line %q", line)
	}
	seconds := func(columns ...int) (sum float64, err error) {
		for _, column := range columns {
			ticks, err := strconv.ParseUint(fields[column], 10, 64)
			if err != nil {
				return 0, err
			}
			sum += float64(ticks) / userHZ
		}
		return sum, nil
	}
	inUser, userErr := seconds(user, nice)
	inSystem, systemErr := seconds(system, irq, softirq)
	return Processor{User: inUser, System: inSystem}, errors.Join(userErr, systemErr)
}

// Resident reads the memory of a process that is in RAM (VmRSS), in bytes.
func Resident(pid int) (int64, error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	kib, err := parseStatus(string(data), "VmRSS:")
	if err != nil {
		return 0, fmt.Errorf("read the memory of process %d from %s: %w", pid, path, err)
	}
	return kib << 10, nil
}

// parseStatus returns the number of kB behind key.
func parseStatus(status, key string) (int64, error) {
	for lines := bufio.NewScanner(strings.NewReader(status)); lines.Scan(); {
		rest, found := strings.CutPrefix(lines.Text(), key)
		if !found {
			continue
		}
		number, isKiB := strings.CutSuffix(strings.TrimSpace(rest), " kB")
		kib, err := strconv.ParseUint(number, 10, 53)
		if err != nil || !isKiB {
			return 0, fmt.Errorf("%s has the value %q", key, rest)
		}
		return int64(kib), nil
	}
	return 0, fmt.Errorf("%s is missing", key)
}
