package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/version"
)

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version of weft",
		Long:    "Show the version of this client. `weft status` shows that of the daemon.",
		Example: "  weft version",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			if c.json {
				return c.printJSON(map[string]string{"version": version.String()})
			}
			_, err := fmt.Fprintln(c.out, "weft", version.String())
			return err
		},
	}
}
