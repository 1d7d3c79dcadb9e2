package doctor

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Look takes a snapshot of this machine, in the network namespace of the caller's thread. limits says whether those of
// this process are the daemon's. What cannot be seen is named in the snapshot.
func Look(n Node, limits bool) *Machine {
	m := &Machine{Sysctls: make(map[string]string)}
	m.lookAtLinks(n)
	m.lookAtSysctls(n)
	m.lookAtPorts()
	for _, s := range []string{networkd, networkManager} {
		if runs("/sys/fs/cgroup", s) {
			m.Services = append(m.Services, s)
		}
	}
	m.lookAtFiles()
	m.lookAtNetworks(n.CNIConfDir)
	m.Clock = readClock()
	if limits {
		m.Limits = readLimits()
	}
	if b, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled"); err == nil {
		m.HugePage = chosen(string(b))
	}
	return m
}

func (m *Machine) unseen(what string, err error) {
	m.Unseen = append(m.Unseen, fmt.Sprintf("%s (%v)", what, err))
}

func (m *Machine) lookAtLinks(n Node) {
	var err error
	if m.Links, err = readLinks(); err != nil {
		m.unseen("the interfaces", err)
	}
	if m.Routes, err = readRoutes(RouteProtocol); err != nil {
		m.unseen("the routes", err)
	}
	if l := m.link(n.Underlay); l != nil {
		if l.Off, err = readOffloads(l.Name); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			m.unseen("the offloads of the underlay", err)
		}
	}
}

// lookAtSysctls reads what the checks ask for.
func (m *Machine) lookAtSysctls(n Node) {
	paths := []string{ipForward, ip6Forward, rpFilter("all"), conntrackCount, conntrackMax}
	for _, link := range []string{n.Tun, n.Underlay} {
		if link != "" {
			paths = append(paths, rpFilter(link), disableIPv6(link))
		}
	}
	for _, path := range paths {
		if b, err := os.ReadFile("/proc/sys/" + path); err == nil {
			m.Sysctls[path] = strings.TrimSpace(string(b))
		}
	}
}

func (m *Machine) lookAtPorts() {
	for _, protocol := range []string{"udp", "udp6", "tcp", "tcp6"} {
		b, err := os.ReadFile("/proc/thread-self/net/" + protocol)
		if err != nil {
			continue // a kernel without IPv6
		}
		for _, number := range portsIn(b, strings.HasPrefix(protocol, "tcp")) {
			p := Port{Protocol: strings.TrimSuffix(protocol, "6"), Number: number}
			if !slices.Contains(m.Ports, p) {
				m.Ports = append(m.Ports, p)
			}
		}
	}
}

// portsIn are the local ports in a file like /proc/net/udp, of TCP those that are listened on (TCP_LISTEN,
// net/tcp_states.h). Lines that are of another form are passed over.
func portsIn(table []byte, tcp bool) (ports []uint16) {
	const listens = "0A"
	for line := range bytes.Lines(table) {
		fields := bytes.Fields(line)
		if len(fields) < 4 || tcp && string(fields[3]) != listens {
			continue
		}
		_, port, ok := bytes.Cut(fields[1], []byte{':'})
		var b [2]byte
		if n, err := hex.Decode(b[:], port[:min(len(port), 4)]); ok && err == nil && n == 2 && len(port) == 4 {
			ports = append(ports, uint16(b[0])<<8|uint16(b[1]))
		}
	}
	return ports
}

// runs says whether a service of systemd does, by its control group, which is there for as long as it has a process; in
// the unified hierarchy or in systemd's own. Processes cannot be asked: the daemon's unit may hide those of others.
func runs(cgroups, service string) bool {
	for _, dir := range []string{cgroups, filepath.Join(cgroups, "systemd")} {
		if _, err := os.Stat(filepath.Join(dir, "system.slice", service+".service")); err == nil {
			return true
		}
	}
	return false
}

func (m *Machine) lookAtFiles() {
	paths := []string{tunDevice}
	for _, root := range roots() {
		for _, file := range slices.Concat(dropIns(networkd), dropIns(networkManager)) {
			paths = append(paths, root+file)
		}
	}
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			m.Files = append(m.Files, path)
		}
	}
}

// lookAtNetworks reads what container runtimes do, in their order.
func (m *Machine) lookAtNetworks(dir string) {
	if dir == "" {
		return
	}
	entries, err := os.ReadDir(dir) // sorted
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.unseen("the networks of container runtimes", err)
	}
	for _, e := range entries {
		// libcni.ConfFiles takes these.
		if e.IsDir() || !slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(e.Name())) {
			continue
		}
		n := Network{}
		if b, err := os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			n.Bad = err.Error()
		} else {
			n = networkIn(b)
		}
		n.File = e.Name()
		m.Networks = append(m.Networks, n)
	}
}

// networkIn reads a network's configuration: a plugin's, or a list of them.
func networkIn(b []byte) Network {
	type plugin struct {
		Type string `json:"type"`
	}
	var c struct {
		Name string `json:"name"`
		plugin
		Plugins []plugin `json:"plugins"`
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return Network{Bad: fmt.Sprintf("it is no JSON: %v", err)}
	}
	if c.Type == "" && len(c.Plugins) > 0 {
		c.Type = c.Plugins[0].Type
	}
	n := Network{Name: c.Name, Type: c.Type}
	if n.Name == "" || n.Type == "" {
		n.Bad = "it has no name, or no plugin"
	}
	return n
}

// readClock asks the kernel (adjtimex(2)), which needs no right.
func readClock() Clock {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return Clock{}
	}
	return Clock{Known: true, Unsynced: t.Status&unix.STA_UNSYNC != 0, Error: time.Duration(t.Maxerror) * time.Microsecond}
}

func readLimits() Limits {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return Limits{}
	}
	return Limits{Files: files.Cur}
}

// chosen is the word in brackets.
func chosen(choices string) string {
	_, rest, _ := strings.Cut(choices, "[")
	word, _, found := strings.Cut(rest, "]")
	if !found {
		return ""
	}
	return word
}

// count reads a sysctl that is a number; ok is false where it is not there.
func (m *Machine) count(path string) (n int, ok bool) {
	n, err := strconv.Atoi(m.Sysctls[path])
	return n, err == nil
}
