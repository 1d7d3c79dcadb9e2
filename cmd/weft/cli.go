package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/cmd/internal/doctor"
	"github.com/weft-net/weft/cmd/internal/version"
	"github.com/weft-net/weft/cni"
)

// cli is one call of weft and what it may touch.
type cli struct {
	out, errOut io.Writer
	ask         func() (*os.File, error)   // opens the terminal of the person who called, to be read from
	terminal    bool                       // out is a terminal, so that --watch may clear it
	style       style                      // of out
	size        func() (width, height int) // of the terminal

	socket string // default of --socket, then its value
	json   bool   // --json

	environ []string                           // of the commands that it runs in pods
	kernel  func() (cni.Kernel, func(), error) // opens the pods' links, and returns how to close them

	examine func(doctor.Node) control.Diagnosis // of this machine, where no weftd runs that could

	now    func() time.Time
	ticker func(time.Duration) (ticks <-chan time.Time, stop func()) // paces --watch and ping
}

// errSaid ends a command with status 1 that has said why on its output.
var errSaid = errors.New("the output says why")

// usageError is an error of how weft was called.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// run carries out the command that args stand for and returns the exit status.
func (c *cli) run(ctx context.Context, args []string) int {
	root := c.rootCommand()
	root.SetArgs(args)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		// A misspelt command is reported rather than its flags, which the root command cannot know.
		if cmd == root && !strings.HasPrefix(args[0], "-") {
			return unknownCommand(root, args[0])
		}
		return usageError{config.FlagError(cmd.Flags(), err)}
	})
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errSaid):
		return 1
	case errors.Is(err, context.Canceled):
		err = errors.New("interrupted")
	}
	fmt.Fprintf(c.errOut, "weft: %s\n", printable(strings.ReplaceAll(err.Error(), "\n", "; "))) // errors that are joined
	var usage usageError
	if errors.As(err, &usage) {
		return 2
	}
	return 1
}

func (c *cli) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "weft",
		Short: "Look at the pod network of this node",
		Long: `weft shows what weftd, the daemon of the pod network, does on this node: its
state, its peers, its routes and what became of every packet.

Exit status: 0 all went well; 1 something failed, or a problem was found; 2 weft
was called wrongly.`,
		Example: `  weft status                  is this node all right?
  weft doctor                  and if not, what to do?
  weft peers --watch           follow the other nodes
  weft drops --json | jq       packet accounts, for a program
  sudo weft keygen --out /etc/weft/gossip.key`,
		Version:       version.String(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("weft {{.Version}}\n")
	root.SetOut(c.out)
	root.SetErr(c.errOut)
	root.PersistentFlags().StringVar(&c.socket, "socket", c.socket, "`path` of the control socket of weftd; WEFT_SOCKET sets it too")
	root.PersistentFlags().BoolVar(&c.json, "json", false, "print JSON, for programs")
	root.AddCommand(c.statusCommand(), c.peersCommand(), c.routesCommand(), c.segmentsCommand(), c.dropsCommand(),
		c.pingCommand(), c.captureCommand(), c.traceCommand(), c.doctorCommand(), c.metricsCommand(), c.reloadCommand(), c.leaveCommand(), c.downCommand(), c.uninstallCommand(), c.forgetCommand(), c.podCommand(), c.ipamCommand(), c.keyCommand(), c.keygenCommand(), c.idCommand(), c.caCommand(), c.versionCommand())
	root.AddCommand(c.topCommand(), c.benchCommand(), c.bundleCommand(), c.completionCommand(root))
	root.SetHelpCommand(helpCommand(root))
	return root
}

// helpCommand replaces cobra's, which calls it a success when asked about a command that does not exist.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Explain a command",
		RunE: func(_ *cobra.Command, args []string) error {
			target, rest, err := root.Find(args)
			if err != nil || target == root && len(rest) > 0 {
				return unknownCommand(root, args[0])
			}
			target.InitDefaultHelpFlag()
			return target.Help()
		},
	}
}

func unknownCommand(root *cobra.Command, name string) error {
	var names []string
	for _, cmd := range root.Commands() {
		if cmd.IsAvailableCommand() {
			names = append(names, cmd.Name())
		}
	}
	if s := config.Suggest(name, names); s != "" {
		return usagef("unknown command %q; did you mean `weft %s`?", name, s)
	}
	return usagef("unknown command %q; `weft help` lists them all", name)
}

// noArgs refuses arguments after a command.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no arguments, but got %q; see `%[1]s --help`", cmd.CommandPath(), args[0])
	}
	return nil
}

// printJSON writes v indented, for a person may look at it too.
func (c *cli) printJSON(v any) error {
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
