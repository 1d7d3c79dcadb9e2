package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weft-net/weft/cmd/internal/config"
)

// What ends a life of the daemon, and has another begin.
var (
	errUnderlay = errors.New("the underlay is another")
	errTUN      = errors.New("another program deleted weft's TUN, or the TAP of a segment")
)

// What ends the daemon, and is no failure.
var (
	errLeft = errors.New("left the pod network")
	errDown = errors.New("taken down")
)

const (
	// farewell bounds the last answers of the control API.
	farewell = 2 * time.Second

	// retryInterval is how often it is tried to begin another life.
	retryInterval = 500 * time.Millisecond
)

// run is the life of the daemon. It first takes all it needs from the machine,
// so that whatever is missing or in use ends it before anybody hears of this
// node; then it meets the others, takes its block, and carries packets until ctx
// is done. Where the underlay changes, or the TUN is gone, it begins anew with what
// has stayed.
func run(ctx context.Context, c *config.Config, s *settings, l launch, log *slog.Logger) (err error) {
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	m := &machine{config: c, settings: s, log: log, started: time.Now(), leave: leave}
	defer func() { err = errors.Join(err, m.close()) }()
	s.open(c)
	m.keep(s.close)

	d := &daemon{machine: m}
	if err := d.assemble(l); err != nil {
		return errors.Join(err, d.close())
	}
	d.restrict()
	return m.live(ctx, d)
}

// live runs one life after the other, until the daemon is to end, or another process carries its
// packets.
func (m *machine) live(ctx context.Context, d *daemon) (err error) {
	for {
		d, err = m.answered(ctx, d)
		if !errors.Is(err, errTakeover) {
			return errors.Join(err, m.depart(ctx, d))
		}
		giver := <-m.succession.asked
		failed := m.giveTo(giver, d)
		if failed == nil {
			m.log.Info("the daemon ends", "reason", "another weftd carries the packets")
			m.succession.stays = true
			return d.close()
		}
		if d, err = m.goOn(ctx, d, failed); err != nil {
			return err
		}
	}
}

// answered runs the control API, and lives beginning with d, and returns the last one, which
// has ended but for its workers. The API answers from the start, so that a node that is still looking
// for others, or for an underlay, can be asked.
func (m *machine) answered(ctx context.Context, d *daemon) (last *daemon, err error) {
	group, ctx := errgroup.WithContext(ctx)
	m.ended = ctx.Done()
	m.present(d)
	m.answer(ctx, group)
	group.Go(func() error { return m.followHangups(ctx) })
	group.Go(func() error { return m.report(ctx, &service{send: notifySystemd}) })
	group.Go(func() error { return m.awaitTakeover(ctx) })
	group.Go(func() error {
		for {
			why := d.serve(ctx)
			if !errors.Is(why, errUnderlay) && !errors.Is(why, errTUN) {
				return why
			}
			next, err := d.again(ctx, why)
			if err != nil {
				return err
			}
			d = next
			m.present(d)
		}
	})
	err = group.Wait()
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errLeft), errors.Is(cause, errDown):
		m.log.Info("the daemon ends", "reason", cause)
		return d, nil
	case errors.Is(err, context.Canceled): // told to stop while it looked for others
		return d, nil
	}
	return d, err
}

// serve runs the daemon's parts until one fails or ctx is done, and waits for all. The
// first life meets the others before it carries packets; a later one knows them.
func (d *daemon) serve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.tendKeys(ctx) })
	group.Go(func() error {
		if !d.joined.Load() {
			if err := d.join(ctx); err != nil {
				return err
			}
			d.joined.Store(true)
		} else {
			if d.halt == nil { // else goAhead has been here
				if err := d.resume(); err != nil {
					return err
				}
			}
			group.Go(func() error { return d.meetAgain(ctx) })
		}
		if d.halt == nil {
			if err := d.startEngine(); err != nil {
				return err
			}
		}
		group.Go(func() error { return d.carry(ctx) })
		group.Go(func() error { return d.gossip.Run(ctx) })
		group.Go(func() error { return d.statics.run(ctx) })
		group.Go(func() error { return d.gather(ctx) })
		group.Go(func() error { return d.reconcile(ctx) })
		group.Go(func() error { return d.prober.run(ctx) })
		group.Go(func() error { return d.bench.run(ctx) })
		group.Go(func() error { return d.followUnderlay(ctx) })
		group.Go(func() error { return d.guardSegments(ctx) })
		return nil
	})
	return group.Wait()
}

// startEngine has the workers run until haltEngine, and says so to the process that has carried
// the packets before.
func (d *daemon) startEngine() error {
	ctx, halt := context.WithCancel(context.Background())
	var err error // of the engine, once it is at its end
	d.idle = make(chan struct{})
	go func() {
		defer close(d.idle)
		err = d.engine.Run(ctx)
	}()
	d.halt = func() error {
		halt()
		<-d.idle
		return err
	}
	select {
	case <-d.engine.Started():
		return d.succeeded()
	case <-d.idle:
		return d.haltEngine()
	}
}

// carry returns when the engine has failed, or ctx is done: then packets are carried until this
// life is closed, or another process carries them.
func (d *daemon) carry(ctx context.Context) error {
	relax := time.NewTimer(relaxAfter)
	defer relax.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-relax.C:
			if !d.port.Relax() {
				relax.Reset(relaxAfter)
			}
		case <-d.idle:
			err := d.haltEngine()
			if errors.Is(err, net.ErrClosed) {
				return errTUN
			}
			return err
		}
	}
}

// meetAgain tells the others at once where this node is, rather than when they are dialled
// for being missed.
func (d *daemon) meetAgain(ctx context.Context) error {
	syncing, cancel := context.WithTimeout(ctx, syncPatience)
	defer cancel()
	if err := d.gossip.Sync(syncing); err != nil && ctx.Err() == nil {
		d.log.Warn("no other node found yet; going on, and trying for ever", "reason", err)
	}
	return nil
}

// again ends this life, which why says, and returns another as soon as there can be one. TUN,
// membership, rules and routes stay meanwhile. Nil and no error is for a done ctx.
func (d *daemon) again(ctx context.Context, why error) (next *daemon, err error) {
	d.log.Warn("carrying packets begins anew", "reason", why)
	inherited := d.device
	if errors.Is(why, errTUN) {
		inherited = nil
		d.repairs.add(d.log, time.Now(), repair{kindLink, "interface " + d.device.Name()})
		d.host.Forget()
		err = errors.Join(d.closeTUN(), ignoreClosed(d.closeTAPs()))
	}
	if err := errors.Join(err, d.close()); err != nil {
		return nil, err
	}
	now, former := time.Now(), d.tally()
	for _, m := range d.store.View(now).Members {
		if m.Alive { // until gossip, which begins anew, has met it
			d.store.SetAlive(m.ID, false, now)
		}
	}
	retry := time.NewTicker(retryInterval)
	defer retry.Stop()
	for {
		next = &daemon{machine: d.machine, device: inherited, former: former, warnings: slices.Clone(d.standing)}
		next.joined.Store(true)
		if err = next.open(); err == nil {
			err = d.store.Publish(next.description())
		}
		d.trouble.say(d.log, troubleUnderlay, err)
		if err == nil {
			return next, nil
		}
		inherited = next.device
		if err := next.close(); err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-retry.C:
		}
	}
}

// closeTUN closes the present life's TUN, after its engine has ended.
func (m *machine) closeTUN() error {
	if m.tun == nil {
		return nil
	}
	tun := m.tun
	m.tun = nil
	if m.succession.stays {
		return tun.Leave()
	}
	return tun.Close()
}

// Down ends the daemon as `weft down` asks for: with nothing left of it in the kernel.
func (d *daemon) Down() error {
	d.leave(errDown)
	return nil
}
