package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/cni"
	"github.com/weft-net/weft/cni/ipam"
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
	open := c.recordsFlag(cmd)
	cmd.AddCommand(c.ipamListCommand(open), c.ipamGCCommand(open), c.ipamReleaseCommand(open))
	return cmd
}

// openRecords opens the records of attachments. That sure is false says that they may be kept elsewhere.
type openRecords func(context.Context) (store *ipam.Store, sure bool)

// recordsFlag gives a command and those below it --data-dir. Without it weftd says where the records are.
func (c *cli) recordsFlag(cmd *cobra.Command) openRecords {
	given := cmd.PersistentFlags().String("data-dir", "", "`directory` of the records of attachments; by default weftd's,\nor "+cni.DefaultDataDir+" where weftd does not answer")
	return func(ctx context.Context) (*ipam.Store, bool) {
		if *given != "" {
			_, err := os.Stat(*given)
			return ipam.Open(*given), err == nil
		}
		client := control.NewClient(c.socket)
		defer client.Close()
		if s, err := client.Status(ctx); err == nil && s.Attachments != "" {
			return ipam.Open(s.Attachments), true
		}
		return ipam.Open(cni.DefaultDataDir), false
	}
}

// attachmentList is what `weft ipam list --json` prints.
type attachmentList struct {
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

func (c *cli) ipamListCommand(open openRecords) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List who has which address",
		Example: `  weft ipam list
  weft ipam list --json | jq -r '.attachments[] | select(.stale) | .container'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, _ := open(cmd.Context())
			all, err := readAttachments(store)
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

func readAttachments(store *ipam.Store) (attachmentList, error) {
	whole, broken, err := store.List()
	all := attachmentList{Attachments: []attachment{}, Damaged: []damaged{}}
	if err != nil {
		return all, err
	}
	for _, a := range whole {
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

func renderAttachments(w io.Writer, st style, all attachmentList, now time.Time) {
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
