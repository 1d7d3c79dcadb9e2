// Weftd is the daemon of the weft pod network: it carries the packets of this
// node's pods to the nodes that own their destinations, and finds those nodes by
// gossip.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cmd/internal/version"
)

// Exit statuses.
const (
	exitFailure = 1 // weftd could not do what it was asked to
	exitUsage   = 2 // the command line makes no sense
)

// errUsage marks errors of the command line.
var errUsage = errors.New("see weftd --help")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	printErrors(os.Stderr, err)
	if errors.Is(err, errUsage) {
		os.Exit(exitUsage)
	}
	os.Exit(exitFailure)
}

// printErrors writes one line for each of the errors joined in err.
func printErrors(w io.Writer, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok && !errors.Is(err, errUsage) {
		for _, e := range joined.Unwrap() {
			printErrors(w, e)
		}
		return
	}
	fmt.Fprintln(w, "weftd:", err)
}

func command() *cobra.Command {
	loader := config.NewLoader(hostname())
	load := func() (*config.Config, error) { return loader.Load(os.Environ()) }
	var l launch
	root := &cobra.Command{
		Use:   "weftd",
		Short: "carry the packets of this node's pods to the nodes that own their destinations",
		Long: "weftd joins this machine to a weft pod network. It creates a TUN device for the pod\n" +
			"network, finds the other nodes by gossip, and carries pod packets to them in UDP.\n\n" +
			"Every key of the configuration file is also a flag and an environment variable:\n" +
			"podCIDR in the file, --pod-cidr, WEFT_POD_CIDR. Flags win over the environment,\n" +
			"and that over the file.",
		Example: "  weftd --config /etc/weft/weft.yaml\n" +
			"  weftd --pod-cidr 10.244.1.0/24 --join 192.0.2.10\n" +
			"  weftd config default > /etc/weft/weft.yaml\n" +
			"  weftd config check --config /etc/weft/weft.yaml",
		Args:          usageArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loader.Load(os.Environ())
			if err != nil {
				return err
			}
			level := new(slog.LevelVar)
			level.Set(c.LogLevel)
			s := &settings{level: level, load: load}
			l.notify = os.Getenv("NOTIFY_SOCKET")
			return run(cmd.Context(), c, s, l, logger(os.Stderr, c, level))
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; %w", config.FlagError(cmd.Flags(), err), errUsage)
	})
	loader.BindFlags(root.PersistentFlags())
	root.Flags().BoolVar(&l.takeover, "takeover", false, "take over from the weftd that runs, and lose no packet: for machines without systemd")
	root.AddCommand(configCommand(loader), versionCommand(),
		downCommand(load), uninstallCommand(load))
	return root
}

func configCommand(loader *config.Loader) *cobra.Command {
	group := &cobra.Command{Use: "config", Short: "check the configuration, or print the default one", Args: usageArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	group.AddCommand(
		&cobra.Command{
			Use: "check", Short: "check the configuration and start nothing", Args: usageArgs,
			Example: "  weftd config check --config /etc/weft/weft.yaml",
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := loader.Load(os.Environ())
				if err != nil {
					return err
				}
				if _, err := gossipKey(c); err != nil {
					return err
				}
				if err := checkPeersFile(c); err != nil {
					return err
				}
				if _, err := clusterCA(c); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "the configuration is fine")
				return nil
			},
		},
		&cobra.Command{
			Use: "default", Short: "print a configuration file with every key, explained", Args: usageArgs,
			Example: "  weftd config default > /etc/weft/weft.yaml",
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := cmd.OutOrStdout().Write(config.DefaultFile())
				return err
			},
		})
	return group
}

func versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "print the version", Args: usageArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version.String()) }}
}

// usageArgs refuses arguments, with the nearest command where one was misspelt.
func usageArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf(": did you mean %q?", strings.Join(near, "\" or \""))
	}
	return fmt.Errorf("unknown command %q for %q%s; %w", args[0], cmd.CommandPath(), hint, errUsage)
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "" // then nodeName must be set, and the configuration says so
	}
	return name
}

func logger(w io.Writer, c *config.Config, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// gossipKey reads the key that c names; nil without one, where c allows that.
func gossipKey(c *config.Config) ([]byte, error) {
	if c.Insecure {
		return nil, nil
	}
	return config.LoadKey(c.GossipKeyFile)
}
