package main

import "github.com/spf13/cobra"

// uninstallCommand has weftd do the work, which knows its configuration and what it does to the kernel.
func (c *cli) uninstallCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove what weftd leaves on this machine",
		Long: `Remove what weftd leaves on this machine: the network configuration and the plugin
that it gave to container runtimes, and interfaces, routes, rules and the firewall
table of a weftd that was killed. Sysctls that weftd has set are put back to what they
were. It refuses while weftd runs, and while pods are attached. With --force those
lose their network, and their runtime cannot remove them until this node has weft and
its configuration again.

It is told by the configuration where to look. What weftd has as flags
` + "`weftd uninstall`" + ` takes just so.`,
		Example: `  sudo weft leave && sudo weft uninstall
  sudo weft uninstall --purge  and forget which node this machine was`,
		Args: noArgs,
	}
	cmd.Flags().String("config", "", "configuration `file` of weftd")
	cmd.Flags().Bool("force", false, "take the network from pods that are still attached")
	cmd.Flags().Bool("purge", false, "remove the state directory too: this node's identity, its blocks and its certificate")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return c.remove(cmd) }
	return cmd
}
