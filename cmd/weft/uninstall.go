package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// uninstallCommand has weftd do the work, which knows its configuration and what it does to the kernel.
func (c *cli) uninstallCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove what weftd leaves on this machine",
		Long: `Remove what weftd leaves on this machine: the network configuration and the plugin
that it gave to container runtimes, and interfaces, routes, rules and the firewall
table of a weftd that was killed. It refuses while weftd runs, and while pods are
attached. With --force those lose their network, and their runtime cannot remove
them until this node has weft and its configuration again.

It is told by the configuration where to look. What weftd has as flags
` + "`weftd uninstall`" + ` takes just so.`,
		Example: `  sudo weft leave && sudo weft uninstall
  sudo weft uninstall --purge  and forget which node this machine was`,
		Args: noArgs,
	}
	cmd.Flags().String("config", "", "configuration `file` of weftd")
	cmd.Flags().Bool("force", false, "take the network from pods that are still attached")
	cmd.Flags().Bool("purge", false, "remove the state directory too: this node's identity, its blocks and its certificate")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		weftd, err := findWeftd()
		if err != nil {
			return err
		}
		return c.uninstall(cmd.Context(), weftd, uninstallArgs(cmd))
	}
	return cmd
}

// uninstallArgs are weftd's for what cmd was called with: the flags have the same names.
func uninstallArgs(cmd *cobra.Command) []string {
	args := []string{"uninstall"}
	for _, name := range []string{"config", "force", "purge", "socket"} {
		if f := cmd.Flags().Lookup(name); f.Changed {
			args = append(args, "--"+name+"="+f.Value.String())
		}
	}
	return args
}

// findWeftd returns the daemon's program: the one beside this, since they are of one version, or else any.
func findWeftd() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "weftd")
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	path, err := exec.LookPath("weftd")
	if err != nil {
		return "", fmt.Errorf("weftd does the uninstalling, and it is neither beside weft nor in PATH; put it there: %w", err)
	}
	return path, nil
}

// uninstall runs weftd with args.
func (c *cli) uninstall(ctx context.Context, weftd string, args []string) error {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, weftd, args...)
	cmd.Stdout, cmd.Stderr = c.out, c.errOut
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // not in the middle of a removal
	if c.json {
		cmd.Stdout = &said
	}
	err := cmd.Run()
	if c.json {
		err = errors.Join(err, c.printJSON(uninstalled{Removed: removedIn(said.String())}))
	}
	if _, failed := errors.AsType[*exec.ExitError](err); failed {
		return errSaid
	}
	return err
}

// uninstalled is what `weft uninstall --json` prints.
type uninstalled struct {
	Removed []string `json:"removed"` // paths, and what has none in words
}

// removedIn returns what weftd says that it removed.
func removedIn(said string) []string {
	removed := []string{}
	for line := range strings.Lines(said) {
		if what, ok := strings.CutPrefix(line, "removed "); ok {
			removed = append(removed, strings.TrimSpace(what))
		}
	}
	return removed
}
