package main

import (
	"fmt"
	"runtime"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/host"
	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/encap"
)

// maxAutoWorkers bounds the workers that a node makes by itself: one carries some
// 10 Gb/s, and each holds descriptors and dataplane.WorkerMemory.
const maxAutoWorkers = 8

// openDataplane takes the data port and the TUN from the machine, with as much of
// the kernel's help as there is and the operator wants.
func (d *daemon) openDataplane() (err error) {
	workers := d.config.Workers
	if workers == 0 {
		workers = min(max(1, runtime.NumCPU()/2), maxAutoWorkers)
	}
	need, _ := encap.ParseCodec(d.current().Tunnel)
	d.port, err = d.openPort(encap.ListenConfig{
		Addrs:   d.underlay.Addresses,
		Ports:   map[encap.Codec]uint16{encap.UDP: d.config.DataPort, encap.VXLAN: d.config.VXLANPort},
		VNI:     d.config.VNI,
		Need:    need,
		Workers: workers,
		Want:    d.wanted,

		FragmentMark: host.Mark,
	})
	if err != nil {
		return err
	}
	d.own(d.port.Close)
	d.own(d.haltEngine)
	if why := d.port.Closed()[encap.VXLAN]; why != nil && len(d.config.Segments) > 0 {
		return fmt.Errorf("segments (%s) are carried by VXLAN, whose port this node does not have: %w", d.config.Source("segments"), why)
	}
	for codec, why := range d.port.Closed() {
		d.warnings = append(d.warnings, fmt.Sprintf("this node does not take %s from others: %v", codec, why))
	}
	if d.device == nil {
		if d.device, err = d.openTUN(workers); err != nil {
			return err
		}
		d.tun = d.device
	}
	if err := d.openTAPs(workers); err != nil {
		return err
	}
	if err := d.insist(); err != nil {
		return err
	}

	var pairs []dataplane.Pair
	for i, queue := range d.device.Queues() {
		pairs = append(pairs, dataplane.Pair{Queue: queue, Wire: d.port.Sockets()[i], Taps: d.tapQueues(i)})
	}
	d.engine = dataplane.New(pairs, d.device.Features())
	return nil
}

func wanted(c *config.Config) offload.Set {
	if c.Offload == config.OffloadOff {
		return 0
	}
	want := offload.All.Without(c.OffloadExcept)
	if !want.Has(offload.TSO) && !want.Has(offload.USO) {
		// Without superpackets the TUN has no word for partial checksums.
		want = want.Without(offload.Of(offload.RCO))
	}
	return want
}

// insist is what `offload: on` asks for.
func (d *daemon) insist() error {
	if d.config.Offload != config.OffloadOn {
		return nil
	}
	for _, f := range offload.Features() {
		if why := d.refused(f); why != nil {
			return fmt.Errorf("offload is on (%s), but %s does not work here: %w; add it to offloadExcept, or set offload to auto",
				d.config.Source("offload"), f, why)
		}
	}
	return nil
}

// refused says why f is not in use though it is wanted, nil otherwise.
func (d *daemon) refused(f offload.Feature) error {
	if why := d.device.Refused()[f]; why != nil {
		return why
	}
	return d.port.Refused()[f]
}

// modes are what this node takes from others, as its record spells it: what it would
// rather have comes first. What it has no port for is not among them.
func (d *daemon) modes() (modes []string) {
	if (d.current().Mode == config.ModeAuto || d.current().Mode == config.ModeDirect) && d.guarded == nil {
		modes = append(modes, modeDirect)
	}
	first := d.current().Tunnel
	modes = append(modes, first)
	for _, codec := range encap.Codecs() {
		if _, open := d.port.Number(codec); open && codec.String() != first {
			modes = append(modes, codec.String())
		}
	}
	return modes
}

// capabilities are what this node takes from others beyond the bare modes, as
// their records spell it.
func (d *daemon) capabilities() []string {
	if d.wanted.Has(offload.RCO) {
		return []string{offload.RCO.String()}
	}
	return nil
}

// offloads is what is in use at the moment, and why the rest is not.
func (d *daemon) offloads() control.Offload {
	o := control.Offload{Workers: len(d.device.Queues()), On: []string{}, Off: map[string]string{}}
	for _, f := range offload.Features() {
		why := d.refused(f)
		switch {
		case d.config.Offload == config.OffloadOff:
			o.Off[f.String()] = fmt.Sprintf("offload is off (%s)", d.config.Source("offload"))
		case d.config.OffloadExcept.Has(f):
			o.Off[f.String()] = fmt.Sprintf("excepted (%s)", d.config.Source("offloadExcept"))
		case !d.wanted.Has(f):
			o.Off[f.String()] = "takes tso or uso"
		case why != nil:
			o.Off[f.String()] = why.Error()
		default:
			o.On = append(o.On, f.String())
		}
	}
	return o
}
