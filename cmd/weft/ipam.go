package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cni"
	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/cni/wiring"
)

func (c *cli) ipamCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ipam",
		Short: "Show and free the addresses of this node's pods",
		Long: `Show and free the addresses of this node's pods. Runtimes free them when a pod
ends; after a crash, or a restart of the machine, some may be left.`,
		Example: `  weft ipam list
  sudo weft ipam gc
  sudo weft ipam release 10.244.1.7`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q; see `%s --help`", "ipam "+args[0], cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	dataDir := cmd.PersistentFlags().String("data-dir", cni.DefaultDataDir, "`directory` of the records of attachments")
	open := func() *ipam.Store { return ipam.Open(*dataDir) }
	cmd.AddCommand(c.ipamListCommand(open), c.ipamGCCommand(open), c.ipamReleaseCommand(open))
	return cmd
}

// attachments is what `weft ipam list --json` prints.
type attachments struct {
	Attachments []attachment `json:"attachments"`
	Damaged     []damaged    `json:"damaged"`
}

type attachment struct {
	ipam.Attachment
	Stale bool `json:"stale"` // its network namespace is gone
}

type damaged struct {
	Attachment string       `json:"attachment"` // CONTAINER:INTERFACE
	Addresses  []netip.Addr `json:"addresses"`
	Error      string       `json:"error"`
}

func (c *cli) ipamListCommand(open func() *ipam.Store) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List who has which address",
		Example: `  weft ipam list
  weft ipam list --json | jq -r '.attachments[] | select(.stale) | .container'`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			all, err := readAttachments(open())
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(all)
			}
			renderAttachments(c.out, c.style, all, c.now())
			return nil
		},
	}
}

func readAttachments(store *ipam.Store) (attachments, error) {
	list, broken, err := store.List()
	all := attachments{Attachments: []attachment{}, Damaged: []damaged{}}
	if err != nil {
		return all, err
	}
	for _, a := range list {
		all.Attachments = append(all.Attachments, attachment{a, isStale(a)})
	}
	for _, d := range broken {
		all.Damaged = append(all.Damaged, damaged{d.Key.String(), d.Addresses, d.Err.Error()})
	}
	return all, nil
}

// isStale also looks for the link, which goes with the namespace: where the runtime's paths mean nothing, because weft
// sees other mounts than it, the pods are there all the same.
func isStale(a ipam.Attachment) bool {
	stale, err := a.Stale()
	_, linkErr := net.InterfaceByName(a.Device)
	return err == nil && stale && linkErr != nil
}

func renderAttachments(w io.Writer, st style, all attachments, now time.Time) {
	if len(all.Attachments)+len(all.Damaged) == 0 {
		fmt.Fprintln(w, "No pod has an address.")
		return
	}
	rows := [][]cell{headings("ADDRESSES", "POD", "CONTAINER", "INTERFACE", "NETWORK", "DEVICE", ">AGE", "STATE")}
	for _, a := range all.Attachments {
		state := painted("ok", green)
		if a.Stale {
			state = painted("stale", yellow)
		}
		rows = append(rows, []cell{text(list(a.Addresses, ", ")), text(a.Pod), text(a.Container[:min(len(a.Container), shortContainer)]), text(a.Interface),
			text(a.Network), text(a.Device), {text: span(now.Sub(a.Since)), right: true}, state})
	}
	for _, d := range all.Damaged {
		rows = append(rows, []cell{text(list(d.Addresses, ", ")), text(""), text(d.Attachment), text(""), text(""), text(""), text(""), painted("damaged", red)})
	}
	writeTable(w, st, "", rows)
	for _, d := range all.Damaged {
		fmt.Fprintf(w, "%s: %s\n", st.paint(red, "damaged"), printable(d.Error))
	}
	if slices.ContainsFunc(all.Attachments, func(a attachment) bool { return a.Stale }) {
		fmt.Fprintln(w, "The namespaces of stale ones are gone; `weft ipam gc` frees what they hold.")
	}
}

// shortContainer is as much of a container's ID as runtimes' own tools show.
const shortContainer = 13

// freed is what `weft ipam gc` and `weft ipam release` print.
type freed struct {
	Freed []ipam.Attachment `json:"freed"`
}

func (c *cli) ipamGCCommand(open func() *ipam.Store) *cobra.Command {
	return &cobra.Command{
		Use:   "gc",
		Short: "Free what belongs to network namespaces that are gone",
		Long: `Free what belongs to network namespaces that are gone, as all are after a restart
of the machine. Runtimes that know CNI 1.1 do so themselves. Nothing of a pod
that is there is touched.`,
		Example: "  sudo weft ipam gc",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store := open()
			all, err := readAttachments(store)
			if err != nil {
				return err
			}
			var stale []ipam.Attachment
			for _, a := range all.Attachments {
				if a.Stale {
					stale = append(stale, a.Attachment)
				}
			}
			return c.free(cmd.Context(), store, stale)
		},
	}
}

func (c *cli) ipamReleaseCommand(open func() *ipam.Store) *cobra.Command {
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
		store := open()
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
		return c.free(cmd.Context(), store, []ipam.Attachment{found.Attachment})
	}
	return cmd
}

// find returns the attachment that has an address, or is named so. Of a damaged one it has the key and the addresses.
func (all *attachments) find(what string) (attachment, error) {
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

// free detaches the attachments, and says which.
func (c *cli) free(ctx context.Context, store *ipam.Store, all []ipam.Attachment) error {
	kernel, err := wiring.Open()
	if err != nil {
		return err
	}
	defer kernel.Close()
	n := cni.Network{Store: store, Kernel: kernel}
	done := freed{Freed: []ipam.Attachment{}}
	for _, a := range all {
		if err := n.Detach(ctx, a.Container, a.Interface); err != nil {
			return err
		}
		done.Freed = append(done.Freed, a)
		if !c.json {
			fmt.Fprintf(c.out, "freed %s of %s\n", list(a.Addresses, ", "), a.Key())
		}
	}
	if c.json {
		return c.printJSON(done)
	}
	if len(all) == 0 {
		fmt.Fprintln(c.out, "There is nothing to free.")
	}
	return nil
}
