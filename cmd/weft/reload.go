package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/control"
)

func (c *cli) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Have weftd read its configuration anew",
		Long: `Have weftd read its configuration anew: what can change while it runs takes effect
at once, and what cannot is named. Where the configuration has a mistake nothing
changes, and the exit status is 1. ` + "`systemctl reload weftd`" + ` does the same.`,
		Example: `  sudo weft reload
  weft reload --json           what has changed, for a program`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := control.NewClient(c.socket)
			defer client.Close()
			changes, err := client.Reload(cmd.Context())
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(changes)
			}
			renderReload(c.out, c.style, changes)
			return nil
		},
	}
}

// renderReload prints one line for each key, and what to do where one waits.
func renderReload(w io.Writer, st style, r control.Reloaded) {
	if len(r.Applied)+len(r.Waiting) == 0 {
		fmt.Fprintln(w, "nothing has changed")
	}
	for _, k := range r.Applied {
		fmt.Fprintf(w, "applied         %s\n", keyChange(k))
	}
	for _, k := range r.Waiting {
		fmt.Fprintf(w, "%s %s\n", st.paint(yellow, "needs a restart"), keyChange(k))
	}
	if len(r.Waiting) > 0 {
		fmt.Fprintln(w, "Restart weftd to apply the rest: systemctl restart weftd")
	}
}

// keyChange is k on a line; a value that is unset is so in words.
func keyChange(k control.KeyChange) string {
	value := func(s string) string {
		if s == "" {
			return "unset"
		}
		return printable(s)
	}
	return fmt.Sprintf("%s: %s -> %s", k.Key, value(k.From), value(k.To))
}
