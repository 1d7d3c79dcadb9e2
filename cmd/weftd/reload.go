package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/encap"
)

// What the daemon lives on with.
const (
	troubleReload = "the configuration cannot be taken as it is, and what was in force stays so"
	troubleSeeds  = "join is not taken, and what it said before stays in force"
	troubleRecord = "the others cannot be told what this node takes"
)

// settings is the configuration while the daemon runs: Reload replaces it, and the reconciler brings
// the rest of the daemon to it.
type settings struct {
	load  func() (*config.Config, error) // reads file, environment and flags as at the start
	level *slog.LevelVar                 // of the log

	mu      sync.Mutex // one reload at a time
	inForce atomic.Pointer[config.Config]
	changed chan struct{} // capacity 1: another is in force
	hangups chan os.Signal
}

// open has c in force, and takes SIGHUP from here on: it would end the process.
func (s *settings) open(c *config.Config) {
	s.inForce.Store(c)
	s.changed = make(chan struct{}, 1)
	s.hangups = make(chan os.Signal, 1)
	signal.Notify(s.hangups, syscall.SIGHUP)
}

func (s *settings) close() error {
	signal.Stop(s.hangups)
	return nil
}

// current is the configuration that is in force: that of the start, with what reloads have changed
// since. Keys that a reload changes are asked for here, and kept nowhere.
func (m *machine) current() *config.Config {
	return m.settings.inForce.Load()
}

// Reload reads the configuration anew and has in force what can change while the daemon runs, all
// of it or nothing.
func (d *daemon) Reload() (control.Reloaded, error) {
	s := d.settings
	s.mu.Lock()
	defer s.mu.Unlock()
	changes, err := d.reload()
	d.trouble.say(d.log, troubleReload, firstOf(err))
	return changes, err
}

func (d *daemon) reload() (control.Reloaded, error) {
	read, err := d.settings.load()
	if err != nil {
		return control.Reloaded{}, err
	}
	live, applied, waiting := d.current().Reload(read)
	if err := d.takes(live); err != nil {
		return control.Reloaded{}, err
	}
	d.settings.level.Set(live.LogLevel)
	d.settings.inForce.Store(live)
	d.statics.reload(live)
	token(d.settings.changed)

	var changes control.Reloaded
	for _, c := range applied {
		d.log.Info("configuration changed", "key", c.Key, "from", c.From, "to", c.To)
		changes.Applied = append(changes.Applied, control.KeyChange(c))
	}
	for _, c := range waiting {
		d.log.Warn("configuration changed, which takes a restart", "key", c.Key, "from", c.From, "to", c.To)
		changes.Waiting = append(changes.Waiting, control.KeyChange(c))
	}
	return changes, nil
}

// takes says why this node could not run by c, which it would not have been started with either.
func (d *daemon) takes(c *config.Config) error {
	if c.Mode == config.ModeDirect && d.guarded != nil {
		return fmt.Errorf("mode is direct (%s): %w", c.Source("mode"), d.guarded)
	}
	codec, _ := encap.ParseCodec(c.Tunnel)
	if err := d.port.Closed()[codec]; err != nil {
		return fmt.Errorf("tunnel is %s (%s): %w", c.Tunnel, c.Source("tunnel"), err)
	}
	return nil
}

// adopt brings gossip and this node's record to the configuration that is in force. What else goes
// by it asks for it in each round.
func (d *daemon) adopt() {
	d.trouble.say(d.log, troubleSeeds, d.gossip.SetJoin(d.current().JoinAddrs()))
	d.trouble.say(d.log, troubleRecord, d.store.Redescribe(d.description()))
}

// followHangups reloads on SIGHUP until ctx is done.
func (m *machine) followHangups(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.settings.hangups:
			if _, err := m.shown.Load().Reload(); err != nil {
				logAll(m.log, "the configuration was not reloaded", err)
			}
		}
	}
}

// logAll writes a line for each of the errors that err joins.
func logAll(log *slog.Logger, what string, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			logAll(log, what, e)
		}
		return
	}
	log.Error(what, "reason", err)
}
