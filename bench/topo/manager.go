//go:build linux

package topo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Manager stands in for systemd as far as its file descriptor store goes (sd_notify(3)): it
// runs one program in a namespace, keeps what that stores, and gives it to the next run. Its
// methods are called by one goroutine.
type Manager struct {
	ns     *Namespace
	args   []string
	conn   *net.UnixConn
	socket string
	tools  string // a directory with a systemctl that says that the program is being restarted
	log    *os.File
	served sync.WaitGroup
	run    *Process

	mu    sync.Mutex // over what follows
	names []string
	files []*os.File // beside names
}

// Manage makes a Manager that will run args. Close ends it, before the topology's.
func (ns *Namespace) Manage(args ...string) (m *Manager, err error) {
	dir, err := os.MkdirTemp(ns.topology.Dir(), ns.label+"-manager-")
	if err != nil {
		return nil, err
	}
	m = &Manager{ns: ns, args: args, socket: filepath.Join(dir, "notify"), tools: dir}
	const systemctl = "#!/bin/sh\nfor unit in $(grep -o '[^/]*\\.service' /proc/$PPID/cgroup); do echo 1 $unit restart running; done\n"
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(systemctl), 0o700); err != nil {
		return nil, err
	}
	if m.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.socket, Net: "unixgram"}); err != nil {
		return nil, errors.Join(err, m.log.Close())
	}
	m.served.Go(m.serve)
	return m, nil
}

// serve takes notifications until the socket is closed.
func (m *Manager) serve() {
	text, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*253))
	for {
		n, oobn, _, _, err := m.conn.ReadMsgUnix(text, oob)
		if err != nil {
			return
		}
		m.notified(strings.Split(string(text[:n]), "\n"), received(oob[:oobn]))
	}
}

func received(oob []byte) (files []*os.File) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "stored"))
		}
	}
	return files
}

// notified does what a notification asks for. Files that it stores nowhere it closes, which is
// all that a barrier waits for.
func (m *Manager) notified(lines []string, files []*os.File) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := ""
	for _, line := range lines {
		if after, ok := strings.CutPrefix(line, "FDNAME="); ok {
			name = after
		}
	}
	if slices.Contains(lines, "FDSTOREREMOVE=1") {
		for i := len(m.names) - 1; i >= 0; i-- {
			if m.names[i] == name {
				m.files[i].Close()
				m.names, m.files = slices.Delete(m.names, i, i+1), slices.Delete(m.files, i, i+1)
			}
		}
	}
	for _, f := range files {
		if slices.Contains(lines, "FDSTORE=1") {
			m.names, m.files = append(m.names, name), append(m.files, f)
			continue
		}
		f.Close()
	}
}

// Stored names what is in the store, in order.
func (m *Manager) Stored() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.names)
}

// Start runs the program, with what is in the store. It dies with this one.
func (m *Manager) Start() (err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	cmd := m.ns.Command(context.Background(), append([]string{"sh", "-c", `PATH="$0:$PATH" LISTEN_PID=$$ exec "$@"`, m.tools}, m.args...)...)
	cmd.ExtraFiles = m.files
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+m.socket)
	if len(m.files) > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", len(m.files)), "LISTEN_FDNAMES="+strings.Join(m.names, ":"))
	}
	cmd.Stdout, cmd.Stderr = m.log, m.log
	if m.run, err = m.ns.topology.start(cmd, false); err != nil {
		return fmt.Errorf("start %s in %s: %w", m.args[0], m.ns.label, err)
	}
	return nil
}

// Restart does what `systemctl restart` does.
func (m *Manager) Restart() error {
	if err := m.run.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := m.run.Wait(); err != nil {
		return fmt.Errorf("%s in %s ended: %w", m.args[0], m.ns.label, err)
	}
	return m.Start()
}

// Replace kills the program and starts it again, as Restart=always does at once.
func (m *Manager) Replace() error {
	if err := m.run.Kill(); err != nil {
		return err
	}
	return m.Start()
}

// PID is the program's.
func (m *Manager) PID() int { return m.run.PID() }

// LogPath returns the file with what all runs have written.
func (m *Manager) LogPath() string { return m.log.Name() }

// Log is what all runs have written so far.
func (m *Manager) Log() (string, error) {
	data, err := os.ReadFile(m.log.Name())
	return string(data), err
}

// Close kills the program where it still runs, and empties the store.
func (m *Manager) Close() error {
	var errs []error
	if m.run != nil {
		errs = append(errs, m.run.Kill())
	}
	errs = append(errs, m.conn.Close())
	m.served.Wait()
	for _, f := range m.files {
		errs = append(errs, f.Close())
	}
	m.names, m.files = nil, nil
	return errors.Join(append(errs, m.log.Close())...)
}
