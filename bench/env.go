//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/bench/report"
)

// describe says what the figures depend on. What cannot be found out stays empty: no figure
// is the worse for it.
func describe(ctx context.Context, p plan, bin string, started time.Time) report.Env {
	env := report.Env{
		Kernel:     kernel(),
		CPU:        field("/proc/cpuinfo", "model name"),
		CPUs:       runtime.NumCPU(),
		MemoryGB:   memory(),
		Commit:     firstLine(ctx, "git", "describe", "--tags", "--always", "--dirty"),
		Date:       started.Format(time.RFC3339),
		Go:         runtime.Version(),
		Congestion: content("/proc/sys/net/ipv4/tcp_congestion_control"),
		Load:       load(),
		Tools:      make(map[string]string),
	}
	for _, t := range []tool{iperf3, sockperf} {
		if p.needs(t) {
			env.Tools[t.command] = version(firstLine(ctx, t.command, "--version"))
		}
	}
	if p.needs(ab) {
		env.Tools[ab.command] = version(firstLine(ctx, ab.command, "-V"))
	}
	if path := filepath.Join(bin, "weftd"); isProgram(path) {
		env.Tools["weftd"] = firstLine(ctx, path, "version")
	}
	return env
}

func (p plan) needs(t tool) bool {
	return slices.ContainsFunc(p.scenarios, func(s scenario) bool { return slices.Contains(s.tools, t) })
}

func kernel() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:]) + " " + unix.ByteSliceToString(name.Machine[:])
}

// memory is in units of 10^9 octets.
func memory() float64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return float64(info.Totalram) * float64(info.Unit) / 1e9
}

func load() float64 {
	first, _, _ := strings.Cut(content("/proc/loadavg"), " ")
	average, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return average
}

func content(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// field returns the value of the first line "key : value" of a file.
func field(path, key string) string {
	for line := range strings.Lines(content(path)) {
		if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func firstLine(ctx context.Context, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

// version takes the number out of a line such as "iperf 3.12 (cJSON 1.7.15)".
func version(line string) string {
	return regexp.MustCompile(`[0-9]+(\.[0-9]+)+[-a-z0-9.]*`).FindString(line)
}

// busy warns of company: a load above this share of the processors before the first measurement.
func busy(env report.Env) string {
	const share = 0.25
	if env.Load <= share*float64(env.CPUs) {
		return ""
	}
	return fmt.Sprintf("The machine is not idle (load %.2f on %d processors): the figures will be lower than they could be, and spread more.", env.Load, env.CPUs)
}
