package main

import (
	"context"
	"fmt"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/weft-net/weft/cmd/internal/control"
)

// What the daemon lives on with.
const (
	troubleStuck  = "packets are not carried as they should be, and the service manager will restart weftd"
	troubleNotify = "the service manager does not hear of this daemon"
)

const (
	// settleInterval is how often it is looked whether traffic can flow, until it can.
	settleInterval = 100 * time.Millisecond
	// reportInterval is how often the service manager is told how the daemon is after that: several times
	// within the unit's WatchdogSec.
	reportInterval = time.Second
)

// service is the service manager's view of the daemon (sd_notify(3)). Without a service manager
// nothing is sent.
type service struct {
	send  func(state string) error
	ready bool   // it was told so
	text  string // it was last told
}

// notifySystemd sends state to the socket that systemd names in the environment, if it does.
func notifySystemd(state string) error {
	if _, err := systemd.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// report tells the service manager how the daemon is, until ctx is done. A ping of the watchdog
// is left out where a worker does not go on, by which weftd is ended and started again.
func (m *machine) report(ctx context.Context, s *service) error {
	look := time.NewTicker(settleInterval)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			d := m.shown.Load()
			stuck := d.progress()
			m.trouble.say(m.log, troubleStuck, stuck)
			was := s.ready
			m.trouble.say(m.log, troubleNotify, s.tell(d.Status(), d.chosen(), stuck == nil))
			if s.ready && !was {
				look.Reset(reportInterval)
			}
		}
	}
}

// tell sends what is news of status and choices, and a ping where the workers go on.
func (s *service) tell(status control.Status, choices map[string]*choice, progress bool) error {
	state := ""
	if progress {
		state = systemd.SdNotifyWatchdog + "\n"
	}
	if !s.ready && status.State == control.StateReady {
		s.ready = true
		state += systemd.SdNotifyReady + "\n"
	}
	if text := statusText(&status, choices); text != s.text {
		s.text = text
		state += "STATUS=" + text + "\n"
	}
	if state == "" {
		return nil
	}
	return s.send(state)
}

// statusText is what `systemctl status` shows.
func statusText(status *control.Status, choices map[string]*choice) string {
	if status.State != control.StateReady {
		return status.State + ": " + status.Reason
	}
	text := fmt.Sprintf("ready: %d of %d peers up", status.Peers.Up, status.Peers.Known)
	ways := make(map[string]int)
	for _, c := range choices {
		ways[c.mode]++
	}
	for _, mode := range []string{modeDirect, "udp", "vxlan"} {
		if n := ways[mode]; n > 0 {
			text += fmt.Sprintf(", %d %s", n, mode)
		}
	}
	return text
}
