package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/control"
)

func (c *cli) forgetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "forget node",
		Short: "Free the blocks of a node that is gone for good",
		Long: `Free the blocks of a node that is gone for good: all nodes drop it, and its blocks
may be taken by others. Without that a dead node's blocks stay reserved until
forgetAfter, for it may come back.

A node is given by its name, its ID, or the start of its ID as weft peers shows it.
One that is up cannot be forgotten: run weft leave there instead. One that comes
back after all is a member again, and takes a free block; should it still run
somewhere out of reach, two nodes use the same addresses until it is heard of.`,
		Example: `  weft peers                   who is down?
  sudo weft forget node7
  sudo weft forget node7 --yes --json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("weft forget takes one node, but got %d; for instance `weft forget node2`", len(args))
			}
			return nil
		},
		ValidArgsFunction: c.completeNode,
	}
	yes := cmd.Flags().BoolP("yes", "y", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client := control.NewClient(c.socket)
		defer client.Close()
		return c.forget(cmd.Context(), client, args[0], *yes)
	}
	return cmd
}

// forget shows what it is about to do before it asks, and refuses there what the daemon would refuse.
func (c *cli) forget(ctx context.Context, client *control.Client, node string, yes bool) error {
	peers, err := client.Peers(ctx)
	if err != nil {
		return err
	}
	peer, err := peers.Find(node)
	if err == nil {
		err = peer.Forgettable()
	}
	if err != nil {
		return err
	}
	if !yes {
		if err := c.confirm(ctx, forgetQuestion(peer, c.now())); err != nil {
			return err
		}
	}
	forgotten, err := client.Forget(ctx, peer.ID)
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(forgotten)
	}
	renderForgotten(c.out, c.style, forgotten)
	return nil
}

func forgetQuestion(p control.Peer, now time.Time) string {
	state := p.State
	if !p.Since.IsZero() {
		state += " for " + span(now.Sub(p.Since))
	}
	blocks := "which has no block"
	if len(p.PodCIDRs) > 0 {
		blocks = "and free " + list(p.PodCIDRs, ", ")
	}
	return fmt.Sprintf("Forget %s (%s, %s), %s?", p.Name, p.ID[:min(len(p.ID), shortID)], state, blocks)
}

// confirm asks the person at the terminal. Anything but yes is an errSaid.
func (c *cli) confirm(ctx context.Context, question string) error {
	tty, err := c.ask()
	if err != nil {
		return usagef("there is no terminal to ask on; give --yes")
	}
	defer tty.Close()
	fmt.Fprintf(c.errOut, "%s [y/N] ", printable(question))
	switch answer, err := readLine(ctx, tty); {
	case err != nil:
		fmt.Fprintln(c.errOut)
		return err
	case answer == "y" || answer == "yes":
		return nil
	}
	fmt.Fprintln(c.errOut, "Nothing was done.")
	return errSaid
}

// maxLine bounds what is read of an answer.
const maxLine = 1 << 10

// readLine reads a line, in small letters and without the space around it, or less where the input ends before.
func readLine(ctx context.Context, f *os.File) (string, error) {
	stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := bufio.NewReader(io.LimitReader(f, maxLine)).ReadString('\n')
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil && !errors.Is(err, io.EOF):
		return "", fmt.Errorf("read the answer: %w; give --yes", err)
	}
	return strings.ToLower(strings.TrimSpace(line)), nil
}

func renderForgotten(w io.Writer, st style, f control.Forgotten) {
	freed := "It had no block."
	if len(f.PodCIDRs) > 0 {
		freed = "Free again: " + list(f.PodCIDRs, ", ") + "."
	}
	fmt.Fprintf(w, "%s is forgotten. %s\n", st.paint(bold, printable(f.Node.Name)), freed)
}
