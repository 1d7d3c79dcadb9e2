package main

import (
	"fmt"
	"io"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/control"
)

func (c *cli) leaveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "leave",
		Short: "Take this node out of the pod network",
		Long: `Take this node out of the pod network: weftd tells the other nodes, and they
withdraw the routes to its pods at once instead of waiting for it to come back.
Then weftd ends. Container runtimes keep their configuration, so that they can
still remove pods; new ones wait.

Stopping or restarting weftd is no departure, and needs no leave.`,
		Example: `  sudo weft leave
  sudo weft leave && sudo systemctl disable --now weftd`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := control.NewClient(c.socket)
			defer client.Close()
			before, err := client.Status(cmd.Context())
			if err != nil {
				return err
			}
			if err := client.Leave(cmd.Context()); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(departure{Node: before.Node, PodCIDRs: before.PodCIDRs, PeersTold: before.Peers.Up})
			}
			renderLeave(c.out, c.style, before)
			return nil
		},
	}
}

// departure is what `weft leave --json` prints.
type departure struct {
	Node      control.Node   `json:"node"`
	PodCIDRs  []netip.Prefix `json:"podCIDRs"`
	PeersTold int            `json:"peersTold"`
}

// renderLeave explains what the departure did; before is the state before it.
func renderLeave(w io.Writer, st style, before control.Status) {
	told := fmt.Sprintf("%s told to withdraw the routes to %s", count(before.Peers.Up, "peer"), list(before.PodCIDRs, ", "))
	if len(before.PodCIDRs) == 0 {
		told = "it had no block"
	} else if before.Peers.Up == 0 {
		told = "no peer was up to be told"
	}
	fmt.Fprintf(w, `%s has left the pod network: %s.
weftd ends with that, and pods of other nodes no longer reach the pods of this node.
To bring it back: systemctl start weftd
`, st.paint(bold, printable(before.Node.Name)), told)
}
