package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/config"
)

func (c *cli) keygenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make a gossip key",
		Long: `Make a gossip key: 32 random bytes in base64. All nodes of a pod network share
one key: whoever has it can join, and without it the gossip cannot be read. weftd
wants it in a file that only root may read, /etc/weft/gossip.key by default.`,
		Example: `  sudo weft keygen --out /etc/weft/gossip.key
  weft keygen                  print it, for a secret store`,
		Args: noArgs,
	}
	path := cmd.Flags().StringP("out", "o", "", "write the key to a new `file` of mode 0600 instead of printing it")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		key := config.NewKey()
		if cmd.Flags().Changed("out") {
			return c.writeKey(*path, key)
		}
		if c.json {
			return c.printJSON(map[string]string{"key": key})
		}
		_, err := fmt.Fprintln(c.out, key)
		return err
	}
	return cmd
}

func (c *cli) writeKey(path, key string) error {
	if path == "" {
		return usagef("--out needs the name of a file, for instance /etc/weft/gossip.key")
	}
	if err := config.WriteKey(path, key); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(map[string]string{"path": path})
	}
	_, err := fmt.Fprintf(c.out, "Wrote a new gossip key to %s. Copy this file to every other node, with mode 0600.\n", path)
	return err
}
