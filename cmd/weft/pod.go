package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"time"

	"github.com/spf13/cobra"
)

func (c *cli) podCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pod",
		Short: "Make pods without any container runtime",
		Long: `Make pods without any container runtime: network namespaces that are wired as
pods are, with an address of this node's block. They are there until they are
deleted, or the machine restarts.`,
		Example: `  sudo weft pod add web
  sudo weft pod exec web -- python3 -m http.server
  weft pod list
  sudo weft pod del web`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q; see `%s --help`", "pod "+args[0], cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	records := c.recordsFlag(cmd)
	open := func(ctx context.Context) *podMaker {
		store, _ := records(ctx)
		return &podMaker{cli: c, store: store}
	}
	cmd.AddCommand(c.podAddCommand(open), c.podDelCommand(open), c.podListCommand(open), c.podExecCommand(open))
	return cmd
}

func (c *cli) podAddCommand(open func(context.Context) *podMaker) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add name",
		Short: "Make a pod",
		Example: `  sudo weft pod add web
  sudo weft pod add web --ip 10.244.1.7
  sudo weft pod add vm1 --netns /proc/4711/ns/net
  sudo weft pod add web --json | jq -r '.addresses[]'`,
		Args: onePod,
	}
	wanted := cmd.Flags().StringSlice("ip", nil, "`address` that it shall have, of this node's block; one of a family")
	netns := cmd.Flags().String("netns", "", "`path` of a network namespace that is there, in place of a new one")
	bridge := cmd.Flags().String("bridge", "", "make it a port of this bridge, in place of a route of its own")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var addresses []netip.Addr
		for _, text := range *wanted {
			a, err := netip.ParseAddr(text)
			if err != nil {
				return usagef("--ip %q is no address: give one such as 10.244.1.7", text)
			}
			addresses = append(addresses, a.Unmap())
		}
		pod, err := open(cmd.Context()).add(cmd.Context(), args[0], *netns, addresses, *bridge)
		if err != nil {
			return err
		}
		if c.json {
			return c.printJSON(pod)
		}
		fmt.Fprintf(c.out, "pod %s has %s; run something in it: %s\n", c.style.paint(bold, pod.Name), list(pod.Addresses, ", "),
			c.style.paint(bold, "weft pod exec "+pod.Name+" -- COMMAND"))
		return nil
	}
	return cmd
}

func (c *cli) podDelCommand(open func(context.Context) *podMaker) *cobra.Command {
	return &cobra.Command{
		Use:   "del name",
		Short: "Delete a pod, whether weftd runs or not",
		Long: `Delete a pod, whether weftd runs or not. Programs that still run in it have no
network from then on. A network namespace that has links, and no record, is left
alone.`,
		Example: "  sudo weft pod del web",
		Args:    onePod,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := open(cmd.Context()).del(cmd.Context(), args[0]); err != nil {
				return err
			}
			if !c.json {
				fmt.Fprintf(c.out, "pod %s is deleted\n", args[0])
			}
			return nil
		},
	}
}

func (c *cli) podListCommand(open func(context.Context) *podMaker) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the pods that weft made",
		Example: `  weft pod list
  weft pod list --json | jq -r '.pods[] | .name + " " + .addresses[0]'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := open(cmd.Context()).all()
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string][]Pod{"pods": all})
			}
			renderPods(c.out, c.style, all, c.now())
			return nil
		},
	}
}

func (c *cli) podExecCommand(open func(context.Context) *podMaker) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec name -- command [argument ...]",
		Short: "Run a command in a pod's network",
		Long: `Run a command in a pod's network, with this machine's files and users. weft
becomes the command: its exit status and its signals are the command's own.`,
		Example: `  sudo weft pod exec web -- ip addr
  sudo weft pod exec web -- ping -c 3 10.244.2.1`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || len(commandBehind(args)) == 0 {
				return usagef("weft pod exec takes a pod and a command, for instance `weft pod exec web -- ip addr`")
			}
			return checkPodName(args[0])
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return open(cmd.Context()).exec(args[0], commandBehind(args))
		},
	}
	cmd.Flags().SetInterspersed(false) // flags behind the pod are the command's
	return cmd
}

// commandBehind is what follows the pod, with "--" or without.
func commandBehind(args []string) []string {
	command := args[1:]
	if len(command) > 0 && command[0] == "--" {
		command = command[1:]
	}
	return command
}

func onePod(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("%s takes the name of one pod, but got %d", cmd.CommandPath(), len(args))
	}
	return checkPodName(args[0])
}

// Immutable.
var podName = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$`)

func checkPodName(name string) error {
	if !podName.MatchString(name) {
		return usagef("%q is no name for a pod: up to 40 small letters, digits and dashes, a letter first", name)
	}
	return nil
}

func renderPods(w io.Writer, st style, all []Pod, now time.Time) {
	if len(all) == 0 {
		fmt.Fprintln(w, "There are no pods. `weft pod add NAME` makes one.")
		return
	}
	rows := [][]cell{headings("NAME", "ADDRESSES", "DEVICE", ">MTU", ">AGE", "STATE")}
	for _, p := range all {
		state, age := painted("ok", green), text("")
		if p.Broken != "" {
			state = painted(p.Broken, red)
		}
		if !p.Since.IsZero() {
			age = cell{text: span(now.Sub(p.Since)), right: true}
		}
		rows = append(rows, []cell{text(p.Name), text(list(p.Addresses, ", ")), text(p.Device), mtu(p.MTU), age, state})
	}
	writeTable(w, st, "", rows)
}
