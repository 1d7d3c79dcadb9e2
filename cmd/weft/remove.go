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

// remove has weftd do what cmd, which is called as weftd's own, was called for.
func (c *cli) remove(cmd *cobra.Command) error {
	weftd, err := findWeftd()
	if err != nil {
		return err
	}
	return c.runWeftd(cmd.Context(), weftd, weftdArgs(cmd))
}

// weftdArgs are weftd's for what cmd was called with: the flags have the same names.
func weftdArgs(cmd *cobra.Command) []string {
	args := []string{cmd.Name()}
	for _, name := range []string{"config", "force", "purge", "socket"} {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
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

// runWeftd runs weftd with args.
func (c *cli) runWeftd(ctx context.Context, weftd string, args []string) error {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, weftd, args...)
	cmd.Stdout, cmd.Stderr = c.out, c.errOut
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // not in the middle of a removal
	if c.json {
		cmd.Stdout = &said
	}
	err := cmd.Run()
	if c.json {
		err = errors.Join(err, c.printJSON(removed{Removed: listed(said.String(), "removed "), PutBack: listed(said.String(), "put back ")}))
	}
	if _, failed := errors.AsType[*exec.ExitError](err); failed {
		return errSaid
	}
	return err
}

// removed is what `weft down --json` and `weft uninstall --json` print.
type removed struct {
	Removed []string `json:"removed"` // paths, and what has none in words
	PutBack []string `json:"putBack"` // sysctls, as sysctl net.ipv4.ip_forward=0
}

// listed returns what weftd says behind each line's beginning.
func listed(said, beginning string) []string {
	all := []string{}
	for line := range strings.Lines(said) {
		if what, ok := strings.CutPrefix(line, beginning); ok {
			all = append(all, strings.TrimSpace(what))
		}
	}
	return all
}
