package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cmd/internal/control"
)

// completionCommand replaces cobra's, which calls it a success when asked for a shell that it does not know.
func (c *cli) completionCommand(root *cobra.Command) *cobra.Command {
	shells := []string{"bash", "fish", "zsh"}
	return &cobra.Command{
		Use:   "completion bash|fish|zsh",
		Short: "Print what completes weft's commands in a shell",
		Long: `Print what completes commands, flags and the names of nodes in a shell. weft's
packages have it in place already.`,
		Example: `  source <(weft completion bash)
  weft completion bash > /usr/share/bash-completion/completions/weft
  weft completion zsh > "${fpath[1]}/_weft"
  weft completion fish > ~/.config/fish/completions/weft.fish`,
		ValidArgs: shells,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) != 1:
				return usagef("weft completion takes one shell: %s", strings.Join(shells, ", "))
			case slices.Contains(shells, args[0]):
				return nil
			}
			if near := config.Suggest(args[0], shells); near != "" {
				return usagef("there is no completion for %q; did you mean %s?", args[0], near)
			}
			return usagef("there is no completion for %q; there is one for %s", args[0], strings.Join(shells, ", "))
		},
		RunE: func(_ *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(c.out, true)
			case "zsh":
				return root.GenZshCompletion(c.out)
			}
			return root.GenFishCompletion(c.out, true)
		},
	}
}

// completeNode completes the name of a node in a shell. Without a daemon there is nothing to suggest.
func (c *cli) completeNode(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	client := control.NewClient(c.socket)
	defer client.Close()
	l, err := client.Peers(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, p := range l.Peers {
		names = append(names, printable(p.Name))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
