package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/encap"
)

const (
	// captureInterval is how often the workers' rings are looked at, since no worker stops to wake
	// anybody. They hold what 300,000 packets a second are in that time.
	captureInterval = 5 * time.Millisecond

	// captureBatch is how many packets are shown at once.
	captureBatch = 512

	// namesInterval is how often the names of peers are asked for, where one is not known.
	namesInterval = time.Second
)

// Capture shows packets as they pass the engine.
func (d *daemon) Capture(ctx context.Context, r control.CaptureRequest, show func([]control.CapturedPacket, uint64) error) error {
	c, err := d.tapConfig(&r)
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		w := watcher{daemon: d.shown.Load(), show: show}
		again, err := w.run(ctx, c, first)
		if !again || err != nil {
			return err
		}
	}
}

// tapConfig is what r asks for.
func (d *daemon) tapConfig(r *control.CaptureRequest) (c dataplane.TapConfig, err error) {
	c = dataplane.TapConfig{Snaplen: r.Snaplen, Sample: r.Sample, Ports: d.dataPorts()}
	c.Dropped = r.Drops || len(r.Reasons) > 0
	switch r.Direction {
	case control.CaptureOut:
		c.Direction = dataplane.Out
	case control.CaptureIn:
		c.Direction = dataplane.In
	}
	switch r.Layer {
	case control.CaptureInner:
		c.Layer = dataplane.Inner
	case control.CaptureOuter:
		c.Layer = dataplane.Outer
	}
	if r.Node != "" {
		p, err := d.Peers().Find(r.Node)
		if err != nil {
			return c, err
		}
		c.Peer = p.ID
	}
	for _, name := range r.Reasons {
		reason, err := parseReason(name)
		if err != nil {
			return c, err
		}
		c.Reasons = append(c.Reasons, reason)
	}
	for _, name := range r.Pods {
		addrs, err := d.podAddresses(name)
		if err != nil {
			return c, err
		}
		c.Pods = append(c.Pods, addrs...)
	}
	return c, nil
}

func (d *daemon) dataPorts() map[encap.Codec]uint16 {
	ports := make(map[encap.Codec]uint16)
	for _, codec := range encap.Codecs() {
		if number, open := d.port.Number(codec); open {
			ports[codec] = number
		}
	}
	return ports
}

func parseReason(name string) (dataplane.Reason, error) {
	var names []string
	for _, r := range dataplane.Reasons() {
		if r.String() == name {
			return r, nil
		}
		names = append(names, r.String())
	}
	if near := config.Suggest(name, names); near != "" {
		return 0, fmt.Errorf("packets are not dropped for being %q; did you mean %s?", name, near)
	}
	return 0, fmt.Errorf("packets are not dropped for being %q; the reasons are %s", name, strings.Join(names, ", "))
}

// podAddresses are those of a pod of this node: one that is named by an address, which may be of any
// node; by "namespace/name" or name as its runtime told; by its container; or by the name that `weft pod`
// knows it by.
func (d *daemon) podAddresses(name string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{a}, nil
	}
	all, _, err := ipam.Open(d.attachments).List()
	if err != nil {
		return nil, err
	}
	found := make(map[string][]netip.Addr) // by what the pod is called in full
	var names []string
	for i := range all {
		a := &all[i]
		names = append(names, podName(a))
		if name == podName(a) || name == a.Pod || name == a.Container || strings.HasSuffix(a.Pod, "/"+name) {
			full := a.Pod + " " + a.Container
			found[full] = append(found[full], a.Addresses...)
		}
	}
	near := config.Suggest(name, names)
	switch {
	case len(found) == 1:
		return slices.Concat(slices.Collect(maps.Values(found))...), nil
	case len(found) > 1:
		return nil, fmt.Errorf("%d pods of this node are called %q; give the address of the one you mean, as `weft ipam list` shows it", len(found), name)
	case near != "":
		return nil, fmt.Errorf("no pod of this node is called %q; did you mean %s?", name, near)
	}
	return nil, fmt.Errorf("no pod of this node is called %q; give its address, or run weft on the node that it is on; `weft ipam list` lists this one's", name)
}

// ownPodPrefix begins the container names of the pods that `weft pod` makes.
const ownPodPrefix = "weft-"

// podName is what people call the pod of a.
func podName(a *ipam.Attachment) string {
	if a.Pod != "" {
		return a.Pod
	}
	return strings.TrimPrefix(a.Container, ownPodPrefix)
}

// watcher shows what a tap sees in one life of the daemon.
type watcher struct {
	daemon  *daemon
	show    func([]control.CapturedPacket, uint64) error
	batch   []control.CapturedPacket
	names   map[string]string // of peers, by ID
	namesAt time.Time
}

// run ends when ctx or the daemon does; again says that the daemon goes on with another engine.
func (w *watcher) run(ctx context.Context, c dataplane.TapConfig, first bool) (again bool, err error) {
	tap, err := w.daemon.engine.Tap(c)
	if errors.Is(err, dataplane.ErrTaps) {
		return false, fmt.Errorf("%w: end one of them first", err)
	}
	if err != nil {
		return false, err
	}
	defer tap.Close()
	if first {
		if err := w.show(nil, 0); err != nil {
			return false, err
		}
	}
	look := time.NewTicker(captureInterval)
	defer look.Stop()
	for {
		if err := w.drain(tap); err != nil {
			return false, err
		}
		select {
		case <-ctx.Done():
			return false, nil
		case <-w.daemon.ended:
			return false, errors.New("weftd ends")
		case <-look.C:
		}
		if w.daemon.shown.Load() != w.daemon {
			return true, nil
		}
	}
}

// drain shows what there is.
func (w *watcher) drain(tap *dataplane.Tap) error {
	err := tap.Drain(func(c *dataplane.Captured) error {
		w.batch = append(w.batch, w.packet(c))
		if len(w.batch) < captureBatch {
			return nil
		}
		return w.flush(tap)
	})
	if err == nil && len(w.batch) > 0 {
		err = w.flush(tap)
	}
	return err
}

func (w *watcher) flush(tap *dataplane.Tap) error {
	err := w.show(w.batch, tap.Skipped())
	w.batch = w.batch[:0]
	return err
}

// packet is c, with bytes of its own, as c is borrowed.
func (w *watcher) packet(c *dataplane.Captured) control.CapturedPacket {
	p := control.CapturedPacket{
		Time: c.Time, Direction: control.CaptureIn, Layer: control.CaptureInner, Peer: w.name(c.Peer),
		Length: c.Length, Segments: c.Segments, SegmentSize: c.SegmentSize, Partial: c.Partial, Data: slices.Clone(c.Data),
	}
	if c.Direction == dataplane.Out {
		p.Direction = control.CaptureOut
	}
	if c.Layer == dataplane.Outer {
		p.Layer = control.CaptureOuter
	}
	if c.Dropped {
		p.Drop = c.Reason.String()
	}
	return p
}

// name is that of the peer with this ID, or the ID where it is not known.
func (w *watcher) name(id string) string {
	name, known := w.names[id]
	if known || id == "" {
		return name
	}
	if now := time.Now(); now.Sub(w.namesAt) > namesInterval {
		w.namesAt, w.names = now, make(map[string]string)
		for _, p := range w.daemon.Peers().Peers {
			w.names[p.ID] = p.Name
		}
		return w.name(id)
	}
	return id
}
