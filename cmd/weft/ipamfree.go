package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cni"
	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/cni/wiring"
)

// freed is what `weft ipam gc` and `weft ipam release` print.
type freed struct {
	Freed   []ipam.Attachment `json:"freed"`
	Devices []string          `json:"devices"` // that were on no record
}

func (c *cli) ipamGCCommand(open openRecords) *cobra.Command {
	return &cobra.Command{
		Use:   "gc",
		Short: "Free what belongs to network namespaces that are gone",
		Long: `Free what belongs to network namespaces that are gone, as all are after a restart
of the machine, and remove pods' links that are on no record. Runtimes that know
CNI 1.1 do so themselves. Nothing of a pod that is on record, and there, is
touched.

Links stay where the records may be in another directory: where weftd does not
answer, and --data-dir is not given or not there.`,
		Example: "  sudo weft ipam gc",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, sure := open(cmd.Context())
			kernel, done, err := c.kernel()
			if err != nil {
				return err
			}
			defer done()
			// Before the records: whatever is being attached meanwhile has its record before its link.
			devices, err := kernel.Devices()
			if err != nil {
				return err
			}
			all, err := readAttachments(store)
			if err != nil {
				return err
			}
			stale, orphans := all.garbage(devices)
			if !sure {
				orphans = nil
			}
			return c.free(cmd.Context(), &cni.Network{Store: store, Kernel: kernel}, stale, orphans)
		},
	}
}

// garbage is the attachments that are stale, and the devices that are nobody's.
func (all *attachmentList) garbage(devices []string) (stale []ipam.Attachment, orphans []string) {
	owned := make(map[string]bool)
	for _, a := range all.Attachments {
		owned[wiring.Device(a.Container, a.Interface)] = true
		if a.Stale {
			stale = append(stale, a.Attachment)
		}
	}
	for _, d := range all.Damaged {
		if k, err := ipam.ParseKey(d.Attachment); err == nil {
			owned[wiring.Device(k.Container, k.Interface)] = true
		}
	}
	for _, device := range devices {
		if !owned[device] {
			orphans = append(orphans, device)
		}
	}
	return stale, orphans
}

func (c *cli) ipamReleaseCommand(open openRecords) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "release address|container:interface",
		Short: "Free what one pod holds",
		Long: `Free what one pod holds, and take its link: for a record that is damaged, or whose
runtime has forgotten it. A pod that still runs has no network from then on.`,
		Example: `  sudo weft ipam release 10.244.1.7
  sudo weft ipam release 5c1e0b:eth0 --yes`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("weft ipam release takes one address, or CONTAINER:INTERFACE; `weft ipam list` shows them")
			}
			return nil
		},
	}
	yes := cmd.Flags().BoolP("yes", "y", false, "do not ask, though the pod may still run")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		store, _ := open(cmd.Context())
		all, err := readAttachments(store)
		if err != nil {
			return err
		}
		found, err := all.find(args[0])
		if err != nil {
			return err
		}
		if !found.Stale && !*yes {
			if err := c.confirm(cmd.Context(), fmt.Sprintf("Take the network from %s (%s), which may still run?", found.Key(), list(found.Addresses, ", "))); err != nil {
				return err
			}
		}
		kernel, done, err := c.kernel()
		if err != nil {
			return err
		}
		defer done()
		return c.free(cmd.Context(), &cni.Network{Store: store, Kernel: kernel}, []ipam.Attachment{found.Attachment}, nil)
	}
	return cmd
}

// find returns the attachment that has an address, or is named so. Of a damaged one it has the key and the addresses.
func (all *attachmentList) find(what string) (attachment, error) {
	address, _ := netip.ParseAddr(what)
	for _, a := range all.Attachments {
		if a.Key().String() == what || slices.Contains(a.Addresses, address.Unmap()) {
			return a, nil
		}
	}
	for _, d := range all.Damaged {
		if d.Attachment == what || slices.Contains(d.Addresses, address.Unmap()) {
			k, err := ipam.ParseKey(d.Attachment)
			return attachment{Attachment: ipam.Attachment{Container: k.Container, Interface: k.Interface, Addresses: d.Addresses}}, err
		}
	}
	return attachment{}, fmt.Errorf("nothing on record has %q: give an address, or CONTAINER:INTERFACE, as `weft ipam list --json` shows them", what)
}

// free detaches the attachments, removes the devices, and says which, also where some of it fails.
func (c *cli) free(ctx context.Context, n *cni.Network, all []ipam.Attachment, devices []string) error {
	done := freed{Freed: []ipam.Attachment{}, Devices: []string{}}
	var errs []error
	say := func(format string, args ...any) {
		if !c.json {
			fmt.Fprintf(c.out, format, args...)
		}
	}
	for _, a := range all {
		if err := ctx.Err(); err != nil { // or Detach would take further links, and keep their records
			errs = append(errs, err)
			break
		}
		if err := n.Detach(ctx, a.Container, a.Interface); err != nil {
			errs = append(errs, err)
			continue
		}
		done.Freed = append(done.Freed, a)
		say("freed %s of %s\n", list(a.Addresses, ", "), a.Key())
	}
	for _, device := range devices {
		if err := n.Kernel.Detach(device); err != nil {
			errs = append(errs, err)
			continue
		}
		done.Devices = append(done.Devices, device)
		say("removed %s, which was on no record\n", device)
	}
	if c.json {
		errs = append(errs, c.printJSON(done))
	} else if len(all)+len(devices) == 0 {
		fmt.Fprintln(c.out, "There is nothing to free.")
	}
	return errors.Join(errs...)
}
