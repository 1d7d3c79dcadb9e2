package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/control"
)

func (c *cli) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Find what is wrong, and what to do about it",
		Long: `Look for what is wrong on this node and on the ways to its peers, and say what to
do about each finding. A problem is something that does not work; a warning is
something that will not, or not as well as it should.

The exit status is 1 if there is a problem.`,
		Example: `  weft doctor
  weft doctor && echo all is well
  weft doctor --json | jq -r '.findings[] | .what + ": " + .fix'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := control.NewClient(c.socket)
			defer client.Close()
			d, err := client.Doctor(cmd.Context())
			if err != nil {
				return err
			}
			if c.json {
				err = c.printJSON(d)
			} else {
				renderDoctor(c.out, c.style, d)
			}
			if err == nil && slices.ContainsFunc(d.Findings, isProblem) {
				return errSaid
			}
			return err
		},
	}
}

// isProblem says whether f is to end in a failure. What a later weftd may call worse than a warning is one.
func isProblem(f control.Finding) bool { return f.Level != control.LevelWarning }

// renderDoctor shows the problems first.
func renderDoctor(w io.Writer, st style, d control.Diagnosis) {
	for _, problems := range []bool{true, false} {
		for _, f := range d.Findings {
			if isProblem(f) != problems {
				continue
			}
			c := yellow
			if problems {
				c = red
			}
			fmt.Fprintf(w, "%s: %s\n", st.paint(c, printable(f.Level)), printable(f.What))
			if f.Fix != "" {
				fmt.Fprintf(w, "  fix: %s\n", printable(f.Fix))
			}
		}
	}
	if len(d.Findings) == 0 {
		fmt.Fprintln(w, st.paint(green, "Nothing found that is wrong."))
	}
	if len(d.Checked) > 0 {
		fmt.Fprintf(w, "Checked: %s.\n", printable(strings.Join(d.Checked, ", ")))
	}
}
