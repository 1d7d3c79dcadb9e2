package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/device"
	"github.com/weft-net/weft/dataplane/firewall"
	"github.com/weft-net/weft/dataplane/host"
	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/path"
	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/membership"
	"github.com/weft-net/weft/membership/gossip"
)

// machine is what a node takes from its machine once, and keeps while it runs, wherever
// the underlay goes. Its fields are set before serve, and not changed after that. config is what
// the daemon was started with: what a reload changes is in current.
type machine struct {
	config  *config.Config
	log     *slog.Logger
	started time.Time

	listener net.Listener // control API
	observed net.Listener // metrics; nil where they are on the control socket only
	paged    net.Listener // status page; nil where it has no address of its own
	handler  atomic.Pointer[http.Handler]
	shown    atomic.Pointer[daemon] // whom the handler answers for
	host     *host.Host
	firewall *firewall.Firewall
	guarded  error       // why the kernel does not guard direct routes; nil where it does
	wanted   offload.Set // of what the kernel may do for the packet path
	tun      *device.TUN // of the present life; nil where another program has deleted it
	taps     []*tapped   // of the segments

	settings   *settings
	succession succession

	noMasquerade atomic.Bool // the kernel cannot do it

	id       membership.ID
	identity membership.Identity
	keys     keys
	cert     *membership.Cert // of the cluster's authority; nil where it has none
	store    *membership.Store
	allotter *membership.Allot // nil where the blocks are configured

	surveyed string         // the underlay that was found last
	standing []string       // warnings that hold for all lives
	kept     []func() error // what close undoes, in the order it was made

	trouble trouble
	repairs repairs
	statics statics

	loops  loops
	hosted atomic.Pointer[membership.Segments] // what this node's record says of its segments; nil before it knows
	wired  map[string]bool                     // segments whose TAP is as it should be; the reconciler's

	attachments string   // directory of the pods' records, absolute
	tended      tended   // the reconciler's
	conflist    conflist // the reconciler's

	// leave ends the daemon, with errLeft or errDown.
	leave context.CancelCauseFunc

	tracing  atomic.Bool // a trace is under way
	releases releases

	ended <-chan struct{} // closed once the daemon is to end, for answers that have no end of their own
}

// daemon is one life of a running node: at one underlay, with one TUN. Its fields are set by
// assemble, or again, and not changed after that.
type daemon struct {
	*machine
	warnings []string

	underlay host.Underlay
	mtu      int
	port     *encap.Port
	device   *device.TUN
	engine   *dataplane.Engine
	prober   *prober
	bench    *benchServer
	station  encap.Station
	gossip   *gossip.Gossip

	former tally // of the lives before this one

	heard map[membership.ID]hearing // the reconciler's

	// routed are the next hops of the direct routes that are in place, by block: those of
	// an earlier run at first, and from then on what the reconciler last made.
	routed map[netip.Prefix]netip.Addr

	// left are the ways that failed while they were taken. The reconciler alone uses it.
	left map[path.Way]bool

	owned []func() error // what close undoes, in the order it was made

	halt func() error  // ends the engine; nil where it does not run
	idle chan struct{} // closed when the engine has ended

	joined  atomic.Bool              // the node is a member, and carries packets
	choices atomic.Pointer[[]choice] // the ways that are taken to the others

	// carried are the blocks that the kernel has the routes of; nil before it has any.
	carried atomic.Pointer[[]netip.Prefix]
}

// own has close call undo, after all that is owned later.
func (d *daemon) own(undo func() error) { d.owned = append(d.owned, undo) }

// close ends this life, and leaves the machine as it is.
func (d *daemon) close() error {
	undo := d.owned
	d.owned = nil
	return undoAll(undo)
}

// keep has close call undo, after all that is kept later.
func (m *machine) keep(undo func() error) { m.kept = append(m.kept, undo) }

// close gives back what assemble took. All lives must have ended.
func (m *machine) close() error {
	undo := m.kept
	m.kept = nil
	return undoAll(undo)
}

// second is the error of what returns something else too, which nobody wants.
func second[T any](_ T, err error) error { return err }

func undoAll(all []func() error) error {
	var errs []error
	for _, undo := range slices.Backward(all) {
		if err := undo(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// assemble takes what the daemon needs from the machine: rights, sockets, the
// TUN, the state directory.
func (d *daemon) assemble(l launch) (err error) {
	if err := host.CheckCapabilities(); err != nil {
		return err
	}
	key, err := gossipKey(d.config)
	if err != nil {
		return err
	}
	if err := d.succeed(l); err != nil {
		return err
	}
	if err := d.openListeners(); err != nil {
		return err
	}

	if d.host, err = host.Open(); err != nil {
		return err
	}
	d.keep(d.host.Close)
	if err := d.host.CheckAlone(d.succession.inheritedTUN(d.config.Tun)); err != nil {
		return err
	}
	if err := d.openStore(); err != nil {
		return err
	}
	if err := d.host.Remember(filepath.Join(d.config.StateDir, sysctlRecord)); err != nil {
		d.warnings = append(d.warnings, err.Error()+": `weft down` will not put them back")
	}
	if err := d.openCNI(); err != nil {
		return err
	}
	if err := d.openKeys(key); err != nil {
		return err
	}
	d.standing = slices.Clone(d.warnings)
	d.wanted = wanted(d.config)
	d.keep(d.closeTUN)
	d.wired = make(map[string]bool)
	d.keep(d.closeTAPs)
	if err := d.open(); err != nil {
		return err
	}
	if err := d.statics.open(d.config, d.log, &d.trouble); err != nil {
		return err
	}
	d.keep(d.statics.close)
	if err := d.goAhead(); err != nil {
		return err
	}
	if err := d.openFirewall(); err != nil {
		return err
	}
	return d.reclaim()
}

// open takes what depends on the underlay, and the TUN where this life has inherited none.
func (d *daemon) open() error {
	if err := d.survey(); err != nil {
		return err
	}
	if err := d.inherit(); err != nil {
		return err
	}
	if err := d.openDataplane(); err != nil {
		return err
	}
	if err := d.openGossip(d.keys.first()); err != nil {
		return err
	}
	d.station = encap.Station{VNI: d.config.VNI, MAC: vtepMAC(d.id)}
	d.prober = newProber(d.log, d.engine, d.port, d.underlay.Interface, d.config.DataPort, d.id.String(), path.Key(d.keys.first()))
	d.prober.testify(d.host, d.device.Name())
	d.bench = newBenchServer(d.log, d.config.DataPort, d.takesMeasurements)
	return d.installKeys()
}

// survey finds the underlay and checks the pod network against this machine.
func (d *daemon) survey() (err error) {
	if d.underlay, err = d.host.Underlay(d.config.Underlay.String()); err != nil {
		return err
	}
	if chosen := fmt.Sprint(d.underlay); chosen != d.surveyed { // else a life that cannot begin says so twice a second
		d.surveyed = chosen
		d.log.Info("underlay chosen", "interface", d.underlay.Interface, "addresses", d.underlay.Addresses, "mtu", d.underlay.MTU, "why", d.underlay.Why)
	}
	if err := d.setMTU(); err != nil {
		return err
	}
	own := d.config.PodCIDRs
	if d.allotter != nil {
		own = claimed(d.store.View(time.Now()).Self)
	}
	d.tend(own) // what is in the way of the pod network goes by that
	warnings, err := d.host.CheckPodNetwork(d.config.PodNetworks, own, d.underlay.Addresses)
	if err != nil {
		return err
	}
	if d.config.Insecure {
		warnings = append(warnings, "gossip is neither encrypted nor authenticated (insecure: true): whoever reaches its port can join")
	}
	for _, w := range warnings {
		d.log.Warn(w)
	}
	d.warnings = append(d.warnings, warnings...)
	return nil
}
