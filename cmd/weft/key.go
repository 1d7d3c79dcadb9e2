package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/control"
)

const (
	keyInterval = time.Second
	keyPatience = time.Minute // what rotate waits by default
)

func (c *cli) keyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Change the key that the gossip is encrypted by",
		Long: `Change the key that the gossip is encrypted by, while the cluster runs:

1. weft key rotate   makes a key and spreads it; when all nodes have confirmed
                     it, they send by it
2. weft key remove   ends the old key
3. weft key export   prints the key in use, for the gossipKeyFile of new nodes

The nodes keep the keys in their stateDir. A node that is down holds a rotation up
until it is back, or is forgotten (weft forget).`,
		Example: `  sudo weft key rotate
  weft key list`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("weft key has no command %q; there are list, rotate, remove and export", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.keyListCommand(), c.keyRotateCommand(), c.keyRemoveCommand(), c.keyExportCommand())
	return cmd
}

func (c *cli) keyListCommand() *cobra.Command {
	return view[control.KeyList]{
		ask:    (*control.Client).Keys,
		render: func(w io.Writer, l control.KeyList) { renderKeys(w, c.style, l) },
	}.command(c, &cobra.Command{
		Use:   "list",
		Short: "Show the gossip keys, and who has which",
		Long: `Show the gossip keys by their fingerprints, the newest first: how many nodes have
confirmed that they read by each, how many send by it, and who lacks it.`,
		Example: `  weft key list
  weft key list --watch
  weft key list --json | jq -r .inUse`,
	})
}

func renderKeys(w io.Writer, st style, l control.KeyList) {
	rows := [][]cell{headings("KEY", "STATE", ">CONFIRMED", ">SENT BY", "LACKED BY")}
	for i, key := range l.Keys {
		state := cell{}
		switch {
		case key == l.InUse:
			state = painted("in use", green)
		case i == 0:
			state = painted("waits", yellow)
		}
		lacking := l.Without(func(n control.KeyNode) bool { return n.Reads(key) })
		silent := l.Without(func(n control.KeyNode) bool { return n.Sends(key) })
		rows = append(rows, []cell{
			text(key), state,
			{text: fmt.Sprintf("%d of %d", len(l.Nodes)-len(lacking), len(l.Nodes)), right: true},
			number(len(l.Nodes) - len(silent)),
			text(keyNodes(lacking)),
		})
	}
	writeTable(w, st, "", rows)
}

// maxKeyNodes bounds a line.
const maxKeyNodes = 5

// keyNodes names nodes with their states.
func keyNodes(nodes []control.KeyNode) string {
	var texts []string
	for i, n := range nodes {
		if i == maxKeyNodes {
			texts = append(texts, fmt.Sprintf("and %d more", len(nodes)-i))
			break
		}
		texts = append(texts, fmt.Sprintf("%s (%s)", n.Name, n.State))
	}
	return strings.Join(texts, ", ")
}

func (c *cli) keyRotateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Make a gossip key, and have all nodes change to it",
		Long: `Make a gossip key, and have all nodes change to it: each reads by it as soon as it
has heard of it, and sends by it once all have confirmed it. No node loses contact
meanwhile. The old key is read on until weft key remove.

It waits until all have confirmed the key and send by it, and shows who has not;
the exit status is 1 if some have not by then. The rotation goes on all the same.`,
		Example: `  sudo weft key rotate
  sudo weft key rotate --wait 5m
  sudo weft key rotate --no-wait`,
		Args: noArgs,
	}
	wait := cmd.Flags().Duration("wait", keyPatience, "how long to wait")
	noWait := cmd.Flags().Bool("no-wait", false, "do not wait")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *wait <= 0 {
			return usagef("--wait is %s, and must be more than 0; --no-wait does not wait", *wait)
		}
		client := control.NewClient(c.socket)
		defer client.Close()
		l, err := client.RotateKey(cmd.Context())
		if err != nil {
			return err
		}
		if *noWait {
			*wait = 0
		}
		return c.followRotation(cmd.Context(), client, l, *wait)
	}
	return cmd
}

// followRotation shows how the key that l begins with is confirmed, for as long as wait.
func (c *cli) followRotation(ctx context.Context, client *control.Client, l control.KeyList, wait time.Duration) error {
	key, old := l.Keys[0], l.InUse
	if !c.json {
		fmt.Fprintf(c.out, "Made key %s. Once all of %s have confirmed it they send by it, and by %s until then.\n",
			c.style.paint(bold, key), count(len(l.Nodes), "node"), old)
	}
	ticks, stop := c.ticker(keyInterval)
	defer stop()
	said := ""
	for end := c.now().Add(wait); ; {
		if wait == 0 {
			break
		}
		late := l.Without(func(n control.KeyNode) bool { return n.Sends(key) })
		if len(late) == 0 {
			return c.rotated(l, old)
		}
		lacking := l.Without(func(n control.KeyNode) bool { return n.Reads(key) })
		progress := fmt.Sprintf("%d of %d have confirmed it, %d send by it", len(l.Nodes)-len(lacking), len(l.Nodes), len(l.Nodes)-len(late))
		if len(lacking) > 0 {
			progress += "; waiting for " + keyNodes(lacking)
		}
		if progress != said && !c.json {
			fmt.Fprintln(c.out, printable(progress))
		}
		said = progress
		if !c.now().Before(end) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticks:
		}
		var err error
		if l, err = client.Keys(ctx); err != nil {
			return err
		}
	}
	if c.json {
		if err := c.printJSON(l); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(c.out, "It goes on by itself: `weft key list` shows how far it is. A node that is gone for good holds it up until `weft forget`.\n")
	}
	if wait > 0 {
		return errSaid
	}
	return nil
}

// rotated says what is left to do when all send by the newest key of l.
func (c *cli) rotated(l control.KeyList, old string) error {
	if c.json {
		return c.printJSON(l)
	}
	_, err := fmt.Fprintf(c.out, `All nodes send by it. What is left to do:
  weft key remove %s                     end the old key
  weft key export > /etc/weft/gossip.key     on each node, for the case that its stateDir is lost, and for new nodes
`, old)
	return err
}

func (c *cli) keyRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove fingerprint",
		Short: "End a gossip key",
		Long: `End a gossip key: no node reads by it any more, and whoever has no other key is kept
out. It is refused, naming the nodes, until every node has confirmed the newest
key and sends by it; the newest key itself always stays.

With --force it is removed all the same: nodes that have not confirmed the newest key
are cut off, until their gossipKeyFile is what weft key export prints on another node.`,
		Example: `  weft key list
  sudo weft key remove 9f86d081
  sudo weft key remove 9f86d081 --force`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("weft key remove takes one fingerprint, but got %d; `weft key list` shows them", len(args))
			}
			return nil
		},
		ValidArgsFunction: c.completeKey,
	}
	force := cmd.Flags().Bool("force", false, "cut off the nodes that still need it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client := control.NewClient(c.socket)
		defer client.Close()
		before, err := client.Keys(cmd.Context())
		if err != nil {
			return err
		}
		l, err := client.RemoveKey(cmd.Context(), args[0], *force)
		if err != nil {
			return err
		}
		if c.json {
			return c.printJSON(l)
		}
		fmt.Fprintf(c.out, "Removed key %s.\n", args[0])
		if cut := before.Without(func(n control.KeyNode) bool { return n.Reads(l.Keys[0]) }); len(cut) > 0 {
			fmt.Fprintf(c.out, "Cut off, until their gossipKeyFile is what `weft key export` prints here and weftd is restarted there: %s\n", printable(keyNodes(cut)))
		}
		return nil
	}
	return cmd
}

// completeKey completes the fingerprint of a key that can be removed.
func (c *cli) completeKey(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	client := control.NewClient(c.socket)
	defer client.Close()
	l, err := client.Keys(cmd.Context())
	if err != nil || len(args) > 0 || len(l.Keys) == 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return l.Keys[1:], cobra.ShellCompDirectiveNoFileComp
}

func (c *cli) keyExportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "export",
		Short: "Print the gossip key in use, for new nodes",
		Long: `Print the gossip key in use, as it stands in a gossipKeyFile: new nodes need it there,
in a file of mode 0600. Whoever has it can join the pod network and read its gossip.`,
		Example: `  (umask 077; sudo weft key export > gossip.key)
  sudo weft key export | ssh node4 'umask 077; cat > /etc/weft/gossip.key'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := control.NewClient(c.socket)
			defer client.Close()
			key, err := client.ExportKey(cmd.Context())
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(key)
			}
			fmt.Fprintf(c.errOut, "This is gossip key %s: a secret, for the gossipKeyFile (mode 0600) of nodes that shall join.\n", printable(key.Fingerprint))
			_, err = fmt.Fprintln(c.out, printable(key.Key))
			return err
		},
	}
}
