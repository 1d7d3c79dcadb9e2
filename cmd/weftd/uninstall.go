package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/cni/wiring"
)

// uninstallCommand takes the configuration when it runs.
func uninstallCommand(load func() (*config.Config, error)) *cobra.Command {
	u := &uninstall{}
	cmd := &cobra.Command{
		Use: "uninstall", Short: "remove what weftd leaves on this machine", Args: usageArgs,
		Long: "Removes what weftd leaves on this machine: what container runtimes were told and given,\n" +
			"and interfaces, routes, rules and the firewall table of a weftd that was killed. weftd\n" +
			"must have ended; it is configured as it was then. Sysctls that it has set, such as\n" +
			"forwarding, are put back to what they were. The programs themselves stay.\n" +
			"\n" +
			"While pods are attached it removes nothing. With --force it takes their network from them,\n" +
			"and the plugin from their runtime, which cannot remove these pods after that: it tries in\n" +
			"vain until this node has weft and its configuration again, whose plugin then finds nothing\n" +
			"left to do. So have the runtime remove the pods first, wherever it still can.",
		Example: "  weft leave && weftd uninstall\n" +
			"  weftd uninstall --purge --config /etc/weft/weft.yaml",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if u.config, err = load(); err != nil {
				return err
			}
			u.out = cmd.OutOrStdout()
			return u.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&u.force, "force", false, "take the network from pods that are still attached")
	cmd.Flags().BoolVar(&u.purge, "purge", false, "remove the state directory too: this node's identity, its blocks and its certificate")
	return cmd
}

// uninstall is one removal of all that weftd leaves.
type uninstall struct {
	removal
	purge bool
}

// run is done in an order by which nothing comes back: runtimes are told first, and the
// plugin goes when no pod needs it any more. After an error it can be done again.
func (u *uninstall) run(ctx context.Context) (err error) {
	if os.Geteuid() != 0 {
		return errNotRoot("uninstall")
	}
	defer func() { err = errors.Join(err, u.release()) }()
	if err := u.holdState(); err != nil {
		return err
	}
	links, err := wiring.Open()
	if err != nil {
		return err
	}
	defer links.Close()
	pods, err := u.attached(links)
	if err != nil {
		return err
	}
	if len(pods) > 0 && !u.force {
		return refuse(pods)
	}
	if err := u.holdSocket(); err != nil {
		return err
	}
	if err := u.kernel(); err != nil {
		return err
	}
	errs := []error{u.conflist()}
	for i := range pods {
		errs = append(errs, u.detach(ctx, links, &pods[i]))
	}
	bridges, err := links.RemoveBridges()
	for _, name := range bridges {
		u.say("bridge %s", name)
	}
	if err := errors.Join(append(errs, err)...); err != nil {
		return err // plugin and records are needed to try again
	}
	err = errors.Join(u.plugin(), u.purgeState())
	if !u.removed && err == nil {
		fmt.Fprintln(u.out, "there is nothing to remove")
	}
	return err
}

// detach ends with the record, so that it can be done again after an error.
func (u *uninstall) detach(ctx context.Context, links *wiring.Wiring, p *pod) error {
	if err := links.Detach(p.device); err != nil {
		return err
	}
	if p.key != (ipam.Key{}) {
		ctx, cancel := context.WithTimeout(ctx, lockPatience)
		defer cancel()
		if err := u.store().Remove(ctx, p.key); err != nil {
			return err
		}
	}
	u.say("the network of %s", p.name)
	return nil
}
