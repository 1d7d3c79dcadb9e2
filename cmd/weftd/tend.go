package main

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/cni"
	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/cni/wiring"
	"github.com/weft-net/weft/dataplane/host"
)

// What the daemon lives on with.
const troublePods = "the links of this node's pods could not be looked after"

// podsIn are the pods that have addresses in block, sorted: those on record, whether or not
// they have sent anything yet, and what else the kernel delivers to.
func (d *daemon) podsIn(block netip.Prefix) ([]host.Pod, error) {
	records, damaged, err := ipam.Open(d.attachments).List()
	if err != nil {
		return nil, err
	}
	pods, err := d.host.Pods([]netip.Prefix{block}, d.device.Name())
	if err != nil {
		return nil, err
	}
	pods = append(recorded(records, damaged), pods...)
	pods = slices.DeleteFunc(pods, func(p host.Pod) bool { return !block.Contains(p.Address) })
	slices.SortStableFunc(pods, func(a, b host.Pod) int { return a.Address.Compare(b.Address) })
	return slices.CompactFunc(pods, func(a, b host.Pod) bool { return a.Address == b.Address }), nil
}

// recorded are the addresses on record, of damaged ones as far as they can be read.
func recorded(records []ipam.Attachment, damaged []ipam.Damaged) (pods []host.Pod) {
	for _, r := range records {
		for _, a := range r.Addresses {
			pods = append(pods, host.Pod{Address: a, Device: r.Device})
		}
	}
	for _, r := range damaged {
		for _, a := range r.Addresses {
			pods = append(pods, host.Pod{Address: a, Device: wiring.Device(r.Key.Container, r.Key.Interface)})
		}
	}
	return pods
}

// tended is for which blocks of this node tend was done. It is for one goroutine at a time.
type tended struct {
	blocks []netip.Prefix
	done   bool // and need not be done again until forget
}

// forget has the pods' links looked at again: other programs change them, and pods go.
func (t *tended) forget() { t.done = false }

// tend brings back what other programs took from the pods' links. From the bridges it takes
// the gateways of all but blocks, which this node claims, and those that have pods: they would
// hide the blocks' new owners from it.
func (d *daemon) tend(blocks []netip.Prefix) {
	if d.tended.done && slices.Equal(d.tended.blocks, blocks) {
		return
	}
	d.tended = tended{blocks: blocks, done: true}
	d.trouble.say(d.log, troublePods, d.tendLinks(blocks))
}

func (d *daemon) tendLinks(blocks []netip.Prefix) error {
	records, damaged, err := ipam.Open(d.attachments).List()
	if err != nil {
		return err
	}
	keep := slices.Clone(blocks)
	for _, p := range recorded(records, damaged) {
		keep = append(keep, netip.PrefixFrom(p.Address, p.Address.BitLen()))
	}
	links, err := wiring.Open()
	if err != nil {
		return err
	}
	defer links.Close()
	restored, err := links.RestoreGuards(cni.Ports(records))
	for _, device := range restored {
		d.repairs.add(d.log, time.Now(), repair{kindGuard, "the guard of the pod on " + device})
	}
	removed, failed := links.ForgetBlocks(keep, d.config.PodNetworks)
	for _, address := range removed {
		d.log.Info("the gateway of a block that this node gave up is removed", "address", address)
	}
	return errors.Join(err, failed)
}
