package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/cni/wiring"
)

// downCommand takes the configuration when it runs.
func downCommand(load func() (*config.Config, error)) *cobra.Command {
	d := &down{}
	cmd := &cobra.Command{
		Use: "down", Short: "end weftd, and take what it made away from the kernel", Args: usageArgs,
		Long: "Ends the weftd that runs, if one does, and removes its interface, routes, rules, firewall\n" +
			"table and what container runtimes were told and given. Sysctls that it has set are put back\n" +
			"to what they were. The configuration stays, and so does what this node knows and has: it is\n" +
			"not announced that the node leaves, and after the next start it has its blocks again.\n" +
			"\n" +
			"While pods are attached it does nothing. With --force they stay attached, and runtimes have\n" +
			"what they need to remove them, but nothing is carried to or from them until weftd runs again.",
		Example: "  weftd down && weftd --config /etc/weft/weft.yaml",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if d.config, err = load(); err != nil {
				return err
			}
			d.out = cmd.OutOrStdout()
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&d.force, "force", false, "cut off the pods that are still attached")
	return cmd
}

// down is the end of weftd, with nothing left of it in the kernel.
type down struct{ removal }

func (d *down) run(ctx context.Context) (err error) {
	if os.Geteuid() != 0 {
		return errNotRoot("down")
	}
	defer func() { err = errors.Join(err, d.release()) }()
	links, err := wiring.Open()
	if err != nil {
		return err
	}
	defer links.Close()
	pods, err := d.attached(links)
	if err != nil {
		return err
	}
	if len(pods) > 0 && !d.force {
		return refuse(pods)
	}
	if err := d.end(ctx); err != nil {
		return err
	}
	if err := d.kernel(); err != nil {
		return err
	}
	if len(pods) == 0 {
		bridges, err := links.RemoveBridges()
		if err = errors.Join(d.sayAll(bridges, err), d.conflist(), d.plugin()); err != nil {
			return err
		}
	}
	if !d.removed {
		fmt.Fprintln(d.out, "there is nothing to remove")
	}
	return nil
}

// end has the weftd that runs end, waits for that, and keeps another from being started.
func (d *down) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	client := control.NewClient(d.config.Socket)
	defer client.Close()
	if err := client.Down(ctx); err == nil {
		d.say("the running weftd") // what does not answer is held by nobody, or says below who holds it
	}
	look := time.NewTicker(pause)
	defer look.Stop()
	for {
		err := d.holdState()
		if err == nil {
			err = d.holdSocket()
		}
		if err == nil {
			return nil
		}
		if err := errors.Join(err, d.release()); ctx.Err() != nil {
			return err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
		}
	}
}
