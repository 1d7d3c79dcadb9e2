package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cmd/internal/control"
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

const (
	// minMTU is the least MTU of the TUN: IPv6 asks for it (RFC 8200 section 5). Where
	// the underlay is narrower than that and the headers, outer packets are fragmented.
	minMTU = 1280

	// farewell bounds the last answers of the control API.
	farewell = 2 * time.Second
)

// errLeft ends the daemon after `weft leave`, and is no failure.
var errLeft = errors.New("left the pod network")

// daemon is one running node. Its fields are set by assemble, and not changed
// after that.
type daemon struct {
	config   *config.Config
	log      *slog.Logger
	started  time.Time
	warnings []string

	listener net.Listener // control API
	host     *host.Host
	underlay host.Underlay
	mtu      int
	wanted   offload.Set // of what the kernel may do for the packet path
	port     *encap.Port
	device   *device.TUN
	engine   *dataplane.Engine
	firewall *firewall.Firewall
	guarded  error // why the kernel does not guard direct routes; nil where it does

	// masquerade is the configuration's, where the kernel can do it.
	masquerade bool

	prober *prober

	// routed are the next hops of the direct routes that are in place, by block: those of
	// an earlier run at first, and from then on what the reconciler last made.
	routed map[netip.Prefix]netip.Addr

	// left are the ways that failed while they were taken. The reconciler alone uses it.
	left map[path.Way]bool

	station  encap.Station
	id       membership.ID
	identity membership.Identity
	keys     keys
	cert     *membership.Cert // of the cluster's authority; nil where it has none
	store    *membership.Store
	allotter *membership.Allot // nil where the blocks are configured
	gossip   *gossip.Gossip

	owned []func() error // what close undoes, in the order it was made

	joined  atomic.Bool              // the node is a member, and carries packets
	choices atomic.Pointer[[]choice] // the ways that are taken to the others
	trouble trouble
	statics statics

	// carried are the blocks that the kernel has the routes of; nil before it has any.
	carried atomic.Pointer[[]netip.Prefix]

	attachments string   // directory of the pods' records, absolute
	tended      tended   // the reconciler's
	conflist    conflist // the reconciler's

	// leave ends the daemon with errLeft.
	leave context.CancelCauseFunc
}

// run is the life of the daemon. It first takes all it needs from the machine,
// so that whatever is missing or in use ends it before anybody hears of this
// node; then it meets the others, takes its block, and carries packets until ctx
// is done.
func run(ctx context.Context, c *config.Config, log *slog.Logger) (err error) {
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	d := &daemon{config: c, log: log, started: time.Now(), leave: leave}
	defer func() { err = errors.Join(err, d.close()) }()

	if err := d.assemble(); err != nil {
		return err
	}
	return d.serve(ctx)
}

// own has close call undo, after all that is owned later.
func (d *daemon) own(undo func() error) { d.owned = append(d.owned, undo) }

func (d *daemon) close() error {
	var errs []error
	for _, undo := range slices.Backward(d.owned) {
		if err := undo(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	d.owned = nil
	return errors.Join(errs...)
}

// assemble takes what the daemon needs from the machine: rights, sockets, the
// TUN, the state directory.
func (d *daemon) assemble() (err error) {
	if err := host.CheckCapabilities(); err != nil {
		return err
	}
	key, err := gossipKey(d.config)
	if err != nil {
		return err
	}
	if d.listener, err = control.Listen(d.config.Socket); err != nil {
		return err
	}
	d.own(d.listener.Close)

	if d.host, err = host.Open(); err != nil {
		return err
	}
	d.own(d.host.Close)
	if err := d.host.CheckAlone(); err != nil {
		return err
	}
	if err := d.openStore(); err != nil {
		return err
	}
	if err := d.openCNI(); err != nil {
		return err
	}
	if err := d.survey(); err != nil {
		return err
	}
	if err := d.inherit(); err != nil {
		return err
	}
	if err := d.openDataplane(); err != nil {
		return err
	}
	if err := d.openFirewall(); err != nil {
		return err
	}
	if key, err = d.openKeys(key); err != nil {
		return err
	}
	if err := d.openGossip(key); err != nil {
		return err
	}
	if err := d.statics.open(d.config, d.log, &d.trouble); err != nil {
		return err
	}
	d.own(d.statics.close)
	d.station = encap.Station{VNI: d.config.VNI, MAC: vtepMAC(d.id)}
	d.prober = newProber(d.log, d.engine, d.port, d.underlay.Interface, d.config.DataPort, d.id.String(), path.Key(key))
	return d.installKeys()
}

// survey finds the underlay and checks the pod network against this machine.
func (d *daemon) survey() (err error) {
	if d.underlay, err = d.host.Underlay(d.config.Underlay.String()); err != nil {
		return err
	}
	d.log.Info("underlay chosen", "interface", d.underlay.Interface, "addresses", d.underlay.Addresses, "mtu", d.underlay.MTU, "why", d.underlay.Why)
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

// setMTU gives the pods what is left of the underlay's MTU by the largest overhead of
// any mode and family that may come to be used, so that a change of mode or endpoint
// is none of theirs, and of that what keeps TCP's segments aligned.
func (d *daemon) setMTU() error {
	overhead := 0
	for _, a := range d.underlay.Addresses {
		for _, codec := range encap.Codecs() {
			overhead = max(overhead, outerHeaders(a)+codec.Overhead())
		}
	}
	largest := min(d.underlay.MTU-overhead, encap.MaxPayload-overhead)
	switch d.mtu = d.config.MTU; {
	case d.mtu > max(largest, minMTU):
		return fmt.Errorf("mtu %d (%s) does not fit: the MTU of %s is %d, of which headers take %d, so set `mtu` to %d or less, or leave it out",
			d.mtu, d.config.Source("mtu"), d.underlay.Interface, d.underlay.MTU, overhead, max(largest, minMTU))
	case largest < minMTU:
		d.warnings = append(d.warnings, fmt.Sprintf("the MTU of %s is %d, which with %d bytes of headers leaves less than the %d that IPv6 needs: the largest packets are sent in fragments",
			d.underlay.Interface, d.underlay.MTU, overhead, minMTU))
		d.mtu = minMTU
	case d.mtu == 0:
		d.mtu = max(alignedMTU(largest), minMTU)
	}
	return nil
}

// alignedMTU is the largest MTU up to mtu by which the payload of a full TCP segment
// is a multiple of 8, over IPv4 and with timestamps: 52 bytes are headers. Else every
// other copy of a superpacket, the sender's own first, begins at an odd place, which
// costs the sender up to twice the time on some processors.
func alignedMTU(mtu int) int { return mtu - (mtu-52)%8 }

// vtepMAC is a node's VTEP address: of its ID, so that it stays the same, and locally
// administered (IEEE 802c).
func vtepMAC(id membership.ID) (mac encap.MAC) {
	sum := sha256.Sum256(id[:])
	copy(mac[:], sum[:])
	mac[0] = mac[0]&^1 | 2
	return mac
}

// serve runs the daemon's parts until one fails or ctx is done, and waits for
// all. The control API answers from the start, so that a node that is still
// looking for others can be asked.
func (d *daemon) serve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	server := &http.Server{Handler: control.Handler(d), ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second}
	group.Go(func() error {
		if err := server.Serve(d.listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the control API: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		if err := server.Shutdown(last); err != nil {
			return server.Close()
		}
		return nil
	})
	group.Go(func() error { return d.tendKeys(ctx) })
	group.Go(func() error {
		if err := d.join(ctx); err != nil {
			return err
		}
		d.joined.Store(true)
		group.Go(func() error { return d.engine.Run(ctx) })
		group.Go(func() error { return d.gossip.Run(ctx) })
		group.Go(func() error { return d.statics.run(ctx) })
		group.Go(func() error { return d.gather(ctx) })
		group.Go(func() error { return d.reconcile(ctx) })
		group.Go(func() error { return d.prober.run(ctx) })
		return nil
	})
	err := group.Wait()
	switch {
	case errors.Is(context.Cause(ctx), errLeft):
		d.log.Info("left the pod network; the daemon ends")
		return nil
	case errors.Is(err, context.Canceled): // told to stop while it looked for others
		return nil
	}
	return err
}
