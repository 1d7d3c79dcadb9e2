package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/weft-net/weft/cmd/internal/handover"
)

// errTakeover ends a life whose TUN and sockets another process is about to take.
var errTakeover = errors.New("another weftd takes over")

// jobPatience bounds the question to systemd why weftd is to end. Packets are carried meanwhile.
const jobPatience = 2 * time.Second

// depart ends the last life. Where systemd will start weftd again, what is in the kernel stays,
// and packets wait there.
func (m *machine) depart(ctx context.Context, d *daemon) error {
	s := &m.succession
	asked := context.Cause(ctx) // nil where a part failed
	if s.store == nil {
		return d.close()
	}
	switch {
	case errors.Is(asked, errLeft), errors.Is(asked, errDown), asked == nil, !d.joined.Load(), !m.restarts(ctx):
		return errors.Join(d.close(), s.store.Empty())
	}
	m.log.Info("this process ends, and systemd starts weftd again: TUN, routes and rules stay, and packets wait")
	s.stays = true
	d.port.Brace()
	return d.stop()
}

// stop ends the workers and this life, and notes when that was.
func (d *daemon) stop() error {
	d.leaveHosts()
	err := d.write()
	halted := d.haltEngine()
	d.succession.past.Stopped = now()
	return errors.Join(err, halted, d.succession.memory.Write(d.succession.past), d.close())
}

// haltEngine ends the workers, each when it has taken its batch all the way. It may be called again.
func (d *daemon) haltEngine() error {
	if d.halt == nil {
		return nil
	}
	halt := d.halt
	d.halt = nil
	return halt()
}

// restarts says whether systemd is about to start this service again after it has stopped it. A
// service is told neither way, so systemd is asked for its jobs: `systemctl restart`, and what
// packages use, are jobs of that name. Without an answer it is taken to be so, since what stays
// then `weft down` removes.
func (m *machine) restarts(ctx context.Context) bool {
	unit, err := ownUnit()
	if err != nil {
		m.log.Warn("it is not known of which unit of systemd this is; taking it for a restart", "reason", err)
		return true
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), jobPatience)
	defer cancel()
	jobs, err := exec.CommandContext(ctx, "systemctl", "list-jobs", "--plain", "--no-legend", "--full", "--no-pager").Output()
	if err != nil {
		m.log.Warn("systemd does not say whether it will start weftd again; taking it for a restart", "reason", err)
		return true
	}
	return restartAmong(jobs, unit)
}

// restartAmong says whether jobs, as `systemctl list-jobs` prints them, has one that starts unit again:
// a line is the job's number, unit, type and state.
func restartAmong(jobs []byte, unit string) bool {
	for line := range bytes.Lines(jobs) {
		fields := strings.Fields(string(line))
		if len(fields) >= 3 && fields[1] == unit {
			return fields[2] == "restart" || fields[2] == "start"
		}
	}
	return false
}

// ownUnit is the unit that this process belongs to, which its cgroup is named after.
func ownUnit() (string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		for part := range strings.SplitSeq(strings.TrimSpace(line), "/") {
			if filepath.Ext(part) == ".service" {
				return part, nil
			}
		}
	}
	return "", fmt.Errorf("no cgroup of it is a service's: %q", text)
}

// giveTo hands over to the process that asked, all parts of d but its workers having ended. It
// returns nil when that process carries the packets. On an error this one has to go on.
func (m *machine) giveTo(g *handover.Giver, d *daemon) error {
	s := &m.succession
	defer g.Close()
	d.leaveHosts()
	if err := errors.Join(ignoreClosed(d.gossip.Close()), d.write()); err != nil {
		return err
	}
	set := make(handover.Set)
	set.Add(partTUN, d.device.Descriptors())
	set.Add(partPort, d.port.Descriptors())
	for _, t := range d.taps {
		set.Add(t.part(), t.tap.Descriptors())
	}
	set.Add(partMemory, map[string]int{"file": s.memory.FD()})
	set.Add(partLock, map[string]int{"file": int(s.lock.Fd())})
	if err := g.Give(set); err != nil {
		return err
	}
	d.port.Brace()
	if err := d.haltEngine(); err != nil {
		return err
	}
	s.past.Stopped = now()
	if err := s.memory.Write(s.past); err != nil {
		return err
	}
	return g.Stopped()
}

// goOn is what a process does whose successor has failed: it takes over from itself.
func (m *machine) goOn(ctx context.Context, d *daemon, why error) (next *daemon, err error) {
	s := &m.succession
	m.log.Error("this weftd goes on", "reason", why)
	s.count(fromWeftd, "failed")
	defer s.giving.Store(false)
	kept := make(handover.Set)
	kept.Add(partPort, d.port.Descriptors())
	if kept, err = kept.Clone(); err != nil {
		return nil, err
	}
	for name, fd := range kept {
		s.left[name] = fd
	}
	if err := m.openListeners(); err != nil {
		return nil, err
	}
	if err := d.haltEngine(); err != nil {
		return nil, err
	}
	return d.again(ctx, why)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
