package main

import "github.com/spf13/cobra"

// downCommand has weftd do the work, as uninstallCommand does.
func (c *cli) downCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "down",
		Short: "End weftd, and take what it made away from the kernel",
		Long: `End the weftd that runs, if one does, and remove its interface, routes, rules and
firewall table, and what it gave to container runtimes. Sysctls that it has set are
put back to what they were. Configuration and state stay: ` + "`systemctl start weftd`" + ` has
this node carry packets again, with the blocks that it had. It does not leave the pod
network by this (weft leave does), so its blocks stay reserved.

While pods are attached it does nothing. With --force they stay attached, and nothing
is carried to or from them until weftd runs again.`,
		Example: `  sudo weft down
  sudo weft leave && sudo weft uninstall  to be rid of it for good`,
		Args: noArgs,
	}
	cmd.Flags().String("config", "", "configuration `file` of weftd")
	cmd.Flags().Bool("force", false, "cut off the pods that are still attached")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return c.remove(cmd) }
	return cmd
}
