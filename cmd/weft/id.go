package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/authority"
	"github.com/weft-net/weft/cmd/internal/config"
)

func (c *cli) idCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "id",
		Short: "Show the ID of this node",
		Long: `Show the ID of this node: the public half of the key by which the other nodes know
it. Where there is no key yet it is made, so that the node's certificate can be
made before its first start. The daemon need not run.`,
		Example: `  sudo weft id
  sudo weft id --state-dir /var/lib/weft`,
		Args: noArgs,
	}
	dir := cmd.Flags().String("state-dir", config.DefaultStateDir, "`folder` that stateDir names in the configuration of weftd")
	cmd.RunE = func(*cobra.Command, []string) error {
		if *dir == "" {
			return usagef("--state-dir needs the name of a folder, for instance %s", config.DefaultStateDir)
		}
		id, made, err := authority.NodeID(*dir)
		if err != nil {
			return err
		}
		if made {
			fmt.Fprintf(c.errOut, "Made the key of this node in %s; it is to stay on this machine.\n", printable(*dir))
		}
		if c.json {
			return c.printJSON(map[string]string{"id": id.String()})
		}
		_, err = fmt.Fprintln(c.out, id)
		return err
	}
	return cmd
}
